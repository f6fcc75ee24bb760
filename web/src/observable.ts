/** A value that changes, and who wants to know. It is a store as Svelte understands one. */
export class Observable<T> {
  #value: T;
  readonly #observers = new Set<(value: T) => void>();

  constructor(value: T) {
    this.#value = value;
  }

  get value(): T {
    return this.#value;
  }

  /** Changes the value, and tells all who observe it. */
  set(value: T): void {
    this.#value = value;
    for (const observer of [...this.#observers]) {
      observer(value);
    }
  }

  /** Tells `observer` the value now and on each change, until the function that is returned is called. */
  subscribe(observer: (value: T) => void): () => void {
    // A function of its own for each: the same one may observe twice.
    const own = (value: T): void => {
      observer(value);
    };
    this.#observers.add(own);
    observer(this.#value);
    return () => {
      this.#observers.delete(own);
    };
  }
}
