/** What is seen of a phone's page while somebody uses it: its frames, its memory, how soon something is there, and its link. */
import type { Browser, BrowserContext, CDPSession, Page } from "playwright-core";
import { type Json, json, list, text } from "../src/json";
import type { Phone } from "../test/app/phone";

/** What a message of a WebSocket has before it, in bytes, and what one that the page sends has besides. */
const HEADS = [
  { below: 126, head: 2 },
  { below: 65_536, head: 4 },
  { below: Infinity, head: 10 },
] as const;
const MASK = 4;

/** What a page holds after its rubbish was collected. */
export interface Memory {
  /** Of JavaScript, in bytes. */
  readonly heap: number;
  /** Of that, what a script made: neither compiled code, which comes as a browser sees fit, nor what the browser keeps. */
  readonly made: number;
  /** Of the document, and such as are in none any more. */
  readonly nodes: number;
}

declare global {
  interface Window {
    /** When each frame began so far, and the next one: while somebody counts. */
    counted?: { readonly begun: number[]; next: number };
  }
}

export class Watch {
  readonly #phone: Phone;
  readonly #debugger: CDPSession;
  /** What its connections have carried, both ways, in bytes: messages and their heads, as a relay without TLS sees them. */
  carried = 0;

  private constructor(phone: Phone, session: CDPSession) {
    [this.#phone, this.#debugger] = [phone, session];
    phone.page.on("websocket", (socket) => {
      socket.on("framereceived", ({ payload }) => (this.carried += sizeOf(payload)));
      socket.on("framesent", ({ payload }) => (this.carried += sizeOf(payload) + MASK));
    });
  }

  /** Begins with a phone that has opened nothing yet. */
  static async of(phone: Phone): Promise<Watch> {
    const session = await phone.page.context().newCDPSession(phone.page);
    // Of a processor's time, not of a clock's: whatever else the machine does is not in it.
    await session.send("Performance.enable", { timeDomain: "threadTicks" });
    return new Watch(phone, session);
  }

  /** How long a processor has worked for the page's own thread so far, in milliseconds. */
  async worked(): Promise<number> {
    const { metrics } = await this.#debugger.send("Performance.getMetrics");
    return (metrics.find(({ name }) => name === "TaskDuration")?.value ?? NaN) * 1e3;
  }

  async memory(): Promise<Memory> {
    // Twice: what goes the first time may have kept something else.
    await this.#debugger.send("HeapProfiler.collectGarbage");
    await this.#debugger.send("HeapProfiler.collectGarbage");
    const { usedSize } = await this.#debugger.send("Runtime.getHeapUsage");
    const { nodes } = await this.#debugger.send("Memory.getDOMCounters");
    return { heap: usedSize, made: await this.#made(), nodes };
  }

  /** What is gone from the screen may be on its way out still: waits until nothing of it is left. */
  async settled(): Promise<Memory> {
    let [before, now] = [await this.memory(), await this.memory()];
    while (now.nodes !== before.nodes) {
      await this.#phone.page.evaluate(() => new Promise((done) => setTimeout(done, 500)));
      [before, now] = [now, await this.memory()];
    }
    return now;
  }

  async #made(): Promise<number> {
    let snapshot = "";
    const hear = ({ chunk }: { readonly chunk: string }): void => {
      snapshot += chunk;
    };
    this.#debugger.on("HeapProfiler.addHeapSnapshotChunk", hear);
    await this.#debugger.send("HeapProfiler.takeHeapSnapshot", { reportProgress: false });
    this.#debugger.off("HeapProfiler.addHeapSnapshotChunk", hear);
    return madeIn(json(JSON.parse(snapshot)));
  }

  /** When each frame began while the next message of Codex's was being written. */
  written(): Promise<readonly number[]> {
    return this.#phone.page.evaluate(framesOfMessage);
  }

  /** Milliseconds from the next touch until a message with this in it has been on the screen for a frame. */
  appears(words: string): Promise<number> {
    return this.#phone.page.evaluate(untilSeen, words);
  }
}

/** A page that shows nothing, beside one that is looked at: what it drops, the machine had no time for. */
export class Blank {
  readonly #context: BrowserContext;
  readonly #page: Page;

  private constructor(context: BrowserContext, page: Page) {
    [this.#context, this.#page] = [context, page];
  }

  static async open(browser: Browser): Promise<Blank> {
    const context = await browser.newContext();
    return new Blank(context, await context.newPage());
  }

  /** Begins to count its frames. */
  async begins(): Promise<void> {
    await this.#page.evaluate(() => {
      const counted: NonNullable<typeof window.counted> = { begun: [], next: 0 };
      const look = (at: number): void => {
        counted.begun.push(at);
        counted.next = requestAnimationFrame(look);
      };
      counted.next = requestAnimationFrame(look);
      window.counted = counted;
    });
  }

  /** Counts no more; gives when each of them began. */
  ends(): Promise<readonly number[]> {
    return this.#page.evaluate(() => {
      const { begun = [], next = 0 } = window.counted ?? {};
      cancelAnimationFrame(next);
      return begun;
    });
  }

  async close(): Promise<void> {
    await this.#context.close();
  }
}

/** Kinds of what is in a heap that no script made. */
const NOT_MADE = new Set(["code", "native", "hidden", "synthetic", "object shape"]);

/** Bytes of a heap that scripts made; nodes lie in one long list there, so many numbers each. */
function madeIn({ snapshot, nodes }: Json): number {
  const { node_fields, node_types } = json(json(snapshot).meta);
  const [fields, kinds, numbers] = [list(node_fields).map(text), list(list(node_types)[0]).map(text), list(nodes)];
  const [kindAt, sizeAt] = [fields.indexOf("type"), fields.indexOf("self_size")];
  let made = 0;
  for (let node = 0; node < numbers.length; node += fields.length) {
    const isMade = !NOT_MADE.has(kinds[Number(numbers[node + kindAt])] ?? "");
    made += isMade ? Number(numbers[node + sizeAt]) : 0;
  }
  return made;
}

function sizeOf(payload: string | Buffer): number {
  const size = Buffer.byteLength(payload);
  return size + (HEADS.find(({ below }) => size < below)?.head ?? 0);
}

/** Runs in the page. */
function framesOfMessage(): Promise<number[]> {
  return new Promise((done) => {
    const said = document.getElementsByClassName("say");
    // Not by their number: those that are far are not in the page any more.
    const before = said.item(said.length - 1);
    const begun: number[] = [];
    const look = (at: number): void => {
      if (document.querySelector(".say[aria-busy=true]") !== null) {
        begun.push(at);
      } else if (said.item(said.length - 1) !== before) {
        done(begun);
        return;
      }
      requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
  });
}

/** Runs in the page. */
function untilSeen(words: string): Promise<number> {
  return new Promise((done) => {
    const isSeen = (): boolean => {
      const [main] = document.getElementsByTagName("main");
      const said = [...document.getElementsByClassName("say")].at(-1);
      if (main === undefined || said?.textContent.includes(words) !== true) {
        return false;
      }
      const { top, bottom } = main.getBoundingClientRect();
      const box = said.getBoundingClientRect();
      return box.top >= top && box.bottom <= bottom;
    };
    const touched = ({ timeStamp }: Event): void => {
      const look = (): void => {
        if (isSeen()) {
          requestAnimationFrame(() => {
            done(performance.now() - timeStamp);
          });
        } else {
          requestAnimationFrame(look);
        }
      };
      requestAnimationFrame(look);
    };
    addEventListener("pointerdown", touched, { capture: true, once: true });
  });
}
