/** A phone: a page of Chromium as large as one, touched rather than clicked, and whatever it complained of. */
import { type Browser, type BrowserContext, type Page, type WebSocket, chromium } from "playwright-core";
import { expect, vi } from "vitest";
import { isJson, json, list } from "../../src/json";

/** What the page said that no page of ours may say: refused by a policy, an error, a failed request. */
type Complaint = string;

/** Starts the browser; who asks for it closes it. */
export async function startChromium(...more: readonly string[]): Promise<Browser> {
  // As root, as in a container, Chromium runs without its sandbox or not at all.
  const args = process.getuid?.() === 0 ? ["--no-sandbox", ...more] : [...more];
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args });
}

export class Phone {
  readonly page: Page;
  readonly #context: BrowserContext;
  /** Of all its tabs. */
  readonly #complaints: Complaint[];
  /** Connections of the page's that are open. */
  readonly #sockets = new Set<WebSocket>();

  private constructor(context: BrowserContext, page: Page, complaints: Complaint[] = []) {
    [this.#context, this.page, this.#complaints] = [context, page, complaints];
    page.on("websocket", (socket) => {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
    });
    page.on("console", (message) => {
      // A socket to a relay that is away is no fault of the page's.
      if (["error", "warning"].includes(message.type()) && !message.text().startsWith("WebSocket connection to")) {
        this.#complaints.push(message.text());
      }
    });
    page.on("pageerror", (error) => {
      this.#complaints.push(error.message);
    });
  }

  /** A phone that has never been here; `workers`: whether it lets a service worker in, without which it keeps no app. */
  static async unbox(browser: Browser, { workers = true }: { readonly workers?: boolean } = {}): Promise<Phone> {
    const context = await browser.newContext({
      viewport: { width: 390, height: 844 },
      hasTouch: true,
      isMobile: true,
      colorScheme: "light",
    });
    context.setDefaultTimeout(30_000);
    await context.addInitScript(() => {
      addEventListener("securitypolicyviolation", (event) => {
        console.error(`refused: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`);
      });
    });
    if (!workers) {
      await context.addInitScript(() => {
        ServiceWorkerContainer.prototype.register = () => Promise.reject(new Error("none is let in"));
      });
    }
    return new Phone(context, await context.newPage());
  }

  /** Another tab of its browser, which goes with it. */
  async another(): Promise<Phone> {
    return new Phone(this.#context, await this.#context.newPage(), this.#complaints);
  }

  /** How many connections its page has. */
  get links(): number {
    return this.#sockets.size;
  }

  /** Has its page be one that somebody sees, or nobody: to itself, all pages of Chromium here are seen. */
  async becomes(visibility: "visible" | "hidden"): Promise<void> {
    await this.page.evaluate((visibilityState) => {
      Object.defineProperty(document, "visibilityState", { configurable: true, value: visibilityState });
      document.dispatchEvent(new Event("visibilitychange"));
    }, visibility);
  }

  /** Waits until the screen shows this. */
  async sees(text: string | RegExp): Promise<void> {
    await this.page.getByText(text).first().waitFor();
  }

  /** Touches the button, or the link, with this name. */
  async taps(name: string | RegExp): Promise<void> {
    await this.page.getByRole("link", { name }).or(this.page.getByRole("button", { name })).first().tap();
  }

  /** Opens what a pairing code leads to, and goes on to the host. */
  async opens(code: string): Promise<void> {
    await this.page.goto(code);
    await this.taps(/^Pair$/);
  }

  /** Goes from a pairing that is done to the threads of the host, which has none yet. */
  async goesOn(): Promise<void> {
    await this.taps(/^Open/);
    await this.sees("No threads on");
  }

  /** This device's id at the host whose threads are shown. */
  async deviceId(): Promise<string> {
    await this.taps("About this host");
    const id = (await this.page.locator("dd code").nth(1).textContent()) ?? "";
    await this.taps("Back to threads");
    return id;
  }

  /** Begins a thread at the host whose threads are shown: writes, and does not send. */
  async drafts(prompt: string): Promise<void> {
    await this.taps("New");
    await this.page.getByRole("button", { name: /^Folder/ }).waitFor();
    await this.page.getByRole("textbox", { name: "First message" }).fill(prompt);
    await this.sees("Draft kept on this device");
  }

  /** The six digits on its screen. */
  async digits(): Promise<string> {
    const shown = await this.page.locator(".digits").getAttribute("aria-label");
    return (shown ?? "").replace(/\D/g, "");
  }

  /** How many rows a store of the app's database has. */
  async rows(store: "hosts" | "starts"): Promise<number> {
    const count = (name: string): Promise<number> =>
      new Promise((resolve) => {
        const open = indexedDB.open("reachback");
        open.onsuccess = () => {
          const all = open.result.transaction(name).objectStore(name).count();
          all.onsuccess = () => {
            open.result.close();
            resolve(all.result);
          };
        };
      });
    return this.page.evaluate(count, store);
  }

  /** Waits until its prompt for a new thread is written down, or is through already; `handed`: and may be on its way. */
  async keeps(handed: boolean): Promise<void> {
    const read = (): Promise<unknown> =>
      new Promise((resolve) => {
        const open = indexedDB.open("reachback");
        open.onsuccess = () => {
          const all = open.result.transaction("starts").objectStore("starts").getAll();
          all.onsuccess = () => {
            open.result.close();
            resolve(all.result);
          };
        };
      });
    const isThere = async (): Promise<boolean> => {
      const { text, sent } = json(list(await this.page.evaluate(read))[0]);
      return text === "" || (isJson(sent) && (!handed || sent.journal !== null));
    };
    await vi.waitUntil(isThere, { timeout: 30_000, interval: 5 });
  }

  /** Looks that nothing of the screen lies beside it, on the narrowest of phones either. */
  async fits(): Promise<void> {
    const before = this.page.viewportSize();
    for (const size of [{ width: 320, height: 568 }, before]) {
      if (size !== null) {
        await this.page.setViewportSize(size);
        const beside = (): readonly string[] =>
          [...document.querySelectorAll("html, main, .dock")]
            .filter(({ scrollWidth, clientWidth }) => scrollWidth > clientWidth)
            .map(({ outerHTML }) => outerHTML.slice(0, 120));
        expect(await this.page.evaluate(beside)).toEqual([]);
      }
    }
  }

  /** Leaves a picture, where somebody asked for pictures. */
  async shoots(name: string): Promise<void> {
    if (process.env.SCREENS !== undefined) {
      for (const colorScheme of ["light", "dark"] as const) {
        await this.page.emulateMedia({ colorScheme });
        await this.page.screenshot({ path: `screens/${name}-${colorScheme}.png`, animations: "disabled" });
      }
    }
  }

  /** Puts it away; gives what its page complained of. */
  async close(): Promise<readonly Complaint[]> {
    await this.#context.close();
    return this.#complaints;
  }
}
