/** The app without network, and one build of it after another. */
import { appendFileSync, cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import type { TrustedTypes } from "../../src/update";
import type { Apart } from "../real/apart";
import type { Phone } from "./phone";
import { BUILT, Site, keptOf, rebuild } from "./site";
import { Stage } from "./stage";

/** What the browser says of a file that the server does not give. */
const NOT_GIVEN = /^(Failed to load resource: |A bad HTTP response code \(404\) was received when fetching the script)/;

/** How long it may take until something shows, in milliseconds. */
const SOON = { timeout: 30_000 };

const stage = Stage.ofFile({ apart: true });
let apart: Apart;
let phone: Phone;

beforeEach(async () => {
  ({ apart } = stage);
  // What the server does not give is no fault of the page's.
  phone = await stage.unbox({ bears: NOT_GIVEN });
});

/** Waits until a worker is in charge of the origin. */
async function isKept(): Promise<void> {
  await phone.page.evaluate(() => navigator.serviceWorker.ready.then(() => undefined));
}

/** What the browser keeps, by cache: the paths, in order. Each answer has to be one of this origin, whole. */
async function kept(): Promise<readonly (readonly string[])[]> {
  return phone.page.evaluate(async () => {
    const all: string[][] = [];
    for (const name of await caches.keys()) {
      const cache = await caches.open(name);
      const urls: string[] = [];
      for (const { url } of await cache.keys()) {
        const answer = await cache.match(url);
        const isWhole = answer?.status === 200 && answer.type === "basic" && answer.url === url;
        urls.push(isWhole ? url.replace(location.origin, "") : `not whole: ${url}`);
      }
      if (urls.length > 0) {
        all.push(urls.sort());
      } else {
        // It was removed meanwhile, and made anew by being looked into.
        await caches.delete(name);
      }
    }
    return all;
  });
}

describe("with a relay and a host", () => {
  test("it opens without network after one visit, with its hosts, and is online again with it", async () => {
    const terminal = stage.terminal("pair");
    const code = await terminal.shows(/reachback join '(\S+)'/);
    await phone.opens(code);
    await phone.sees("Type these six digits");
    await terminal.shows(/(wants to pair)/);
    terminal.types(await phone.digits());
    await phone.sees("Paired with");
    await isKept();
    await phone.taps(/^Open/);
    await phone.sees("Online");

    await apart.stopRelay("SIGKILL");
    await phone.page.context().setOffline(true);
    await phone.page.reload();
    await phone.sees("This device has no network");
    expect(await phone.page.getByLabel("Loading threads").count()).toBe(0);
    await phone.shoots("offline-host");
    // Also what comes later than the first look.
    await phone.taps("New");
    await phone.page.getByRole("textbox", { name: "First message" }).waitFor();
    await phone.taps("Close, keeps the draft");
    await phone.page.goto(apart.relayUrl);
    await phone.sees("Add a host");
    await phone.sees("this device has no network");
    await phone.fits();
    await phone.shoots("offline");
    // All that was opened by then is of the build, under its own names.
    expect(await kept()).toEqual([keptOf(BUILT)]);
    const page = await phone.page.evaluate(async () => (await caches.match("/"))?.text());
    expect(page).toContain(`content="${new URL(apart.relayUrl).origin}"`);
    expect(page).not.toContain(code.split("#")[1]);

    await phone.page.context().setOffline(false);
    await apart.startRelay();
    await phone.sees("Online");
  });

  test("nothing but the worker's script can become a worker, and the browser always asks for it", async () => {
    // One that does not complain of what is refused.
    const context = await stage.browser.newContext();
    stage.leftovers.add(() => context.close());
    const page = await context.newPage();
    await page.goto(apart.relayUrl);
    const script = await page.request.get(new URL("/sw.js", apart.relayUrl).href);
    expect(script.headers()["cache-control"]).toBe("no-cache");
    expect(script.headers()["content-type"]).toContain("text/javascript");
    const { asks, refused } = await page.evaluate(async () => {
      const registration = await navigator.serviceWorker.ready;
      const types: TrustedTypes | undefined = window.trustedTypes;
      const tried = (work: () => unknown): Promise<string> =>
        Promise.resolve()
          .then(work)
          .then(
            () => "done",
            (error: unknown) => (error instanceof Error ? error.name : String(error)),
          );
      return {
        asks: registration.updateViaCache,
        refused: [
          await tried(() => navigator.serviceWorker.register("/sw.js")),
          await tried(() => navigator.serviceWorker.register("/assets/other.js")),
          await tried(() => types?.createPolicy("reachback-worker", { createScriptURL: (url) => url })),
          await tried(() => types?.createPolicy("another", { createScriptURL: (url) => url })),
        ],
      };
    });
    expect(asks).toBe("none");
    expect(refused).toEqual(["TypeError", "TypeError", "TypeError", "TypeError"]);
  });
});

describe("with one build after another", () => {
  const PAGES = { first: ["en", "Your Codex, from here"], second: ["en-GB", "Your Codex, from there"] };
  let folder: string;
  let second: string;
  let site: Site;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "reachback-build-"));
    second = await rebuild(folder, {
      "index.html": ['lang="en"', 'lang="en-GB"'],
      "src/views/Welcome.svelte": ["Your Codex, from here", "Your Codex, from there"],
    });
  });

  afterAll(() => {
    rmSync(folder, { recursive: true, force: true });
  });

  beforeEach(async () => {
    site = await Site.start(apart.relayUrl);
    stage.leftovers.add(() => site.stop());
    await phone.page.goto(site.url);
    await phone.sees(PAGES.first[1] ?? "");
    await isKept();
    expect(await kept()).toEqual([keptOf(BUILT)]);
    // The first load came before the worker, which has no say in it.
    await phone.page.reload();
    await phone.sees(PAGES.first[1] ?? "");
  });

  /** What is shown at one moment: the language that the page names, and a text of one of its files; `null` before that. */
  async function shown(): Promise<readonly string[] | null> {
    return phone.page.evaluate(() => {
      const text = document.querySelector("h1")?.textContent;
      return text === undefined ? null : [document.documentElement.lang, text.replace(/\.$/, "")];
    });
  }

  /** Has the page hear that it is shown again; gives whether it asks the worker that waits to take over. */
  async function asksAgain(): Promise<boolean> {
    return phone.page.evaluate(async () => {
      const { waiting } = await navigator.serviceWorker.ready;
      const post = waiting?.postMessage.bind(waiting);
      let asks = false;
      Object.assign(waiting ?? {}, {
        postMessage: (message: unknown) => {
          asks = true;
          post?.(message);
        },
      });
      document.dispatchEvent(new Event("visibilitychange"));
      return asks;
    });
  }

  /** Has the browser ask for a new worker, and waits for what comes of it. */
  async function update(): Promise<string> {
    return phone.page.evaluate(async () => {
      const registration = await navigator.serviceWorker.ready;
      await registration.update();
      const found = registration.installing ?? registration.waiting;
      if (found === null) {
        return "none";
      }
      return new Promise<string>((resolve) => {
        const look = (): void => {
          if (found.state === "installed" || found.state === "redundant") {
            resolve(found.state);
          }
        };
        found.addEventListener("statechange", look);
        look();
      });
    });
  }

  test("the second replaces the first whole, by itself, and nothing of the first is left", async () => {
    site.build = second;
    const pages: (readonly string[])[] = [];
    await phone.page.reload();
    const isSecond = async (): Promise<boolean> => {
      // The page may begin anew while it is looked at.
      const page = await shown().catch(() => null);
      pages.push(...(page === null ? [] : [page]));
      return page?.[0] === PAGES.second[0];
    };
    await vi.waitUntil(isSecond, { timeout: 30_000, interval: 1 });
    const halves = pages.filter((page) => !Object.values(PAGES).some((whole) => whole.join() === page.join()));
    expect(halves).toEqual([]);
    await expect.poll(kept, SOON).toEqual([keptOf(second)]);
    site.build = null;
    await phone.page.reload();
    await expect.poll(shown, SOON).toEqual(PAGES.second);
  });

  test("it waits while something is typed", async () => {
    await phone.taps("Type a code instead");
    const code = phone.page.getByLabel("Code shown by");
    await code.fill("7KQD-M2XT");
    site.build = second;
    expect(await update()).toBe("installed");
    expect(await asksAgain()).toBe(false);
    expect(await kept()).toEqual([keptOf(BUILT), keptOf(second)]);
    expect(await code.inputValue()).toBe("7KQD-M2XT");
    await code.fill("");
    expect(await asksAgain()).toBe(true);
    await expect.poll(async () => (await shown().catch(() => null))?.[0], SOON).toBe(PAGES.second[0]);
    await expect.poll(kept, SOON).toEqual([keptOf(second)]);
  });

  test("it waits while the app is open twice, and has taken over once it was closed", async () => {
    const other = await phone.page.context().newPage();
    await other.goto(site.url);
    await other.getByText(PAGES.first[1] ?? "").waitFor();
    site.build = second;
    expect(await update()).toBe("installed");
    await phone.page.reload();
    await expect.poll(shown, SOON).toEqual(PAGES.first);
    await other.close();
    await phone.page.close();
    // The browser counts a page for some time after it was closed.
    const opened = async (): Promise<string | null> => {
      const again = await phone.page.context().newPage();
      try {
        await again.goto(site.url);
        return await again.getByRole("heading").first().textContent();
      } finally {
        await again.close();
      }
    };
    await expect.poll(opened, SOON).toContain(PAGES.second[1]);
  });

  test.each([
    [
      "a file that is another one",
      (copy: string) => {
        appendFileSync(join(copy, keptOf(second)[1] ?? ""), "\n");
      },
    ],
    [
      "a file that is missing",
      (copy: string) => {
        rmSync(join(copy, keptOf(second)[2] ?? ""));
      },
    ],
    [
      "a page of the build before",
      (copy: string) => {
        cpSync(join(BUILT, "index.html"), join(copy, "index.html"));
      },
    ],
    [
      "a worker that is no script",
      (copy: string) => {
        appendFileSync(join(copy, "sw.js"), "\n}");
      },
    ],
  ])("one with %s changes nothing, and the next one that is whole does", async (_, damage) => {
    site.build = site.copy(second, damage);
    expect(await update().catch(() => "redundant")).toBe("redundant");
    await phone.page.reload();
    await expect.poll(shown, SOON).toEqual(PAGES.first);
    expect(await kept()).toEqual([keptOf(BUILT)]);
    site.build = null;
    await phone.page.reload();
    await expect.poll(shown, SOON).toEqual(PAGES.first);
    site.build = second;
    await phone.page.reload();
    await phone.sees(PAGES.second[1] ?? "");
  });

  test("one without a worker is what is opened next, and nothing is kept", async () => {
    site.build = site.copy(second, (copy) => {
      rmSync(join(copy, "sw.js"));
    });
    await phone.page.reload();
    await expect.poll(shown, SOON).toEqual(PAGES.first);
    await expect.poll(kept, SOON).toEqual([]);
    await phone.page.reload();
    await expect.poll(shown, SOON).toEqual(PAGES.second);
    // A page that asks for a worker may bring the old one back, which has nothing any more.
    await phone.page.reload();
    await expect.poll(shown, SOON).toEqual(PAGES.second);
    expect(await kept()).toEqual([]);
  });
});
