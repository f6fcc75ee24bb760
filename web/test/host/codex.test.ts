/** Codex behind a host in memory, which answers by hand. */
import { afterEach, expect, test, vi } from "vitest";
import { Codex, CodexError, pauseBound } from "../../src/host/codex";
import type { RemoteHost } from "../../src/host/remote";
import { type Json, json } from "../../src/json";
import { ScriptedHost } from "./scripted";

/** A Codex that has too much to do for so many requests, and what it was asked. */
class Busy {
  readonly asked: Json[] = [];
  left: number;
  /** Where it was asked last. */
  channel = 0;
  /** What it refuses with. */
  code = -32001;
  readonly #host: ScriptedHost;

  private constructor(host: ScriptedHost, left: number) {
    [this.#host, this.left] = [host, left];
    host.take = (channel, { id, method, params }) => {
      if (method !== "never") {
        this.channel = channel;
        this.asked.push({ method, params });
        this.left -= 1;
        const error = { code: this.code, message: "Server overloaded; retry later." };
        this.say(channel, this.left < 0 ? { id, result: { done: true } } : { id, error });
      }
    };
  }

  static async create(left: number): Promise<Busy> {
    return new Busy(await ScriptedHost.create(), left);
  }

  get remote(): RemoteHost {
    return this.#host.remote;
  }

  say(channel: number, message: Json): void {
    this.#host.say(channel, message);
  }
}

afterEach(() => {
  vi.restoreAllMocks();
});

test("pauses grow from a tenth of a second to three", () => {
  expect([0, 1, 2, 3, 4, 5, 6, 7].map(pauseBound)).toEqual([100, 200, 400, 800, 1_600, 3_000, 3_000, 3_000]);
});

test("what a Codex with too much to do refuses is asked again until it is done", async () => {
  vi.spyOn(Math, "random").mockReturnValue(0);
  const busy = await Busy.create(7);
  const result = await Codex.once(busy.remote.session, "local", "thread/archive", { threadId: "t" });
  expect(result).toEqual({ done: true });
  const same = { method: "thread/archive", params: { threadId: "t" } };
  expect(busy.asked).toEqual(Array.from({ length: 8 }, () => same));
});

test("after eight times a person hears it, in Codex's words; any other refusal at once", async () => {
  vi.spyOn(Math, "random").mockReturnValue(0);
  const busy = await Busy.create(Infinity);
  const asking = Codex.once(busy.remote.session, "local", "thread/archive", {});
  await expect(asking).rejects.toThrow(new CodexError("Server overloaded; retry later."));
  expect(busy.asked.length).toBe(9);
  busy.code = -32010;
  await expect(Codex.once(busy.remote.session, "local", "thread/archive", {})).rejects.toThrow(CodexError);
  expect(busy.asked.length).toBe(10);
});

test("nothing is asked again on a channel that was closed meanwhile", async () => {
  const pauses = vi.spyOn(globalThis, "setTimeout");
  vi.spyOn(Math, "random").mockReturnValue(0.9);
  const busy = await Busy.create(Infinity);
  const codex = Codex.open(busy.remote.session, "local");
  const refused = expect(codex.request("thread/archive", {})).rejects.toThrow("Server overloaded");
  // It was refused three times, and waits.
  await vi.waitUntil(() => pauses.mock.calls.some(([, pause]) => pause === 360), { interval: 1, timeout: 4_000 });
  codex.close();
  await refused;
  expect(busy.asked.length).toBe(3);
});

test("a text that was left out and is not here closes the channel, and has what was heard read again", async () => {
  const busy = await Busy.create(0);
  const heard: string[] = [];
  let torn = 0;
  const codex = Codex.open(busy.remote.session, "local", {
    heard: (method, params) => heard.push(`${method} ${JSON.stringify(json(params).item ?? json(params).delta)}`),
    closed: () => undefined,
    torn: () => {
      torn += 1;
    },
  });
  await codex.request("thread/read", {});
  const ids = { threadId: "t", turnId: "u" };
  const completed = (bytes: number): Json => ({
    method: "item/completed",
    params: { ...ids, item: { id: "i", text: "" } },
    omitted: { lane: 0, bytes },
  });
  busy.say(busy.channel, {
    method: "item/agentMessage/delta",
    params: { ...ids, itemId: "i", delta: "Three" },
    lane: 0,
  });
  busy.say(busy.channel, { lane: 0, delta: " files" });
  busy.say(busy.channel, completed(11));
  const whole = { id: "i", text: "Three files" };
  await vi.waitUntil(() => heard.length === 3, { interval: 1, timeout: 4_000 });
  expect(heard[2]).toBe(`item/completed ${JSON.stringify(whole)}`);
  const waiting = expect(codex.request("never", {})).rejects.toThrow(CodexError);
  busy.say(busy.channel, completed(11));
  busy.say(busy.channel, { method: "turn/completed", params: {} });
  await vi.waitUntil(() => torn > 0, { interval: 1, timeout: 4_000 });
  await waiting;
  expect([torn, heard.length]).toEqual([1, 3]);
});
