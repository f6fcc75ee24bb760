/** A part of the app whose script comes once it is wanted, or while nothing else is to be done. */
export class Later<T> {
  readonly #load: () => Promise<T>;
  #part: T | null = null;

  /** `load` imports it. */
  constructor(load: () => Promise<T>) {
    this.#load = load;
  }

  /** The part itself where it is there, so that what needs it is shown without a moment in between. */
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
    this.#part = await this.#load();
    return this.#part;
  }
}
