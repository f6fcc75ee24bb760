/** What a person writes to each thread: kept on every change, and until the host said what became of it. */
import { AttachmentStore, attachedTo, dropUnnamed } from "./attachments";
import type { Database } from "./database";
import { ofHost } from "./range";
import type { MessageRow, SentRow } from "./schema";
import { kept, settled } from "./sent";

/** Which thread. */
export type Place = Pick<MessageRow, "host" | "environment" | "thread">;

/** One for each thread. Everything rejects with `StoreError`. */
export class MessageStore {
  /** The bytes of what is attached. */
  readonly attachments: AttachmentStore;
  readonly #database: Database;

  constructor(database: Database, attachments = new AttachmentStore(database)) {
    [this.#database, this.attachments] = [database, attachments];
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
      const transaction = database.transaction(["messages", "attachments"], "readwrite");
      const store = transaction.objectStore("messages");
      const before = (await store.get(keyOf(place))) ?? null;
      const row = next(before);
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
