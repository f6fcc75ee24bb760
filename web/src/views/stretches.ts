/**
 * The items of a thread in stretches, each of which is laid out as a whole or not at all (`Stretch.svelte`). A stretch
 * keeps its key and what it begins with, and what comes behind goes on with the last one; what comes before the first
 * one makes stretches of its own, so that the height of those that are there does not change.
 */
import type { Item } from "../state/items";

export interface ItemStretch {
  readonly key: number;
  /** At least one. */
  readonly items: readonly Item[];
}

/** A stretch with so many items, or so many letters of messages, ends where the next message begins. */
const [ENOUGH, LETTERS] = [16, 8_000];
/** So many items are in it at most, whatever comes next. */
const MOST = 64;

/** The stretches of one thread. */
export class Stretches {
  #known: readonly ItemStretch[] = [];

  /** All of its items in stretches: those that there were, as far as what they begin with is still there. */
  of(items: readonly Item[]): readonly ItemStretch[] {
    const keys = new Map(this.#known.map((stretch) => [stretch.items[0]?.id ?? "", stretch.key]));
    const begins: { readonly key: number; readonly at: number }[] = [];
    for (const [at, { id }] of items.entries()) {
      const key = keys.get(id);
      // A host may give its items in another order than it told of them: no key may come twice for that.
      if (key !== undefined && key > (begins.at(-1)?.key ?? -Infinity)) {
        begins.push({ key, at });
      }
    }
    const { key: first, at: from } = begins[0] ?? { key: Math.max(0, ...keys.values()) + 1, at: 0 };
    const { key: last, at: to } = begins.at(-1) ?? { key: first, at: 0 };
    const ahead = splitBackwards(items.slice(0, from));
    this.#known = [
      ...ahead.map((some, index) => ({ key: first - ahead.length + index, items: some })),
      ...begins.slice(0, -1).map(({ key, at }, index) => ({ key, items: items.slice(at, begins[index + 1]?.at) })),
      ...split(items.slice(to)).map((some, index) => ({ key: last + index, items: some })),
    ];
    return this.#known;
  }
}

function split(items: readonly Item[]): readonly (readonly Item[])[] {
  const all: Item[][] = [];
  for (const item of items) {
    const last = all.at(-1);
    if (last === undefined || last.length >= MOST || (isMessage(item) && isEnough(last))) {
      all.push([item]);
    } else {
      last.push(item);
    }
  }
  return all;
}

function splitBackwards(items: readonly Item[]): readonly (readonly Item[])[] {
  const all: Item[][] = [];
  let next: Item[] = [];
  for (const item of [...items].reverse()) {
    next.push(item);
    if (next.length >= MOST || (isMessage(item) && isEnough(next))) {
      all.push(next.reverse());
      next = [];
    }
  }
  return [...(next.length > 0 ? [next.reverse()] : []), ...all.reverse()];
}

/** Messages stand apart from what is before them: nothing is lost between them by an edge. */
function isMessage({ kind }: Item): boolean {
  return kind === "you" || kind === "codex";
}

function isEnough(items: readonly Item[]): boolean {
  const letters = items.reduce((sum, item) => sum + (isMessage(item) ? item.text.length : 0), 0);
  return items.length >= ENOUGH || letters >= LETTERS;
}
