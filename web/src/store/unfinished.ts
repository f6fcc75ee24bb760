/**
 * What was being written down when its page went away.
 *
 * A browser drops what a page has not written to IndexedDB to its end once the page is reloaded or left. So what is
 * under way then is put into the tab's `sessionStorage`, which takes it at once, and the page that comes next in this
 * tab writes it before it reads anything.
 */
import { StoreError } from "./error";
import { MIGRATIONS } from "./schema";
import type { MessageRow, SentRow, StartRow } from "./schema";

const KEY = "reachback-unfinished";
/**
 * How old it may be, in milliseconds. A tab that is closed and brought back has its `sessionStorage` again: by then
 * other tabs may have written what is newer.
 */
const FRESH = 60_000;

/** A row that is written down. */
export interface Write<Row> {
  readonly row: Row;
  /** The prompt in whose place it is put; `null` for a draft, or a prompt that is about to be sent. */
  readonly settles: (Pick<SentRow, "id"> & Partial<SentRow>) | null;
}

/** The rows that it is for, by their stores. */
export interface Rows {
  readonly starts: StartRow;
  readonly messages: MessageRow;
}

/** The parts of a browser's window that are needed: `window` has them. */
export interface LeavingWindow extends EventTarget {
  readonly sessionStorage: Pick<Storage, "getItem" | "setItem" | "removeItem">;
}

interface Entry<Kind extends keyof Rows = keyof Rows> {
  readonly kind: Kind;
  /** Which row it is. */
  readonly key: string;
  readonly write: Write<Rows[Kind]>;
}

/** As it is put away. */
interface Left {
  /** When, in milliseconds since 1970. */
  readonly at: number;
  /** The database's version. */
  readonly version: number;
  readonly entries: readonly Entry[];
}

/** See the module's header. One for all stores of a page. */
export class Unfinished {
  readonly #window: LeavingWindow | null;
  readonly #under = new Set<Entry>();
  #left: readonly Entry[];

  /** Without a window nothing is put away. */
  constructor(window: LeavingWindow | null = null) {
    this.#window = window;
    this.#left = this.#taken();
    window?.addEventListener("pagehide", () => {
      this.#putAway();
    });
    window?.addEventListener("pageshow", () => {
      // It came back as it was: what was under way goes on here.
      this.#remove();
    });
  }

  /**
   * Writes what the page before left of this kind, the oldest first. What can't be written is not waited for: whoever
   * reads or writes next is told why.
   */
  async redo<Kind extends keyof Rows>(
    kind: Kind,
    change: (write: Write<Rows[Kind]>) => Promise<unknown>,
  ): Promise<void> {
    const found = this.#left.filter((entry): entry is Entry<Kind> => entry.kind === kind);
    this.#left = this.#left.filter((entry) => entry.kind !== kind);
    // Should this page go away as well, it is put away again.
    found.forEach((entry) => this.#under.add(entry));
    for (const entry of found) {
      try {
        await change(entry.write);
      } catch (error) {
        if (!(error instanceof StoreError)) {
          throw error;
        }
      }
      this.#under.delete(entry);
    }
  }

  /** Does the work that writes this down; should the page go away before it is done, the next one does it. */
  async during<Kind extends keyof Rows, T>(
    kind: Kind,
    key: string,
    write: Write<Rows[Kind]>,
    work: () => Promise<T>,
  ): Promise<T> {
    const entry = { kind, key, write };
    this.#under.add(entry);
    try {
      return await work();
    } finally {
      this.#under.delete(entry);
    }
  }

  #putAway(): void {
    const entries = latest([...this.#left, ...this.#under]);
    if (entries.length === 0) {
      return;
    }
    const left: Left = { at: Date.now(), version: MIGRATIONS.length, entries };
    try {
      this.#window?.sessionStorage.setItem(KEY, JSON.stringify(left));
    } catch {
      // No room, or not allowed: then it is lost, as all is that a page had not written down.
    }
  }

  #taken(): readonly Entry[] {
    try {
      const text = this.#window?.sessionStorage.getItem(KEY) ?? null;
      if (text === null) {
        return [];
      }
      this.#remove();
      const left: unknown = JSON.parse(text);
      const age = isLeft(left) ? Date.now() - left.at : FRESH;
      return isLeft(left) && age >= 0 && age < FRESH ? left.entries : [];
    } catch {
      return [];
    }
  }

  #remove(): void {
    try {
      this.#window?.sessionStorage.removeItem(KEY);
    } catch {
      // Nothing could be put there either.
    }
  }
}

/** This origin's own page wrote it, and its version says that it wrote such rows: no more than its shape is looked at. */
function isLeft(value: unknown): value is Left {
  return (
    typeof value === "object" &&
    value !== null &&
    "at" in value &&
    typeof value.at === "number" &&
    "version" in value &&
    value.version === MIGRATIONS.length &&
    "entries" in value &&
    Array.isArray(value.entries)
  );
}

/** Without what the next one for the same row, on the same condition, takes the place of: what was typed before. */
function latest(entries: readonly Entry[]): readonly Entry[] {
  const conditionOf = ({ write: { settles, row } }: Entry): string => JSON.stringify([settles, row.sent]);
  return entries.filter((entry, at) => {
    const next = entries.slice(at + 1).find(({ kind, key }) => kind === entry.kind && key === entry.key);
    return next === undefined || conditionOf(next) !== conditionOf(entry);
  });
}
