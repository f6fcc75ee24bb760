/**
 * A text in Markdown that grows: what is before its last block never becomes another, so only that one is taken apart
 * again. A block that is done stays the same object, and with it whatever the screen made of it.
 */
import { MOST_PARTS, type Placed, parse } from "./parse";
import type { Block } from "./tree";

/** A last line that may yet become anything: one of a list, a rule, or the line below a heading. */
const UNDECIDED = /^[ \t>]*(?:[-=+*_#~`|:<[]+|\d{1,9}[.)]?)[ \t]*$/;

/** See the module's header. */
export class Growing {
  #done: readonly Placed[] = [];
  /** What all of them have of parts. */
  #parts = 0;
  /** The text before the last block. */
  #before = "";

  /** The blocks of `text`, each with its place; `live`: there may be more of it. */
  of(text: string, live: boolean): readonly Placed[] {
    const shown = (live ? decided(text) : text).replaceAll("\r\n", "\n");
    if (!shown.startsWith(this.#before)) {
      [this.#done, this.#parts, this.#before] = [[], 0, ""];
    }
    const start = this.#before.length;
    const blocks = parse(shown.slice(start), MOST_PARTS - this.#parts).map((one) => ({ ...one, at: start + one.at }));
    const last = blocks.pop();
    if (last === undefined) {
      return this.#done;
    }
    this.#done = blocks.length === 0 ? this.#done : [...this.#done, ...blocks.map(ended)];
    this.#parts += blocks.at(-1)?.parts ?? 0;
    this.#before = shown.slice(0, last.at);
    return [...this.#done, live ? last : ended(last)];
  }
}

/** Without its last line, until that is one of a kind. */
function decided(text: string): string {
  const line = text.lastIndexOf("\n") + 1;
  return line > 0 && UNDECIDED.test(text.slice(line)) ? text.slice(0, line) : text;
}

/** Nothing more of it comes, such as the end of its code. */
function ended(placed: Placed): Placed {
  return { ...placed, block: closed(placed.block) };
}

function closed(block: Block): Block {
  if (block.kind === "code") {
    return { ...block, closed: true };
  }
  if (block.kind === "quote") {
    return { ...block, inside: block.inside.map(closed) };
  }
  if (block.kind === "list") {
    return { ...block, items: block.items.map((item) => ({ ...item, inside: item.inside.map(closed) })) };
  }
  return block;
}
