/**
 * Which of a browser's tabs has the links to its hosts: one at a time, so that they neither fight for them nor send what
 * is kept for all of them side by side.
 *
 * It is a lock of the browser's. A tab that a person comes to takes it away from whichever has it, and that one gives up
 * its links. One that lost it under a person's eyes leaves it there until the person says so, comes back to it, or the
 * tab that has it is closed. Where a browser has no such locks, each tab has links of its own.
 */
import { Observable } from "../observable";
import type { Page } from "./page";

/**
 * - ours: this tab has it. It is told again when a person comes back: another one may have had it meanwhile.
 * - awaited: it comes in a moment, or once a person sees this tab.
 * - elsewhere: another tab took it from this one, which a person sees.
 */
export type Hold = "ours" | "awaited" | "elsewhere";

/** The browser's locks, as far as they are needed: `navigator.locks` has them. */
export interface Locks {
  request(
    name: string,
    options: { readonly steal: true } | { readonly signal: AbortSignal },
    granted: () => Promise<void>,
  ): Promise<void>;
}

/** The same in each tab of an origin. */
const NAME = "reachback-links";

/** See the module's header. */
export class LinkLock {
  readonly hold: Observable<Hold>;
  readonly #locks: Locks | null;
  readonly #page: Page;
  /** What was last asked for, until it is lost; ended, it does not come any more. */
  #asked: AbortController | null = null;

  /** `locks`: `null` where the browser has none. */
  constructor(locks: Locks | null, page: Page) {
    [this.#locks, this.#page] = [locks, page];
    this.hold = new Observable<Hold>(locks === null ? "ours" : "awaited");
  }

  /** Begins. A tab that nobody sees yet takes it from no other. */
  start(): void {
    this.#page.listen((event) => {
      if (event === "visible" || event === "shown") {
        this.take();
      }
    });
    if (this.#page.visible) {
      this.take();
    } else {
      this.#wait();
    }
  }

  /** A person wants it here. A tab that has slept may have lost it, and not have heard of that yet: it takes it anew. */
  take(): void {
    if (this.#locks !== null) {
      if (this.hold.value !== "ours") {
        this.hold.set("awaited");
      }
      void this.#ask(this.#locks, () => ({ steal: true }));
    }
  }

  #wait(): void {
    if (this.#locks !== null) {
      void this.#ask(this.#locks, (signal) => ({ signal }));
    }
  }

  async #ask(locks: Locks, how: (signal: AbortSignal) => Parameters<Locks["request"]>[1]): Promise<void> {
    this.#asked?.abort();
    const asked = new AbortController();
    this.#asked = asked;
    try {
      await locks.request(NAME, how(asked.signal), () => this.#granted(asked));
    } catch (error) {
      if (!(error instanceof DOMException)) {
        throw error;
      }
      if (this.#asked === asked) {
        this.#lost(error.name === "AbortError");
      }
    }
  }

  /** It is this tab's until another one takes it, or the page ends. */
  async #granted(asked: AbortController): Promise<void> {
    if (this.#asked === asked) {
      this.hold.set("ours");
      await new Promise<never>(() => undefined);
    }
  }

  #lost(isTaken: boolean): void {
    this.#asked = null;
    if (!isTaken) {
      // This page gets no locks at all.
      this.hold.set("ours");
    } else if (this.#page.visible) {
      this.hold.set("elsewhere");
      this.#wait();
    } else {
      this.hold.set("awaited");
    }
  }
}
