/**
 * Sealed, padded records over a finished handshake.
 *
 * A record is a block with one Noise transport message. Nonces are counters that never travel: a record that was lost,
 * repeated, moved or altered does not open, and nothing after it is trusted. So the first error is also the last.
 *
 * WebCrypto answers later, and not always in order. A record gets its nonce when it is handed in; several are then
 * worked on at once, and their results come out in the order in which they went in. How many wait is up to the caller,
 * who awaits what it handed in.
 *
 * Lengths are padded, because the length of a token betrays the token.
 */
import type { Bytes } from "../bytes";
import { MAX_BLOCK, MAX_RECORD_PLAINTEXT, TAG_LENGTH, block } from "../wire/blocks";
import { RecordError } from "./error";
import { type Transport, open, seal } from "./noise";

const SMALL_STEP = 128;
const LARGE_STEP = 1024;
const NO_DATA: Bytes = new Uint8Array(0);

/**
 * The length that `length` bytes are padded to; `null` if they don't fit a record.
 *
 * At least 128, even for nothing; multiples of 128 up to 1 KiB, of 1 KiB up to 16 KiB.
 */
export function paddedLength(length: number): number | null {
  if (length > MAX_RECORD_PLAINTEXT) {
    return null;
  }
  const step = length <= LARGE_STEP ? SMALL_STEP : LARGE_STEP;
  return Math.max(Math.ceil(length / step) * step, SMALL_STEP);
}

/** The records of a link, both ways. */
export interface Records {
  readonly handshakeHash: Bytes;
  readonly sealer: Sealer;
  readonly opener: Opener;
}

/** The records that a handshake leaves. */
export function sealedRecords({ handshakeHash, send, receive }: Transport): Records {
  return { handshakeHash, sealer: new Sealer(send), opener: new Opener(receive) };
}

/** Results in the order of their calls; after the first failure there are no more. */
class Ordered {
  #alive = Promise.resolve(true);

  add<T>(work: Promise<T>): Promise<T> {
    // Its failure is seen in its turn, not before.
    work.catch(() => undefined);
    const result = this.#alive.then((alive) => {
      if (!alive) {
        throw new RecordError({ kind: "dead" });
      }
      return work;
    });
    this.#alive = result.then(
      () => true,
      () => false,
    );
    return result;
  }
}

/** The sending half of a {@link Records}. */
export class Sealer {
  readonly #key: CryptoKey;
  readonly #queue = new Ordered();
  #nonce = 0;

  constructor(key: CryptoKey) {
    this.#key = key;
  }

  /** Pads and seals `plaintext`; the result is a block, its length in front. Rejects with {@link RecordError}. */
  seal(plaintext: Bytes): Promise<Bytes> {
    return this.#queue.add(this.#seal(this.#nonce++, plaintext));
  }

  async #seal(nonce: number, plaintext: Bytes): Promise<Bytes> {
    const { length } = plaintext;
    const padded = paddedLength(length);
    if (padded === null) {
      throw new RecordError({ kind: "tooLong", length, limit: MAX_RECORD_PLAINTEXT });
    }
    exhausted(nonce);
    const record = new Uint8Array(padded);
    record.set(plaintext);
    try {
      return block(await seal(this.#key, nonce, record, NO_DATA));
    } catch (cause) {
      throw new RecordError({ kind: "crypto" }, { cause });
    }
  }
}

/** The receiving half of a {@link Records}. */
export class Opener {
  readonly #key: CryptoKey;
  readonly #queue = new Ordered();
  #nonce = 0;

  constructor(key: CryptoKey) {
    this.#key = key;
  }

  /** The plaintext of a block without its length, padding included. Rejects with {@link RecordError}. */
  open(message: Bytes): Promise<Bytes> {
    return this.#queue.add(this.#open(this.#nonce++, message));
  }

  async #open(nonce: number, message: Bytes): Promise<Bytes> {
    if (message.length > MAX_BLOCK) {
      const length = message.length - TAG_LENGTH;
      throw new RecordError({ kind: "tooLong", length, limit: MAX_RECORD_PLAINTEXT });
    }
    exhausted(nonce);
    const plaintext = await open(this.#key, nonce, message, NO_DATA);
    if (plaintext === null) {
      throw new RecordError({ kind: "unopened" });
    }
    if (paddedLength(plaintext.length) !== plaintext.length) {
      throw new RecordError({ kind: "unpadded", length: plaintext.length });
    }
    return plaintext;
  }
}

/** A number counts exactly up to here; Noise would go on to 2^64, which no link lives long enough for. */
function exhausted(nonce: number): void {
  if (nonce >= Number.MAX_SAFE_INTEGER) {
    throw new RecordError({ kind: "exhausted" });
  }
}
