/** What a person writes to each thread: kept on every change, and until the host said what became of it. */
import { AttachmentStore, attachedTo, dropUnnamed } from "./attachments";
import type { Database } from "./database";
import { ofHost } from "./range";
import type { MessageRow, SentRow } from "./schema";
import { written } from "./sent";
import { Unfinished, type Write } from "./unfinished";

/** Which thread. */
export type Place = Pick<MessageRow, "host" | "environment" | "thread">;

/** One for each thread. Everything rejects with `StoreError`. */
export class MessageStore {
  /** The bytes of what is attached. */
  readonly attachments: AttachmentStore;
  readonly #database: Database;
  readonly #unfinished: Unfinished;
  /** What the page before left to be done is, or can't be. */
  readonly #redone: Promise<void>;

  constructor(database: Database, attachments = new AttachmentStore(database), unfinished = new Unfinished()) {
    [this.#database, this.attachments, this.#unfinished] = [database, attachments, unfinished];
    this.#redone = unfinished.redo("messages", (write) => this.#change(write));
  }

  /** What is kept for the threads of this host. */
  async list(host: string): Promise<readonly MessageRow[]> {
    await this.#redone;
    return this.#database.use((database) => database.getAll("messages", ofHost(host)));
  }

  /** What is kept for this thread; `null` where nothing is. */
  async read(place: Place): Promise<MessageRow | null> {
    await this.#redone;
    return (await this.#database.use((database) => database.get("messages", keyOf(place)))) ?? null;
  }

  /** As in `StartStore`. A draft of nothing is not kept. */
  async keep(row: MessageRow): Promise<MessageRow> {
    return (await this.#write({ row, settles: null })) ?? row;
  }

  /** As in `StartStore`. */
  async settle(sent: Pick<SentRow, "id"> & Partial<SentRow>, row: MessageRow): Promise<MessageRow | null> {
    return this.#write({ row, settles: sent });
  }

  async #write(write: Write<MessageRow>): Promise<MessageRow | null> {
    return this.#unfinished.during("messages", JSON.stringify(keyOf(write.row)), write, async () => {
      await this.#redone;
      return this.#change(write);
    });
  }

  async #change(write: Write<MessageRow>): Promise<MessageRow | null> {
    const place = write.row;
    return this.#database.use(async (database) => {
      const transaction = database.transaction(["messages", "attachments"], "readwrite");
      const store = transaction.objectStore("messages");
      const before = (await store.get(keyOf(place))) ?? null;
      const row = written(before, write);
      const isNothing = row?.sent === null && row.text === "" && (row.attached ?? []).length === 0;
      if (isNothing) {
        await store.delete(keyOf(place));
      } else if (row !== null) {
        await store.put(row);
      }
      const named = isNothing ? [] : attachedTo(row);
      await dropUnnamed(transaction.objectStore("attachments"), place.host, attachedTo(before), named);
      await transaction.done;
      return row;
    });
  }
}

function keyOf({ host, environment, thread }: Place): [string, string, string] {
  return [host, environment, thread];
}
