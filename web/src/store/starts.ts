/** What a person writes to begin a thread, for each host: kept on every change, and until the host said what became of it. */
import { AttachmentStore, attachedTo, dropUnnamed } from "./attachments";
import type { Database } from "./database";
import type { SentRow, StartRow } from "./schema";
import { written } from "./sent";
import { Unfinished, type Write } from "./unfinished";

/** One for each host. Everything rejects with `StoreError`. */
export class StartStore {
  /** The bytes of what is attached. */
  readonly attachments: AttachmentStore;
  readonly #database: Database;
  readonly #unfinished: Unfinished;
  /** As in `MessageStore`. */
  readonly #redone: Promise<void>;

  constructor(database: Database, attachments = new AttachmentStore(database), unfinished = new Unfinished()) {
    [this.#database, this.attachments, this.#unfinished] = [database, attachments, unfinished];
    this.#redone = unfinished.redo("starts", (write) => this.#change(write));
  }

  /** What is kept for this host; `null` where nothing is. */
  async read(host: string): Promise<StartRow | null> {
    await this.#redone;
    return (await this.#database.use((database) => database.get("starts", host))) ?? null;
  }

  /**
   * Keeps a draft, or a prompt that is about to be sent; gives what is kept then. A prompt that is under way, perhaps
   * from another tab, stays.
   */
  async keep(row: StartRow): Promise<StartRow> {
    return (await this.#write({ row, settles: null })) ?? row;
  }

  /**
   * Puts `row` in the place of the prompt with this id, and first sent into this journal where one is named; gives what
   * is kept then. One that is another by now, perhaps by another tab, stays.
   */
  async settle(sent: Pick<SentRow, "id"> & Partial<SentRow>, row: StartRow): Promise<StartRow | null> {
    return this.#write({ row, settles: sent });
  }

  async #write(write: Write<StartRow>): Promise<StartRow | null> {
    return this.#unfinished.during("starts", write.row.host, write, async () => {
      await this.#redone;
      return this.#change(write);
    });
  }

  async #change(write: Write<StartRow>): Promise<StartRow | null> {
    const { host } = write.row;
    return this.#database.use(async (database) => {
      const transaction = database.transaction(["starts", "attachments"], "readwrite");
      const store = transaction.objectStore("starts");
      const before = (await store.get(host)) ?? null;
      const row = written(before, write);
      if (row !== null) {
        await store.put(row);
      }
      await dropUnnamed(transaction.objectStore("attachments"), host, attachedTo(before), attachedTo(row));
      await transaction.done;
      return row;
    });
  }
}
