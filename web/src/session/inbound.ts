/** The receiving half of a channel: what is expected, what is being put together, and what was not handled yet. */
import type { Bytes } from "../bytes";
import { SessionError } from "./error";
import { FRAME_COST } from "./limits";
import { Partial } from "./partial";

/** A fragment that came in. `total` is in a message's first one. */
export interface Fragment {
  readonly total: number | null;
  readonly last: boolean;
  readonly bytes: Bytes;
}

/** What a fragment led to. */
export interface Stored {
  /** The message that is whole with it. */
  readonly message: Bytes | null;
  /** Bytes that this side holds more than before. */
  readonly held: number;
}

/** A whole message that was given out. */
interface Unhandled {
  /** Of its last fragment. */
  readonly seq: number;
  readonly cost: number;
  /** What of it came with its last fragment. */
  readonly last: number;
  /** Handled before those in front of it were. */
  done: boolean;
}

/** What it led to that a message was handled. */
export interface Handled {
  /** Bytes that are held no more. */
  readonly freed: number;
  /** Of these, what came with its last fragment: those before it were acknowledged when they were stored. */
  readonly last: number;
  /** Whether the acknowledgement moved. */
  readonly moved: boolean;
}

/** What one channel receives. */
export class Inbound {
  #expected = 0;
  /** Oldest first. */
  #unhandled: Unhandled[] = [];
  #partial: Partial | null = null;
  /** Whether the other side has closed the channel. */
  closed = false;

  /** The number of the frame that comes next. */
  get expected(): number {
    return this.#expected;
  }

  /** Everything below this was handled: messages taken, other fragments stored. */
  get handledNext(): number {
    return this.#unhandled[0]?.seq ?? this.#expected;
  }

  /** Whether every message that was given out has been handled. */
  get isHandled(): boolean {
    return this.#unhandled.length === 0;
  }

  /**
   * Counts a sequenced frame; `false` if this side has had it already. Throws {@link SessionError} if one is missing
   * before it, or the channel is closed.
   */
  accept(channel: number, seq: number): boolean {
    if (seq < this.#expected) {
      return false;
    }
    if (seq > this.#expected) {
      throw new SessionError({ kind: "skipped", channel, seq, expected: this.#expected });
    }
    if (this.closed) {
      throw new SessionError({ kind: "unexpected", frame: "closed channel's" });
    }
    this.#expected += 1;
    return true;
  }

  /**
   * Stores a fragment that was accepted with the number `seq`, of a message of at most `limit` bytes. Throws
   * {@link SessionError}.
   */
  fragment(channel: number, seq: number, { total, last, bytes }: Fragment, limit: number): Stored {
    const bad = (what: string): SessionError => new SessionError({ kind: "badFragment", channel, what });
    const partial = this.#partial;
    if (total === null) {
      if (partial === null) {
        throw bad("a message begins without its length");
      }
      const have = partial.length + bytes.length;
      if (bytes.length === 0 || have > partial.total || last !== (have === partial.total)) {
        throw bad("length does not fit");
      }
      partial.add(bytes);
      if (!last) {
        return { message: null, held: bytes.length };
      }
      this.#partial = null;
      return this.#whole(seq, partial.finish(), bytes.length);
    }
    if (partial !== null) {
      throw bad("a message begins inside another");
    }
    if (total > limit) {
      throw bad("message over the limit");
    }
    if (last && total === bytes.length) {
      return this.#whole(seq, bytes.slice(), bytes.length);
    }
    if (last || bytes.length >= total || bytes.length === 0) {
      throw bad("length does not fit");
    }
    this.#partial = new Partial(total, bytes);
    return { message: null, held: bytes.length };
  }

  /** The consumer has taken the message with this number; one that is not known is none. */
  handled(seq: number): Handled {
    const before = this.handledNext;
    const entry = this.#unhandled.find((entry) => entry.seq === seq && !entry.done);
    if (entry === undefined) {
      return { freed: 0, last: 0, moved: false };
    }
    entry.done = true;
    while (this.#unhandled[0]?.done === true) {
      this.#unhandled.shift();
    }
    return { freed: entry.cost, last: entry.last, moved: this.handledNext !== before };
  }

  /** Nobody will take what was received: it counts as handled. Returns the bytes freed. */
  discard(): number {
    const messages = this.#unhandled.reduce((sum, { cost, done }) => sum + (done ? 0 : cost), 0);
    const partial = this.#partial?.length ?? 0;
    this.#unhandled = [];
    this.#partial = null;
    return messages + partial;
  }

  #whole(seq: number, message: Bytes, added: number): Stored {
    const last = added + FRAME_COST;
    this.#unhandled.push({ seq, cost: message.length + FRAME_COST, last, done: false });
    return { message, held: last };
  }
}
