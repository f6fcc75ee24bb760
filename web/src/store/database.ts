/**
 * The app's database in IndexedDB.
 *
 * It is opened when it is first needed, and again when the browser has taken the connection away, as phones do with
 * pages that sleep. It makes way for a newer version of the app in another tab; this one then says `newer`.
 */
import { type IDBPDatabase, openDB } from "idb";
import { StoreError, isGone, storeError } from "./error";
import { MIGRATIONS, type Migration, type Schema } from "./schema";

const NAME = "reachback";
/** How long another tab may take to make way for this one's upgrade, in milliseconds. */
const BLOCKED_LIMIT = 3_000;

/** A connection to the database; see the module's header. */
export class Database {
  readonly #migrations: readonly Migration[];
  #open: Promise<IDBPDatabase<Schema>> | null = null;

  /** The app's database; the migrations are those of the app unless a test brings its own. */
  constructor(migrations: readonly Migration[] = MIGRATIONS) {
    this.#migrations = migrations;
  }

  /**
   * What `work` comes to. It is done again, once, when the connection turns out to be gone, so it has to be one
   * transaction, or such that twice is as good as once. Rejects with {@link StoreError}.
   */
  async use<T>(work: (database: IDBPDatabase<Schema>) => Promise<T>): Promise<T> {
    try {
      try {
        return await work(await this.#opened());
      } catch (cause) {
        if (!isGone(cause)) {
          throw cause;
        }
        await this.close();
        return await work(await this.#opened());
      }
    } catch (cause) {
      throw storeError(cause);
    }
  }

  /** Closes the connection; the next use makes another. */
  async close(): Promise<void> {
    const open = this.#open;
    this.#open = null;
    await open?.then(
      (database) => {
        database.close();
      },
      () => undefined,
    );
  }

  #opened(): Promise<IDBPDatabase<Schema>> {
    if (this.#open === null) {
      const open = this.#connect();
      this.#open = open;
      open.catch(() => {
        this.#forget(open);
      });
    }
    return this.#open;
  }

  #forget(open: Promise<IDBPDatabase<Schema>>): void {
    if (this.#open === open) {
      this.#open = null;
    }
  }

  #connect(): Promise<IDBPDatabase<Schema>> {
    return new Promise((resolve, reject) => {
      if (!hasIndexedDb()) {
        reject(new StoreError("unavailable"));
        return;
      }
      let late: ReturnType<typeof setTimeout> | undefined;
      let given = true;
      const open = openDB<Schema>(NAME, this.#migrations.length, {
        upgrade: (database, from, _, transaction) => {
          for (const migrate of this.#migrations.slice(from)) {
            migrate(database, transaction);
          }
        },
        blocked: () => {
          late = setTimeout(() => {
            given = false;
            reject(new StoreError("blocked"));
          }, BLOCKED_LIMIT);
        },
        blocking: () => {
          void this.close();
        },
        terminated: () => {
          this.#open = null;
        },
      });
      open.then(
        (database) => {
          clearTimeout(late);
          if (given) {
            resolve(database);
          } else {
            // Nobody waits for it any more, and it would stand in the next one's way.
            database.close();
          }
        },
        (cause: unknown) => {
          clearTimeout(late);
          reject(storeError(cause));
        },
      );
    });
  }
}

/** Some browsers have no such name, some have it without a value. */
function hasIndexedDb(): boolean {
  return "indexedDB" in globalThis && Boolean(globalThis.indexedDB);
}
