/**
 * Cutting a circuit's byte stream into blocks: length[2] and that many bytes.
 *
 * A block is one Noise message, of the handshake or a record. The relay may merge and split what it carries, so blocks
 * arrive in arbitrary pieces.
 */
import { type Bytes, concat } from "../bytes";

/** What a Noise message adds to its payload: AES-GCM's tag. */
export const TAG_LENGTH = 16;
/** Largest plaintext of a record, in bytes, padding included. */
export const MAX_RECORD_PLAINTEXT = 16 * 1024;
/** Largest block, in bytes: a full record and its tag. */
export const MAX_BLOCK = MAX_RECORD_PLAINTEXT + TAG_LENGTH;
/** Bytes of a block's length. */
export const BLOCK_HEADER = 2;

/** A length that no block has. The stream has no known boundary any more: drop the link. */
export class BlockError extends Error {
  override readonly name = "BlockError";
  readonly length: number;

  constructor(length: number) {
    super(`a block of ${length} bytes: wanted ${TAG_LENGTH} to ${MAX_BLOCK}`);
    this.length = length;
  }
}

/** `message` with its length in front. */
export function block(message: Bytes): Bytes {
  return concat(new Uint8Array([message.length >> 8, message.length & 0xff]), message);
}

/** Collects the bytes of a circuit and hands out whole blocks. A claimed length allocates nothing. */
export class BlockDecoder {
  #pieces: Bytes[] = [];
  #length = 0;
  /** Bytes without which nothing can be said: a header, then a whole block. */
  #wanted = BLOCK_HEADER;

  /** More bytes of the circuit. They belong to the decoder from here on. */
  push(piece: Bytes): void {
    if (piece.length > 0) {
      this.#pieces.push(piece);
      this.#length += piece.length;
    }
  }

  /** The next whole block, without its length; `null` until more bytes are pushed. Throws {@link BlockError}. */
  next(): Bytes | null {
    if (this.#length < this.#wanted) {
      return null;
    }
    // Joined only when there are enough: many small pieces are copied twice, not once for each.
    const all = this.#pieces.length === 1 ? (this.#pieces[0] ?? concat()) : concat(...this.#pieces);
    const [high = 0, low = 0] = all;
    const length = high * 256 + low;
    if (length < TAG_LENGTH || length > MAX_BLOCK) {
      throw new BlockError(length);
    }
    const end = BLOCK_HEADER + length;
    if (all.length < end) {
      this.#pieces = [all];
      this.#wanted = end;
      return null;
    }
    this.#pieces = all.length > end ? [all.subarray(end)] : [];
    this.#length -= end;
    this.#wanted = BLOCK_HEADER;
    return all.subarray(BLOCK_HEADER, end);
  }
}
