/**
 * How much of a channel may be in flight.
 *
 * Everything in flight sits in socket and relay buffers, in front of the next keystroke. So the window follows the
 * delay it causes, as LEDBAT (RFC 6817) does: it grows while acknowledgements come soon and shrinks when they come
 * {@link TARGET_DELAY} later than the best seen on this link.
 */

import { TRICKLE_ACK_DELAY } from "./limits";

/** Never less, in bytes, so that a slow consumer's channel keeps moving; two acknowledgement batches. */
export const MIN_WINDOW = 64 * 1024;
/** Where a link starts, in bytes. */
export const INITIAL_WINDOW = 256 * 1024;
/** Never more, in bytes: 4 MiB is 40 MB/s at a round trip of 100 ms, and bounds the replay buffer. */
export const MAX_WINDOW = 4 << 20;
/** Queueing delay that is still fine, in milliseconds: RFC 6817's upper bound. */
const TARGET_DELAY = 100;

/** The window of one channel on one link. */
export class SendWindow {
  #limit = INITIAL_WINDOW;
  #best = Infinity;
  /** Not shrunk again before what was sent before this is acknowledged. */
  #shrunkAt = -Infinity;

  /** Most bytes in flight. */
  get limit(): number {
    return this.#limit;
  }

  /**
   * `bytes` sent at `sent` were acknowledged at `now`; `limited` says that the window held more back, `isTrickle` that so
   * little was acknowledged that the other side may have waited for more.
   */
  acknowledged(
    bytes: number,
    sent: number,
    { limited, isTrickle }: { readonly limited: boolean; readonly isTrickle: boolean },
    now: number,
  ): void {
    const waited = isTrickle ? TRICKLE_ACK_DELAY : 0;
    const delay = Math.max(now - sent, 0);
    this.#best = Math.min(this.#best, delay);
    if (delay > this.#best + TARGET_DELAY + waited) {
      if (sent >= this.#shrunkAt) {
        this.#limit = Math.max(Math.floor(this.#limit / 2), MIN_WINDOW);
        this.#shrunkAt = now;
      }
    } else if (limited) {
      this.#limit = Math.min(this.#limit + bytes, MAX_WINDOW);
    }
  }
}
