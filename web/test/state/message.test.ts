/** Messages to a thread: a host that answers by hand, and IndexedDB in memory. */
import { IDBFactory } from "fake-indexeddb";
import { beforeEach, expect, test, vi } from "vitest";
import "fake-indexeddb/auto";
import { Message } from "../../src/state/message";
import { Messages } from "../../src/state/messages";
import { Receipts } from "../../src/state/receipts";
import { Database } from "../../src/store/database";
import { StoreError } from "../../src/store/error";
import { HostStore } from "../../src/store/hosts";
import { MessageStore } from "../../src/store/messages";
import { messageFaultWords, receiptWords } from "../../src/views/startwords";
import { PromptHost } from "./prompthost";

const HOST = { id: "tower", deviceId: "phone" };
const PLACE = { host: "tower", environment: "local", thread: "t1" };
const STARTED = { state: "started", turnId: "t", steered: false, environment: "local", threadId: "t1" } as const;

beforeEach(() => {
  vi.stubGlobal("indexedDB", new IDBFactory());
});

async function opened(host: PromptHost, store = new MessageStore(new Database())): Promise<Message> {
  const message = new Message(host.api, store, HOST, PLACE);
  await vi.waitUntil(() => message.view.value !== null);
  return message;
}

function at(message: Message): string | undefined {
  return message.view.value?.progress.at;
}

function row(message: Message): { readonly text?: string; readonly message?: string } {
  return message.view.value?.row ?? {};
}

async function kept(): ReturnType<MessageStore["read"]> {
  return new MessageStore(new Database()).read(PLACE);
}

test.each(["start", "steer"] as const)("a message goes to its thread: %s", async (delivery) => {
  const host = new PromptHost();
  const message = await opened(host);
  await message.write("mend the shop");
  await message.send(delivery);
  const sent = host.asked.find(({ method }) => method === "prompt/send");
  expect(sent?.all).toEqual({
    id: host.sent[0],
    environment: "local",
    threadId: "t1",
    delivery,
    input: [{ type: "text", text: "mend the shop" }],
  });
  expect([at(message), row(message)]).toMatchObject(["taken", { text: "", message: "mend the shop" }]);
});

test("nothing is said to be held, and nothing is asked, before it is kept", async () => {
  const host = new PromptHost();
  const store = new MessageStore(new Database());
  const message = await opened(host, store);
  await message.write("mend the shop");
  let keep = (): void => undefined;
  const real = store.keep.bind(store);
  vi.spyOn(store, "keep").mockImplementationOnce(async (next) => {
    await new Promise<void>((resolve) => (keep = resolve));
    return real(next);
  });
  const going = message.send("start");
  expect([at(message), host.asked]).toEqual(["keeping", []]);
  // What is typed meanwhile is the next draft.
  await message.write("and the door");
  keep();
  await going;
  expect([at(message), row(message)]).toMatchObject(["taken", { text: "and the door", message: "mend the shop" }]);
  await vi.waitUntil(async () => (await kept())?.text === "and the door");
  expect(host.sent).toHaveLength(1);
});

test("what can't be kept is not sent, and is the draft again", async () => {
  const host = new PromptHost();
  const store = new MessageStore(new Database());
  const message = await opened(host, store);
  await message.write("mend the shop");
  vi.spyOn(store, "keep").mockRejectedValue(new StoreError("quota"));
  await message.send("start");
  expect(message.view.value).toMatchObject({
    row: { text: "mend the shop", sent: null },
    progress: { at: "draft" },
    fault: { reason: "store" },
  });
  expect(host.asked).toEqual([]);
});

test("a cut between held and taken, and a reload: sent with one id, and the draft beside it stays", async () => {
  const host = new PromptHost();
  host.isLossy = true;
  const message = await opened(host);
  await message.write("mend the shop");
  const going = message.send("start");
  await vi.waitUntil(() => host.sent.length === 1);
  await message.write("and the door");
  host.api.lost();
  await going;
  expect(at(message)).toBe("held");
  const next = new PromptHost();
  next.journal = host.journal;
  const all = new Messages(next.api, new MessageStore(new Database()), HOST);
  // Nobody has to open the thread.
  await vi.waitUntil(() => next.sent.length === 1);
  expect(next.sent).toEqual(host.sent);
  await vi.waitUntil(() => !all.isHeld);
  expect(row(all.to("local", "t1"))).toMatchObject({ text: "and the door", message: "mend the shop" });
});

test("what the host had before a gap is not sent again", async () => {
  const host = new PromptHost();
  host.isLossy = true;
  const message = await opened(host);
  await message.write("mend the shop");
  const going = message.send("start");
  await vi.waitUntil(() => host.sent.length === 1);
  host.api.lost();
  await going;
  host.known.set(host.sent[0] ?? "", { ...STARTED, steered: true });
  message.missed();
  await vi.waitUntil(() => at(message) === "started");
  expect(message.view.value?.progress).toMatchObject({ how: "steered", id: host.sent[0], thread: "t1" });
  expect(host.sent).toHaveLength(1);
  expect(message.isFree).toBe(true);
  message.seen();
  expect([at(message), row(message)]).toMatchObject(["draft", { message: "" }]);
  await vi.waitUntil(async () => (await kept()) === null);
});

test("a host that has lost its journal is not given it again unless a person says so", async () => {
  const host = new PromptHost();
  const message = await opened(host);
  await message.write("mend the shop");
  await message.send("start");
  host.known.clear();
  host.journal = "second";
  message.missed();
  await vi.waitUntil(() => at(message) === "doubt");
  expect(host.sent).toHaveLength(1);
  await message.backToDraft();
  expect([at(message), row(message)]).toMatchObject(["draft", { text: "mend the shop", message: "" }]);
});

test("a message that is withdrawn while it is on its way stands before the draft again", async () => {
  const host = new PromptHost();
  host.isLossy = true;
  const message = await opened(host);
  await message.write("mend the shop");
  const going = message.send("start");
  await vi.waitUntil(() => host.sent.length === 1);
  await message.write("and the door");
  await message.withdraw();
  expect(host.asked.at(-1)).toMatchObject({ method: "prompt/withdraw", params: { id: host.sent[0] } });
  await vi.waitUntil(() => at(message) === "draft");
  expect(row(message)).toMatchObject({ text: "mend the shop\n\nand the door", message: "" });
  await vi.waitUntil(async () => (await kept())?.text === "mend the shop\n\nand the door");
  host.api.lost();
  await going;
  expect([at(message), host.sent.length]).toEqual(["draft", 1]);
});

test("a refusal gives the text back, with the host's words", async () => {
  const host = new PromptHost();
  const message = await opened(host);
  await message.write("mend the shop");
  await message.send("start");
  const [id = ""] = host.sent;
  message.notified({ method: "prompt/changed", params: { id, state: "refused", reason: "folder", message: "no" } });
  expect(message.view.value).toMatchObject({
    row: { text: "mend the shop", message: "", sent: null },
    progress: { at: "draft" },
    fault: { reason: "folder", message: "no" },
  });
  expect(messageFaultWords({ reason: "folder", message: "no" })).toEqual({
    what: "No.",
    next: "Have the host's owner open this thread's folder: `reachback workspace add`.",
  });
  // The next one is sent under another id.
  await message.send("start");
  expect(new Set(host.sent).size).toBe(2);
});

test("one message at a time is on its way", async () => {
  const host = new PromptHost();
  const message = await opened(host);
  await message.write("mend the shop");
  await Promise.all([message.send("start"), message.send("start")]);
  await message.write("and the door");
  await message.send("steer");
  expect([host.sent.length, message.isFree, row(message).text]).toEqual([1, false, "and the door"]);
  message.notified({ method: "prompt/changed", params: { id: host.sent[0] ?? "", state: "queued", queuedId: "q" } });
  expect(message.view.value?.progress).toMatchObject({ at: "started", how: "queued" });
  await message.send("steer");
  expect(host.sent).toHaveLength(2);
});

test("of two tabs the one that has the links sends it, once, and the other has what that left", async () => {
  const hosts = [new PromptHost(), new PromptHost()] as const;
  hosts[0].deaf = true;
  const first = await opened(hosts[0]);
  const second = await opened(hosts[1]);
  second.rest();
  await first.write("mend the shop");
  const going = first.send("start");
  await vi.waitUntil(() => hosts[0].asked.length > 0);
  first.rest();
  await going;
  second.wake();
  await vi.waitUntil(() => at(second) === "taken");
  // What the first one was told comes late.
  hosts[0].deaf = false;
  hosts[0].answers();
  await second.write("and the door");
  const [id = ""] = hosts[1].sent;
  second.notified({ method: "prompt/changed", params: { id, ...STARTED } });
  await vi.waitUntil(async () => (await kept())?.sent === null);
  second.rest();
  first.wake();
  await vi.waitUntil(() => at(first) === "draft" && row(first).text === "and the door");
  expect([hosts[0].sent, hosts[1].sent]).toEqual([[], [id]]);
});

test("what is sent while another tab's message is under way is a draft still", async () => {
  const hosts = [new PromptHost(), new PromptHost()] as const;
  const first = await opened(hosts[0]);
  const second = await opened(hosts[1]);
  hosts[0].deaf = true;
  await first.write("mend the shop");
  const going = first.send("start");
  await vi.waitUntil(() => hosts[0].asked.length > 0);
  await second.write("paint the fence");
  await second.send("start");
  expect([at(second), row(second)]).toMatchObject(["taken", { text: "paint the fence", message: "mend the shop" }]);
  await vi.waitUntil(async () => (await kept())?.text === "paint the fence");
  expect(new Set([...hosts[0].sent, ...hosts[1].sent]).size).toBe(1);
  hosts[0].api.lost();
  await going;
});

test("drafts are kept by thread, and go with their host", async () => {
  const host = new PromptHost();
  const all = new Messages(host.api, new MessageStore(new Database()), HOST);
  for (const [environment, thread] of [
    ["local", "t1"],
    ["local", "t2"],
    ["ssh:devbox", "t1"],
  ] as const) {
    const message = all.to(environment, thread);
    await vi.waitUntil(() => message.view.value !== null);
    await message.write(`${environment} ${thread}`);
  }
  expect(all.to("local", "t1")).toBe(all.to("local", "t1"));
  await new MessageStore(new Database()).keep({
    ...PLACE,
    host: "towers",
    text: "x",
    message: "",
    delivery: "start",
    sent: null,
  });
  expect((await all.kept()).map(({ text }) => text)).toEqual(["local t1", "local t2", "ssh:devbox t1"]);
  await all.to("local", "t2").write("");
  expect(await all.kept()).toHaveLength(2);
  await new HostStore(new Database()).remove("tower");
  expect(await all.kept()).toEqual([]);
  expect(await new MessageStore(new Database()).list("towers")).toHaveLength(1);
});

test("receipts are asked for once, and those of other devices are none", async () => {
  const host = new PromptHost();
  host.known.set("a", { ...STARTED, changedAt: 5 });
  const receipts = new Receipts(host.api);
  await receipts.read(["a", ""]);
  await receipts.read(["a", "b"]);
  expect(host.asked.map(({ params }) => params.ids)).toEqual([["a"], ["b"]]);
  expect([...receipts.view.value.keys()]).toEqual(["a"]);
  expect(receiptWords(receipts.view.value.get("a"), 5)).toMatch(/^Turn started /);
  expect(receiptWords(receipts.view.value.get("b"), 5)).toBe(null);
  receipts.notified({ method: "prompt/changed", params: { id: "c", state: "queued", queuedId: "q" } });
  expect(receiptWords(receipts.view.value.get("c"), 5)).toBe("Queued");
});
