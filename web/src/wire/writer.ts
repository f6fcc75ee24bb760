/** Writing the fields that every frame is made of. */
import { type Bytes, utf8 } from "../bytes";

/** The largest value that a varint can hold. */
export const MAX_VARINT = (1n << 62n) - 1n;

/** How many bytes {@link Writer.varint} writes for `value`. */
export function varintLength(value: number): 1 | 2 | 4 | 8 {
  if (value < 0x40) {
    return 1;
  }
  if (value < 0x4000) {
    return 2;
  }
  return value < 0x4000_0000 ? 4 : 8;
}

/** Collects a frame's bytes. A value that does not fit its field is a bug of the caller. */
export class Writer {
  #bytes: Bytes = new Uint8Array(128);
  #length = 0;

  /** How many bytes were written. */
  get length(): number {
    return this.#length;
  }

  /** Takes back what was written beyond `length` bytes. */
  truncate(length: number): void {
    this.#length = Math.min(this.#length, length);
  }

  /** What was written, in a buffer of its own. */
  finish(): Bytes {
    return this.#bytes.slice(0, this.#length);
  }

  /** Raw bytes, no length. */
  put(bytes: Uint8Array): this {
    // First the room: it may come with another buffer.
    const at = this.#room(bytes.length);
    this.#bytes.set(bytes, at);
    return this;
  }

  u8(...values: readonly number[]): this {
    for (const value of values) {
      const at = this.#room(1);
      this.#view().setUint8(at, value);
    }
    return this;
  }

  u16(value: number): this {
    const at = this.#room(2);
    this.#view().setUint16(at, value);
    return this;
  }

  u32(value: number): this {
    const at = this.#room(4);
    this.#view().setUint32(at, value);
    return this;
  }

  u64(value: bigint): this {
    const at = this.#room(8);
    this.#view().setBigUint64(at, value);
    return this;
  }

  /** The shortest QUIC varint. */
  varint(value: number | bigint): this {
    const big = BigInt(value);
    if (big < 0n || big > MAX_VARINT) {
      throw new RangeError("a varint holds 0 to 2^62 - 1");
    }
    if (big < 0x40n) {
      return this.u8(Number(big));
    }
    if (big < 0x4000n) {
      return this.u16(Number(big) + 0x4000);
    }
    return big < 0x4000_0000n ? this.u32(Number(big) + 0x8000_0000) : this.u64(big | 0xc000_0000_0000_0000n);
  }

  /** A byte string behind a varint length. */
  bytes(bytes: Uint8Array): this {
    return this.varint(bytes.length).put(bytes);
  }

  /** UTF-8 behind a varint length. */
  text(text: string): this {
    return this.bytes(utf8(text));
  }

  #view(): DataView {
    return new DataView(this.#bytes.buffer);
  }

  #room(more: number): number {
    const at = this.#length;
    this.#length += more;
    if (this.#length > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(this.#length, 2 * this.#bytes.length));
      grown.set(this.#bytes.subarray(0, at));
      this.#bytes = grown;
    }
    return at;
  }
}
