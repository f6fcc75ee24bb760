/**
 * Names that one side gives itself and the other shows to a person.
 *
 * They can't hold what moves a cursor, starts an escape sequence, or makes text read differently from what it is. The
 * list of characters is the one of `proto/src/pairing/name.rs`.
 */
import { utf8 } from "../bytes";

/** Longest name of a host or a device, in bytes. */
export const MAX_NAME = 64;
/** Longest name of a platform, in bytes. */
export const MAX_PLATFORM = 32;

/** Control characters, and Unicode's format characters, separators and tags: code points in hex, both ends included. */
const UNSEEN = (
  "0-1f 7f-9f ad 34f 600-605 61c 6dd 70f 890-891 8e2 115f-1160 17b4-17b5 180b-180f 200b-200f 2028-202e 2060-206f 3164 " +
  "fe00-fe0f feff ffa0 fff0-fffb 110bd 110cd 13430-1343f 1bca0-1bca3 1d173-1d17a e0000-e0fff"
)
  .split(" ")
  .map((range) => range.split("-").map((end) => Number.parseInt(end, 16)));

/** Whether a person sees nothing of this letter, or what it does to others. */
export function isUnseen(letter: string): boolean {
  const point = letter.codePointAt(0) ?? 0;
  return UNSEEN.some(([from = 0, to = from]) => point >= from && point <= to);
}

/** Such letters, as a regular expression with the flag `u` has them between its brackets. */
export const UNSEEN_CLASS = UNSEEN.map((ends) => ends.map((end) => `\\u{${end.toString(16)}}`).join("-")).join("");

/** Why text may not be shown as a name. */
export type LabelFault = "empty" | "tooLong" | "character";

/** `text` as a name of at most `limit` bytes, without space around; or why it can't be one. */
export function label(
  text: string,
  limit: number,
): { readonly ok: true; readonly text: string } | { readonly ok: false; readonly fault: LabelFault } {
  if (utf8(text).length > limit) {
    return { ok: false, fault: "tooLong" };
  }
  if (Array.from(text).some(isUnseen)) {
    return { ok: false, fault: "character" };
  }
  const trimmed = text.trim();
  return trimmed === "" ? { ok: false, fault: "empty" } : { ok: true, text: trimmed };
}

/** What is left of `text` without what a person does not see, and without space around. */
export function cleaned(text: string): string {
  return Array.from(text)
    .filter((letter) => !isUnseen(letter))
    .join("")
    .trim();
}
