/** The app's database, over IndexedDB in memory. */
import { IDBFactory } from "fake-indexeddb";
import { unwrap } from "idb";
import { beforeEach, expect, test, vi } from "vitest";
import "fake-indexeddb/auto";
import type { Bytes } from "../../src/bytes";
import {
  agree,
  generateIdentity,
  generateLastingStaticKey,
  generateStaticKey,
  hkdfKey,
  sign,
  verify,
} from "../../src/crypto/keys";
import type { PairedKeys } from "../../src/link/host";
import { Origin } from "../../src/pairing/origin";
import { Database } from "../../src/store/database";
import { StoreError, storeError } from "../../src/store/error";
import { HostStore, type StoredHost, storedHost } from "../../src/store/hosts";
import { persist } from "../../src/store/persist";
import { MessageStore } from "../../src/store/messages";
import { StartStore } from "../../src/store/starts";
import { MIGRATIONS } from "../../src/store/schema";
import { fingerprint, rejection } from "../support";

beforeEach(() => {
  vi.stubGlobal("indexedDB", new IDBFactory());
});

async function keys(): Promise<PairedKeys> {
  const [host, hostStatic] = [await generateIdentity(), await generateStaticKey()];
  const [identity, staticKey] = [await generateIdentity(), await generateLastingStaticKey()];
  const psk = await hkdfKey(new Uint8Array(32).fill(5));
  return { host: host.publicKey, hostStatic: hostStatic.publicKey, identity, staticKey, psk };
}

async function host(name: string, pairedAt: number): Promise<StoredHost> {
  const relays = [{ key: new Uint8Array(32).fill(7), origin: Origin.parse("https://relay.example") }];
  return storedHost({ name, relays, scope: "steer" }, await keys(), pairedAt);
}

test("keys do their work after the database was closed and opened, and do not come out", async () => {
  const kept = await host("tower", 1);
  const before = new Database();
  await new HostStore(before).save(kept);
  await before.close();
  const read = await new HostStore(new Database()).read(kept.id);
  if (read === null) {
    throw new Error("it is not there");
  }
  const message = new Uint8Array([1, 2, 3]);
  await verify(kept.keys.identity.publicKey, message, await sign(read.keys.identity, message));
  const other = await generateStaticKey();
  const secrets = [
    await agree(read.keys.staticKey, other.publicKey),
    await agree(other, kept.keys.staticKey.publicKey),
  ];
  const [a, b] = await Promise.all(secrets.map(fingerprint));
  expect(a).toBe(b);
  expect(await fingerprint(read.keys.psk)).toBe(await fingerprint(kept.keys.psk));
  for (const key of [read.keys.identity.privateKey, read.keys.staticKey.privateKey, read.keys.psk]) {
    expect(key.extractable).toBe(false);
    for (const format of ["raw", "pkcs8", "jwk"] as const) {
      await expect(crypto.subtle.exportKey(format, key)).rejects.toThrow();
    }
  }
});

/** As WebKit's, up to Safari 27 at least: what holds an X25519 key can't be read once it is cloned. */
function webkitsClone(clone: typeof structuredClone): typeof structuredClone {
  const holdsX25519 = (value: unknown): boolean =>
    value instanceof CryptoKey
      ? value.algorithm.name === "X25519"
      : typeof value === "object" && value !== null && Object.values(value).some(holdsX25519);
  return (value, options) => {
    if (holdsX25519(value)) {
      throw new TypeError("Unable to deserialize data.");
    }
    return clone(value, options);
  };
}

test("where the browser clones no X25519 key it is kept wrapped, and comes out as one that does not come out", async () => {
  vi.stubGlobal("structuredClone", webkitsClone(structuredClone));
  try {
    const [kept, other] = [await host("tower", 1), await generateStaticKey()];
    const store = new HostStore(new Database());
    await store.save(kept);
    await store.update(kept, { ...kept, name: "Tower" });
    for (const read of [await store.read(kept.id), ...(await store.list())]) {
      if (read === null) {
        throw new Error("it is not there");
      }
      expect(read.name).toBe("Tower");
      const { staticKey } = read.keys;
      const secrets = [await agree(staticKey, other.publicKey), await agree(other, kept.keys.staticKey.publicKey)];
      const [a, b] = await Promise.all(secrets.map(fingerprint));
      expect(a).toBe(b);
      expect([staticKey.privateKey.extractable, staticKey.wrapped?.by.extractable]).toEqual([false, false]);
    }
  } finally {
    vi.unstubAllGlobals();
  }
});

test("hosts are listed in the order of their pairing, changed, replaced and removed", async () => {
  const store = new HostStore(new Database());
  const [tower, laptop] = [await host("tower", 1), await host("laptop", 2)];
  await store.save(laptop);
  await store.save(tower);
  expect((await store.list()).map(({ name }) => name)).toEqual(["tower", "laptop"]);
  const relays = [{ key: new Uint8Array(32).fill(8), origin: Origin.parse("http://127.0.0.1:7420") }];
  await store.update(tower, { name: "Tower", relays, scope: "admin" });
  expect(await store.read(tower.id)).toMatchObject({ name: "Tower", relays, scope: "admin", deviceId: tower.deviceId });
  await store.save({ ...laptop, deviceId: "again" });
  await store.update(laptop, { name: "of the pairing before", relays, scope: "admin" });
  expect((await store.read(laptop.id))?.name).toBe("laptop");
  expect((await store.list()).map(({ deviceId }) => deviceId)).toEqual([tower.deviceId, "again"]);
  await store.revoked(tower, 7);
  await store.update(tower, { name: "Tower", relays, scope: "view" });
  await store.revoked(laptop, 7);
  expect((await store.list()).map(({ revokedAt }) => revokedAt)).toEqual([7, null]);
  await store.remove(tower.id);
  await store.update(tower, { name: "late", relays, scope: "admin" });
  expect(await store.read(tower.id)).toBeNull();
});

/** Opens a database as a browser does, without the app. */
function opened(version: number, upgrade: (database: IDBDatabase) => void): Promise<IDBDatabase> {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open("reachback", version);
    request.onupgradeneeded = () => {
      upgrade(request.result);
    };
    request.onsuccess = () => {
      resolve(request.result);
    };
    request.onerror = () => {
      reject(request.error ?? new Error("no error"));
    };
  });
}

/** A row as version 1 wrote it: this never changes. */
async function rowOfVersion1(): Promise<{ id: string; keys: PairedKeys; relays: { key: Bytes; url: string }[] }> {
  const row = { id: "aqcambyibmbaibaiaqcambyibm", name: "old", scope: "approve", deviceId: "eu3dmnzw", pairedAt: 3 };
  return { ...row, keys: await keys(), relays: [{ key: new Uint8Array(32), url: "https://relay.example:443" }] };
}

test("a database of version 1 is read by this version", async () => {
  const row = await rowOfVersion1();
  const old = await opened(1, (database) => {
    database.createObjectStore("hosts", { keyPath: "id" }).put(row);
  });
  old.close();
  const read = await new HostStore(new Database()).read(row.id);
  expect(read).toMatchObject({ name: "old", scope: "approve", deviceId: "eu3dmnzw", pairedAt: 3, revokedAt: null });
  expect(await fingerprint(read?.keys.psk ?? row.keys.psk)).toBe(await fingerprint(row.keys.psk));
});

test("a database of version 2 keeps its draft, and takes messages to threads", async () => {
  const draft = { host: "tower", text: "x", environment: null, folder: null, model: null, effort: null, sent: null };
  const old = await opened(2, (database) => {
    database.createObjectStore("hosts", { keyPath: "id" });
    database.createObjectStore("starts", { keyPath: "host" }).put(draft);
  });
  old.close();
  expect(await new StartStore(new Database()).read("tower")).toEqual(draft);
  const place = { host: "tower", environment: "local", thread: "t" };
  const messages = new MessageStore(new Database());
  await messages.keep({ ...place, text: "y", message: "", delivery: "start", sent: null });
  expect((await messages.read(place))?.text).toBe("y");
});

test("an upgrade adds to what is there and drops nothing, and an older app says that it is old", async () => {
  const kept = await host("tower", 1);
  const now = new Database();
  await new HostStore(now).save(kept);
  const next = new Database([...MIGRATIONS, (database) => unwrap(database).createObjectStore("drafts")]);
  // The older connection makes way by itself.
  expect(await new HostStore(next).read(kept.id)).toMatchObject({ name: "tower" });
  expect(await rejection(new HostStore(now).list())).toEqual(new StoreError("newer"));
});

test("a tab that does not make way is named, and nothing is left in the way once it has gone", async () => {
  const other = await opened(1, (database) => {
    database.createObjectStore("hosts", { keyPath: "id" });
  });
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  const next = new Database([...MIGRATIONS, () => undefined]);
  const refused = rejection(new HostStore(next).list());
  await vi.waitUntil(() => vi.getTimerCount() > 0, { interval: 1 });
  vi.advanceTimersByTime(3_000);
  vi.useRealTimers();
  expect(await refused).toEqual(new StoreError("blocked"));
  other.close();
  expect(await new HostStore(next).list()).toEqual([]);
});

test("a connection that the browser has taken away is made again", async () => {
  const database = new Database();
  const store = new HostStore(database);
  await store.save(await host("tower", 1));
  await database.use((open) => {
    open.close();
    return Promise.resolve();
  });
  expect(await store.list()).toHaveLength(1);
  const gone = new DOMException("again", "InvalidStateError");
  expect(await rejection(database.use(() => Promise.reject(gone)))).toEqual(new StoreError("gone"));
});

test.each([
  ["QuotaExceededError", "quota"],
  ["SecurityError", "unavailable"],
  ["VersionError", "newer"],
  ["UnknownError", "gone"],
  ["DataError", "failed"],
] as const)("%s is told as %s", (name, kind) => {
  expect(storeError(new DOMException("", name)).kind).toBe(kind);
});

test("without IndexedDB nothing is kept, and that is said", async () => {
  vi.unstubAllGlobals();
  vi.stubGlobal("indexedDB", undefined);
  expect(await rejection(new HostStore(new Database()).list())).toEqual(new StoreError("unavailable"));
});

test("the browser is asked to keep the data, where it can be", async () => {
  const storage = (persist: () => Promise<boolean>): StorageManager => ({
    persist,
    persisted: persist,
    estimate: () => Promise.resolve({}),
    getDirectory: () => Promise.reject(new Error("not here")),
  });
  expect(await persist(storage(() => Promise.resolve(true)))).toBe("kept");
  expect(await persist(storage(() => Promise.resolve(false)))).toBe("refused");
  expect(await persist(storage(() => Promise.reject(new Error("opaque"))))).toBe("refused");
  expect(await persist(undefined)).toBe("unsupported");
});
