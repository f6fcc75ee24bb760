/** A message of which the first fragments are here. */
import type { Bytes } from "../bytes";

/** Grows as bytes arrive, at most to twice of them: a claimed length costs nothing. */
export class Partial {
  /** The length of the whole message, in bytes. */
  readonly total: number;
  #bytes: Bytes;
  #length: number;

  /** Begins with a copy of the first fragment, which is shorter than `total`. */
  constructor(total: number, first: Bytes) {
    this.total = total;
    this.#bytes = first.slice();
    this.#length = first.length;
  }

  /** How many bytes are here. */
  get length(): number {
    return this.#length;
  }

  /** Adds a fragment, with which there are at most `total` bytes. */
  add(fragment: Bytes): void {
    const length = this.#length + fragment.length;
    if (length > this.#bytes.length) {
      const grown = new Uint8Array(Math.min(this.total, Math.max(length, 2 * this.#bytes.length)));
      grown.set(this.#bytes.subarray(0, this.#length));
      this.#bytes = grown;
    }
    this.#bytes.set(fragment, this.#length);
    this.#length = length;
  }

  /** What is here. */
  finish(): Bytes {
    return this.#bytes.subarray(0, this.#length);
  }
}
