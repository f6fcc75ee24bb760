/**
 * What the database holds, and how an older one becomes it.
 *
 * Migrations only add: each makes of version n the version n + 1, is never changed once it was released, and drops no
 * store. A database of every version is opened by a test.
 */
import type { DBSchema, IDBPDatabase, IDBPTransaction, StoreNames } from "idb";
import type { Bytes } from "../bytes";
import type { PairedKeys } from "../link/host";
import type { Scope } from "../scope";

/** A host as it is kept: what can be cloned, keys included. */
export interface HostRow {
  /** The host's id as text. */
  readonly id: string;
  readonly name: string;
  /** Best first. */
  readonly relays: readonly { readonly key: Bytes; readonly url: string }[];
  readonly scope: Scope;
  /** This device's id at the host, as text. */
  readonly deviceId: string;
  /** Milliseconds since 1970, by this device's clock. */
  readonly pairedAt: number;
  readonly keys: PairedKeys;
}

/** The stores, by name. */
export interface Schema extends DBSchema {
  hosts: { key: string; value: HostRow };
}

/** One step; the transaction is the upgrade's. */
export type Migration = (
  database: IDBPDatabase<Schema>,
  transaction: IDBPTransaction<Schema, StoreNames<Schema>[], "versionchange">,
) => void;

/** From nothing to version 1, from version 1 to 2, and so on: as many as there are versions. */
export const MIGRATIONS: readonly Migration[] = [
  (database) => {
    database.createObjectStore("hosts", { keyPath: "id" });
  },
];
