/** A thread that is begun: a host that answers by hand, and IndexedDB in memory. */
import { IDBFactory } from "fake-indexeddb";
import { beforeEach, expect, test, vi } from "vitest";
import "fake-indexeddb/auto";
import { modelsOf } from "../../src/state/choices";
import { isUnheard } from "../../src/state/prompt";
import { NewThread, startOf } from "../../src/state/start";
import { Database } from "../../src/store/database";
import { StoreError } from "../../src/store/error";
import type { SentRow } from "../../src/store/schema";
import { HostStore } from "../../src/store/hosts";
import { StartStore } from "../../src/store/starts";
import { faultWords } from "../../src/views/startwords";
import { PromptHost } from "./prompthost";

const DAY = 24 * 60 * 60 * 1_000;
const HOST = { id: "tower", deviceId: "phone" };
const DRAFT = { text: "mend the shop", environment: "local", folder: "/shop", model: null, effort: null };

async function opened(host: PromptHost): Promise<NewThread> {
  const start = new NewThread(host.api, new StartStore(new Database()), HOST);
  await vi.waitUntil(() => start.view.value !== null);
  return start;
}

function at(start: NewThread): string | undefined {
  return start.view.value?.progress.at;
}

beforeEach(() => {
  vi.stubGlobal("indexedDB", new IDBFactory());
});

test("a thread gets what a person chose, and nothing else", () => {
  expect(startOf(DRAFT)).toEqual({ cwd: "/shop" });
  expect(startOf({ ...DRAFT, model: "small", effort: "low" })).toEqual({
    cwd: "/shop",
    model: "small",
    config: { model_reasoning_effort: "low" },
  });
});

test.each<[string, Partial<SentRow>, boolean]>([
  ["the first time", { journal: null }, true],
  ["again, into the same journal", {}, true],
  ["after the host lost its journal", { journal: "other" }, false],
  ["after the device was paired anew", { deviceId: "other" }, false],
  ["when the host may have forgotten it", { at: 0 }, false],
])("what the host calls unknown is sent or not: %s", (_, change, is) => {
  const sent = { id: "x", deviceId: "phone", at: 8 * DAY, journal: "first", ...change };
  expect(isUnheard(sent, "phone", "first", 9 * DAY)).toBe(is);
});

test("models are read, the default first, and what is hidden or none is left out", () => {
  const efforts = [{ reasoningEffort: "low" }, { reasoningEffort: "high" }];
  const data = [
    { model: "small", displayName: "", isDefault: false },
    { model: "gone", hidden: true },
    {
      model: "big",
      displayName: "Big",
      isDefault: true,
      defaultReasoningEffort: "low",
      supportedReasoningEfforts: efforts,
    },
    7,
  ];
  expect(modelsOf(data)).toEqual([
    { id: "big", name: "Big", effort: "low", efforts: ["low", "high"] },
    { id: "small", name: "small", effort: "", efforts: [] },
  ]);
  expect(modelsOf("none")).toEqual([]);
});

test("a draft is there again after a reload", async () => {
  const start = await opened(new PromptHost());
  await start.write(DRAFT);
  expect(start.view.value?.kept).toBe(true);
  expect((await opened(new PromptHost())).view.value?.row).toMatchObject(DRAFT);
});

test("nothing leaves before its id is kept, and a reload sends it with that id", async () => {
  const host = new PromptHost();
  const start = await opened(host);
  await start.write(DRAFT);
  host.deaf = true;
  const going = start.send();
  await vi.waitUntil(() => host.asked.length > 0);
  const kept = await new StartStore(new Database()).read(HOST.id);
  expect(host.asked[0]).toMatchObject({ method: "prompt/read", params: { ids: [kept?.sent?.id] } });
  host.api.lost();
  await going;
  const next = new PromptHost();
  const again = await opened(next);
  await vi.waitUntil(() => at(again) === "taken");
  expect(next.sent).toEqual([kept?.sent?.id]);
});

test("what the host has already is not sent again", async () => {
  const host = new PromptHost();
  const start = await opened(host);
  await start.write(DRAFT);
  await Promise.all([start.send(), start.send()]);
  const [id = ""] = host.sent;
  host.known.set(id, { state: "started", turnId: "t", steered: false, environment: "local", threadId: "thread" });
  const again = await opened(host);
  await vi.waitUntil(() => at(again) === "started");
  expect(host.sent).toEqual([id]);
  await vi.waitUntil(async () => (await new StartStore(new Database()).read(HOST.id))?.sent === null);
});

test("a host with another journal is not given it again unless a person says so", async () => {
  const host = new PromptHost();
  const start = await opened(host);
  await start.write(DRAFT);
  await start.send();
  host.known.clear();
  host.journal = "second";
  await start.look();
  expect(at(start)).toBe("doubt");
  expect(host.sent).toHaveLength(1);
  await start.sendAgain();
  expect(at(start)).toBe("taken");
  expect(new Set(host.sent).size).toBe(2);
});

test("a refusal gives the text back, with the host's words", async () => {
  const host = new PromptHost();
  const start = await opened(host);
  await start.write(DRAFT);
  await start.send();
  const [id = ""] = host.sent;
  start.notified({ method: "prompt/changed", params: { id, state: "refused", reason: "folder", message: "no" } });
  expect(start.view.value).toMatchObject({ progress: { at: "draft" }, fault: { reason: "folder", message: "no" } });
  expect(start.view.value?.row.text).toBe(DRAFT.text);
});

test("a refused copy gives the text back once the host has ended its id", async () => {
  const host = new PromptHost();
  const start = await opened(host);
  await start.write(DRAFT);
  host.refusal = "busy";
  await start.send();
  expect(host.asked.map(({ method }) => method)).toEqual(["prompt/read", "prompt/send", "prompt/withdraw"]);
  expect(host.asked.at(-1)?.params.id).toBe(host.sent[0]);
  expect(start.view.value).toMatchObject({ progress: { at: "draft" }, fault: { reason: "busy" }, row: { sent: null } });
  expect(start.view.value?.row.text).toBe(DRAFT.text);
});

test("a copy that is refused while an earlier one is on its way keeps the id of both", async () => {
  const host = new PromptHost();
  const start = await opened(host);
  await start.write(DRAFT);
  host.isLossy = true;
  expect(start.isHeld).toBe(false);
  const going = start.send();
  expect(start.isHeld).toBe(true);
  await vi.waitUntil(() => host.sent.length === 1);
  host.api.lost();
  await going;
  expect(start.isHeld).toBe(true);
  const [id = ""] = host.sent;
  host.isLossy = false;
  host.refusal = "busy";
  host.isTooLate = true;
  await start.look();
  expect(start.view.value).toMatchObject({
    progress: { at: "held" },
    fault: { reason: "too_late" },
    row: { sent: { id } },
  });
  await start.send();
  expect(host.sent).toEqual([id, id]);
  host.known.set(id, { state: "started", turnId: "t", steered: false, environment: "local", threadId: "thread" });
  await start.look();
  expect(at(start)).toBe("started");
  expect(start.isHeld).toBe(false);
  expect(host.sent).toEqual([id, id]);
});

test("what is over writes and sends nothing, and goes on with another session of the host", async () => {
  const [host, store] = [new PromptHost(), new StartStore(new Database())];
  const start = await opened(host);
  await start.write(DRAFT);
  start.end();
  await start.write({ text: "late" });
  await start.send();
  expect(await store.read(HOST.id)).toMatchObject({ ...DRAFT, sent: null });
  expect([at(start), start.view.value?.row.text, host.asked]).toEqual(["draft", DRAFT.text, []]);
  const next = new PromptHost();
  start.begin(next.api);
  await start.write({ text: "mend the door" });
  await start.send();
  expect([next.sent.length, host.asked]).toEqual([1, []]);
});

test("what is over while it is being kept is not sent by it, and is by what comes after it", async () => {
  const host = new PromptHost();
  const start = await opened(host);
  await start.write(DRAFT);
  const going = start.send();
  start.end();
  await going;
  expect(host.asked).toEqual([]);
  start.begin(host.api);
  await vi.waitUntil(() => at(start) === "taken");
  expect(host.sent).toHaveLength(1);
});

/** Two tabs: the first one's host does not hear yet, and the second one rests. */
async function tabs(): Promise<{
  readonly hosts: readonly [PromptHost, PromptHost];
  readonly starts: readonly [NewThread, NewThread];
}> {
  const hosts = [new PromptHost(), new PromptHost()] as const;
  hosts[0].deaf = true;
  const starts = [await opened(hosts[0]), await opened(hosts[1])] as const;
  starts[1].rest();
  await starts[0].write(DRAFT);
  return { hosts, starts };
}

test("what one tab could not send is sent by the one after it, and the first one has what that left", async () => {
  const { hosts, starts } = await tabs();
  const [first, second] = starts;
  const going = first.send();
  await vi.waitUntil(() => hosts[0].asked.length > 0);
  expect([first.isHeld, second.isHeld]).toEqual([true, false]);
  first.rest();
  await going;
  expect(first.isHeld).toBe(false);
  second.wake();
  await vi.waitUntil(() => at(second) === "taken");
  const [id = ""] = hosts[1].sent;
  second.notified({
    method: "prompt/changed",
    params: { id, state: "started", turnId: "t", steered: false, environment: "local", threadId: "thread" },
  });
  await vi.waitUntil(async () => (await new StartStore(new Database()).read(HOST.id))?.sent === null);
  second.open();
  await second.write({ text: "mend the door" });
  second.rest();
  hosts[0].deaf = false;
  first.wake();
  await vi.waitUntil(() => first.view.value?.row.text === "mend the door");
  expect(at(first)).toBe("draft");
  expect([hosts[0].sent, hosts[1].sent]).toEqual([[], [id]]);
});

test("a tab that rests sends nothing, whenever it was told", async () => {
  const { hosts, starts } = await tabs();
  const [first] = starts;
  hosts[0].deaf = false;
  const going = first.send();
  first.rest();
  await going;
  await first.look();
  expect([at(first), hosts[0].asked]).toEqual(["held", []]);
  // It was kept, and is what a tab after it begins with.
  const third = await opened(hosts[1]);
  await vi.waitUntil(() => at(third) === "taken");
  first.wake();
  await vi.waitUntil(() => at(first) === "taken");
  expect(new Set([...hosts[0].sent, ...hosts[1].sent]).size).toBe(1);
});

test("a prompt that another tab has handed on is not taken back here without the host", async () => {
  const { hosts, starts } = await tabs();
  const [first, second] = starts;
  const going = first.send();
  await vi.waitUntil(() => hosts[0].asked.length > 0);
  hosts[1].deaf = true;
  second.wake();
  await vi.waitUntil(() => at(second) === "held");
  // What the first one was told comes late.
  hosts[0].deaf = false;
  hosts[0].isLossy = true;
  void first.look();
  await vi.waitUntil(() => hosts[0].sent.length === 1);
  hosts[1].deaf = false;
  const [id = ""] = hosts[0].sent;
  await second.withdraw();
  await vi.waitUntil(() => at(second) === "draft");
  expect(hosts[1].asked.filter(({ method }) => method === "prompt/withdraw").map(({ params }) => params.id)).toEqual([
    id,
  ]);
  expect([hosts[1].sent, second.view.value?.row.text]).toEqual([[], DRAFT.text]);
  await going;
});

test("a prompt that another tab took back is not handed on", async () => {
  const { hosts, starts } = await tabs();
  const [first, second] = starts;
  const going = first.send();
  await vi.waitUntil(() => hosts[0].asked.length > 0);
  hosts[1].deaf = true;
  second.wake();
  await vi.waitUntil(() => at(second) === "held");
  await second.withdraw();
  hosts[0].deaf = false;
  hosts[0].answers();
  await going;
  await vi.waitUntil(() => at(first) === "draft");
  expect([first.view.value?.row.text, hosts[0].sent]).toEqual([DRAFT.text, []]);
});

test("a draft that could not be kept stays where it is when its tab goes on", async () => {
  const host = new PromptHost();
  const store = new StartStore(new Database());
  const start = new NewThread(host.api, store, HOST);
  await vi.waitUntil(() => start.view.value !== null);
  vi.spyOn(store, "keep").mockRejectedValue(new StoreError("quota"));
  await start.write(DRAFT);
  start.rest();
  start.wake();
  await start.look();
  expect(start.view.value).toMatchObject({ row: DRAFT, kept: false, fault: { reason: "store" } });
});

test("a draft in another tab does not take the place of a prompt that is under way", async () => {
  const store = new StartStore(new Database());
  const sent = { id: "x", deviceId: "phone", at: 1, journal: null };
  const row = { ...DRAFT, host: HOST.id };
  await store.keep({ ...row, sent });
  expect(await store.keep({ ...row, text: "other", sent: null })).toEqual({ ...row, sent });
  await store.settle({ id: "y" }, { ...row, text: "other", sent: null });
  expect(await store.read(HOST.id)).toEqual({ ...row, sent });
  await store.settle({ ...sent, journal: "first" }, { ...row, text: "other", sent: null });
  expect(await store.read(HOST.id)).toEqual({ ...row, sent });
  await store.settle({ id: "x" }, { ...row, text: "", sent: null });
  expect((await store.read(HOST.id))?.text).toBe("");
  await new HostStore(new Database()).remove(HOST.id);
  await store.settle({ id: "x" }, { ...row, sent: null });
  expect(await store.read(HOST.id)).toBe(null);
});

test("a refusal that names a parameter is said without it, and what helps is said", () => {
  expect(faultWords({ reason: "params", message: "`cwd`: this folder is gone" })).toEqual({
    what: "This folder is gone.",
    next: "Choose another folder, or have the host's owner open this one: `reachback workspace add`.",
  });
  expect(faultWords({ reason: "params", message: "`model`: not there" }).next).toBe("Choose the host's default.");
  expect(faultWords({ reason: "params", message: "`input`: too long" })).toEqual({
    what: "`input`: too long.",
    next: "Your text is still here: change it, or start again.",
  });
});

test("a goal is kept with the draft, and the draft is another one only once the goal is set", async () => {
  const host = new PromptHost();
  const asked: string[] = [];
  let answer: () => void = () => undefined;
  const start = new NewThread(host.api, new StartStore(new Database()), HOST, async (_, method) => {
    asked.push(method);
    await new Promise<void>((resolve) => (answer = resolve));
    return { goal: null };
  });
  await vi.waitUntil(() => start.view.value !== null);
  await start.write({ ...DRAFT, goal: " all tests pass " });
  expect((await opened(new PromptHost())).view.value?.row.goal).toBe(" all tests pass ");
  await start.send();
  const [id = ""] = host.sent;
  const started = { state: "started", turnId: "t", steered: false, environment: "local", threadId: "thread" };
  host.known.set(id, started);
  await start.look();
  await vi.waitUntil(() => asked.length === 1);
  expect((await new StartStore(new Database()).read(HOST.id))?.sent?.id).toBe(id);
  answer();
  await vi.waitUntil(() => asked.length === 2);
  expect(at(start)).not.toBe("started");
  answer();
  await vi.waitUntil(() => at(start) === "started");
  await vi.waitUntil(async () => (await new StartStore(new Database()).read(HOST.id))?.sent === null);
  expect(asked).toEqual(["thread/goal/get", "thread/goal/set"]);
  expect(start.view.value?.row).toMatchObject({ text: "", goal: "" });
});

test("no goal is asked for where none was written", async () => {
  const host = new PromptHost();
  const asked = vi.fn();
  const start = new NewThread(host.api, new StartStore(new Database()), HOST, asked);
  await vi.waitUntil(() => start.view.value !== null);
  await start.write({ ...DRAFT, goal: " " });
  await start.send();
  const started = { state: "started", turnId: "t", steered: false, environment: "local", threadId: "thread" };
  host.known.set(host.sent[0] ?? "", started);
  await start.look();
  await vi.waitUntil(() => at(start) === "started");
  expect(asked).not.toHaveBeenCalled();
});
