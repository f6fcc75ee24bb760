/**
 * When a link is dead.
 *
 * A WebSocket takes minutes to notice a peer that vanished. So each side judges by what it hears: a ping after 15 s
 * without a word, dead after 45 s; and when something sent is unacknowledged for 5 s, a ping at once, dead 5 s later if
 * still nothing at all was heard. A side that only listens can't tell the end of a turn from the end of the link, so it
 * probes the same way when messages stop coming for 5 s, once. Slow is not dead: any record counts as a sign of life.
 *
 * All times are in milliseconds.
 */

/** Ping after this long without hearing anything. */
export const HEARTBEAT = 15_000;
/** Dead after this long without hearing anything. */
export const SILENCE_LIMIT = 45_000;
/** Probe when a sequenced frame is unacknowledged for this long, or this long after the last one came. */
export const PROBE_AFTER = 5_000;
/** Dead this long after a probe without hearing anything. */
export const PROBE_LIMIT = 5_000;

/** What {@link Liveness.check} has found. */
export type Verdict =
  { readonly type: "alive" } | { readonly type: "ping"; readonly id: bigint } | { readonly type: "dead" };

/** What was heard on one link, and when. */
export class Liveness {
  #heard: number;
  #pinged = false;
  /** The last time a probe went out that nothing has answered yet. */
  #probed: number | null = null;
  /** An unacknowledged frame is not probed again before this, after a sign of life. */
  #probeNotBefore: number;
  /** Messages were coming, and nothing has shown since that the link outlived them. */
  #listening = false;
  #lastId = 0n;
  /** When the latest ping went out that has no answer yet. */
  #asked: number | null = null;

  constructor(now: number) {
    this.#heard = now;
    this.#probeNotBefore = now + PROBE_AFTER;
  }

  /** When something was last heard, or the link began. */
  get heardAt(): number {
    return this.#heard;
  }

  /** A record came. */
  heard(now: number): void {
    this.#heard = now;
    this.#pinged = false;
    if (this.#probed !== null) {
      this.#probed = null;
      this.#probeNotBefore = now + PROBE_AFTER;
      this.#listening = false;
    }
  }

  /** A sequenced frame came. */
  heardSequenced(): void {
    this.#listening = true;
  }

  /** When {@link check} has something to say; `oldest` is when the oldest unacknowledged frame was sent. */
  next(oldest: number | null): number {
    const silence = this.#heard + (this.#pinged ? SILENCE_LIMIT : HEARTBEAT);
    const probe = this.#probed === null ? this.#probeDue(oldest) : this.#probed + PROBE_LIMIT;
    return Math.min(probe, silence);
  }

  /** How the link stands; a ping is to be sent. `oldest` as for {@link next}. */
  check(oldest: number | null, now: number): Verdict {
    if (now >= this.#heard + SILENCE_LIMIT || (this.#probed !== null && now >= this.#probed + PROBE_LIMIT)) {
      return { type: "dead" };
    }
    if (this.#probed === null && now >= this.#probeDue(oldest)) {
      this.#probed = now;
      return { type: "ping", id: this.ping(now) };
    }
    if (!this.#pinged && now >= this.#heard + HEARTBEAT) {
      return { type: "ping", id: this.ping(now) };
    }
    return { type: "alive" };
  }

  /** The id of a ping that goes out now. */
  ping(now: number): bigint {
    this.#pinged = true;
    this.#asked = now;
    this.#lastId += 1n;
    return this.#lastId;
  }

  /** How long the answer to the latest ping took; `null` for any other. */
  answered(id: bigint, now: number): number | null {
    if (this.#asked === null || id !== this.#lastId) {
      return null;
    }
    const took = now - this.#asked;
    this.#asked = null;
    return took;
  }

  #probeDue(oldest: number | null): number {
    const unacked = oldest === null ? Infinity : Math.max(oldest + PROBE_AFTER, this.#probeNotBefore);
    const silent = this.#listening ? this.#heard + PROBE_AFTER : Infinity;
    return Math.min(unacked, silent);
  }
}
