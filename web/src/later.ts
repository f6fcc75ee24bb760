/** A part of the app did not come: the server can't be reached, or has a newer version of the app. */
export class PartError extends Error {
  override readonly name = "PartError";
}

/** A part of the app whose script comes once it is wanted, or while nothing else is to be done. */
export class Later<T> {
  readonly #load: () => Promise<T>;
  #part: T | null = null;

  /** `load` imports it. */
  constructor(load: () => Promise<T>) {
    this.#load = load;
  }

  /**
   * The part itself where it is there, so that what needs it is shown without a moment in between. Rejects with
   * {@link PartError}; the next time it is asked for again.
   */
  get(): T | Promise<T> {
    return this.#part ?? this.#fetch();
  }

  /** Has it be there when it is wanted. Without a network it is fetched then. */
  prepare(): void {
    if (this.#part === null) {
      this.#fetch().catch(() => undefined);
    }
  }

  async #fetch(): Promise<T> {
    try {
      this.#part = await this.#load();
    } catch (cause) {
      throw new PartError("a part of the app did not load", { cause });
    }
    return this.#part;
  }
}
