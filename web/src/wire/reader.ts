/**
 * Reading the fields that every frame is made of.
 *
 * Integers are big-endian; a varint is QUIC's (RFC 9000 §16). Every read is bounded by the buffer and by the limit
 * that its caller names, and nothing is allocated from a claimed length: byte strings are views of what arrived.
 */
import type { Bytes } from "../bytes";
import { DecodeError } from "./error";

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** A cursor over received bytes. */
export class Reader {
  readonly #bytes: Bytes;
  readonly #view: DataView;
  #at = 0;

  constructor(bytes: Bytes) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** How many bytes are left. */
  get left(): number {
    return this.#bytes.length - this.#at;
  }

  /** Everything that is left, consumed. */
  rest(): Bytes {
    return this.take(this.left);
  }

  /** Exactly `length` bytes, as a view. */
  take(length: number): Bytes {
    const from = this.#skip(length);
    return this.#bytes.subarray(from, from + length);
  }

  u8(): number {
    return this.#view.getUint8(this.#skip(1));
  }

  u16(): number {
    return this.#view.getUint16(this.#skip(2));
  }

  u32(): number {
    return this.#view.getUint32(this.#skip(4));
  }

  u64(): bigint {
    return this.#view.getBigUint64(this.#skip(8));
  }

  /** One byte that is 0 or 1. */
  flag(field: string): boolean {
    const value = this.u8();
    if (value > 1) {
      throw new DecodeError({ kind: "invalid", field });
    }
    return value === 1;
  }

  /** A QUIC varint. Longer encodings than needed are accepted, as in QUIC. */
  bigVarint(): bigint {
    if (this.left === 0) {
      throw new DecodeError({ kind: "truncated" });
    }
    switch (this.#view.getUint8(this.#at) >> 6) {
      case 0:
        return BigInt(this.u8());
      case 1:
        return BigInt(this.u16() & 0x3fff);
      case 2:
        return BigInt(this.u32() & 0x3fff_ffff);
      default:
        return this.u64() & 0x3fff_ffff_ffff_ffffn;
    }
  }

  /** A varint that counts something: above 2^53 − 1, which nothing reaches by counting, it is refused. */
  varint(field: string): number {
    const value = this.bigVarint();
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) {
      throw new DecodeError({ kind: "invalid", field });
    }
    return Number(value);
  }

  /** A byte string of at most `limit` bytes behind a varint length, as a view. */
  bytes(field: string, limit: number): Bytes {
    const length = this.bigVarint();
    if (length > BigInt(limit)) {
      throw new DecodeError({ kind: "tooLong", field, length, limit });
    }
    return this.take(Number(length));
  }

  /** UTF-8 text of at most `limit` bytes behind a varint length. */
  text(field: string, limit: number): string {
    const bytes = this.bytes(field, limit);
    try {
      return decoder.decode(bytes);
    } catch {
      throw new DecodeError({ kind: "invalid", field });
    }
  }

  /** Refuses bytes after the last field. */
  finish(): void {
    if (this.left > 0) {
      throw new DecodeError({ kind: "trailing", extra: this.left });
    }
  }

  #skip(length: number): number {
    if (length > this.left) {
      throw new DecodeError({ kind: "truncated" });
    }
    const from = this.#at;
    this.#at += length;
    return from;
  }
}
