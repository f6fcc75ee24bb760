/** What a test has started, put away after it: also where it failed before all of that stood. */
import { expect } from "vitest";

export class Leftovers {
  #all: (() => Promise<void>)[] = [];

  /** Has this done after the test, before what was added earlier. */
  add(putAway: () => Promise<void>): void {
    this.#all.unshift(putAway);
  }

  /** Has this done after the test, after what was added earlier. */
  addLast(putAway: () => Promise<void>): void {
    this.#all.push(putAway);
  }

  /** Does all of it, whatever fails of it, and says then what failed. */
  async putAway(): Promise<void> {
    const all = this.#all;
    this.#all = [];
    const faults: unknown[] = [];
    for (const putAway of all) {
      await putAway().catch((fault: unknown) => faults.push(fault));
    }
    expect(faults).toEqual([]);
  }
}
