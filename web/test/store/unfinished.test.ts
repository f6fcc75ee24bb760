/** What was being written down when its page went away: IndexedDB in memory, and a window made of parts. */
import { IDBFactory } from "fake-indexeddb";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import "fake-indexeddb/auto";
import { AttachmentStore } from "../../src/store/attachments";
import { Database } from "../../src/store/database";
import { MessageStore } from "../../src/store/messages";
import { MIGRATIONS, type MessageRow, type StartRow } from "../../src/store/schema";
import { StartStore } from "../../src/store/starts";
import { Unfinished } from "../../src/store/unfinished";

const KEY = "reachback-unfinished";
const PLACE = { host: "tower", environment: "local", thread: "t1" };
const DRAFT: MessageRow = { ...PLACE, text: "", message: "", delivery: "start", sent: null };
const START: StartRow = {
  host: "tower",
  text: "",
  environment: null,
  folder: null,
  model: null,
  effort: null,
  sent: null,
};
const SENT = { id: "p1", deviceId: "phone", at: 1, journal: null };

class Shelf {
  readonly kept = new Map<string, string>();
  closed = false;

  getItem(key: string): string | null {
    if (this.closed) {
      throw new DOMException("not allowed", "SecurityError");
    }
    return this.kept.get(key) ?? null;
  }

  setItem(key: string, value: string): void {
    if (this.closed) {
      throw new DOMException("no room", "QuotaExceededError");
    }
    this.kept.set(key, value);
  }

  removeItem(key: string): void {
    if (this.closed) {
      throw new DOMException("not allowed", "SecurityError");
    }
    this.kept.delete(key);
  }
}

/** A tab: its pages come one after the other. */
class Tab {
  readonly sessionStorage = new Shelf();
  #page = new EventTarget();

  /** The stores of a new page; nothing of them ends where `stuck`. */
  loads(stuck = false): { readonly messages: MessageStore; readonly starts: StartStore } {
    const page = Object.assign(new EventTarget(), { sessionStorage: this.sessionStorage });
    this.#page = page;
    const database = new Database();
    if (stuck) {
      vi.spyOn(database, "use").mockImplementation(() => new Promise(() => undefined));
    }
    const unfinished = new Unfinished(page);
    const attachments = new AttachmentStore(database);
    return {
      messages: new MessageStore(database, attachments, unfinished),
      starts: new StartStore(database, attachments, unfinished),
    };
  }

  hears(type: "pagehide" | "pageshow"): void {
    this.#page.dispatchEvent(new Event(type));
  }

  get left(): string | undefined {
    return this.sessionStorage.kept.get(KEY);
  }
}

beforeEach(() => {
  vi.stubGlobal("indexedDB", new IDBFactory());
});

afterEach(() => {
  vi.useRealTimers();
});

test("a draft whose page goes away before it is written is there on the next page, and only as it was last", async () => {
  const tab = new Tab();
  const { messages, starts } = tab.loads(true);
  void messages.keep({ ...DRAFT, text: "pa" });
  void messages.keep({ ...DRAFT, thread: "t2", text: "the door" });
  void messages.keep({ ...DRAFT, text: "paint" });
  void starts.keep({ ...START, text: "a new one", folder: "/srv" });
  tab.hears("pagehide");
  expect(tab.left).not.toContain('"pa"');
  const next = tab.loads();
  expect(tab.left).toBeUndefined();
  expect(await next.messages.list("tower")).toEqual([
    { ...DRAFT, text: "paint" },
    { ...DRAFT, thread: "t2", text: "the door" },
  ]);
  expect(await next.starts.read("tower")).toEqual({ ...START, text: "a new one", folder: "/srv" });
});

test("what is sent in that moment is kept as it was sent, and what was typed after it stands beside it", async () => {
  const tab = new Tab();
  const { messages } = tab.loads(true);
  const sent = { ...DRAFT, message: "paint", sent: SENT };
  void messages.keep(sent);
  void messages.settle(SENT, { ...sent, text: "and the d" });
  void messages.settle(SENT, { ...sent, text: "and the door" });
  tab.hears("pagehide");
  expect(await tab.loads().messages.read(PLACE)).toEqual({ ...sent, text: "and the door" });
});

test("a prompt that another tab has under way by now stays, as it does for a page that lives", async () => {
  const tab = new Tab();
  void tab.loads(true).messages.keep({ ...DRAFT, text: "paint" });
  tab.hears("pagehide");
  const other = { ...DRAFT, message: "mend", sent: SENT };
  await new Tab().loads().messages.keep(other);
  expect(await tab.loads().messages.read(PLACE)).toEqual(other);
});

test("what is written to its end is not put away, nor what a page that comes back goes on with", async () => {
  const tab = new Tab();
  await tab.loads().messages.keep({ ...DRAFT, text: "paint" });
  tab.hears("pagehide");
  expect(tab.left).toBeUndefined();
  void tab.loads(true).messages.keep({ ...DRAFT, text: "paint it" });
  tab.hears("pagehide");
  expect(tab.left).toContain("paint it");
  tab.hears("pageshow");
  expect(tab.left).toBeUndefined();
});

test("a page that goes away before it has written what the one before left puts it away again", async () => {
  const tab = new Tab();
  void tab.loads(true).messages.keep({ ...DRAFT, text: "paint" });
  tab.hears("pagehide");
  void tab.loads(true).messages.keep({ ...DRAFT, thread: "t2", text: "the door" });
  tab.hears("pagehide");
  expect((await tab.loads().messages.list("tower")).map(({ text }) => text)).toEqual(["paint", "the door"]);
});

test("what is older than a minute, of another version or no such thing is dropped", async () => {
  vi.useFakeTimers({ toFake: ["Date"] });
  const tab = new Tab();
  const leaves = (): void => {
    void tab.loads(true).messages.keep({ ...DRAFT, text: "paint" });
    tab.hears("pagehide");
  };
  leaves();
  vi.setSystemTime(Date.now() + 60_000);
  expect(await tab.loads().messages.list("tower")).toEqual([]);
  leaves();
  const version = `"version":${MIGRATIONS.length}`;
  tab.sessionStorage.kept.set(KEY, (tab.left ?? "").replace(version, '"version":1'));
  expect(await tab.loads().messages.list("tower")).toEqual([]);
  for (const text of ["", "[]", "null", "{", '{"at":1}', `{"at":${Date.now()},${version},"entries":1}`]) {
    tab.sessionStorage.kept.set(KEY, text);
    expect(await tab.loads().messages.list("tower")).toEqual([]);
  }
});

test("where the browser has no such storage, all else goes on", async () => {
  const tab = new Tab();
  tab.sessionStorage.closed = true;
  void tab.loads(true).messages.keep({ ...DRAFT, text: "paint" });
  tab.hears("pagehide");
  const { messages } = tab.loads();
  tab.hears("pageshow");
  await messages.keep({ ...DRAFT, text: "the door" });
  expect(await messages.read(PLACE)).toEqual({ ...DRAFT, text: "the door" });
});
