/** The hosts that this browser is paired with, and the keys for them. */
import { encode } from "../base32";
import { keptStaticKey, restoredStaticKey } from "../crypto/keys";
import { deviceId, hostId } from "../ids";
import type { PairedKeys } from "../link/host";
import type { RelayEntry } from "../pairing/message";
import { Origin } from "../pairing/origin";
import type { Scope } from "../scope";
import type { Database } from "./database";
import { ofHost } from "./range";
import type { HostRow } from "./schema";

/** What a host says of itself, and may change: names and places do. */
export interface HostFacts {
  readonly name: string;
  /** Best first, never empty: their keys are pinned. */
  readonly relays: readonly RelayEntry[];
  /** What this device may do. */
  readonly scope: Scope;
}

/** A host that this device is paired with. */
export interface StoredHost extends HostFacts {
  /** The host's id as text. */
  readonly id: string;
  /** This device's id at the host, as text. */
  readonly deviceId: string;
  /** Milliseconds since 1970, by this device's clock. */
  readonly pairedAt: number;
  readonly keys: PairedKeys;
  /** When the host itself said that it took this device off, by this device's clock; `null` while it has not. */
  readonly revokedAt: number | null;
}

/** A host as it is kept after a pairing. */
export async function storedHost(facts: HostFacts, keys: PairedKeys, pairedAt: number): Promise<StoredHost> {
  const { name, relays, scope } = facts;
  const [host, device] = [await hostId(keys.host), await deviceId(keys.identity.publicKey)];
  return { id: encode(host), deviceId: encode(device), name, relays, scope, pairedAt, keys, revokedAt: null };
}

/** The paired hosts of this browser. Everything rejects with `StoreError`. */
export class HostStore {
  readonly #database: Database;
  /** All hosts, read before somebody wanted them. */
  #ahead: Promise<StoredHost[]> | null = null;

  constructor(database: Database) {
    this.#database = database;
  }

  /** Begins to read all hosts, for whoever wants them first. */
  readAhead(): void {
    this.#ahead = this.#readAll();
    // Who wants them hears of it.
    this.#ahead.catch(() => undefined);
  }

  /** All hosts, the one that was paired first at their head. */
  list(): Promise<StoredHost[]> {
    const ahead = this.#ahead;
    this.#ahead = null;
    return ahead ?? this.#readAll();
  }

  async #readAll(): Promise<StoredHost[]> {
    const hosts = await this.#database.use(async (database) =>
      Promise.all((await database.getAll("hosts")).map(fromRow)),
    );
    return hosts.sort((a, b) => a.pairedAt - b.pairedAt);
  }

  /** The host with this id; `null` where there is none. */
  async read(id: string): Promise<StoredHost | null> {
    return this.#database.use(async (database) => {
      const row = await database.get("hosts", id);
      return row === undefined ? null : fromRow(row);
    });
  }

  /** Keeps a host; it takes the place of an earlier pairing with the same host. Resolves once it is written. */
  async save(host: StoredHost): Promise<void> {
    await this.#database.use((database) => database.put("hosts", toRow(host)));
  }

  /**
   * Keeps what a host says of itself now, to this device: where the host was removed or paired anew meanwhile, nothing
   * changes.
   */
  async update(host: Pick<StoredHost, "id" | "deviceId">, { name, relays, scope }: HostFacts): Promise<void> {
    await this.#change(host, { name, relays: keptRelays(relays), scope });
  }

  /** Keeps that the host took this device off; its keys stay until a person removes it. */
  async revoked(host: Pick<StoredHost, "id" | "deviceId">, revokedAt: number): Promise<void> {
    await this.#change(host, { revokedAt });
  }

  /** Forgets a host, its keys, and what was written for it: all of that, for good, or nothing. */
  async remove(id: string): Promise<void> {
    await this.#database.use(async (database) => {
      const transaction = database.transaction(["hosts", "starts", "messages", "attachments"], "readwrite");
      await Promise.all([
        transaction.objectStore("hosts").delete(id),
        transaction.objectStore("starts").delete(id),
        transaction.objectStore("messages").delete(ofHost(id)),
        transaction.objectStore("attachments").delete(ofHost(id)),
        transaction.done,
      ]);
    });
  }

  async #change({ id, deviceId }: Pick<StoredHost, "id" | "deviceId">, change: Partial<HostRow>): Promise<void> {
    await this.#database.use(async (database) => {
      const transaction = database.transaction("hosts", "readwrite");
      const row = await transaction.store.get(id);
      if (row?.deviceId === deviceId) {
        await transaction.store.put({ ...row, ...change });
      }
      await transaction.done;
    });
  }
}

function keptRelays(relays: readonly RelayEntry[]): HostRow["relays"] {
  return relays.map(({ key, origin }) => ({ key, url: origin.toString() }));
}

function toRow({ relays, keys, ...host }: StoredHost): HostRow {
  return { ...host, relays: keptRelays(relays), keys: { ...keys, staticKey: keptStaticKey(keys.staticKey) } };
}

async function fromRow(row: HostRow): Promise<StoredHost> {
  const relays = row.relays.map(({ key, url }) => ({ key, origin: Origin.parse(url) }));
  const keys = { ...row.keys, staticKey: await restoredStaticKey(row.keys.staticKey) };
  return { ...row, relays, keys, revokedAt: row.revokedAt ?? null };
}
