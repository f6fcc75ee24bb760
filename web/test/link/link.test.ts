/** From a WebSocket to a session, against a relay and a host in memory: what works, and what is refused. */
import { describe, expect, test, vi } from "vitest";
import type { Bytes } from "../../src/bytes";
import { CloseCode } from "../../src/close";
import { LinkError, type LinkFault } from "../../src/link/error";
import { linkToHost } from "../../src/link/host";
import { type Presence, connectRelay } from "../../src/link/relay";
import { MAX_BUFFERED, MAX_UNREAD, MessageSocket } from "../../src/link/socket";
import { SessionDriver, type SessionState } from "../../src/session/driver";
import type { ChannelHandle } from "../../src/session/handle";
import { ByeReason } from "../../src/wire/reason";
import { MAX_CIRCUIT_CHUNK, MAX_CONTROL, type RelayToPeer } from "../../src/wire/control";
import { message, numberOf } from "../session/pair";
import { dice, rejection } from "../support";
import { FakeHost, FakeSocket, type Spoil } from "./fake";

const ignore = (): void => undefined;

async function until(condition: () => boolean, timeout = 4_000): Promise<void> {
  await vi.waitUntil(condition, { interval: 1, timeout });
}

describe("the way to the host", () => {
  test("proves the device's key, hears whether the host is there, and ends in a link", async () => {
    const host = await FakeHost.create();
    host.spoil = {
      waiting: [
        { type: "Presence", online: false, since: 7n },
        { type: "Ping", id: 1n },
        { type: "Presence", online: true, since: 9n },
      ],
    };
    const presence: Presence[] = [];
    const link = await linkToHost(host.target(), host.keys, (present) => presence.push(present));
    expect(host.sockets.map(({ url }) => url)).toEqual(["ws://relay.example:8080/v1/device"]);
    expect(host.hellos).toMatchObject([{ type: "DeviceHello", key: host.keys.identity.publicKey, watchOnly: false }]);
    expect(presence).toEqual([
      { online: false, since: 7n },
      { online: true, since: 9n },
    ]);
    link.close();
  });

  test("for pairing names a rendezvous and gives the relay's key", async () => {
    const host = await FakeHost.create();
    const rendezvous = new Uint8Array(16).fill(4);
    const { relayKey, socket } = await connectRelay(host.target(), { type: "pairing", rendezvous });
    expect(host.target().admits(relayKey, relayKey)).toBe(true);
    expect(host.hellos).toMatchObject([{ type: "PairHello", rendezvous }]);
    socket.close();
  });

  const refused: RelayToPeer = {
    type: "Refused",
    code: CloseCode.limited,
    retryAfterMs: 900,
    message: "too\u001b many",
  };
  const other = new Uint8Array(32).fill(9);
  test.each<readonly [string, Spoil, Partial<LinkFault>]>([
    ["another relay", { challenge: (frame) => ({ ...frame, relayKey: other }) }, { kind: "wrongRelay" }],
    ["a weak key", { challenge: (frame) => ({ ...frame, relayKey: new Uint8Array(32) }) }, { kind: "crypto" }],
    [
      "no version in common",
      { challenge: (frame) => ({ ...frame, versions: { min: 2, max: 3 } }) },
      { kind: "version", peer: "relay" },
    ],
    ["no challenge", { challenge: () => ({ type: "Conflict" }) }, { kind: "protocol" }],
    ["no proof", { welcome: (frame) => ({ ...frame, signature: new Uint8Array(64) }) }, { kind: "crypto" }],
    ["another version", { welcome: (frame) => ({ ...frame, version: 2 }) }, { kind: "protocol" }],
    ["a refusal", { welcome: () => refused }, { kind: "refused", code: 4429, message: "too many", retryAfterMs: 900 }],
    [
      "a restart",
      { waiting: [{ type: "Restarting", reconnectInMs: 1_500 }] },
      { kind: "refused", code: CloseCode.restarting, retryAfterMs: 1_500 },
    ],
    ["a host's frame", { waiting: [{ type: "CircuitWanted" }] }, { kind: "protocol" }],
    ["text", { waiting: ["hello"] }, { kind: "protocol" }],
    ["a frame that is none", { waiting: [new Uint8Array([0x7f])] }, { kind: "protocol" }],
    ["a frame that is too long", { waiting: [new Uint8Array(MAX_CONTROL + 1)] }, { kind: "protocol" }],
    ["a message that is too long", { waiting: [new Uint8Array(MAX_CIRCUIT_CHUNK + 1)] }, { kind: "protocol" }],
  ])("ends at %s", async (_, spoil, fault) => {
    const host = await FakeHost.create();
    host.spoil = spoil;
    const error = await rejection(linkToHost(host.target(), host.keys, ignore));
    expect(error).toBeInstanceOf(LinkError);
    expect(error).toMatchObject({ fault });
    expect(host.sockets.map(({ readyState }) => readyState)).toEqual([3]);
  });

  test("ends at a host with another key", async () => {
    const [host, another] = [await FakeHost.create(), await FakeHost.create()];
    const keys = { ...host.keys, hostStatic: another.keys.hostStatic };
    const linking = rejection(linkToHost(host.target(), keys, ignore));
    // The host does not answer a handshake that does not open: its circuit ends.
    await until(() => host.hellos.length === 1);
    host.sockets[0]?.drop(CloseCode.peerGone);
    expect(await linking).toEqual(new LinkError({ kind: "closed", code: CloseCode.peerGone, reconnectInMs: null }));
  });

  test("is given up at any time", async () => {
    const host = await FakeHost.create();
    host.spoil = { away: true, waiting: [{ type: "Presence", online: false, since: 0n }] };
    const abort = new AbortController();
    const linking = rejection(
      linkToHost(host.target(abort.signal), host.keys, () => {
        abort.abort();
      }),
    );
    expect(await linking).toEqual(new LinkError({ kind: "aborted" }));
    expect(await rejection(linkToHost(host.target(abort.signal), host.keys, ignore))).toEqual(
      new LinkError({ kind: "aborted" }),
    );
    expect(host.sockets.map(({ readyState }) => readyState)).toEqual([3, 3]);
  });

  test("is not waited for longer than it takes", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    try {
      const host = await FakeHost.create();
      host.spoil = { away: true };
      const linking = rejection(linkToHost(host.target(), host.keys, ignore));
      await vi.waitUntil(() => vi.getTimerCount() > 0 && host.hellos.length > 0);
      await vi.advanceTimersByTimeAsync(60_000);
      expect(await linking).toMatchObject({ fault: { kind: "timedOut" } });
    } finally {
      vi.useRealTimers();
    }
  });
});

describe("a socket", () => {
  function connected(): { socket: FakeSocket; messages: MessageSocket } {
    const socket = new FakeSocket("ws://relay");
    const messages = new MessageSocket(socket.url, () => socket, new AbortController().signal);
    socket.open();
    return { socket, messages };
  }

  test("that could not connect is unreachable", async () => {
    const socket = new FakeSocket("ws://relay");
    const messages = new MessageSocket(socket.url, () => socket, new AbortController().signal);
    socket.drop(1006);
    expect(await rejection(messages.receive())).toEqual(new LinkError({ kind: "unreachable" }));
    const create = (): never => {
      throw new Error("mixed content");
    };
    expect(() => new MessageSocket("ws://relay", create, new AbortController().signal)).toThrow(
      new LinkError({ kind: "unreachable" }),
    );
  });

  test("gives out what came before its end, and then says when to come back", async () => {
    const { socket, messages } = connected();
    socket.deliver(message(1, 10));
    socket.drop(CloseCode.restarting, "1500");
    expect(numberOf(await messages.receive())).toBe(1);
    const error = await rejection(messages.receive());
    expect(error).toMatchObject({ reconnectInMs: 1_500, fault: { code: CloseCode.restarting } });
    expect(await rejection(messages.send(message(1, 10)))).toBe(error);
  });

  test("holds no more unread than its bound, messages without bytes too", async () => {
    for (const size of [0, MAX_CIRCUIT_CHUNK]) {
      const { socket, messages } = connected();
      for (let n = 0; n <= MAX_UNREAD / 256 && socket.readyState === socket.OPEN; n += 1) {
        socket.deliver(new Uint8Array(size));
      }
      expect(await rejection(messages.receive())).toMatchObject({ fault: { kind: "unread" } });
    }
  });

  test("has room again when the browser has sent enough", async () => {
    const { socket, messages } = connected();
    socket.bufferedAmount = MAX_BUFFERED + 1;
    let room = false;
    const sent = messages.send(message(1, 10)).then(() => (room = true));
    await socket.next();
    expect(room).toBe(false);
    socket.bufferedAmount = MAX_BUFFERED;
    await sent;
    socket.bufferedAmount = MAX_BUFFERED + 1;
    const stuck = rejection(messages.send(message(2, 10)));
    socket.drop(1006);
    expect(await stuck).toMatchObject({ fault: { kind: "closed" } });
  });
});

test("a session over links that are cut at random loses nothing and doubles nothing", async () => {
  const roll = dice(20);
  const host = await FakeHost.create();
  host.cutAfter = () => 3 + roll(12);
  host.consume = (channel, bytes) => {
    host.session.send(channel, bytes);
  };
  const echoed: number[][] = [];
  const consumer = (into: number[]) => ({
    message: (bytes: Bytes, handled: () => void): void => {
      into.push(numberOf(bytes));
      handled();
    },
    closed: ignore,
  });
  const links = new AbortController();
  const state = (state: SessionState): void => {
    if (state.at === "down") {
      void dial();
    }
  };
  const driver = new SessionDriver({ state, lost: ignore, api: consumer((echoed[0] = [])) });
  const dial = async (): Promise<void> => {
    for (;;) {
      try {
        driver.attach(await linkToHost(host.target(links.signal), host.keys, ignore));
        return;
      } catch (error) {
        // A link that is cut before it stands is tried again.
        expect(error).toBeInstanceOf(LinkError);
      }
    }
  };
  const channels: ChannelHandle[] = [driver.api, driver.openChannel("local", consumer((echoed[1] = [])))];
  await dial();
  const all = Array.from({ length: 120 }, (_, at) => at);
  for (const number of all) {
    channels.forEach((channel) => {
      channel.send(message(number, roll(4) === 0 ? roll(40_000) : roll(300)));
    });
    await Promise.resolve();
  }
  await until(() => echoed.every(({ length }) => length >= all.length), 20_000);
  expect(echoed).toEqual([all, all]);
  expect(host.sockets.length).toBeGreaterThan(5);
  host.cutAfter = () => Infinity;
  await driver.end(ByeReason.normal);
}, 30_000);
