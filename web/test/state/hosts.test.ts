/** The hosts of a device, against a relay and a host in memory, with IndexedDB in memory. */
import { IDBFactory } from "fake-indexeddb";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import "fake-indexeddb/auto";
import { CloseCode } from "../../src/close";
import { Later } from "../../src/later";
import { type Host, Hosts } from "../../src/state/hosts";
import { Database } from "../../src/store/database";
import { StoreError } from "../../src/store/error";
import { HostStore, storedHost } from "../../src/store/hosts";
import { MessageStore } from "../../src/store/messages";
import { StartStore } from "../../src/store/starts";
import { SessionError } from "../../src/session/error";
import { HOST_LIMITS } from "../../src/session/limits";
import { Session } from "../../src/session/session";
import { ByeReason } from "../../src/wire/reason";
import { FakeHost } from "../link/fake";
import { TestPage } from "../link/page";
import { sessionId } from "../session/pair";

const DRAFT = { text: "mend the shop", environment: "local", folder: "/shop" };

async function until(condition: () => boolean): Promise<void> {
  await vi.waitUntil(condition, { interval: 1, timeout: 4_000 });
}

/** A device that is paired with one host. */
class Scene {
  readonly fake: FakeHost;
  readonly store: HostStore;
  readonly starts: StartStore;
  readonly messages: MessageStore;
  #hosts: Hosts;

  private constructor(fake: FakeHost) {
    const database = new Database();
    this.fake = fake;
    [this.store, this.starts] = [new HostStore(database), new StartStore(database)];
    this.messages = new MessageStore(database);
    this.#hosts = this.#made();
  }

  static async create(): Promise<Scene> {
    const scene = new Scene(await FakeHost.create());
    const relays = [{ key: scene.fake.relayKey, origin: scene.fake.target().origin }];
    await scene.store.save(await storedHost({ name: "tower", relays, scope: "steer" }, scene.fake.keys, 1));
    await scene.load();
    return scene;
  }

  /** As a page does that is loaded. */
  async load(): Promise<void> {
    await this.#hosts.load();
    await until(() => this.host.start.view.value !== null);
  }

  /** As a page does that is reloaded. */
  async reload(prepare: (hosts: Hosts) => void = () => undefined): Promise<void> {
    await this.host.remote.end();
    this.#hosts = this.#made();
    prepare(this.#hosts);
    await this.load();
  }

  get hosts(): Hosts {
    return this.#hosts;
  }

  get host(): Host {
    const [host] = this.#hosts.list.value ?? [];
    if (host === undefined) {
      throw new Error("there is no host");
    }
    return host;
  }

  get at(): string {
    return this.host.remote.reach.value.at;
  }

  /** The host's next session is a new one. */
  forgets(number: number): void {
    this.fake.session = Session.host(sessionId(number), HOST_LIMITS, performance.now());
  }

  /** The host ends the session with this last word. */
  async says(reason: number): Promise<void> {
    await until(() => this.at === "online");
    this.fake.session.bye(reason, 0);
    await until(() => this.at === "ended");
  }

  #made(): Hosts {
    const { create } = this.fake.target();
    return new Hosts({
      store: this.store,
      starts: this.starts,
      messages: this.messages,
      page: new TestPage(),
      create: create ?? ((url) => new WebSocket(url)),
      reaching: new Later(() => import("../../src/state/reach")),
    });
  }
}

let scene: Scene;

beforeEach(async () => {
  vi.stubGlobal("indexedDB", new IDBFactory());
  scene = await Scene.create();
});

afterEach(async () => {
  await Promise.all((scene.hosts.list.value ?? []).map(({ remote }) => remote.end()));
});

test("a host that took this device off is not tried again, also after a reload; keys and draft stay until removed", async () => {
  await scene.host.start.write(DRAFT);
  await scene.says(ByeReason.revoked);
  expect(scene.host.over).toMatchObject({ by: "host", reason: ByeReason.revoked, error: null });
  await scene.host.start.write({ text: "mend the door" });
  scene.hosts.again(scene.host);
  expect(scene.at).toBe("ended");
  const since = scene.host.over?.since;
  await vi.waitUntil(async () => (await scene.store.list())[0]?.revokedAt === since);
  await scene.reload();
  await until(() => scene.at === "ended");
  expect(scene.host.over).toMatchObject({ by: "host", reason: ByeReason.revoked, since });
  expect(scene.host.start.view.value?.row.text).toBe("mend the door");
  expect(scene.fake.sockets.filter((socket) => socket.readyState !== socket.CLOSED)).toEqual([]);
  const { id } = scene.host.stored;
  await scene.hosts.forget(scene.host);
  expect([await scene.store.list(), await scene.starts.read(id)]).toEqual([[], null]);
});

test("a host that paused this device is tried again when a person says so, with what was written, kept or not", async () => {
  const { host } = scene;
  await scene.says(ByeReason.paused);
  expect(scene.host.over).toMatchObject({ by: "host", reason: ByeReason.paused });
  vi.spyOn(scene.starts, "keep").mockRejectedValue(new StoreError("quota"));
  await host.start.write(DRAFT);
  scene.forgets(2);
  scene.hosts.again(scene.host);
  // Until there is a session, what the host said last is what is known of it.
  expect(scene.at).toBe("reconnecting");
  expect(scene.host.over).toMatchObject({ reason: ByeReason.paused });
  await until(() => scene.host.over === null);
  expect(scene.at).toBe("online");
  expect(scene.host.remote).not.toBe(host.remote);
  expect(scene.host.start.view.value).toMatchObject({ row: DRAFT, kept: false });
  // What was said of the session before changes nothing any more.
  scene.hosts.again(host);
  expect(scene.at).toBe("online");
});

test("a session that ended by a breach of the protocol was ended here, and is begun anew as well", async () => {
  await until(() => scene.at === "online");
  vi.spyOn(scene.fake.session, "pollTransmit").mockReturnValueOnce(new Uint8Array([0xff]));
  await until(() => scene.at === "ended");
  expect(scene.host.over).toMatchObject({ by: "us", reason: ByeReason.protocolError });
  expect(scene.host.over?.error).toBeInstanceOf(SessionError);
  scene.forgets(2);
  scene.hosts.again(scene.host);
  await until(() => scene.host.over === null);
});

test("what a relay says of a revocation ends nothing", async () => {
  await until(() => scene.at === "online");
  scene.fake.circuit = (socket) => {
    socket.drop(CloseCode.revoked);
    return Promise.resolve();
  };
  scene.fake.sockets.at(-1)?.drop(CloseCode.revoked);
  await until(() => scene.at === "refused");
  expect(scene.host.over).toBeNull();
  expect((await scene.store.list())[0]?.revokedAt).toBeNull();
});

test("a host that can't be forgotten is there still, and what is written for it goes on", async () => {
  await scene.host.start.write(DRAFT);
  const remove = vi.spyOn(scene.store, "remove").mockRejectedValueOnce(new StoreError("failed"));
  await expect(scene.hosts.forget(scene.host)).rejects.toThrow(StoreError);
  await scene.host.start.write({ text: "mend the door" });
  expect(await scene.starts.read(scene.host.stored.id)).toMatchObject({ text: "mend the door" });
  const forgotten = scene.host;
  await scene.hosts.forget(forgotten);
  expect(remove).toHaveBeenCalledTimes(2);
  await forgotten.start.write({ text: "late" });
  expect([await scene.store.list(), await scene.starts.read(forgotten.stored.id)]).toEqual([[], null]);
});

test("hosts that rest have no link, whether they were there, are read or tried again; and have one once they do not", async () => {
  await until(() => scene.at === "online");
  scene.hosts.rest();
  await until(() => scene.at === "reconnecting");
  await scene.reload((hosts) => {
    hosts.rest();
  });
  const open = (): number => scene.fake.sockets.filter(({ readyState, CLOSED }) => readyState !== CLOSED).length;
  expect([scene.at, scene.fake.sockets.length, open()]).toEqual(["reconnecting", 1, 0]);
  scene.forgets(2);
  scene.hosts.wake();
  await scene.says(ByeReason.paused);
  scene.hosts.rest();
  scene.forgets(3);
  scene.hosts.again(scene.host);
  expect([scene.fake.sockets.length, open()]).toEqual([2, 0]);
  scene.hosts.wake();
  await until(() => scene.at === "online");
  expect([scene.fake.sockets.length, open()]).toEqual([3, 1]);
});

test("what another tab paired is there once it is read again, and what it forgot is not", async () => {
  await scene.host.start.write(DRAFT);
  const { stored, start, remote } = scene.host;
  await until(() => scene.at === "online");
  await scene.store.save({ ...stored, deviceId: "anew" });
  vi.spyOn(scene.store, "list").mockRejectedValueOnce(new StoreError("failed"));
  scene.hosts.wake();
  await until(() => scene.at === "online");
  expect(scene.host.remote).toBe(remote);
  scene.hosts.wake();
  await until(() => scene.host.stored.deviceId === "anew");
  expect(scene.hosts.list.value).toHaveLength(1);
  await until(() => remote.reach.value.at === "ended");
  await start.write({ text: "late" });
  expect(await scene.starts.read(stored.id)).toMatchObject(DRAFT);
  const before = scene.host;
  await scene.store.remove(stored.id);
  await scene.hosts.load();
  expect(scene.hosts.list.value).toEqual([]);
  await until(() => before.remote.reach.value.at === "ended");
});

test("one that is paired while what is kept is read stays", async () => {
  const list = vi.spyOn(scene.store, "list");
  const kept = await scene.store.list();
  list.mockImplementationOnce(async () => {
    await scene.hosts.add({ ...scene.host.stored, id: "other" });
    return kept;
  });
  list.mockResolvedValueOnce([...kept, { ...scene.host.stored, id: "other" }]);
  await scene.hosts.load();
  expect(scene.hosts.list.value?.map(({ stored }) => stored.id)).toEqual([kept[0]?.id, "other"]);
});
