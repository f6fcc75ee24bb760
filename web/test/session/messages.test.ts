/** What a session promises while its link holds: order, fair turns, acknowledgements, closing, liveness. */
import { describe, expect, test } from "vitest";
import { equal } from "../../src/bytes";
import { API_CHANNEL, DEVICE_LIMITS, FRAME_COST, HOST_LIMITS, TRICKLE_ACK_DELAY } from "../../src/session/limits";
import { HEARTBEAT, PROBE_AFTER, PROBE_LIMIT, SILENCE_LIMIT } from "../../src/session/liveness";
import { ACK_BYTES, ACK_DELAY, ATTACH_LIMIT } from "../../src/session/session";
import { INITIAL_WINDOW, MAX_WINDOW, MIN_WINDOW, SendWindow } from "../../src/session/window";
import { decodeFrames, encodeFrames } from "../../src/wire/frame";
import { ChannelCloseReason } from "../../src/wire/reason";
import { Pair, message, numberOf, other } from "./pair";

/** The numbers of what a side was given on a channel. */
function numbers(pair: Pair, side: "device" | "host", channel: number): number[] {
  return pair.taken[side].filter((taken) => taken.channel === channel).map(({ bytes }) => numberOf(bytes));
}

const range = (length: number): number[] => Array.from({ length }, (_, at) => at);

describe("messages", () => {
  test("arrive in order both ways and are acknowledged", () => {
    const pair = Pair.connected();
    const channel = pair.channel();
    for (const n of range(100)) {
      pair.device.send(channel, message(n, n * 50));
      pair.host.send(channel, message(n, 20_000));
    }
    pair.run();
    const wrong = (side: "device" | "host", length: (n: number) => number): number[] =>
      range(100).filter((n) => !equal(pair.taken[side][n]?.bytes ?? new Uint8Array(0), message(n, length(n))));
    expect([pair.taken.host.length, wrong("host", (n) => n * 50)]).toEqual([100, []]);
    expect([pair.taken.device.length, wrong("device", () => 20_000)]).toEqual([100, []]);
    expect([pair.device.heldBytes, pair.host.heldBytes]).toEqual([0, 0]);
  });

  test("may be empty", () => {
    const pair = Pair.connected();
    pair.device.send(API_CHANNEL, new Uint8Array(0));
    pair.run();
    expect(pair.taken.host.map(({ bytes }) => bytes)).toEqual([new Uint8Array(0)]);
  });

  test("that are small share a record", () => {
    const pair = Pair.connected();
    for (const n of range(50)) {
      pair.device.send(API_CHANNEL, message(n, 40));
    }
    pair.transmit();
    expect(pair.wire.host.length).toBe(1);
  });

  test("that are large delay a keystroke by one record at most", () => {
    const pair = Pair.connected();
    const [bulk, keys] = [pair.channel(), pair.channel()];
    pair.device.send(bulk, message(0, 8 << 20));
    pair.device.pollTransmit(pair.now);
    pair.device.send(keys, message(1, 10));
    const next = range(2).flatMap(() => decodeFrames(pair.device.pollTransmit(pair.now) ?? new Uint8Array(0)));
    expect(next.some((frame) => frame.type === "Data" && frame.channel === keys)).toBe(true);
  });

  test("that are many do not starve another channel", () => {
    const pair = Pair.connected();
    const [flood, keys] = [pair.channel(), pair.channel()];
    for (const n of range(5_000)) {
      pair.device.send(flood, message(n, 100));
    }
    pair.device.pollTransmit(pair.now);
    pair.device.send(keys, message(1, 10));
    const next = range(2).flatMap(() => decodeFrames(pair.device.pollTransmit(pair.now) ?? new Uint8Array(0)));
    expect(next.some((frame) => frame.type === "Data" && frame.channel === keys)).toBe(true);
  });

  test("that nobody takes hold up their own channel only, within a window", () => {
    const pair = Pair.connected();
    const [stalled, live] = [pair.channel(), pair.channel()];
    pair.consume = false;
    for (const n of range(50)) {
      pair.device.send(stalled, message(n, 100_000));
    }
    pair.run();
    expect(pair.host.heldBytes).toBeLessThan(2 * INITIAL_WINDOW);
    pair.device.send(live, message(1, 10));
    pair.run();
    expect(numbers(pair, "host", live)).toEqual([1]);
  });

  test("that are handled out of turn are acknowledged in turn", () => {
    const pair = Pair.connected();
    pair.consume = false;
    for (const n of range(3)) {
      pair.device.send(API_CHANNEL, message(n, 10));
    }
    pair.run();
    pair.host.handled(API_CHANNEL, 2, pair.now);
    pair.host.handled(API_CHANNEL, 2, pair.now);
    pair.run();
    expect(pair.device.backlog(API_CHANNEL)).toBe(3 * (10 + FRAME_COST));
    pair.host.handled(API_CHANNEL, 0, pair.now);
    pair.host.handled(API_CHANNEL, 1, pair.now);
    pair.run();
    expect([pair.device.backlog(API_CHANNEL), pair.host.heldBytes]).toEqual([0, 0]);
  });

  test("are acknowledged within 20 ms, or with what is sent anyway", () => {
    const pair = Pair.connected();
    pair.device.send(API_CHANNEL, message(1, 10));
    pair.transmit();
    pair.deliver("host");
    expect(pair.host.pollTransmit(pair.now)).toBeNull();
    expect(pair.host.pollTimeout()).toBe(pair.now + ACK_DELAY);
    pair.host.send(API_CHANNEL, message(1, 10));
    expect(pair.framesTo("device").map(({ type }) => type)).toEqual(["Ack", "Data"]);
  });

  test("that come in a trickle are acknowledged four times a second, and the channel's end within 20 ms", () => {
    const pair = Pair.connected();
    const channel = pair.channel();
    const start = pair.now;
    let acks = 0;
    const listen = (until: number): void => {
      for (let due = pair.device.pollTimeout() ?? Infinity; due <= until; due = pair.device.pollTimeout() ?? Infinity) {
        pair.now = Math.max(pair.now, due);
        acks += pair.framesTo("host").filter(({ type }) => type === "Ack").length;
        while (pair.deliver("host"));
      }
      pair.now = until;
    };
    for (const n of range(100)) {
      pair.host.send(channel, message(n, 75));
      pair.transmit();
      while (pair.deliver("device"));
      listen(start + 60 * (n + 1));
    }
    listen(pair.now + TRICKLE_ACK_DELAY);
    expect(pair.host.backlog(channel)).toBe(0);
    expect(acks).toBeGreaterThanOrEqual(24);
    expect(acks).toBeLessThanOrEqual(27);

    pair.host.send(channel, message(0, 75));
    pair.host.closeChannel(channel, ChannelCloseReason.done, "");
    pair.transmit();
    while (pair.deliver("device"));
    expect(pair.device.pollTimeout()).toBe(pair.now + ACK_DELAY);
  });

  test("are acknowledged at once every 32 KiB, however small each is, and fewer bytes in time", () => {
    const pair = Pair.connected();
    const channel = pair.channel();
    const acknowledged = (messages: number): boolean => {
      for (const n of range(messages)) {
        pair.host.send(channel, message(n, ACK_BYTES / 4));
      }
      pair.transmit();
      while (pair.deliver("device"));
      return pair.transmit() && pair.deliver("host") && pair.host.backlog(channel) === 0;
    };
    // Three quarters of that wait for more, or for their time.
    expect(acknowledged(3)).toBe(false);
    pair.run();
    expect(acknowledged(4)).toBe(true);
  });
});

describe("closing", () => {
  test.each(["device", "host"] as const)("by the %s lets what was queued through and leaves nothing behind", (side) => {
    const pair = Pair.connected();
    const channel = pair.channel();
    pair[side].send(channel, message(1, 50_000));
    pair[side].closeChannel(channel, ChannelCloseReason.done, "bye");
    expect(() => {
      pair[side].send(channel, message(2, 1));
    }).toThrow("channel is closed");
    pair.run();
    expect(numbers(pair, other(side), channel)).toEqual([1]);
    expect(pair.told(other(side), "channelClosed")).toEqual([
      { type: "channelClosed", channel, reason: ChannelCloseReason.done, text: "bye" },
    ]);
    expect(pair.told(side, "channelClosed")).toEqual([]);
    expect([pair.device.channels, pair.host.channels]).toEqual([[API_CHANNEL], [API_CHANNEL]]);
    expect([pair.device.heldBytes, pair.host.heldBytes]).toEqual([0, 0]);
  });

  test("clips its text between characters", () => {
    const pair = Pair.connected();
    const channel = pair.channel();
    pair.device.closeChannel(channel, ChannelCloseReason.done, "x" + "é".repeat(300));
    pair.run();
    expect(pair.told("host", "channelClosed").map(({ text }) => text)).toEqual(["x" + "é".repeat(199)]);
  });

  test("a channel over the host's limit is closed, and the others live", () => {
    const pair = Pair.connected(DEVICE_LIMITS, { ...HOST_LIMITS, channels: 2 });
    const [first, , third] = [pair.channel(), pair.channel(), pair.channel()];
    expect(pair.told("device", "channelClosed")).toMatchObject([{ channel: third, reason: ChannelCloseReason.limit }]);
    pair.device.send(first, message(1, 10));
    pair.run();
    expect(numbers(pair, "host", first)).toEqual([1]);
  });
});

describe("liveness", () => {
  /** Lets time pass up to the device's next timeout, and returns for how long. */
  function wait(pair: Pair): number {
    const next = pair.device.pollTimeout() ?? Number.NaN;
    const waited = next - pair.now;
    pair.now = next;
    pair.device.handleTimeout(next);
    return waited;
  }

  test("an idle link is pinged after 15 s and dead at 45 s", () => {
    const pair = Pair.connected();
    expect(wait(pair)).toBe(HEARTBEAT);
    expect(pair.framesTo("host").map(({ type }) => type)).toEqual(["Ping"]);
    expect(wait(pair)).toBe(SILENCE_LIMIT - HEARTBEAT);
    expect(pair.device.pollEvent()).toEqual({ type: "linkDead" });
    expect(pair.device.isUp).toBe(false);
  });

  test("what is unacknowledged is probed after 5 s, and the link dead at 10 s", () => {
    const pair = Pair.connected();
    pair.device.send(API_CHANNEL, message(1, 10));
    pair.transmit();
    expect(wait(pair)).toBe(PROBE_AFTER);
    expect(pair.framesTo("host").map(({ type }) => type)).toEqual(["Data", "Ping"]);
    expect(wait(pair)).toBe(PROBE_LIMIT);
    expect(pair.device.pollEvent()).toEqual({ type: "linkDead" });
  });

  test("messages that stop coming are asked after once", () => {
    const pair = Pair.connected();
    pair.host.send(API_CHANNEL, message(1, 10));
    pair.run();
    expect(wait(pair)).toBeLessThanOrEqual(PROBE_AFTER);
    pair.run();
    expect(pair.device.pollTimeout()).toBeGreaterThan(pair.now + PROBE_AFTER);
    pair.host.send(API_CHANNEL, message(2, 10));
    pair.run();
    wait(pair);
    wait(pair);
    expect(pair.device.pollEvent()).toEqual({ type: "linkDead" });
  });

  test("a slow peer that answers probes is not dead", () => {
    const pair = Pair.connected();
    pair.consume = false;
    pair.device.send(API_CHANNEL, message(1, 10));
    for (let second = 0; second < 100; second += 1) {
      pair.transmit();
      while (pair.deliver("host") || pair.deliver("device"));
      pair.now += 1_000;
      pair.device.handleTimeout(pair.now);
      pair.host.handleTimeout(pair.now);
    }
    pair.drain();
    expect([...pair.told("device", "linkDead"), ...pair.told("host", "linkDead")]).toEqual([]);
  });

  test("an Open without an answer is dead after 10 s, and says nothing else until then", () => {
    const pair = new Pair();
    pair.connect();
    pair.device.send(API_CHANNEL, message(1, 10));
    expect(pair.framesTo("host").map(({ type }) => type)).toEqual(["Open"]);
    expect(wait(pair)).toBe(ATTACH_LIMIT);
    expect(pair.device.pollEvent()).toEqual({ type: "linkDead" });
  });

  test("a flood of pings costs one pong", () => {
    const pair = Pair.connected();
    pair.device.handleRecord(encodeFrames(range(5_000).map((id) => ({ type: "Ping", id: BigInt(id) }))), pair.now);
    expect(pair.framesTo("host")).toEqual([{ type: "Pong", id: 4_999n }]);
  });
});

test("the window shrinks when acknowledgements come late and grows again", () => {
  const window = new SendWindow();
  window.acknowledged(1_000, 0, { limited: true, isTrickle: false }, 10);
  for (let sent = 1_000; sent < 20_000; sent += 1_000) {
    window.acknowledged(1_000, sent, { limited: true, isTrickle: false }, sent + 500);
  }
  expect(window.limit).toBe(MIN_WINDOW);
  for (let sent = 100_000; sent < 110_000; sent += 1) {
    window.acknowledged(1_000, sent, { limited: true, isTrickle: false }, sent + 15);
  }
  expect(window.limit).toBe(MAX_WINDOW);
});

test("who acknowledges a trickle late has no slow link", () => {
  const limit = (isTrickle: boolean, late: number): number => {
    const window = new SendWindow();
    for (const round of range(20)) {
      const sent = 1_000 * round;
      window.acknowledged(100, sent, { limited: false, isTrickle }, sent + (round === 0 ? 10 : late));
    }
    return window.limit;
  };
  expect(limit(true, TRICKLE_ACK_DELAY + 100)).toBe(INITIAL_WINDOW);
  expect(limit(false, TRICKLE_ACK_DELAY + 100)).toBe(MIN_WINDOW);
  // A slow link is seen all the same.
  expect(limit(true, TRICKLE_ACK_DELAY + 120)).toBe(MIN_WINDOW);
});
