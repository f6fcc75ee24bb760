/**
 * What a command wrote, as much of it as a screen keeps: its beginning and its end. A command that writes for hours
 * takes no more of the phone than one that writes for a minute.
 */
import { utf8 } from "../bytes";

/** Its beginning, its end, and how many characters between them are not kept. */
export interface Output {
  readonly start: string;
  readonly end: string;
  readonly left: number;
}

/** Of a command that wrote nothing. */
export const NO_OUTPUT: Output = { start: "", end: "", left: 0 };

const MOST_START = 64 * 1024;
const MOST_END = 192 * 1024;
/** What stays where the end has become too long: less than it may have, so that it is not cut again at each piece. */
const KEPT_END = 128 * 1024;
/** How far the cut moves on to come after a whole line. */
const MOST_LINE = 4 * 1024;

/** Most that is kept of one output, in characters. */
export const MOST_OUTPUT = MOST_START + MOST_END;

/** As much as is kept of a text. */
export function outputOf(text: string): Output {
  return outputAfter(NO_OUTPUT, text);
}

/** With what was written since. */
export function outputAfter({ start, end, left }: Output, more: string): Output {
  if (end === "" && left === 0 && start.length + more.length <= MOST_START) {
    return { start: start + more, end, left };
  }
  // Where the beginning is full already, that is nothing.
  const whole = left === 0 && end === "" ? start + more : null;
  const first = whole === null ? start : own(whole.slice(0, unhalved(whole, MOST_START)));
  const rest = whole === null ? end + more : whole.slice(first.length);
  if (rest.length <= MOST_END) {
    return { start: first, end: rest, left };
  }
  const cut = lineAfter(rest, unhalved(rest, rest.length - KEPT_END));
  return { start: first, end: own(rest.slice(cut)), left: left + cut };
}

/** The first place from `at` on that begins a line, if one is near. */
function lineAfter(text: string, at: number): number {
  const end = text.slice(at, at + MOST_LINE).indexOf("\n");
  return end < 0 ? at : at + end + 1;
}

/** `at`, or one before, so that no character is cut in halves. */
export function unhalved(text: string, at: number): number {
  return /[\uD800-\uDBFF]/.test(text.charAt(at - 1)) ? at - 1 : at;
}

/** A copy: a part of a text would keep all of that in memory. */
export function own(text: string): string {
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(utf8(text));
}
