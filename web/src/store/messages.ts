/** What a person writes to each thread: kept on every change, and until the host said what became of it. */
import type { Database } from "./database";
import type { MessageRow, SentRow } from "./schema";
import { kept, settled } from "./sent";

/** Which thread. */
export type Place = Pick<MessageRow, "host" | "environment" | "thread">;

/** One for each thread. Everything rejects with `StoreError`. */
export class MessageStore {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /** What is kept for the threads of this host. */
  async list(host: string): Promise<readonly MessageRow[]> {
    return this.#database.use((database) => database.getAll("messages", ofHost(host)));
  }

  /** What is kept for this thread; `null` where nothing is. */
  async read(place: Place): Promise<MessageRow | null> {
    return (await this.#database.use((database) => database.get("messages", keyOf(place)))) ?? null;
  }

  /** As in `StartStore`. A draft of nothing is not kept. */
  async keep(row: MessageRow): Promise<MessageRow> {
    return (await this.#change(row, (before) => kept(before, row))) ?? row;
  }

  /** As in `StartStore`. */
  async settle(sent: Pick<SentRow, "id"> & Partial<SentRow>, row: MessageRow): Promise<MessageRow | null> {
    return this.#change(row, (before) => settled(before, sent, row));
  }

  async #change(place: Place, next: (before: MessageRow | null) => MessageRow | null): Promise<MessageRow | null> {
    return this.#database.use(async (database) => {
      const transaction = database.transaction("messages", "readwrite");
      const row = next((await transaction.store.get(keyOf(place))) ?? null);
      if (row?.sent === null && row.text === "") {
        await transaction.store.delete(keyOf(place));
      } else if (row !== null) {
        await transaction.store.put(row);
      }
      await transaction.done;
      return row;
    });
  }
}

/** All threads of a host. */
export function ofHost(host: string): IDBKeyRange {
  // A list is more than any text.
  return IDBKeyRange.bound([host], [host, []]);
}

function keyOf({ host, environment, thread }: Place): [string, string, string] {
  return [host, environment, thread];
}
