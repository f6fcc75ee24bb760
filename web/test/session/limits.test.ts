/** Bounds and rules: what they let through, and what they don't. */
import { expect, test } from "vitest";
import { OpenError, SendError, SessionError, type SessionFault } from "../../src/session/error";
import {
  API_CHANNEL,
  DEVICE_LIMITS,
  HOST_LIMITS,
  MAX_CHANNELS,
  MAX_MESSAGE_TO_DEVICE,
  MAX_MESSAGE_TO_HOST,
} from "../../src/session/limits";
import type { Session } from "../../src/session/session";
import { type Frame, MAX_ENVIRONMENT, encodeFrames } from "../../src/wire/frame";
import { ByeReason, ChannelCloseReason } from "../../src/wire/reason";
import { dice, unhex } from "../support";
import { Pair, message, numberOf, sessionId } from "./pair";

/** What `work` threw. */
function thrown(work: () => unknown): unknown {
  try {
    work();
  } catch (error) {
    return error;
  }
  return null;
}

/** Opens channels until that is refused. */
function openAll(session: Session): unknown {
  for (;;) {
    const refused = thrown(() => session.openChannel("local"));
    if (refused !== null) {
      return refused;
    }
  }
}

const text = new TextEncoder();
const data = (channel: number, seq: number, total: number | null, last: boolean, bytes: string): Frame => ({
  type: "Data",
  channel,
  seq,
  total,
  last,
  bytes: text.encode(bytes),
});

const BROKEN: readonly (readonly [string, SessionFault["kind"], readonly Frame[]])[] = [
  ["a number skipped", "skipped", [data(0, 1, 1, true, "x")]],
  ["an unknown channel", "unexpected", [data(9, 0, 1, true, "x")]],
  ["a length that does not fit", "badFragment", [data(0, 0, 2, true, "x")]],
  ["a message over the limit", "badFragment", [data(0, 0, MAX_MESSAGE_TO_DEVICE + 1, false, "x")]],
  ["a fragment without a first", "badFragment", [data(0, 0, null, true, "x")]],
  ["more bytes than announced", "badFragment", [data(0, 0, 3, false, "xx"), data(0, 1, null, true, "xx")]],
  ["a last fragment that is too short", "badFragment", [data(0, 0, 9, false, "xx"), data(0, 1, null, true, "xx")]],
  ["a message within a message", "badFragment", [data(0, 0, 3, false, "xx"), data(0, 1, 1, true, "x")]],
  ["an empty fragment", "badFragment", [data(0, 0, 3, false, "")]],
  ["an acknowledgement of what was not sent", "badAck", [{ type: "Ack", channel: 0, next: 1 }]],
  ["a second answer", "unexpected", [{ type: "Opened", session: sessionId(0) }]],
  ["a device's frame", "unexpected", [{ type: "Open" }]],
  ["a channel opened by the host", "unexpected", [{ type: "ChannelOpen", channel: 1, seq: 0, environment: "local" }]],
  [
    "data after a close",
    "unexpected",
    [{ type: "ChannelClose", channel: 0, seq: 0, reason: ChannelCloseReason.done, text: "" }, data(0, 1, 1, true, "x")],
  ],
];

test.each(BROKEN)("%s breaks the protocol", (_, kind, frames) => {
  const pair = Pair.connected();
  const error = thrown(() => {
    pair.device.handleRecord(encodeFrames(frames), pair.now);
  });
  expect(error).toBeInstanceOf(SessionError);
  expect(error).toMatchObject({ fault: { kind } });
});

test("a host refuses a device that does not begin by the rules, or opens too much", () => {
  for (const frame of [
    { type: "Resume", session: sessionId(9), received: [] },
    { type: "Ping", id: 1n },
  ] satisfies Frame[]) {
    const pair = new Pair();
    pair.connect();
    expect(
      thrown(() => {
        pair.host.handleRecord(encodeFrames([frame]), pair.now);
      }),
    ).toBeInstanceOf(SessionError);
  }
  const pair = Pair.connected();
  const open = (channel: number): Frame => ({ type: "ChannelOpen", channel, seq: 0, environment: "local" });
  const all = Array.from({ length: MAX_CHANNELS + 1 }, (_, at) => open(at + 1));
  expect(
    thrown(() => {
      pair.host.handleRecord(encodeFrames(all), pair.now);
    }),
  ).toBeInstanceOf(SessionError);
  expect(pair.host.channels.length).toBe(MAX_CHANNELS + 1);
});

test("a peer that resumes is held to what was sent", () => {
  const pair = Pair.connected();
  pair.cut();
  pair.device.linkUp(pair.now);
  const frame: Frame = { type: "Resumed", received: [{ channel: API_CHANNEL, next: 1 }] };
  const error = thrown(() => {
    pair.device.handleRecord(encodeFrames([frame]), pair.now);
  });
  expect(error).toEqual(new SessionError({ kind: "badAck", channel: API_CHANNEL, next: 1 }));
});

test("what comes after a Bye counts for nothing", () => {
  const pair = Pair.connected();
  const bye: Frame = { type: "Bye", reason: ByeReason.revoked, reconnectInMs: 2 ** 40 };
  pair.device.handleRecord(new Uint8Array([...encodeFrames([bye]), ...unhex("7fff")]), pair.now);
  pair.device.handleRecord(unhex("7f"), pair.now);
  pair.drain();
  expect(pair.told("device", "bye")).toEqual([{ type: "bye", reason: ByeReason.revoked, reconnectInMs: 2 ** 32 - 1 }]);
  expect(pair.device.isUp).toBe(false);
});

test("the largest messages fit, and larger ones are refused", () => {
  const pair = Pair.connected();
  const large = message(7, MAX_MESSAGE_TO_HOST);
  const limit = MAX_MESSAGE_TO_HOST;
  expect(
    thrown(() => {
      pair.device.send(API_CHANNEL, new Uint8Array(limit + 1));
    }),
  ).toEqual(new SendError({ kind: "tooLong", length: limit + 1, limit }));
  pair.device.send(API_CHANNEL, large);
  pair.run();
  const [taken] = pair.taken.host;
  expect([taken?.bytes.length, numberOf(taken?.bytes ?? new Uint8Array(4))]).toEqual([limit, 7]);
});

test("a host that is away costs a bounded queue, and its channel a gap", () => {
  const pair = Pair.connected({ ...DEVICE_LIMITS, channelQueue: 100_000 });
  const [lost, kept] = [pair.channel(), pair.channel()];
  pair.device.send(kept, message(1, 10));
  pair.cut();
  let refused: unknown = null;
  for (let n = 0; n < 1_000 && refused === null; n += 1) {
    refused = thrown(() => {
      pair.device.send(lost, message(n, 1_000));
    });
  }
  expect(refused).toEqual(new SendError({ kind: "overflow" }));
  expect(pair.device.heldBytes).toBeLessThan(10_000);
  expect(
    thrown(() => {
      pair.device.send(lost, message(0, 1));
    }),
  ).toEqual(new SendError({ kind: "closed" }));
  pair.connect();
  pair.run();
  expect(pair.taken.host.map(({ channel }) => channel)).toEqual([kept]);
  expect(pair.told("host", "channelClosed")).toMatchObject([{ channel: lost, reason: ChannelCloseReason.gap }]);
  expect(pair.device.channels).toEqual([API_CHANNEL, kept]);
});

test("over the session's queue the largest channel pays", () => {
  const pair = Pair.connected({ ...DEVICE_LIMITS, sessionQueue: 100_000 });
  const [large, small] = [pair.channel(), pair.channel()];
  pair.cut();
  pair.device.send(large, message(0, 99_000));
  pair.device.send(small, message(1, 2_000));
  pair.drain();
  expect(pair.told("device", "channelClosed")).toMatchObject([{ channel: large, reason: ChannelCloseReason.gap }]);
  pair.connect();
  pair.run();
  expect(pair.taken.host.map(({ channel }) => channel)).toEqual([small]);
});

test("a device opens no more channels than a host takes", () => {
  const pair = Pair.connected();
  pair.cut();
  expect(openAll(pair.device)).toEqual(new OpenError("tooMany"));
  expect(pair.device.channels.length).toBe(MAX_CHANNELS + 1);
  expect(thrown(() => pair.device.openChannel("é".repeat(MAX_ENVIRONMENT / 2 + 1)))).toEqual(
    new OpenError("environment"),
  );
  pair.connect();
  pair.run();
  // The host closed those over its own limit; the session and the others live.
  expect([pair.device.isUp, pair.host.isUp]).toEqual([true, true]);
  expect(pair.device.channels.length).toBe(HOST_LIMITS.channels + 1);
});

test("what is held for a peer is bounded, messages without bytes too", () => {
  const pair = Pair.connected({ ...DEVICE_LIMITS, receiveBuffer: 100_000 });
  let error: unknown = null;
  for (let seq = 0; seq < 10_000 && error === null; seq += 1) {
    error = thrown(() => {
      pair.device.handleRecord(encodeFrames([data(0, seq, 0, true, "")]), pair.now);
    });
  }
  expect(error).toMatchObject({ fault: { kind: "receiveBuffer" } });
});

/** A frame that might be right, of small numbers. */
function anyFrame(roll: (limit: number) => number): Frame {
  const [channel, seq] = [roll(3), roll(4)];
  const frames: readonly Frame[] = [
    { type: "Open" },
    { type: "Opened", session: sessionId(roll(3)) },
    { type: "Resume", session: sessionId(roll(3)), received: [{ channel, next: seq }] },
    { type: "Resumed", received: [{ channel, next: seq }] },
    { type: "Gap", reason: roll(4) },
    { type: "ChannelOpen", channel, seq, environment: "local" },
    { type: "ChannelClose", channel, seq, reason: roll(7), text: "" },
    { type: "Ack", channel, next: seq },
    { type: "Ping", id: BigInt(seq) },
  ];
  const fragment = data(channel, seq, roll(2) === 0 ? null : roll(5), roll(2) === 0, "xxxx".slice(roll(5)));
  return roll(2) === 0 ? fragment : (frames[roll(frames.length)] ?? fragment);
}

test("whatever comes is taken, or refused as a fault of the session", () => {
  const roll = dice(16);
  const untyped: unknown[] = [];
  let [taken, refused] = [0, 0];
  for (let round = 0; round < 1_000; round += 1) {
    const pair = Pair.connected();
    pair.channel();
    pair.device.send(API_CHANNEL, message(1, 10));
    if (roll(4) === 0) {
      pair.connect();
    }
    for (let n = 0; n < 10; n += 1) {
      const record = encodeFrames([anyFrame(roll)]);
      if (roll(4) === 0) {
        record[roll(record.length)] = roll(256);
      }
      for (const session of [pair.device, pair.host]) {
        const error = thrown(() => {
          session.handleRecord(record, pair.now);
        });
        taken += Number(error === null);
        refused += Number(error instanceof SessionError);
        untyped.push(...(error === null || error instanceof SessionError ? [] : [error]));
        while (session.pollTransmit(pair.now) !== null);
      }
    }
  }
  expect(untyped).toEqual([]);
  expect(Math.min(taken, refused)).toBeGreaterThan(2_000);
});
