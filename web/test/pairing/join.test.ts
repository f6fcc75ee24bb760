/** From a code to a host that is kept. */
import { IDBFactory } from "fake-indexeddb";
import "fake-indexeddb/auto";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { type Bytes, random } from "../../src/bytes";
import { CloseCode } from "../../src/close";
import { relayId } from "../../src/ids";
import { TypedCode } from "../../src/pairing/code";
import { type JoinFault, JoinError } from "../../src/pairing/error";
import { takeFragment } from "../../src/pairing/fragment";
import { PairingInitiator } from "../../src/pairing/initiator";
import { type Invitation, type Joined, PERSON_TIMEOUT, join } from "../../src/pairing/join";
import { Refusal } from "../../src/pairing/message";
import { Origin } from "../../src/pairing/origin";
import { PairingSecret } from "../../src/pairing/secret";
import { PairingUrl } from "../../src/pairing/url";
import { Database } from "../../src/store/database";
import { StoreError } from "../../src/store/error";
import { HostStore } from "../../src/store/hosts";
import type { RelayToPeer } from "../../src/wire/control";
import { rejection } from "../support";
import { PairingHost, type Script } from "./host";

const RELAY = Origin.parse("http://relay.example:8080");

beforeEach(() => {
  vi.stubGlobal("indexedDB", new IDBFactory());
});

afterEach(() => {
  vi.useRealTimers();
});

/** A device in front of a host with this script. */
class Device {
  readonly host: PairingHost;
  readonly store = new HostStore(new Database());
  readonly shown: string[] = [];
  readonly abort = new AbortController();
  readonly #secret: Bytes;

  private constructor(host: PairingHost, secret: Bytes) {
    this.host = host;
    this.#secret = secret;
  }

  static async meets(script: Script, secret = random(32)): Promise<Device> {
    return new Device(await PairingHost.create(secret, script), secret);
  }

  async url(secret = this.#secret.slice()): Promise<Invitation> {
    const fingerprint = (await relayId(this.host.relay.relayKey)).slice(0, 20);
    return { type: "url", url: new PairingUrl(RELAY, null, new PairingSecret(secret), fingerprint) };
  }

  async join(invitation?: Invitation): Promise<Joined> {
    const { create } = this.host.relay.target();
    return join(invitation ?? (await this.url()), {
      name: "phone",
      platform: "test",
      store: this.store,
      show: (digits) => this.shown.push(digits),
      signal: this.abort.signal,
      storage: undefined,
      ...(create && { create }),
    });
  }

  async fault(invitation?: Invitation): Promise<JoinFault> {
    const error = await rejection(this.join(invitation));
    if (!(error instanceof JoinError)) {
      throw new Error("another error", { cause: error });
    }
    expect(await this.store.list()).toEqual([]);
    return error.fault;
  }
}

/** The host's person has typed the digits; it closes once the device has said that it is done. */
const pairs: Script = async (host) => {
  await host.introduce();
  await vi.waitUntil(() => host.heard.some(({ type }) => type === "Done"), { interval: 1 });
  host.close(CloseCode.peerGone);
};

test("by a URL: digits are shown, the host may wait, and is kept before it is told", async () => {
  const device = await Device.meets(async (host) => {
    for (let n = 0; n < 3; n += 1) {
      await host.say({ type: "Waiting" });
    }
    await pairs(host);
  });
  device.host.relay.spoil = { waiting: [{ type: "Ping", id: 1n }] };
  const { host, persistence } = await device.join();
  expect(device.shown).toEqual([device.host.digits]);
  expect(device.host.heard).toMatchObject([{ type: "DeviceIntro", name: "phone" }, { type: "Done" }]);
  expect(host).toMatchObject({ name: "tower", scope: "steer" });
  expect(await persistence).toBe("unsupported");
  expect(await device.store.list()).toMatchObject([{ id: host.id, deviceId: host.deviceId }]);
});

test("by a typed code", async () => {
  const typed = "0123-4567-89AB-CDEF";
  const secret = await PairingSecret.fromCode(TypedCode.parse(typed), RELAY);
  const device = await Device.meets(pairs, secret.expose());
  const { host } = await device.join({ type: "code", relay: RELAY, code: TypedCode.parse(typed) });
  expect((await device.store.read(host.id))?.name).toBe("tower");
});

describe("what the host refuses is told by what it is", () => {
  test.each<readonly [number, JoinFault]>([
    [Refusal.wrongDigits, { kind: "wrongDigits" }],
    [Refusal.declined, { kind: "declined" }],
    [Refusal.expired, { kind: "expired" }],
    [Refusal.tooManyDevices, { kind: "tooManyDevices" }],
    [Refusal.malformed, { kind: "protocol" }],
    [99, { kind: "refused", code: 99 }],
  ])("%i", async (code, fault) => {
    const device = await Device.meets((host) => host.say({ type: "Refused", code }));
    expect(await device.fault()).toEqual(fault);
  });
});

describe("what the relay refuses is told by what it is", () => {
  test.each<readonly [number, JoinFault]>([
    [CloseCode.notFound, { kind: "noSuchCode" }],
    [CloseCode.limited, { kind: "busy", retryAfterMs: 900 }],
    [CloseCode.version, { kind: "version", peer: "relay" }],
    [CloseCode.peerGone, { kind: "noHost" }],
    [CloseCode.internal, { kind: "relay" }],
  ])("%i", async (code, fault) => {
    const device = await Device.meets(pairs);
    const refused: RelayToPeer = { type: "Refused", code, retryAfterMs: 900, message: "no" };
    device.host.relay.spoil = { welcome: () => refused };
    expect(await device.fault()).toEqual(fault);
  });
});

test("a relay with another key than the code's, or the host's, is not trusted", async () => {
  const device = await Device.meets((host) => host.introduce(host.identity.publicKey));
  expect(await device.fault()).toEqual({ kind: "otherRelay" });
  const url = new PairingUrl(RELAY, null, new PairingSecret(random(32)), random(20));
  expect(await device.fault({ type: "url", url })).toEqual({ kind: "otherRelay" });
});

test("a host with another secret is not the one that showed the code", async () => {
  const device = await Device.meets(pairs);
  device.host.relay.circuit = async (socket) => {
    await socket.next();
    socket.deliver(new Uint8Array([0, 128, ...random(128)]));
  };
  expect(await device.fault()).toEqual({ kind: "wrongCode" });
});

test("a host that goes while it waits for its person has gone", async () => {
  const device = await Device.meets(async (host) => {
    await host.say({ type: "Waiting" });
    await vi.waitUntil(() => host.heard.length > 0, { interval: 1 });
    host.close(CloseCode.peerGone);
  });
  expect(await device.fault()).toEqual({ kind: "noHost" });
  expect(device.shown).toHaveLength(1);
});

test("a person who gives up is told to the host", async () => {
  const device = await Device.meets(() => Promise.resolve());
  const fault = device.fault();
  await vi.waitUntil(() => device.shown.length > 0, { interval: 1 });
  device.abort.abort();
  expect(await fault).toEqual({ kind: "aborted" });
  const last = { type: "Refused", code: Refusal.declined };
  await vi.waitUntil(() => device.host.heard.length > 1, { interval: 1 });
  expect(device.host.heard.at(-1)).toEqual(last);
});

test("one who gives up before there is a host ends the connection", async () => {
  const device = await Device.meets(pairs);
  device.host.relay.spoil = { away: true };
  const fault = device.fault();
  await vi.waitUntil(() => device.host.relay.hellos.length > 0, { interval: 1 });
  device.abort.abort();
  expect(await fault).toEqual({ kind: "aborted" });
});

describe("what does not come is not waited for", () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
  });

  test("a host that never attaches", async () => {
    const device = await Device.meets(pairs);
    device.host.relay.spoil = { away: true };
    const welcomed = vi.spyOn(crypto.subtle, "verify");
    const fault = device.fault();
    await vi.waitUntil(() => welcomed.mock.settledResults.some(({ type }) => type === "fulfilled"), { interval: 1 });
    welcomed.mockRestore();
    await vi.advanceTimersByTimeAsync(10_000);
    expect(await fault).toEqual({ kind: "noHost" });
  });

  test("a host that says nothing while it waits for its person", async () => {
    const device = await Device.meets(() => Promise.resolve());
    const fault = device.fault();
    await vi.waitUntil(() => device.shown.length > 0, { interval: 1 });
    await vi.advanceTimersByTimeAsync(45_000);
    expect(await fault).toEqual({ kind: "noHost" });
  });

  test("a person who does not type the digits", async () => {
    const device = await Device.meets(() => Promise.resolve());
    const taken = vi.spyOn(PairingInitiator.prototype, "receive");
    const fault = device.fault();
    await vi.waitUntil(() => device.shown.length > 0, { interval: 1 });
    for (let waited = 0; waited < PERSON_TIMEOUT; waited += 15_000) {
      const before = taken.mock.calls.length;
      await device.host.say({ type: "Waiting" });
      // Taken, and the next is being waited for.
      await vi.waitUntil(() => taken.mock.calls.length > before && vi.getTimerCount() === 1, { interval: 1 });
      await vi.advanceTimersByTimeAsync(15_000);
    }
    taken.mockRestore();
    expect(await fault).toEqual({ kind: "expired" });
  });
});

test("a host that can't be kept is not told, and one that can't be told is not kept", async () => {
  const device = await Device.meets((host) => host.introduce());
  const save = vi.spyOn(device.store, "save").mockRejectedValueOnce(new StoreError("quota"));
  expect(await device.fault()).toEqual({ kind: "store" });
  expect(device.host.heard.map(({ type }) => type)).toEqual(["DeviceIntro"]);
  const again = await Device.meets((host) => host.introduce());
  const kept = again.store.save.bind(again.store);
  save.mockRestore();
  vi.spyOn(again.store, "save").mockImplementation(async (host) => {
    await kept(host);
    again.host.close(1006);
  });
  expect(await again.fault()).toEqual({ kind: "relay" });
});

describe("the fragment of the page's address", () => {
  function page(hash: string): { address: string; take: () => string | null } {
    const location = { origin: "https://relay.example", pathname: "/", search: "", hash };
    const found = {
      address: location.origin + location.pathname + hash,
      take: () =>
        takeFragment({
          location,
          history: {
            replaceState: (_, __, url) => {
              found.address = `${location.origin}${String(url)}`;
            },
          },
        }),
    };
    return found;
  }

  test("is taken and leaves the address, whole or damaged, and a route stays", () => {
    for (const code of ["#AEAQ", "#aeaq", "#not a code"]) {
      const found = page(code);
      expect(found.take()).toBe(`https://relay.example/${code}`);
      expect(found.address).toBe("https://relay.example/");
    }
    for (const hash of ["", "#", "#/thread/1"]) {
      const found = page(hash);
      expect(found.take()).toBeNull();
      expect(found.address).toBe(`https://relay.example/${hash}`);
    }
  });
});
