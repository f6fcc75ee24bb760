/** An open thread, at a host in memory whose Codex answers by hand. */
import { afterEach, expect, test, vi } from "vitest";
import type { Json } from "../../src/json";
import { OpenThread } from "../../src/state/thread";
import { ChannelCloseReason } from "../../src/wire/reason";
import { ScriptedHost } from "../host/scripted";

/** A thread in which somebody says more each time that it is read, and who reads it. */
class Reader {
  readonly host: ScriptedHost;
  readonly thread: OpenThread;
  /** How often it was asked for, and the channel on which it is followed. */
  pages = 0;
  channel = 0;

  constructor(host: ScriptedHost) {
    this.host = host;
    host.take = (channel, message) => {
      this.#take(channel, message);
    };
    this.thread = new OpenThread(host.remote, "local", "t");
  }

  #take(channel: number, { id, method }: Json): void {
    if (method === "thread/page") {
      this.pages += 1;
      const items = [{ turnId: "u", item: { type: "agentMessage", id: `i${this.pages}`, text: `Said ${this.pages}` } }];
      this.host.say(channel, { id, result: { items, turns: [] } });
      return;
    }
    if (method === "thread/resume") {
      this.channel = channel;
    }
    const thread = { id: "t", name: "Mend the shop", status: { type: "idle" } };
    this.host.say(channel, { id, result: { thread, data: [], goal: null } });
  }

  /** Until it was asked for so often, and shows what was answered then. */
  async shows(pages: number): Promise<void> {
    await vi.waitFor(
      () => {
        const items = this.thread.view.value.items ?? [];
        expect([this.pages, items.map(({ text }) => text)]).toEqual([pages, [`Said ${pages}`]]);
      },
      { interval: 2, timeout: 4_000 },
    );
    await vi.waitUntil(() => this.channel !== 0, { interval: 2, timeout: 4_000 });
  }

  /** The host ends the channel on which it is followed. */
  loses(reason: (typeof ChannelCloseReason)[keyof typeof ChannelCloseReason]): void {
    const { channel } = this;
    this.channel = 0;
    this.host.closes(channel, reason, "messages were lost: the other side was away or too slow");
  }
}

afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

test("a thread whose channel lost messages is read and followed again, later and later", async () => {
  const reader = new Reader(await ScriptedHost.create());
  await reader.shows(1);
  const timers = vi.spyOn(globalThis, "setTimeout");
  for (const pages of [2, 3]) {
    reader.loses(ChannelCloseReason.gap);
    await reader.shows(pages);
  }
  const pauses = timers.mock.calls.map(([, pause]) => pause);
  expect([250, 500, 1_000].map((pause) => pauses.includes(pause))).toEqual([true, true, false]);
  expect(reader.thread.view.value.fault).toBe(null);
  reader.thread.close();
});

test("a thread whose Codex ended is read once that is there again", async () => {
  const reader = new Reader(await ScriptedHost.create());
  await reader.shows(1);
  reader.loses(ChannelCloseReason.backendGone);
  await vi.waitUntil(() => reader.thread.view.value.fault?.includes("Codex ended"), { interval: 2, timeout: 4_000 });
  reader.thread.notified({ method: "environment/changed", params: { name: "local", state: "ready" } });
  await reader.shows(2);
  expect(reader.thread.view.value.fault).toBe(null);
  reader.thread.close();
});

test("one that nobody looks at any more is not read again", async () => {
  const reader = new Reader(await ScriptedHost.create());
  await reader.shows(1);
  const opens = vi.spyOn(reader.host.remote.session, "openChannel");
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  const loses = async (): Promise<void> => {
    reader.loses(ChannelCloseReason.gap);
    const isLost = (): Promise<boolean> =>
      reader.thread.stop("goal").then(
        () => false,
        () => true,
      );
    await vi.waitUntil(isLost, { interval: 2, timeout: 4_000 });
  };
  await loses();
  vi.advanceTimersByTime(250);
  await reader.shows(2);
  const opened = opens.mock.calls.length;
  expect(opened).toBeGreaterThan(0);
  await loses();
  reader.thread.close();
  vi.advanceTimersByTime(60_000);
  expect(opens.mock.calls.length).toBe(opened);
});
