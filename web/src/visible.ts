/**
 * Text from a host, such as Codex's, in pieces of which a person sees all: what is invisible, or has other text read
 * differently from what it is, stands as its code point.
 */
import { UNSEEN_CLASS } from "./pairing/name";

/** A piece: text as it is, or one hidden character by its name. */
export interface Piece {
  readonly text: string;
  readonly hidden: boolean;
}

/** Most characters of one text on a screen: laying out more would hold the page up. */
export const MOST_SHOWN = 64 * 1024;

/** `text` in pieces. Line breaks and tabs stay in text that has lines. */
export function visible(text: string): readonly Piece[] {
  const lines = text.replaceAll("\r\n", "\n");
  const pieces: Piece[] = [];
  let shown = 0;
  const plain = (end: number): void => {
    if (end > shown) {
      pieces.push({ text: lines.slice(shown, end), hidden: false });
    }
  };
  // Whoever reads along has all of a text looked through each time that it grows: by the letter that is slow.
  for (const { 0: letter, index } of lines.matchAll(ALL_HIDDEN)) {
    if (letter === EMOJI_STYLE && EMOJI.test(letterBefore(lines, index))) {
      continue;
    }
    plain(index);
    pieces.push({ text: nameOf(letter), hidden: true });
    shown = index + letter.length;
  }
  plain(lines.length);
  return pieces;
}

/**
 * One line of what a person is asked to allow. More of it stands as a code point than in text that is only read: spaces
 * at its end, whatever changes the letter before it, and letters of other scripts in words that look like Latin ones.
 */
export function strictlyVisible(line: string): readonly Piece[] {
  const pieces: Piece[] = [];
  const put = (text: string, hidden: boolean): void => {
    const last = pieces.at(-1);
    if (last !== undefined && !hidden && !last.hidden) {
      pieces[pieces.length - 1] = { text: last.text + text, hidden };
    } else {
      pieces.push({ text, hidden });
    }
  };
  const end = line.replace(/ +$/, "").length;
  for (const word of line.slice(0, end).match(/[\p{L}\p{M}\p{N}_]+|[^\p{L}\p{M}\p{N}_]+/gu) ?? []) {
    const isMixed = /[A-Za-z]/.test(word);
    for (const letter of word) {
      if (isHidden(letter)) {
        put(nameOf(letter), true);
      } else if (isMixed && FOREIGN.test(letter)) {
        put(`${nameOf(letter)} ${letter}`, true);
      } else {
        put(letter, false);
      }
    }
  }
  for (let at = end; at < line.length; at++) {
    put("U+0020 space", true);
  }
  return pieces;
}

/** Letters and marks that are no Latin ones, and forms of Latin ones that only look like them. */
const FOREIGN = /^(?:(?!\p{Script=Latin})[\p{L}\p{M}]|[\uFF21-\uFF5A]|[\u{1D400}-\u{1D7FF}])$/u;

/** `text` in one line, with its hidden characters by their names: for where only text can stand. */
export function visibleLine(text: string): string {
  return visible(text.replace(/\s*[\n\r\t]\s*/g, " "))
    .map((piece) => (piece.hidden ? `[${piece.text}]` : piece.text))
    .join("");
}

/** As much of a long text as is shown, without half a character at its end; and how many characters that leaves out. */
export function shortened(text: string, most = MOST_SHOWN): { readonly text: string; readonly left: number } {
  if (text.length <= most) {
    return { text, left: 0 };
  }
  const half = /[\uD800-\uDBFF]$/.test(text.slice(0, most)) ? 1 : 0;
  return { text: text.slice(0, most - half), left: text.length - most + half };
}

/** Has the letter before it shown in colour. */
const EMOJI_STYLE = "\uFE0F";
const EMOJI = /^[\p{Extended_Pictographic}#*0-9]$/u;

/** A letter of which a person sees nothing, or not what it is. */
const HIDDEN = new RegExp(`(?![\\n\\t ])[${UNSEEN_CLASS}\\p{Cc}\\p{Cf}\\p{Zs}\\p{Zl}\\p{Zp}\\p{Cs}]`, "u");
const ALL_HIDDEN = new RegExp(HIDDEN, "gu");

function isHidden(letter: string): boolean {
  return HIDDEN.test(letter);
}

/** The whole letter that ends there, which may be two of what JavaScript counts. */
function letterBefore(text: string, end: number): string {
  return Array.from(text.slice(Math.max(0, end - 2), end)).at(-1) ?? "";
}

const NAMES: Readonly<Record<number, string>> = {
  0x0d: "carriage return",
  0x1b: "escape",
  0xa0: "no-break space",
  0xad: "soft hyphen",
  0x200b: "zero width space",
  0x200d: "zero width joiner",
  0x200e: "left-to-right mark",
  0x200f: "right-to-left mark",
  0x202a: "left-to-right embedding",
  0x202b: "right-to-left embedding",
  0x202c: "end of direction",
  0x202d: "left-to-right override",
  0x202e: "right-to-left override",
  0x2066: "left-to-right isolate",
  0x2067: "right-to-left isolate",
  0x2069: "end of isolate",
  0xfeff: "byte order mark",
};

function nameOf(letter: string): string {
  const point = letter.codePointAt(0) ?? 0;
  const code = `U+${point.toString(16).toUpperCase().padStart(4, "0")}`;
  const name = NAMES[point];
  return name === undefined ? code : `${code} ${name}`;
}
