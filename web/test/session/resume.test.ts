/** Links that come and go: what is sent again, what is not, and what is a gap. */
import { expect, test } from "vitest";
import { API_CHANNEL, HOST_LIMITS, TRICKLE_ACK_DELAY } from "../../src/session/limits";
import { ACK_DELAY, Session } from "../../src/session/session";
import { MAX_WINDOW } from "../../src/session/window";
import { ChannelCloseReason, GapReason } from "../../src/wire/reason";
import { Pair, message, numberOf, sessionId } from "./pair";

test("resuming sends again only what the other side lacks", () => {
  const pair = Pair.connected();
  pair.consume = false;
  for (let n = 0; n < 10; n += 1) {
    pair.device.send(API_CHANNEL, message(n, 1_000));
  }
  pair.run();
  // Received but not handled: kept by the device, and not sent again.
  expect(pair.device.backlog(API_CHANNEL)).toBeGreaterThan(10_000);
  pair.connect();
  pair.transmit();
  pair.deliver("host");
  pair.transmit();
  pair.deliver("device");
  expect(pair.framesTo("host")).toEqual([]);
  pair.handlePending();
  pair.run();
  expect([pair.taken.host.length, pair.device.heldBytes, pair.host.heldBytes]).toEqual([10, 0, 0]);
});

test("a session that never heard its Opened does not send twice", () => {
  const pair = new Pair();
  const channel = pair.device.openChannel("local");
  pair.device.send(channel, message(1, 10));
  pair.connect();
  pair.transmit();
  pair.deliver("host");
  expect(pair.taken.host).toEqual([]);
  pair.cut();
  // The answer was lost; another session takes its place.
  pair.host = Session.host(sessionId(2), HOST_LIMITS, pair.now);
  pair.connect();
  pair.run();
  expect(pair.taken.host.map(({ channel, bytes }) => [channel, numberOf(bytes)])).toEqual([[channel, 1]]);
});

test("a large message goes on after cuts instead of starting over", () => {
  const pair = Pair.connected();
  const channel = pair.channel();
  const size = 24 << 20;
  pair.device.send(channel, message(7, size));
  let [bytes, cuts] = [0, 0];
  const arrived = (): boolean => pair.taken.host.length > 0;
  while (!arrived()) {
    for (let n = 0; n < 300; n += 1) {
      const before = pair.wire.host.length;
      pair.transmit();
      bytes += pair.wire.host.slice(before).reduce((sum, record) => sum + record.length, 0);
      if (![pair.deliver("host"), pair.deliver("device")].includes(true)) {
        pair.now += ACK_DELAY;
      }
    }
    if (!arrived() && cuts < 4) {
      cuts += 1;
      pair.connect();
    }
  }
  expect(cuts).toBe(4);
  expect(pair.taken.host[0]?.bytes.length).toBe(size);
  // Each cut costs at most what was in flight: the window.
  expect(bytes - size).toBeLessThan(cuts * (MAX_WINDOW + (1 << 20)));
});

test("a host that lost the session says so, and a new one works", () => {
  const pair = Pair.connected();
  const channel = pair.channel();
  pair.cut();
  pair.device.send(channel, message(1, 10));
  pair.host = Session.host(sessionId(2), HOST_LIMITS, pair.now);
  pair.connect();
  pair.run();
  expect(pair.told("device", "sessionLost")).toEqual([{ type: "sessionLost", reason: GapReason.unknown }]);
  expect(pair.told("device", "channelClosed")).toMatchObject([{ channel, reason: ChannelCloseReason.gap }]);
  expect(pair.device.id).toEqual(sessionId(2));
  const next = pair.channel();
  expect(next).toBeGreaterThan(channel);
  pair.device.send(next, message(2, 10));
  pair.run();
  expect(pair.taken.host.map(({ bytes }) => numberOf(bytes))).toEqual([2]);
});

test("what is taken back never arrives, whatever was on the link, and the channel ends", () => {
  for (let arrive = 0; arrive < 12; arrive += 1) {
    for (const again of [0, 1, 3]) {
      const pair = Pair.connected();
      const channel = pair.channel();
      for (let n = 0; n < 4; n += 1) {
        pair.device.send(channel, message(n, 30_000));
      }
      pair.transmit();
      for (let n = 0; n < arrive; n += 1) {
        pair.deliver("host");
      }
      pair.cut();
      pair.device.send(channel, message(4, 10));
      pair.device.withdrawChannel(channel, ChannelCloseReason.gap, "out of reach");
      const before = pair.taken.host.length;
      for (let link = 0; link < 2; link += 1) {
        pair.connect();
        for (let n = 0; n < again; n += 1) {
          pair.transmit();
          pair.deliver("host");
          pair.deliver("device");
        }
      }
      pair.run();
      expect(pair.taken.host.map(({ bytes }) => numberOf(bytes))).toEqual([0, 1, 2, 3].slice(0, before));
      expect(pair.told("host", "channelClosed")).toMatchObject([{ channel, reason: ChannelCloseReason.gap }]);
      expect([pair.device.channels, pair.host.channels]).toEqual([[API_CHANNEL], [API_CHANNEL]]);
    }
  }
});

test("a link that is cut after any of its records loses nothing", () => {
  // How many records the whole exchange takes, and then once for each with a cut behind it.
  const run = (cutAfter: number): { pair: Pair; records: number } => {
    const pair = Pair.connected();
    const channel = pair.channel();
    pair.device.send(channel, message(0, 50_000));
    pair.device.send(API_CHANNEL, message(1, 10));
    pair.host.send(channel, message(2, 40_000));
    pair.host.send(channel, message(3, 0));
    let records = 0;
    for (let quiet = 0; quiet < 3;) {
      pair.transmit();
      const moved = [pair.deliver("host"), pair.deliver("device")].filter(Boolean).length;
      quiet = moved > 0 ? 0 : quiet + 1;
      pair.now += moved > 0 ? 0 : TRICKLE_ACK_DELAY;
      if (records <= cutAfter && records + moved > cutAfter) {
        pair.connect();
      }
      records += moved;
    }
    return { pair, records };
  };
  const { records } = run(Infinity);
  expect(records).toBeGreaterThan(8);
  for (let cutAfter = 0; cutAfter < records; cutAfter += 1) {
    const { pair } = run(cutAfter);
    expect(pair.taken.host.map(({ bytes }) => numberOf(bytes)).sort()).toEqual([0, 1]);
    expect(pair.taken.device.map(({ bytes }) => numberOf(bytes))).toEqual([2, 3]);
    expect([pair.device.heldBytes, pair.host.heldBytes]).toEqual([0, 0]);
  }
});
