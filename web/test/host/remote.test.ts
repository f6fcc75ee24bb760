/** A host from its keys to a session that is kept up, against a relay and a host in memory. */
import { expect, test, vi } from "vitest";
import { type Bytes, utf8 } from "../../src/bytes";
import { RemoteHost } from "../../src/host/remote";
import { type StoredHost, type HostFacts, storedHost } from "../../src/store/hosts";
import { encode } from "../../src/base32";
import { json } from "../../src/json";
import { FakeHost } from "../link/fake";
import { TestPage } from "../link/page";

async function until(condition: () => boolean): Promise<void> {
  await vi.waitUntil(condition, { interval: 1, timeout: 4_000 });
}

class Scene {
  readonly page = new TestPage();
  readonly learned: HostFacts[] = [];
  readonly notified: string[] = [];
  missed = 0;
  name = "tower";
  #answered = 0;
  readonly host: FakeHost;
  readonly remote: RemoteHost;

  private constructor(host: FakeHost, stored: StoredHost, rests: boolean) {
    this.host = host;
    const { create } = host.target();
    host.consume = (channel, bytes) => {
      this.#answer(channel, bytes);
    };
    this.remote = new RemoteHost(stored, {
      page: this.page,
      rests,
      read: { largestMessage: 1 << 24 },
      notified: ({ method }) => this.notified.push(method),
      missed: () => (this.missed += 1),
      learned: (facts) => this.learned.push(facts),
      ...(create && { create }),
    });
  }

  static async create(rests = false): Promise<Scene> {
    const host = await FakeHost.create();
    const relays = [{ key: host.relayKey, origin: host.target().origin }];
    return new Scene(host, await storedHost({ name: "old", relays, scope: "view" }, host.keys, 1), rests);
  }

  /** What the host says of itself. */
  info(hostName: string): object {
    return {
      hostName,
      relays: [{ url: "https://relay.example:443", key: encode(this.host.relayKey) }],
      scope: "steer",
    };
  }

  say(message: object): void {
    this.host.session.send(0, utf8(JSON.stringify(message)));
  }

  #answer(channel: number, bytes: Bytes): void {
    const request = json(JSON.parse(new TextDecoder().decode(bytes)));
    expect([channel, request]).toEqual([
      0,
      { id: this.#answered, method: "host/read", params: { largestMessage: 1 << 24 } },
    ]);
    this.say({ id: this.#answered, result: this.info(this.name) });
    this.#answered += 1;
  }
}

test("a session begins with `host/read`, and what the host says is learned, then and later", async () => {
  const { remote, learned, notified, ...scene } = await Scene.create();
  expect(remote.reach.value).toMatchObject({ at: "reconnecting", next: null });
  await until(() => remote.info.value !== null);
  expect(remote.reach.value.at).toBe("online");
  expect(learned).toMatchObject([{ name: "tower", scope: "steer" }]);
  scene.host.session.send(0, utf8(JSON.stringify({ method: "host/changed", params: { hostName: "x", relays: [] } })));
  await until(() => notified.length > 0);
  // That can't be used: what was known before is better.
  expect(learned).toHaveLength(1);
  await until(() => "rttMs" in remote.reach.value && remote.reach.value.rttMs !== null);
  await remote.end();
  expect(remote.reach.value).toMatchObject({ at: "ended", by: "us" });
});

test("a connection that ends is made again, at the relays that the host named last, and nothing is asked twice", async () => {
  const scene = await Scene.create();
  const { remote, host } = scene;
  await until(() => remote.info.value !== null);
  host.sockets.at(-1)?.drop(1006);
  await until(() => host.sockets.length === 2 && remote.reach.value.at === "online");
  expect(host.sockets.map(({ url }) => url)).toEqual([
    "ws://relay.example:8080/v1/device",
    "wss://relay.example:443/v1/device",
  ]);
  expect([scene.learned.length, scene.missed]).toEqual([1, 0]);
  scene.page.tell("network");
  await until(() => host.sockets.length === 3 && remote.reach.value.at === "online");
  await remote.end();
});

test("one that rests has no link, and what was said meanwhile goes over the next one, once", async () => {
  const scene = await Scene.create(true);
  const { remote, host } = scene;
  const asked = remote.api.request("host/read", { largestMessage: 1 << 24 });
  expect(host.sockets).toEqual([]);
  remote.wake();
  await asked;
  await until(() => scene.learned.length === 1);
  remote.rest();
  expect(host.sockets.map((socket) => socket.readyState)).toEqual([3]);
  await until(() => remote.reach.value.at === "reconnecting");
  const next = remote.api.request("host/read", { largestMessage: 1 << 24 });
  scene.name = "castle";
  scene.say({ method: "host/changed", params: scene.info("castle") });
  remote.wake();
  await until(() => scene.learned.length === 2);
  await next;
  expect([host.sockets.length, scene.missed]).toEqual([2, 0]);
  expect(remote.info.value?.hostName).toBe("castle");
  await remote.end();
});
