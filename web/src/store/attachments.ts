/**
 * The bytes of what is attached to prompts.
 *
 * They come before the draft that names them, and go with the last one that does, in the same transaction. What Codex
 * got stays for a while, so that its thread can show it: a host gives no bytes back. Of that there is so much, and the
 * oldest goes first; what is still to be sent is never dropped for it.
 */
import { Observable } from "../observable";
import type { Database } from "./database";
import { ofHost } from "./range";
import type { Attached, AttachmentRow } from "./schema";

/** Most pictures of one host that stay after Codex got them: what the newest threads show, and not a photo album. */
export const MOST_SHOWN_PICTURES = 40;
/** The same, in bytes. */
export const MOST_SHOWN_BYTES = 24 << 20;
/** What no draft names after this long, in milliseconds, was left by a page that ended in between. */
const LEFT = 24 * 60 * 60 * 1_000;

/** One for all hosts. Everything rejects with `StoreError`. */
export class AttachmentStore {
  /** Counts what becomes of pictures that Codex has: what shows them reads them again. */
  readonly changes = new Observable(0);
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /** Keeps one, before the draft that names it. */
  async put(row: AttachmentRow): Promise<void> {
    await this.#database.use((database) => database.put("attachments", row));
  }

  /** Those with these ids that are there, in that order. */
  async read(host: string, ids: readonly string[]): Promise<readonly AttachmentRow[]> {
    const rows = await this.#database.use(async (database) => {
      const { store } = database.transaction("attachments");
      return Promise.all(ids.map((id) => store.get([host, id])));
    });
    return rows.filter((row) => row !== undefined);
  }

  /** The pictures that Codex got with this prompt, as many as are still here, in their order. */
  async shown(host: string, prompt: string): Promise<readonly AttachmentRow[]> {
    const rows = await this.#database.use((database) =>
      database.getAllFromIndex("attachments", "prompt", [host, prompt]),
    );
    return rows.sort((a, b) => a.at - b.at);
  }

  /** Codex has this prompt: its pictures stay, and the oldest of others go where there are too many. */
  async started(host: string, prompt: string, attached: readonly Attached[], now = Date.now()): Promise<void> {
    await this.#database.use(async (database) => {
      const transaction = database.transaction("attachments", "readwrite");
      for (const [place, { id }] of attached.filter(isPicture).entries()) {
        const row = await transaction.store.get([host, id]);
        if (row !== undefined) {
          // Their times are also their order.
          await transaction.store.put({ ...row, prompt, at: now + place });
        }
      }
      const rows = await transaction.store.index("prompt").getAll(ofHost(host));
      for (const { id } of surplus(rows)) {
        await transaction.store.delete([host, id]);
      }
      await transaction.done;
    });
    this.#changed();
  }

  /** Codex no longer has this prompt: gives the pictures that went with it, for a draft to name them. */
  async takenBack(host: string, prompt: string): Promise<readonly Attached[]> {
    const rows = await this.shown(host, prompt);
    await this.#database.use(async (database) => {
      const transaction = database.transaction("attachments", "readwrite");
      for (const { prompt: _, ...row } of rows) {
        await transaction.store.put({ ...row, at: Date.now() });
      }
      await transaction.done;
    });
    this.#changed();
    return rows.map(({ id, name, type, bytes }) => ({ id, name, type, bytes }));
  }

  /** Nobody wants this prompt any more, nor what went with it. */
  async forget(host: string, prompt: string): Promise<void> {
    await this.#database.use(async (database) => {
      const transaction = database.transaction("attachments", "readwrite");
      for (const key of await transaction.store.index("prompt").getAllKeys([host, prompt])) {
        await transaction.store.delete(key);
      }
      await transaction.done;
    });
    this.#changed();
  }

  /** Drops what no draft names, and no thread shows: pages end at any time. */
  async sweep(host: string, now = Date.now()): Promise<void> {
    await this.#database.use(async (database) => {
      const transaction = database.transaction(["attachments", "messages", "starts"], "readwrite");
      const start = await transaction.objectStore("starts").get(host);
      const messages = await transaction.objectStore("messages").getAll(ofHost(host));
      const named = new Set([start, ...messages].flatMap((row) => attachedTo(row ?? null)).map(({ id }) => id));
      const store = transaction.objectStore("attachments");
      for (let at = await store.openCursor(ofHost(host)); at !== null; at = await at.continue()) {
        const { id, prompt, at: since } = at.value;
        if (prompt === undefined && !named.has(id) && now - since > LEFT) {
          await at.delete();
        }
      }
      await transaction.done;
    });
  }

  #changed(): void {
    this.changes.set(this.changes.value + 1);
  }
}

/** Whether it is shown as a picture. */
export function isPicture({ type }: Pick<Attached, "type">): boolean {
  return type !== "text/plain";
}

/** All that a row names. */
export function attachedTo(
  row: { readonly attached?: readonly Attached[]; readonly along?: readonly Attached[] } | null,
): readonly Attached[] {
  return [...(row?.along ?? []), ...(row?.attached ?? [])];
}

/** A part of a transaction that changes rows that name attachments. */
interface Attachments {
  readonly get: (key: [string, string]) => Promise<AttachmentRow | undefined>;
  readonly delete: (key: [string, string]) => Promise<void>;
}

/** Drops what only the row before named, but for what Codex got. */
export async function dropUnnamed(
  store: Attachments,
  host: string,
  before: readonly Attached[],
  after: readonly Attached[],
): Promise<void> {
  for (const { id } of before.filter((one) => !after.some((other) => other.id === one.id))) {
    if ((await store.get([host, id]))?.prompt === undefined) {
      await store.delete([host, id]);
    }
  }
}

/** What is too much of what Codex got. */
function surplus(rows: readonly AttachmentRow[]): readonly AttachmentRow[] {
  let [count, bytes] = [0, 0];
  return [...rows]
    .sort((a, b) => b.at - a.at)
    .filter((row) => {
      count += 1;
      bytes += row.bytes;
      return count > MOST_SHOWN_PICTURES || bytes > MOST_SHOWN_BYTES;
    });
}
