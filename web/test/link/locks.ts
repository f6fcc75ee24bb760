/** A browser's locks, as Web Locks has them, of which each test's tabs have one. */
import type { Locks } from "../../src/link/lock";

interface Asked {
  /** Ends with `AbortError`. */
  readonly end: () => void;
  readonly grant: () => Promise<void>;
}

/** One lock, whatever it is called. */
export class TestLocks implements Locks {
  #held: Asked | null = null;
  #waiting: Asked[] = [];

  /** How many wait for it. */
  get waiting(): number {
    return this.#waiting.length;
  }

  request(
    _: string,
    options: { readonly steal: true } | { readonly signal: AbortSignal },
    granted: () => Promise<void>,
  ): Promise<void> {
    return new Promise((resolve, reject) => {
      const asked: Asked = {
        end: () => {
          reject(new DOMException("it is another's", "AbortError"));
        },
        grant: () => granted().then(resolve, reject),
      };
      if ("steal" in options) {
        this.#held?.end();
        this.#give(asked);
        return;
      }
      options.signal.addEventListener("abort", () => {
        const before = this.#waiting.length;
        this.#waiting = this.#waiting.filter((other) => other !== asked);
        if (this.#waiting.length < before) {
          asked.end();
        }
      });
      if (this.#held === null) {
        this.#give(asked);
      } else {
        this.#waiting.push(asked);
      }
    });
  }

  /** The tab that has it is closed. */
  close(): void {
    this.#held = null;
    const next = this.#waiting.shift();
    if (next !== undefined) {
      this.#give(next);
    }
  }

  #give(asked: Asked): void {
    this.#held = asked;
    // Never at once.
    setTimeout(() => {
      void asked.grant().then(() => {
        if (this.#held === asked) {
          this.close();
        }
      });
    }, 0);
  }
}
