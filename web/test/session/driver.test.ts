/** The driver over a link in memory whose other end is the test. */
import { expect, test, vi } from "vitest";
import type { Bytes } from "../../src/bytes";
import { LinkError } from "../../src/link/error";
import type { Link } from "../../src/link/link";
import { SessionDriver, type SessionState } from "../../src/session/driver";
import { OpenError, SendError } from "../../src/session/error";
import { DEVICE_LIMITS } from "../../src/session/limits";
import { type Frame, decodeFrames, encodeFrames } from "../../src/wire/frame";
import { ByeReason, ChannelCloseReason, GapReason } from "../../src/wire/reason";
import { message, numberOf, sessionId } from "./pair";

/** A link whose batches are sent when the test says so. */
class TestLink implements Link {
  /** Frames of each batch that was handed in. */
  readonly batches: Frame[][] = [];
  closed = false;
  #sent: (() => void)[] = [];
  #incoming: Bytes[][] = [];
  #wake: () => void = () => undefined;
  #failure: LinkError | null = null;
  /** Whether batches wait for {@link flush}. */
  slow = false;
  /** Why batches are refused. */
  broken: LinkError | null = null;

  async send(plaintexts: readonly Bytes[]): Promise<void> {
    if (this.broken !== null) {
      throw this.broken;
    }
    this.batches.push(plaintexts.flatMap(decodeFrames));
    if (this.slow) {
      await new Promise<void>((resolve) => this.#sent.push(resolve));
    }
  }

  async receive(): Promise<readonly Bytes[]> {
    for (;;) {
      const next = this.#incoming.shift();
      if (next !== undefined) {
        return next;
      }
      if (this.#failure !== null) {
        throw this.#failure;
      }
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  close(): void {
    this.closed = true;
  }

  flush(): void {
    this.#sent.splice(0).forEach((sent) => {
      sent();
    });
  }

  /** The other side says these, each in a record of its own. */
  say(...frames: readonly Frame[]): void {
    this.#incoming.push(frames.map((frame) => encodeFrames([frame])));
    this.#wake();
  }

  fail(error: LinkError): void {
    this.#failure = error;
    this.#wake();
  }

  /** All frames so far. */
  get frames(): Frame[] {
    return this.batches.flat();
  }
}

/** A driver, and what its user was told. */
class User {
  readonly states: SessionState[] = [];
  readonly messages: { channel: string; number: number; handled: () => void }[] = [];
  readonly closed: { channel: string; reason: number }[] = [];
  readonly lost: number[] = [];
  readonly driver = new SessionDriver({
    state: (state) => this.states.push(state),
    lost: (reason) => this.lost.push(reason),
    api: this.consumer("api"),
    limits: { ...DEVICE_LIMITS, channelQueue: 100_000 },
  });

  consumer(channel: string): {
    message: (bytes: Bytes, handled: () => void) => void;
    closed: (reason: number) => void;
  } {
    return {
      message: (bytes, handled) => this.messages.push({ channel, number: numberOf(bytes), handled }),
      closed: (reason) => this.closed.push({ channel, reason }),
    };
  }

  /** With a link that carries the session. */
  static async up(): Promise<{ user: User; link: TestLink }> {
    const [user, link] = [new User(), new TestLink()];
    user.driver.attach(link);
    await until(() => link.frames.length > 0);
    link.say({ type: "Opened", session: sessionId(1) });
    await until(() => user.driver.state.at === "up");
    return { user, link };
  }
}

async function until(condition: () => boolean): Promise<void> {
  await vi.waitUntil(condition, { interval: 1, timeout: 4_000 });
}

function data(channel: number, seq: number, bytes: Bytes): Frame {
  return { type: "Data", channel, seq, total: bytes.length, last: true, bytes };
}

const types = (frames: readonly Frame[]): string[] => frames.map(({ type }) => type);

test("what is said together is one batch and one record, and what is said meanwhile the next", async () => {
  const { user, link } = await User.up();
  link.slow = true;
  for (let n = 0; n < 20; n += 1) {
    user.driver.api.send(message(n, 50));
  }
  await until(() => link.batches.length === 2);
  for (let n = 20; n < 40; n += 1) {
    user.driver.api.send(message(n, 50));
    await Promise.resolve();
  }
  expect(link.batches.length).toBe(2);
  link.flush();
  await until(() => link.batches.length === 3);
  expect(link.batches.map((batch) => batch.length)).toEqual([1, 20, 20]);
});

test("a message is acknowledged when its consumer has taken it, not before", async () => {
  const { user, link } = await User.up();
  link.say(data(0, 0, message(7, 10)), data(0, 1, message(8, 10)));
  await until(() => user.messages.length === 2);
  link.say({ type: "Ping", id: 1n });
  await until(() => types(link.frames).includes("Pong"));
  expect(types(link.frames)).toEqual(["Open", "Pong"]);
  user.messages.forEach(({ handled }) => {
    handled();
  });
  await until(() => types(link.frames).includes("Ack"));
  expect(link.frames.at(-1)).toEqual({ type: "Ack", channel: 0, next: 2 });
});

test("channels open, carry messages and close from either side", async () => {
  const { user, link } = await User.up();
  const first = user.driver.openChannel("local", user.consumer("first"));
  const second = user.driver.openChannel("ssh:devbox", user.consumer("second"));
  first.send(message(1, 10));
  second.close(ChannelCloseReason.done, "done");
  await until(() => types(link.frames).includes("ChannelClose"));
  expect(types(link.frames).filter((type) => type !== "Ack")).toEqual([
    "Open",
    "ChannelOpen",
    "Data",
    "ChannelOpen",
    "ChannelClose",
  ]);
  const close = { type: "ChannelClose", reason: ChannelCloseReason.backendGone, text: "gone" } as const;
  link.say(data(2, 0, message(4, 10)), { ...close, channel: 2, seq: 1 }, data(1, 0, message(3, 10)));
  link.say({ ...close, channel: 1, seq: 1 });
  await until(() => user.closed.length > 0);
  // What was closed here is not heard of again.
  expect(user.messages.map(({ channel, number }) => [channel, number])).toEqual([["first", 3]]);
  expect(user.closed).toEqual([{ channel: "first", reason: ChannelCloseReason.backendGone }]);
  expect(() => {
    first.send(message(2, 10));
  }).toThrow(new SendError({ kind: "closed" }));
});

test("a queue that overflows is refused, and the channel closes with a gap", () => {
  const user = new User();
  const channel = user.driver.openChannel("local", user.consumer("full"));
  const flood = (): void => {
    for (let n = 0; n < 1_000; n += 1) {
      channel.send(message(n, 1_000));
    }
  };
  expect(flood).toThrow(new SendError({ kind: "overflow" }));
  expect(flood).toThrow(new SendError({ kind: "closed" }));
});

test("a link that fails is let go with its reason, and the next one resumes", async () => {
  const { user, link } = await User.up();
  user.driver.api.send(message(1, 10));
  await until(() => types(link.frames).includes("Data"));
  link.fail(new LinkError({ kind: "closed", code: 1012, reconnectInMs: 1_500 }));
  await until(() => user.driver.state.at === "down");
  expect(user.driver.state).toMatchObject({ carried: true, reconnectInMs: 1_500 });
  expect(link.closed).toBe(true);
  const next = new TestLink();
  user.driver.attach(next);
  await until(() => next.frames.length > 0);
  expect(next.frames).toEqual([{ type: "Resume", session: sessionId(1), received: [{ channel: 0, next: 0 }] }]);
  next.say({ type: "Resumed", received: [] });
  await until(() => types(next.frames).includes("Data"));
  expect(user.states.map(({ at }) => at)).toEqual(["attaching", "up", "down", "attaching", "up"]);
});

test("a link that takes nothing any more is read to its end: a last word may be there", async () => {
  const { user, link } = await User.up();
  link.broken = new LinkError({ kind: "closed", code: 1006, reconnectInMs: null });
  user.driver.api.send(message(1, 10));
  await Promise.resolve();
  link.say({ type: "Bye", reason: ByeReason.revoked, reconnectInMs: 0 });
  link.fail(link.broken);
  await until(() => user.driver.state.at !== "up");
  expect(user.driver.state).toEqual({ at: "ended", by: "host", reason: ByeReason.revoked, error: null });
});

test("a link that is distrusted is dropped, and its session waits", async () => {
  const { user, link } = await User.up();
  const error = new LinkError({ kind: "silent" });
  user.driver.drop(error);
  user.driver.drop(new LinkError({ kind: "aborted" }));
  expect(link.closed).toBe(true);
  expect(user.driver.state).toEqual({ at: "down", error, carried: true, reconnectInMs: null });
});

test("a new link takes the place of the old one, of which nothing is heard any more", async () => {
  const { user, link } = await User.up();
  const next = new TestLink();
  user.driver.attach(next);
  link.say({ type: "Bye", reason: ByeReason.revoked, reconnectInMs: 0 });
  link.fail(new LinkError({ kind: "silent" }));
  await until(() => next.frames.length > 0);
  next.say({ type: "Resumed", received: [] });
  await until(() => user.driver.state.at === "up");
  expect([link.closed, next.closed]).toEqual([true, false]);
});

test("a session that the host lost is told, and its messages are not handled in the next one", async () => {
  const { user, link } = await User.up();
  user.driver.openChannel("local", user.consumer("channel"));
  link.say(data(0, 0, message(1, 10)));
  await until(() => user.messages.length === 1);
  const next = new TestLink();
  user.driver.attach(next);
  next.say({ type: "Gap", reason: GapReason.unknown });
  await until(() => types(next.frames).includes("Open"));
  next.say({ type: "Opened", session: sessionId(2) }, data(0, 0, message(2, 10)));
  await until(() => user.messages.length === 2);
  user.messages[0]?.handled();
  next.say({ type: "Ping", id: 1n });
  await until(() => types(next.frames).includes("Pong"));
  expect(types(next.frames)).not.toContain("Ack");
  user.messages[1]?.handled();
  await until(() => types(next.frames).includes("Ack"));
  expect([user.lost, user.closed]).toEqual([
    [GapReason.unknown],
    [{ channel: "channel", reason: ChannelCloseReason.gap }],
  ]);
});

test("a host that shuts down lets channels go and is waited for; another last word ends the session", async () => {
  const { user, link } = await User.up();
  user.driver.openChannel("local", user.consumer("channel"));
  link.say({ type: "Bye", reason: ByeReason.shuttingDown, reconnectInMs: 700 });
  await until(() => user.closed.length === 1);
  expect(user.driver.state).toEqual({ at: "down", error: null, carried: true, reconnectInMs: 700 });
  const next = new TestLink();
  user.driver.attach(next);
  next.say({ type: "Bye", reason: ByeReason.revoked, reconnectInMs: 0 });
  await until(() => user.closed.length === 2);
  expect(user.closed.map(({ channel }) => channel)).toEqual(["channel", "api"]);
  expect(user.driver.state).toEqual({ at: "ended", by: "host", reason: ByeReason.revoked, error: null });
  expect(next.closed).toBe(true);
});

test("a host that breaks the protocol hears so, and the session is over", async () => {
  const { user, link } = await User.up();
  link.say({ type: "Ping", id: 1n }, data(0, 5, message(1, 10)));
  await until(() => link.closed);
  expect(link.frames).toContainEqual({ type: "Bye", reason: ByeReason.protocolError, reconnectInMs: 0 });
  expect(user.driver.state).toMatchObject({ at: "ended", by: "us", error: { fault: { kind: "skipped" } } });
});

test("an end is said, also behind a batch that is on its way; then nothing more can be", async () => {
  const { user, link } = await User.up();
  link.slow = true;
  user.driver.api.send(message(1, 10));
  await until(() => link.batches.length === 2);
  const ended = user.driver.end(ByeReason.normal);
  await until(() => link.batches.length === 3);
  expect(link.closed).toBe(false);
  link.flush();
  await ended;
  expect(types(link.frames)).toEqual(["Open", "Data", "Bye"]);
  expect(link.closed).toBe(true);
  expect(user.driver.state).toEqual({ at: "ended", by: "us", reason: ByeReason.normal, error: null });
  expect(() => user.driver.openChannel("local", user.consumer("late"))).toThrow(new OpenError("ended"));
  const late = new TestLink();
  user.driver.attach(late);
  expect(late.closed).toBe(true);
});
