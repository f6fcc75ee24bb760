/**
 * When to try again: at once, then later and later, with full jitter, as in `host-agent/src/backoff.rs`.
 *
 * Full jitter (a uniform draw from zero to the current bound) spreads the devices of a restarted relay over the whole
 * interval instead of into waves. While a person waits, tries stay within a second of each other. All times are in
 * milliseconds.
 */

/** Bound of the first delay. */
const FIRST = 500;
/** Bound of any delay, and of what a relay may ask for. */
export const MAX_DELAY = 30_000;
/** Bound of any delay while somebody waits. */
export const AWAITED = 1_000;
/** What lasted at least this long may be tried again at once; what did not is not tried in a tight loop. */
const LASTING = 1_000;
/** The least jitter above a delay that was asked for. */
const LEAST_JITTER = 100;

/** Delays between tries. */
export class Backoff {
  readonly #random: () => number;
  #failures = 0;
  /** What the other side asked for; taken once. */
  #suggested: number | null = null;

  /** The first try is immediate. `random` draws from 0 to 1. */
  constructor(random: () => number) {
    this.#random = random;
  }

  /** What was tried has worked for this long. The next try is immediate, or after a first delay when that was short. */
  worked(lasted: number): void {
    this.#failures = lasted < LASTING ? 1 : 0;
  }

  /** Begins to count again, for a try that somebody or something asked for. */
  restart(): void {
    this.#failures = 1;
    this.#suggested = null;
  }

  /** The other side named a delay. */
  suggest(delay: number): void {
    this.#suggested = Math.min(delay, MAX_DELAY);
  }

  /** How long to wait before the next try, while somebody waits for it or nobody does. */
  delay(isAwaited: boolean): number {
    const most = isAwaited ? AWAITED : MAX_DELAY;
    const bound = this.#failures === 0 ? 0 : Math.min(FIRST * 2 ** Math.min(this.#failures - 1, 16), most);
    this.#failures += 1;
    const floor = this.#suggested;
    this.#suggested = null;
    return (floor ?? 0) + (floor === null ? bound : Math.max(bound, LEAST_JITTER)) * this.#random();
  }
}
