/**
 * What the database holds, and how an older one becomes it.
 *
 * Migrations only add: each makes of version n the version n + 1, is never changed once it was released, and drops no
 * store. A database of every version is opened by a test.
 */
import type { DBSchema, IDBPDatabase, IDBPTransaction, StoreNames } from "idb";
import type { Bytes } from "../bytes";
import type { KeptStaticKey } from "../crypto/keys";
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
  readonly keys: Omit<PairedKeys, "staticKey"> & { readonly staticKey: KeptStaticKey };
  /** When the host said that it took this device off, by this device's clock; left out before it could be kept. */
  readonly revokedAt?: number | null;
}

/** A prompt, once it is meant to be sent. */
export interface SentRow {
  /** The prompt's id at the host: the same each time it is sent. */
  readonly id: string;
  /** This device's id at the host, as text: the host knows prompts by device. */
  readonly deviceId: string;
  /** Milliseconds since 1970, by this device's clock. */
  readonly at: number;
  /** The host's journal when it was first sent; `null` until then. */
  readonly journal: string | null;
}

/** What is attached to a prompt: what a screen says of it. Its bytes are kept apart, so that typing does not write them anew. */
export interface Attached {
  /** Made here, new for each. */
  readonly id: string;
  /** The file's name, as it was: another program's word. */
  readonly name: string;
  readonly type: "image/jpeg" | "image/png" | "text/plain";
  /** How many it has. */
  readonly bytes: number;
}

/** The bytes of something that is attached. */
export interface AttachmentRow extends Attached {
  /** The host's id as text. */
  readonly host: string;
  readonly data: Bytes;
  /** When it was kept, or Codex got it; milliseconds since 1970, by this device's clock. */
  readonly at: number;
  /** The prompt that Codex has it with; left out before. */
  readonly prompt?: string;
}

/** A thread that a person is about to begin. */
export interface StartRow {
  /** The host's id as text. */
  readonly host: string;
  readonly text: string;
  /** Left out before that could be done. */
  readonly attached?: readonly Attached[];
  /** Where it works: a folder of an environment. */
  readonly environment: string | null;
  readonly folder: string | null;
  /** Whether a person chose it though it is no workspace; left out before that could be done. */
  readonly untrusted?: boolean;
  /** `null` for the host's own. */
  readonly model: string | null;
  readonly effort: string | null;
  /** What Codex is to go on for until it holds, empty for nothing; left out before that could be done. */
  readonly goal?: string;
  /** `null` while it is a draft. */
  readonly sent: SentRow | null;
}

/** What a person writes to a thread. */
export interface MessageRow {
  /** The host's id as text, and the thread there. */
  readonly host: string;
  readonly environment: string;
  readonly thread: string;
  /** The draft, which goes on beside a message that is on its way. */
  readonly text: string;
  /** What is attached to it; left out before that could be done, as is `along`. */
  readonly attached?: readonly Attached[];
  /** The message that is on its way. */
  readonly message: string;
  /** What goes along with it. */
  readonly along?: readonly Attached[];
  /** With a turn of its own, or for the one that runs. */
  readonly delivery: "start" | "steer";
  /** `null` while nothing is on its way. */
  readonly sent: SentRow | null;
}

/** The stores, by name. */
export interface Schema extends DBSchema {
  hosts: { key: string; value: HostRow };
  starts: { key: string; value: StartRow };
  messages: { key: [string, string, string]; value: MessageRow };
  attachments: { key: [string, string]; value: AttachmentRow; indexes: { prompt: [string, string] } };
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
  (database) => {
    database.createObjectStore("starts", { keyPath: "host" });
  },
  (database) => {
    database.createObjectStore("messages", { keyPath: ["host", "environment", "thread"] });
  },
  (database) => {
    const store = database.createObjectStore("attachments", { keyPath: ["host", "id"] });
    // Those without a prompt are not in it.
    store.createIndex("prompt", ["host", "prompt"]);
  },
];
