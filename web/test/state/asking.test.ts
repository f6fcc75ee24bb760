/** What Codex asks, of a host that answers by hand. */
import { beforeEach, expect, test, vi } from "vitest";
import { ApiClient } from "../../src/api/client";
import type { RequestInfo } from "../../src/api/types";
import { type Bytes, utf8 } from "../../src/bytes";
import { type Json, json, list, text } from "../../src/json";
import { shownDigest } from "../../src/shown";
import type { Said } from "../../src/state/ask";
import { type Ask, Asking, type AskingSetup } from "../../src/state/asking";
import { outcomeWords } from "../../src/views/askwords";
import { named } from "../../src/views/named";

const ACCEPT: Said = { how: "accept" };
const DECLINE: Said = { how: "decline" };
const SOME_NUMBER: unknown = expect.any(Number);
/** By the host's clock. */
const NOW = 1_795_675_594_000;
const HERE = { deviceId: "phone", name: "phone" };
const OTHER = { deviceId: "tablet", name: "tablet" };

async function request(change: Partial<RequestInfo> = {}, command = "cargo update"): Promise<RequestInfo> {
  const shown = ["request", "item/commandExecution/requestApproval", "folder", "/home/me", "command", command];
  const digest = Array.from(await shownDigest(shown), (byte) => byte.toString(16).padStart(2, "0")).join("");
  return {
    environment: "local",
    instance: "one",
    requestId: 0,
    threadId: "thread",
    turnId: "turn",
    itemId: "item",
    method: "item/commandExecution/requestApproval",
    openedAt: 1,
    shown,
    digest,
    needed: "approve",
    answers: ["accept", "decline", "cancel"],
    shownTo: [HERE],
    ...change,
  };
}

class Host {
  readonly asked: { readonly id: number; readonly method: string; readonly params: Json }[] = [];
  readonly api: ApiClient;
  readonly asking: Asking;
  /** Whether it says what time it is. */
  reads = true;
  /** What it lists. */
  waiting: readonly RequestInfo[] = [];
  online = true;

  /** `of`: as {@link AskingSetup}; `null` for all. */
  constructor(of: AskingSetup["of"] | null = { environment: "local", thread: "thread" }) {
    this.api = new ApiClient(
      (bytes) => {
        this.#take(bytes);
      },
      {
        notified: (notification) => {
          this.asking.notified(notification);
        },
        missed: () => {
          this.asking.missed();
        },
      },
    );
    this.asking = new Asking({ api: this.api, ...(of && { of }), device: HERE.deviceId, isOnline: () => this.online });
  }

  #take(bytes: Bytes): void {
    const { id, method, params } = json(JSON.parse(new TextDecoder().decode(bytes)));
    const asked = { id: Number(id), method: text(method), params: json(params) };
    this.asked.push(asked);
    if (asked.method === "host/read" && this.reads) {
      queueMicrotask(() => {
        this.say({ id: asked.id, result: { now: NOW } });
      });
    }
    if (asked.method === "request/list") {
      queueMicrotask(() => {
        this.say({ id: asked.id, result: { data: this.waiting } });
      });
    }
  }

  say(message: object): void {
    this.api.message(utf8(JSON.stringify(message)), () => undefined);
  }

  /** The answers that were sent, oldest first. */
  get answers(): readonly Json[] {
    return this.asked.filter(({ method }) => method === "answer/send").map(({ params }) => params);
  }

  /** Says this to the last of them. */
  replies(reply: object): void {
    const last = this.asked.filter(({ method }) => method === "answer/send").at(-1);
    this.say({ id: last?.id, ...reply });
  }

  refuses(reason: string, params: object = {}): void {
    this.replies({ error: { code: -32010, message: `refused: ${reason}`, data: { reason, params } } });
  }

  get first(): Ask | undefined {
    return this.asking.view.value.asks[0];
  }

  /** The first one, once it can be read. */
  async shows(): Promise<Ask & { digest: string }> {
    const ask = await vi.waitUntil(() => (this.first?.shown ? this.first : undefined));
    return { ...ask, digest: ask.shown?.digest ?? "" };
  }

  /** Says this, and waits until it is on its way. */
  async hears(key: string, digest: string, said: Said): Promise<void> {
    const before = this.answers.length;
    void this.asking.say(key, digest, said);
    await vi.waitUntil(() => this.answers.length > before);
  }

  /** What was asked has been answered. */
  async settles(): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve));
  }

  async opens(info: RequestInfo): Promise<Ask & { digest: string }> {
    this.waiting = [info];
    this.say({ method: "request/opened", params: info });
    return this.shows();
  }

  /** What is said of the one that is over. */
  get outcome(): string {
    const [outcome] = this.asking.view.value.outcomes;
    return outcome === undefined ? "" : outcomeWords(outcome, "studio");
  }
}

let host: Host;

beforeEach(async () => {
  host = new Host();
  await host.settles();
});

test("what waits in the thread is read, and what waits elsewhere is not shown", async () => {
  host.waiting = [await request({ threadId: "another", requestId: 7 }), await request()];
  host.asking.missed();
  const ask = await host.shows();
  expect(host.asking.view.value.asks).toHaveLength(1);
  expect(ask.shown).toMatchObject({ kind: "command", agrees: true, parts: { command: "cargo update" } });
});

test("an inbox has what waits in all threads, and asks for nothing that is too long for a list", async () => {
  host = new Host(null);
  await host.settles();
  expect(host.asking.view.value.known).toBe(true);
  host.waiting = [await request({ threadId: "another", requestId: 7, environment: "ssh:devbox" }), await request()];
  const { shown, ...long } = await request({ requestId: 8 }, "x".repeat(70_000));
  expect(shown).toBeDefined();
  host.waiting = [...host.waiting, long];
  host.asking.missed();
  await vi.waitUntil(() => host.asking.view.value.asks.filter((ask) => ask.shown !== null).length === 2);
  expect(host.asking.view.value.asks.map(({ info }) => info.requestId)).toEqual([7, 0, 8]);
  const lists = host.asked.filter(({ method }) => method === "request/list");
  expect(lists.map(({ params }) => params)).toEqual([{}, {}]);
  // By the rules of a thread.
  const [first] = host.asking.view.value.asks;
  const [key, digest] = [first?.key ?? "", first?.shown?.digest ?? ""];
  await host.asking.say(key, digest, ACCEPT);
  expect(host.answers).toEqual([]);
  host.asking.seen(key, digest);
  await host.hears(key, digest, ACCEPT);
  expect(host.answers).toMatchObject([{ environment: "ssh:devbox", threadId: "another", requestId: 7, digest }]);
});

test("nothing is accepted before its end was seen, and declining needs no look", async () => {
  const { key, digest } = await host.opens(await request());
  await host.asking.say(key, digest, ACCEPT);
  expect(host.answers).toEqual([]);
  await host.hears(key, digest, DECLINE);
  expect(host.answers).toMatchObject([{ digest, result: { decision: "decline" } }]);
});

test("what was seen is accepted, by its digest", async () => {
  const { key, digest } = await host.opens(await request());
  host.asking.seen(key, digest);
  await host.hears(key, digest, ACCEPT);
  expect(host.answers).toEqual([
    {
      environment: "local",
      instance: "one",
      requestId: 0,
      threadId: "thread",
      turnId: "turn",
      itemId: "item",
      digest,
      age: SOME_NUMBER,
      decidedAt: SOME_NUMBER,
      result: { decision: "accept" },
    },
  ]);
  host.replies({ result: { decision: "accept", lessened: "accepted once" } });
  await host.settles();
  expect(host.first).toBeUndefined();
  expect(host.outcome).toBe("You accepted once: a command.");
  expect(host.asking.view.value.outcomes[0]?.lessened).toBe("accepted once");
});

test("when it changes, acceptance closes again, and neither the old look nor the old digest counts", async () => {
  const before = await host.opens(await request());
  host.asking.seen(before.key, before.digest);
  const changed = await request({}, "rm -rf /");
  host.waiting = [changed];
  host.say({ method: "request/opened", params: changed });
  await host.asking.say(before.key, before.digest, ACCEPT);
  const after = await host.shows();
  expect(after).toMatchObject({ changed: true, seen: false });
  await host.asking.say(before.key, before.digest, ACCEPT);
  host.asking.seen(before.key, before.digest);
  await host.asking.say(after.key, after.digest, ACCEPT);
  expect(host.answers).toEqual([]);
  host.asking.seen(after.key, after.digest);
  await host.hears(after.key, after.digest, ACCEPT);
  expect(host.answers).toMatchObject([{ digest: after.digest }]);
});

test("the same request told again keeps what was seen", async () => {
  const info = await request();
  const { key, digest } = await host.opens(info);
  host.asking.seen(key, digest);
  host.say({ method: "request/opened", params: { ...info, reach: { sandbox: "anywhere", network: "all" } } });
  expect(host.first).toMatchObject({ seen: true, changed: false });
});

test("what the host has another digest of is never accepted", async () => {
  const { key, shown } = await host.opens(await request({ digest: "00".repeat(32) }));
  expect(shown?.agrees).toBe(false);
  const digest = shown?.digest ?? "";
  host.asking.seen(key, digest);
  await host.asking.say(key, digest, ACCEPT);
  expect(host.answers).toEqual([]);
});

test("without a link nothing is accepted, and without the right to it neither", async () => {
  const { key, digest } = await host.opens(await request());
  host.asking.seen(key, digest);
  host.online = false;
  await host.asking.say(key, digest, ACCEPT);
  host.online = true;
  host.say({ method: "request/opened", params: await request({ answers: [] }) });
  await host.asking.say(key, digest, ACCEPT);
  await host.asking.say(key, digest, { how: "acceptForLonger", lasts: "session" });
  expect(host.answers).toEqual([]);
});

test("what is accepted says when that was by the host's clock, which goes on while it is on its way", async () => {
  const { key, digest } = await host.opens(await request());
  host.asking.seen(key, digest);
  await host.hears(key, digest, ACCEPT);
  const [answer] = host.answers;
  expect(Number(answer?.age) + Number(answer?.decidedAt)).toBe(NOW);
});

test("where the host does not say what time it is, nothing is accepted", async () => {
  const { key, digest } = await host.opens(await request());
  host.asking.seen(key, digest);
  host.reads = false;
  void host.asking.say(key, digest, ACCEPT);
  host.api.lost();
  await vi.waitUntil(() => host.first?.fate.at === "refused");
  expect(host.answers).toEqual([]);
});

test("what somebody else answered is told with their name, and can't be answered any more", async () => {
  const { key, digest } = await host.opens(await request());
  host.asking.seen(key, digest);
  const { environment, instance, requestId, threadId } = await request();
  const closed = { environment, instance, requestId, threadId, by: OTHER, decision: "decline" };
  host.say({ method: "request/closed", params: closed });
  expect(host.outcome).toBe(`${named("tablet")} declined: a command.`);
  await host.asking.say(key, digest, ACCEPT);
  expect(host.answers).toEqual([]);
  // A list that was made before does not bring it back.
  host.asking.missed();
  await host.settles();
  expect(host.first).toBeUndefined();
});

test("who was too late is told who was first, and that theirs did nothing", async () => {
  const { key, digest } = await host.opens(await request());
  host.asking.seen(key, digest);
  await host.hears(key, digest, ACCEPT);
  host.refuses("answered", { ...OTHER, decision: "decline" });
  await host.settles();
  expect(host.outcome).toBe(`${named("tablet")} declined first: a command. Your answer did nothing.`);
});

test("what is withdrawn says so", async () => {
  await host.opens(await request());
  const { environment, instance, requestId, threadId } = await request();
  host.say({ method: "request/closed", params: { environment, instance, requestId, threadId, by: null } });
  expect(host.outcome).toContain("No longer asked: a command.");
});

test("after a gap in which it ended, it says that", async () => {
  await host.opens(await request());
  host.waiting = [];
  host.asking.missed();
  await host.settles();
  expect(host.outcome).toContain("while this device did not hear studio");
});

test("after a gap in mid-answer it is looked up, and only the same answer may follow", async () => {
  const { key, digest } = await host.opens(await request());
  host.asking.seen(key, digest);
  await host.hears(key, digest, ACCEPT);
  await host.asking.say(key, digest, DECLINE);
  expect(host.answers).toHaveLength(1);
  host.api.lost();
  await vi.waitUntil(() => host.first?.fate.at === "again");
  await host.asking.say(key, digest, DECLINE);
  expect(host.answers).toHaveLength(1);
  await host.hears(key, digest, ACCEPT);
  expect(host.answers).toHaveLength(2);
  const [first, again] = host.answers.map((answer) => ({ ...answer, age: 0, decidedAt: 0 }));
  expect(again).toEqual(first);
  // It did arrive the first time.
  host.refuses("answered", { ...HERE, decision: "accept" });
  await host.settles();
  expect(host.outcome).toBe("You accepted once: a command.");
});

test("what Codex did not take in time is looked up as well", async () => {
  const { key, digest } = await host.opens(await request());
  await host.hears(key, digest, DECLINE);
  host.refuses("codex");
  await vi.waitUntil(() => host.first?.fate.at === "again");
  host.waiting = [];
  host.asking.missed();
  await host.settles();
  expect(host.first).toBeUndefined();
});

test("what is refused did nothing, and can be answered otherwise", async () => {
  const { key, digest } = await host.opens(await request());
  host.asking.seen(key, digest);
  await host.hears(key, digest, ACCEPT);
  host.refuses("disk");
  await host.settles();
  expect(host.first?.fate).toEqual({ at: "refused", why: "refused: disk" });
  await host.hears(key, digest, DECLINE);
  expect(host.answers).toHaveLength(2);
});

test("what is too long for the list is asked for alone", async () => {
  const { shown, ...short } = await request();
  host.waiting = [{ ...short, ...(shown !== undefined && { shown }) }];
  host.say({ method: "request/opened", params: short });
  expect((await host.shows()).shown?.agrees).toBe(true);
  expect(host.asked.at(-1)?.params).toEqual({ environment: "local", requestId: 0 });
});

test("who else was shown it is told", async () => {
  await host.opens(await request());
  host.say({
    method: "request/shown",
    params: { environment: "local", instance: "one", requestId: 0, shownTo: [HERE, OTHER] },
  });
  expect(list(host.first?.info.shownTo)).toHaveLength(2);
});
