/** Files on their way into a draft, and from there to the host: IndexedDB in memory, and a host that answers by hand. */
import { IDBFactory } from "fake-indexeddb";
import { beforeEach, expect, test, vi } from "vitest";
import "fake-indexeddb/auto";
import { MOST } from "../../src/attach/bounds";
import type { Content, FileFault } from "../../src/attach/file";
import { Attaching } from "../../src/state/attaching";
import { Message } from "../../src/state/message";
import { NewThread } from "../../src/state/start";
import { Database } from "../../src/store/database";
import { StoreError } from "../../src/store/error";
import { MessageStore } from "../../src/store/messages";
import { StartStore } from "../../src/store/starts";
import { PromptHost } from "./prompthost";

const HOST = { id: "tower", deviceId: "phone" };
const PLACE = { host: "tower", environment: "local", thread: "t1" };
const STARTED = { state: "started", turnId: "t", steered: false, environment: "local", threadId: "t1" } as const;
/** A picture of four bytes. */
const PICTURE: Content = { type: "image/jpeg", data: new Uint8Array([1, 2, 3, 4]) };
const URL_OF_PICTURE = "data:image/jpeg;base64,AQIDBA==";

beforeEach(() => {
  vi.stubGlobal("indexedDB", new IDBFactory());
});

async function opened(host: PromptHost, store = new MessageStore(new Database())): Promise<Message> {
  const message = new Message(host.api, store, HOST, PLACE);
  await vi.waitUntil(() => message.view.value !== null);
  return message;
}

function files(...names: readonly string[]): File[] {
  return names.map((name) => new File(["x"], name, { type: "image/jpeg" }));
}

function attaching(
  message: Message,
  store = new MessageStore(new Database()).attachments,
  read: (file: File) => Promise<Content | FileFault> = () => Promise.resolve(PICTURE),
): Attaching {
  return new Attaching(message, store, HOST.id, read);
}

async function stored(...ids: readonly string[]): Promise<number> {
  return (await new MessageStore(new Database()).attachments.read(HOST.id, ids)).length;
}

function at(message: Message): string | undefined {
  return message.view.value?.progress.at;
}

test("what is attached outlives the page, goes along with the message, and stays for the thread once Codex has it", async () => {
  const first = await opened(new PromptHost());
  await attaching(first).add(files("shop.jpg"));
  const host = new PromptHost();
  const store = new MessageStore(new Database());
  const message = await opened(host, store);
  expect(message.attached).toMatchObject([{ name: "shop.jpg", type: "image/jpeg", bytes: 4 }]);
  await message.write("mend it");
  await message.send("start");
  const sent = host.asked.find(({ method }) => method === "prompt/send");
  expect(sent?.all.input).toEqual([
    { type: "text", text: "mend it" },
    { type: "image", url: URL_OF_PICTURE },
  ]);
  expect(message.view.value?.row).toMatchObject({ attached: [], along: [{ name: "shop.jpg" }] });
  host.known.set(host.sent[0] ?? "", STARTED);
  message.missed();
  await vi.waitUntil(() => at(message) === "started");
  expect(await store.attachments.shown(HOST.id, host.sent[0] ?? "")).toHaveLength(1);
  message.seen();
  expect(message.view.value?.row).toMatchObject({ message: "", along: [] });
  await vi.waitUntil(async () => (await store.read(PLACE)) === null);
  expect(await store.attachments.shown(HOST.id, host.sent[0] ?? "")).toHaveLength(1);
});

test("a picture alone is a message", async () => {
  const host = new PromptHost();
  const message = await opened(host);
  await message.send("start");
  expect(host.asked).toEqual([]);
  await attaching(message).add(files("shop.jpg"));
  await message.send("start");
  expect(host.asked.find(({ method }) => method === "prompt/send")?.all.input).toEqual([
    { type: "image", url: URL_OF_PICTURE },
  ]);
});

test("what is withdrawn, or refused, has what went along in the draft again, before what is there", async () => {
  const host = new PromptHost();
  const message = await opened(host);
  await attaching(message).add(files("one.jpg"));
  host.refusal = "busy";
  await message.send("start");
  await vi.waitUntil(() => at(message) === "draft");
  expect(message.attached.map(({ name }) => name)).toEqual(["one.jpg"]);
  host.refusal = null;
  await message.send("start");
  await vi.waitUntil(() => at(message) === "taken");
  await attaching(message).add(files("two.jpg"));
  await message.withdraw();
  await vi.waitUntil(() => at(message) === "draft");
  expect(message.attached.map(({ name }) => name)).toEqual(["one.jpg", "two.jpg"]);
  expect(await stored(...message.attached.map(({ id }) => id))).toBe(2);
});

test("what is removed is nowhere any more", async () => {
  const message = await opened(new PromptHost());
  await attaching(message).add(files("one.jpg", "two.jpg"));
  const [one, two] = message.attached.map(({ id }) => id);
  await message.detach(one ?? "");
  expect(message.attached.map(({ id }) => id)).toEqual([two]);
  expect(await stored(one ?? "", two ?? "")).toBe(1);
});

test("a message is not sent without what belongs to it", async () => {
  const host = new PromptHost();
  const store = new MessageStore(new Database());
  const message = await opened(host, store);
  await attaching(message).add(files("one.jpg"));
  await message.write("mend it");
  vi.spyOn(store.attachments, "read").mockResolvedValue([]);
  await message.send("start");
  expect(message.view.value).toMatchObject({ progress: { at: "held" }, fault: { reason: "store" } });
  expect(host.sent).toEqual([]);
  await message.withdraw();
  expect(message.view.value?.row).toMatchObject({ text: "mend it", attached: [{ name: "one.jpg" }] });
});

test("no more is attached than goes along, and what is left out is said", async () => {
  const message = await opened(new PromptHost());
  const adding = attaching(message);
  const names = Array.from({ length: MOST + 2 }, (_, at) => `${at}.jpg`);
  // Both at once, as pasting twice is.
  await Promise.all([adding.add(files(...names.slice(0, 5))), adding.add(files(...names.slice(5)))]);
  expect(message.attached.map(({ name }) => name)).toEqual(names.slice(0, MOST));
  expect(adding.view.value).toEqual({ reading: 0, leftOut: names.slice(MOST).map((name) => ({ name, why: "count" })) });
  adding.forget();
  expect(adding.view.value.leftOut).toEqual([]);
});

test("more than goes along is not sent, until some of it is removed", async () => {
  const host = new PromptHost();
  const message = await opened(host);
  const names = Array.from({ length: MOST }, (_, at) => `${at}.jpg`);
  await attaching(message).add(files(...names));
  await message.send("start");
  await vi.waitUntil(() => at(message) === "taken");
  await attaching(message).add(files("more.jpg"));
  await message.withdraw();
  await vi.waitUntil(() => at(message) === "draft");
  await message.send("start");
  expect([at(message), host.sent.length]).toEqual(["draft", 1]);
  await message.detach(message.attached[0]?.id ?? "");
  await message.send("start");
  expect(host.sent).toHaveLength(2);
});

test("what can't be read, or can't be kept, is not attached, and is said", async () => {
  const message = await opened(new PromptHost());
  const { attachments } = new MessageStore(new Database());
  const broken = attaching(message, attachments, () => Promise.resolve("undecoded"));
  await broken.add(files("a.heic"));
  expect(broken.view.value.leftOut).toEqual([{ name: "a.heic", why: "undecoded" }]);
  vi.spyOn(attachments, "put").mockRejectedValue(new StoreError("quota"));
  const full = attaching(message, attachments);
  await full.add(files("a.jpg"));
  expect(full.view.value).toEqual({ reading: 0, leftOut: [{ name: "a.jpg", why: "quota" }] });
  expect(message.attached).toEqual([]);
});

test("a message that Codex gives back brings its pictures, as far as they are here", async () => {
  const host = new PromptHost();
  const message = await opened(host);
  await attaching(message).add(files("one.jpg"));
  await message.send("start");
  const [id = ""] = host.sent;
  host.known.set(id, { state: "queued", queuedId: "q", environment: "local", threadId: "t1" });
  message.missed();
  await vi.waitUntil(() => at(message) === "started");
  message.seen();
  await message.write("and more");
  expect(await message.giveBack("mend it", id)).toBe(1);
  expect(message.view.value?.row).toMatchObject({ text: "mend it\n\nand more", attached: [{ name: "one.jpg" }] });
  expect(await message.giveBack("once more", id)).toBe(0);
});

test("a thread can begin with a picture, and forgets it once Codex has it, but for the thread", async () => {
  const host = new PromptHost();
  const store = new StartStore(new Database());
  const start = new NewThread(host.api, store, HOST);
  await vi.waitUntil(() => start.view.value !== null);
  await start.write({ text: "mend it", environment: "local", folder: "/shop" });
  await new Attaching(start, store.attachments, HOST.id, () => Promise.resolve(PICTURE)).add(files("a.jpg", "b.jpg"));
  await start.detach(start.attached[1]?.id ?? "");
  await start.send();
  expect(host.asked.find(({ method }) => method === "prompt/send")?.all.input).toEqual([
    { type: "text", text: "mend it" },
    { type: "image", url: URL_OF_PICTURE },
  ]);
  host.known.set(host.sent[0] ?? "", STARTED);
  start.missed();
  await vi.waitUntil(() => start.view.value?.progress.at === "started");
  expect(start.attached).toEqual([]);
  expect(await store.attachments.shown(HOST.id, host.sent[0] ?? "")).toHaveLength(1);
});
