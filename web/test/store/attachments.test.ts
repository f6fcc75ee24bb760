/** The bytes of what is attached: they are there as long as something names them, and what Codex got for a while. */
import { IDBFactory } from "fake-indexeddb";
import { beforeEach, expect, test, vi } from "vitest";
import "fake-indexeddb/auto";
import { AttachmentStore, MOST_SHOWN_BYTES, MOST_SHOWN_PICTURES } from "../../src/store/attachments";
import { Database } from "../../src/store/database";
import { HostStore } from "../../src/store/hosts";
import { MessageStore } from "../../src/store/messages";
import type { Attached, AttachmentRow, MessageRow, StartRow } from "../../src/store/schema";
import { StartStore } from "../../src/store/starts";

const DAY = 24 * 60 * 60 * 1_000;
const MESSAGE: MessageRow = {
  host: "tower",
  environment: "local",
  thread: "t",
  text: "",
  message: "",
  delivery: "start",
  sent: null,
};
const START: StartRow = {
  host: "tower",
  text: "",
  environment: null,
  folder: null,
  model: null,
  effort: null,
  sent: null,
};

let database: Database;
let store: AttachmentStore;
let messages: MessageStore;

beforeEach(() => {
  vi.stubGlobal("indexedDB", new IDBFactory());
  database = new Database();
  store = new AttachmentStore(database);
  messages = new MessageStore(database, store);
});

function picture(id: string, bytes = 4): AttachmentRow {
  return { host: "tower", id, name: `${id}.jpg`, type: "image/jpeg", bytes, data: new Uint8Array(4), at: 1 };
}

function named({ id, name, type, bytes }: AttachmentRow): Attached {
  return { id, name, type, bytes };
}

/** Keeps a picture, and what a draft names it by. */
async function keeps(id: string, row: Partial<AttachmentRow> = {}): Promise<Attached> {
  const all = { ...picture(id), ...row };
  await store.put(all);
  return named(all);
}

async function there(...ids: readonly string[]): Promise<readonly string[]> {
  return (await store.read("tower", ids)).map(({ id }) => id);
}

test("they are read in the order that is asked for, and only of that host", async () => {
  await keeps("a");
  await keeps("b");
  expect(await there("b", "none", "a")).toEqual(["b", "a"]);
  expect(await store.read("towers", ["a"])).toEqual([]);
});

test("what a draft names stays with it, and goes with the last word of it", async () => {
  const [a, b] = [await keeps("a"), await keeps("b")];
  await messages.keep({ ...MESSAGE, attached: [a, b] });
  expect((await messages.read(MESSAGE))?.attached).toEqual([a, b]);
  await messages.keep({ ...MESSAGE, attached: [b], text: "x" });
  expect(await there("a", "b")).toEqual(["b"]);
  const sent = { id: "p", deviceId: "phone", at: 1, journal: null };
  await messages.keep({ ...MESSAGE, attached: [], message: "x", along: [b], sent });
  expect(await there("b")).toEqual(["b"]);
  await messages.settle(sent, { ...MESSAGE, attached: [b], along: [] });
  expect(await there("b")).toEqual(["b"]);
  await messages.keep({ ...MESSAGE, attached: [] });
  expect(await messages.read(MESSAGE)).toBe(null);
  expect(await there("b")).toEqual([]);
});

test("the same of a thread that is begun", async () => {
  const starts = new StartStore(database, store);
  const a = await keeps("a");
  await starts.keep({ ...START, attached: [a] });
  await starts.keep({ ...START, attached: [a], text: "x" });
  expect(await there("a")).toEqual(["a"]);
  await starts.keep({ ...START, text: "x" });
  expect(await there("a")).toEqual([]);
});

test("a prompt of another tab that is under way keeps what goes along with it", async () => {
  const a = await keeps("a");
  const sent = { id: "p", deviceId: "phone", at: 1, journal: null };
  await messages.keep({ ...MESSAGE, message: "x", along: [a], sent });
  await messages.keep({ ...MESSAGE, text: "a draft that was there before" });
  expect(await there("a")).toEqual(["a"]);
});

test("pictures that Codex got stay for its thread, in their order, and text does not", async () => {
  const [b, a] = [await keeps("b"), await keeps("a")];
  const log = await keeps("log", { type: "text/plain" });
  const sent = { id: "p", deviceId: "phone", at: 1, journal: "j" };
  await messages.keep({ ...MESSAGE, message: "x", along: [b, log, a], sent });
  await store.started("tower", "p", [b, log, a], 10);
  await messages.settle(sent, { ...MESSAGE, message: "x", along: [b, log, a] });
  expect((await store.shown("tower", "p")).map(({ id }) => id)).toEqual(["b", "a"]);
  expect(await there("log")).toEqual([]);
  expect(await store.shown("tower", "q")).toEqual([]);
  expect(store.changes.value).toBe(1);
  await store.forget("tower", "p");
  expect(await there("a", "b")).toEqual([]);
});

test("what Codex no longer has can be a draft's again", async () => {
  const a = await keeps("a");
  await store.started("tower", "p", [a]);
  expect(await store.takenBack("tower", "p")).toEqual([a]);
  expect(await store.shown("tower", "p")).toEqual([]);
  await messages.keep({ ...MESSAGE, attached: [a] });
  await messages.keep({ ...MESSAGE, attached: [] });
  expect(await there("a")).toEqual([]);
});

test("of what Codex got so much stays, the newest, and nothing that is still to be sent goes for it", async () => {
  const draft = await keeps("draft", { bytes: MOST_SHOWN_BYTES });
  await messages.keep({ ...MESSAGE, attached: [draft] });
  for (let at = 0; at <= MOST_SHOWN_PICTURES; at++) {
    await store.started("tower", `p${at}`, [await keeps(`a${at}`)], 100 + at);
  }
  expect(await there("draft", "a0", "a1", `a${MOST_SHOWN_PICTURES}`)).toEqual([
    "draft",
    "a1",
    `a${MOST_SHOWN_PICTURES}`,
  ]);
  await store.started("tower", "large", [await keeps("large", { bytes: MOST_SHOWN_BYTES - 4 })], 1_000);
  expect(await there("draft", "large", `a${MOST_SHOWN_PICTURES}`, `a${MOST_SHOWN_PICTURES - 1}`)).toEqual([
    "draft",
    "large",
    `a${MOST_SHOWN_PICTURES}`,
  ]);
});

test("what a page left behind is dropped after a day, and nothing else", async () => {
  const [a, b] = [await keeps("a"), await keeps("b")];
  await keeps("left");
  await keeps("new", { at: 2 * DAY });
  await messages.keep({ ...MESSAGE, attached: [a] });
  await new StartStore(database, store).keep({ ...START, attached: [b] });
  await store.started("tower", "p", [await keeps("shown")], 1);
  await keeps("other", { host: "laptop" });
  await store.sweep("tower", 2 * DAY + 1);
  expect(await there("a", "b", "left", "new", "shown")).toEqual(["a", "b", "new", "shown"]);
  expect(await store.read("laptop", ["other"])).toHaveLength(1);
});

test("with a host all of it is forgotten", async () => {
  await keeps("a");
  await store.started("tower", "p", [await keeps("b")]);
  await keeps("other", { host: "towers" });
  await new HostStore(database).remove("tower");
  expect(await there("a", "b")).toEqual([]);
  expect(await store.read("towers", ["other"])).toHaveLength(1);
});

test("a database of version 3 keeps its messages, and takes what is attached", async () => {
  const old = await new Promise<IDBDatabase>((resolve) => {
    const request = indexedDB.open("reachback", 3);
    request.onupgradeneeded = () => {
      request.result.createObjectStore("hosts", { keyPath: "id" });
      request.result.createObjectStore("starts", { keyPath: "host" });
      request.result
        .createObjectStore("messages", { keyPath: ["host", "environment", "thread"] })
        .put({ ...MESSAGE, text: "kept" });
    };
    request.onsuccess = () => {
      resolve(request.result);
    };
  });
  old.close();
  expect((await messages.read(MESSAGE))?.text).toBe("kept");
  await messages.keep({ ...MESSAGE, text: "kept", attached: [await keeps("a")] });
  expect(await there("a")).toEqual(["a"]);
});
