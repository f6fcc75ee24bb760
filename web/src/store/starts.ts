/** What a person writes to begin a thread, for each host: kept on every change, and until the host said what became of it. */
import { AttachmentStore, attachedTo, dropUnnamed } from "./attachments";
import type { Database } from "./database";
import type { SentRow, StartRow } from "./schema";
import { kept, settled } from "./sent";

/** One for each host. Everything rejects with `StoreError`. */
export class StartStore {
  /** The bytes of what is attached. */
  readonly attachments: AttachmentStore;
  readonly #database: Database;

  constructor(database: Database, attachments = new AttachmentStore(database)) {
    [this.#database, this.attachments] = [database, attachments];
  }

  /** What is kept for this host; `null` where nothing is. */
  async read(host: string): Promise<StartRow | null> {
    return (await this.#database.use((database) => database.get("starts", host))) ?? null;
  }

  /**
   * Keeps a draft, or a prompt that is about to be sent; gives what is kept then. A prompt that is under way, perhaps
   * from another tab, stays.
   */
  async keep(row: StartRow): Promise<StartRow> {
    return (await this.#change(row.host, (before) => kept(before, row))) ?? row;
  }

  /**
   * Puts `row` in the place of the prompt with this id, and first sent into this journal where one is named; gives what
   * is kept then. One that is another by now, perhaps by another tab, stays.
   */
  async settle(sent: Pick<SentRow, "id"> & Partial<SentRow>, row: StartRow): Promise<StartRow | null> {
    return this.#change(row.host, (before) => settled(before, sent, row));
  }

  async #change(host: string, next: (before: StartRow | null) => StartRow | null): Promise<StartRow | null> {
    return this.#database.use(async (database) => {
      const transaction = database.transaction(["starts", "attachments"], "readwrite");
      const store = transaction.objectStore("starts");
      const before = (await store.get(host)) ?? null;
      const row = next(before);
      if (row !== null) {
        await store.put(row);
      }
      await dropUnnamed(transaction.objectStore("attachments"), host, attachedTo(before), attachedTo(row));
      await transaction.done;
      return row;
    });
  }
}
