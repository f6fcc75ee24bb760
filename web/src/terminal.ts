/**
 * What a program wrote for a terminal, as lines of text in their looks. Colours and styles count, and so does what is
 * overwritten: a carriage return, a backspace, an erased line. A bar that grew shows how far it came in the end. Every
 * other sequence (where the cursor goes, titles, links, pictures) is dropped, and nothing can hide text: what is
 * written to be invisible is as visible as all else.
 *
 * A look is a few words of a closed set, {@link LOOKS}, each of which is a class of the style sheet: nothing of a
 * program's own gets there. Its colours are taken for the nearest of the few that can be read on any ground.
 */
import { shortened } from "./visible";

/** A run of text that looks the same; `look`: classes, with spaces between. */
export interface TerminalPiece {
  readonly text: string;
  readonly look: string;
}

/** One line, without its end. */
export type TerminalLine = readonly TerminalPiece[];

const COLOURS = ["", "red", "green", "yellow", "blue", "magenta", "cyan", "grey", "ink"] as const;
/** Of a ground of its own that is as light as ink is dark, or the other way round. */
const INK = COLOURS.indexOf("ink");
const GREY = COLOURS.indexOf("grey");

/** A style as one number, so that two of them are compared at once: letters' colour, ground's colour, and these. */
const BOLD = 1 << 8;
const DIM = 1 << 9;
const ITALIC = 1 << 10;
const UNDERLINED = 1 << 11;
const STRUCK = 1 << 12;
const INVERSE = 1 << 13;
const BRIGHT = 1 << 14;
const LETTERS = 0x0f;
const GROUND = 0xf0;

/** Every class that a look may have. */
export const LOOKS: readonly string[] = [
  ...COLOURS.slice(1, INK).map((colour) => `t-${colour}`),
  ...COLOURS.slice(1).map((colour) => `t-on-${colour}`),
  "t-bold",
  "t-italic",
  "t-underlined",
  "t-struck",
];

/** More letters of a sequence than that are no sequence, but text. */
const MOST_CSI = 128;
/** A title, or a link: one that has no end by then, or by the end of its line, has hidden no more than that. */
const MOST_STRING = 4_096;
/** More runs than that would hold a page up that has all of them. */
const MOST_PIECES = 20_000;

/** What ends a title besides `ESC \\`: a bell, what cancels a sequence, the end in one character, and a line's end. */
const STRING_ENDS = "\u0007\u0018\u001A\u009C\r\n";

type State = "text" | "escape" | "csi" | "designation" | "string" | "string escape";

/** What is written to it, as lines: it may come in pieces, cut anywhere. */
export class Terminal {
  readonly #done: TerminalLine[] = [];
  readonly #mostPieces: number;
  #pieces = 0;
  /** The line that is being written, a letter and a style for each column. */
  #letters: string[] = [];
  #styles: number[] = [];
  /** Never behind its end: what goes there is dropped. */
  #column = 0;
  /** Columns at its beginning that were erased. */
  #blank = 0;
  #style = 0;
  #state: State = "text";
  /** What is known of a sequence. */
  #sequence = "";
  /** How long a title is so far. */
  #string = 0;
  /** Half a character. */
  #half = "";

  /** `mostPieces`: what comes after so many runs has no looks. */
  constructor(mostPieces = MOST_PIECES) {
    this.#mostPieces = mostPieces;
  }

  /** All lines so far; the last may go on. */
  get lines(): readonly TerminalLine[] {
    // Another array each time: who looks for a change compares them.
    return this.#letters.length === 0 ? [...this.#done] : [...this.#done, this.#joined()];
  }

  write(more: string): void {
    let text = this.#half + more;
    this.#half = /[\uD800-\uDBFF]$/.test(text) ? text.slice(-1) : "";
    text = text.slice(0, text.length - this.#half.length);
    for (let at = 0; at < text.length;) {
      if (this.#state === "text") {
        PRINTED.lastIndex = at;
        const run = PRINTED.exec(text)?.[0] ?? "";
        this.#print(run);
        at += run.length;
      }
      if (at < text.length && this.#control(text.charAt(at))) {
        at++;
      }
    }
  }

  /** Takes a letter that may be none to print; `false` if it is to be looked at once more. */
  #control(letter: string): boolean {
    switch (this.#state) {
      case "text":
        this.#act(letter);
        return true;
      case "escape":
        return this.#escaped(letter);
      case "csi":
        return this.#parameter(letter);
      case "designation":
        this.#state = "text";
        // Further letters of the kind before the last one.
        if (/[ -/]/.test(letter)) {
          this.#state = "designation";
        }
        return letter >= " " && letter <= "~";
      case "string":
        return this.#stringed(letter);
      case "string escape":
        // Without the backslash it is another sequence, and the string is over as well.
        this.#state = letter === "\\" ? "text" : "escape";
        return letter === "\\";
    }
  }

  #act(letter: string): void {
    switch (letter) {
      case "\u001B":
        this.#state = "escape";
        break;
      case "\n":
      case "\v":
      case "\f":
        this.#newLine();
        break;
      case "\r":
        this.#column = 0;
        break;
      case "\b":
        this.#column = Math.max(0, this.#column - 1);
        break;
      case "\t":
        this.#print(letter);
        break;
      // A terminal rings, or does nothing.
      default:
        break;
    }
  }

  #escaped(letter: string): boolean {
    this.#state = "text";
    this.#sequence = "";
    this.#string = 0;
    if (letter === "[") {
      this.#state = "csi";
    } else if (/[\]PX^_k]/.test(letter)) {
      this.#state = "string";
    } else if (/[ -/]/.test(letter)) {
      this.#state = "designation";
    } else if (letter === "E") {
      this.#newLine();
    }
    return letter >= " " && letter <= "~";
  }

  #parameter(letter: string): boolean {
    if (/[ -?]/.test(letter) && this.#sequence.length < MOST_CSI) {
      this.#sequence += letter;
      return true;
    }
    this.#state = "text";
    if (letter < "@" || letter > "~") {
      return false;
    }
    if (letter === "m") {
      this.#style = styleAfter(this.#style, this.#sequence);
    } else if (letter === "K") {
      this.#erase(this.#sequence);
    } else if (letter === "G" && /^[01]?$/.test(this.#sequence)) {
      this.#column = 0;
    }
    return true;
  }

  #stringed(letter: string): boolean {
    const isLong = ++this.#string > MOST_STRING;
    if (letter === "\u001B") {
      this.#state = "string escape";
    } else if (isLong || STRING_ENDS.includes(letter)) {
      this.#state = "text";
      return !isLong && letter !== "\n" && letter !== "\r";
    }
    return true;
  }

  #print(run: string): void {
    this.#blank = Math.min(this.#blank, this.#column);
    for (const letter of run) {
      this.#letters[this.#column] = letter;
      this.#styles[this.#column] = this.#style;
      this.#column++;
    }
  }

  /** From the cursor on, up to it, or all of the line: that one begins anew, as it does in every program's own next step. */
  #erase(what: string): void {
    if (what === "" || what === "0") {
      this.#letters.length = this.#styles.length = this.#column;
      this.#blank = Math.min(this.#blank, this.#column);
    } else if (what === "2") {
      this.#clear();
    } else if (what === "1") {
      // Each column once, however often that is said.
      const end = Math.min(this.#column + 1, this.#letters.length);
      this.#letters.fill(" ", this.#blank, end);
      this.#styles.fill(0, this.#blank, end);
      this.#blank = Math.max(this.#blank, end);
    }
  }

  #clear(): void {
    [this.#letters, this.#styles, this.#column, this.#blank] = [[], [], 0, 0];
  }

  #newLine(): void {
    const line = this.#joined();
    this.#pieces += line.length;
    this.#done.push(line);
    this.#clear();
  }

  #joined(): TerminalLine {
    if (this.#letters.length === 0) {
      return EMPTY;
    }
    if (this.#pieces > this.#mostPieces) {
      return [{ text: this.#letters.join(""), look: "" }];
    }
    const pieces: TerminalPiece[] = [];
    for (let from = 0; from < this.#letters.length;) {
      const style = this.#styles[from] ?? 0;
      let to = from + 1;
      while (to < this.#letters.length && this.#styles[to] === style) {
        to++;
      }
      pieces.push({ text: this.#letters.slice(from, to).join(""), look: lookOf(style) });
      from = to;
    }
    return pieces;
  }
}

/** The lines of a text that grows: what came before is not read again. */
export class GrowingTerminal {
  #terminal = new Terminal();
  #read = "";

  of(text: string): readonly TerminalLine[] {
    if (!text.startsWith(this.#read)) {
      this.#terminal = new Terminal();
      this.#read = "";
    }
    this.#terminal.write(text.slice(this.#read.length));
    this.#read = text;
    return this.#terminal.lines;
  }
}

/** The last `most` lines, and of them the last `letters`. */
export function lastOf(lines: readonly TerminalLine[], most: number, letters: number): readonly TerminalLine[] {
  const last: TerminalLine[] = [];
  let room = letters;
  for (let at = lines.length - 1; at >= 0 && last.length < most && room > 0; at--) {
    const line = lines[at] ?? EMPTY;
    const length = line.reduce((sum, { text }) => sum + text.length, 0);
    last.push(length <= room ? line : endOf(line, room));
    room -= length + 1;
  }
  return last.reverse();
}

function endOf(line: TerminalLine, letters: number): TerminalLine {
  const end: TerminalPiece[] = [];
  let room = letters;
  for (let at = line.length - 1; at >= 0 && room > 0; at--) {
    const { text, look } = line[at] ?? { text: "", look: "" };
    // Without half a character.
    const kept = text.slice(Math.max(0, text.length - room)).replace(/^[\uDC00-\uDFFF]/, "");
    end.push({ text: kept, look });
    room -= text.length;
  }
  return end.reverse();
}

/** What a line says. */
export function textOf(line: TerminalLine): string {
  return line.map(({ text }) => text).join("");
}

/** As much of a line as that, without half a character at its end; and how many letters that leaves out. */
export function firstOf(line: TerminalLine, letters: number): { readonly line: TerminalLine; readonly left: number } {
  let room = letters;
  const kept: TerminalPiece[] = [];
  for (const { text, look } of line) {
    const shown = shortened(text, room);
    if (shown.text !== "") {
      kept.push({ text: shown.text, look });
    }
    room = shown.left > 0 ? 0 : room - text.length;
  }
  return { line: kept, left: textOf(line).length - textOf(kept).length };
}

/** Lines as one text, in as few pieces as there are looks that follow each other. */
export function runsOf(lines: readonly TerminalLine[]): readonly TerminalPiece[] {
  const runs: { text: string; look: string }[] = [];
  const put = (text: string, look: string): void => {
    const last = runs.at(-1);
    if (last?.look === look) {
      last.text += text;
    } else {
      runs.push({ text, look });
    }
  };
  lines.forEach((line, index) => {
    if (index > 0) {
      // A line's end has no look: a ground would go on to the edge of the page.
      put("\n", "");
    }
    line.forEach(({ text, look }) => {
      put(text, look);
    });
  });
  return runs;
}

const EMPTY: TerminalLine = [];

// What is not a control character, as far as it goes. Others of Unicode's are no sequences: they are text, and shown.
// eslint-disable-next-line no-control-regex -- that is what it is about
const PRINTED = /[^\u0000-\u001F\u007F]*/y;

const looks = new Map<number, string>();

function lookOf(style: number): string {
  let look = looks.get(style);
  if (look === undefined) {
    look = classesOf(style).join(" ");
    looks.set(style, look);
  }
  return look;
}

function classesOf(style: number): readonly string[] {
  const [letters, ground] = [style & LETTERS, (style & GROUND) >> 4];
  // Turned round, letters take the colour of the ground; without one of its own, that is what the page has.
  const [over, under] =
    style & INVERSE ? [ground === INK ? 0 : ground, letters === 0 ? INK : letters] : [letters, ground];
  const classes: string[] = [];
  if (under !== 0) {
    // Its letters have the page's own ground: other colours could not be read on it.
    classes.push(`t-on-${COLOURS[under] ?? ""}`);
  } else if (over !== 0) {
    classes.push(`t-${COLOURS[over] ?? ""}`);
  } else if (style & DIM) {
    classes.push("t-grey");
  }
  if (style & (BOLD | BRIGHT)) {
    classes.push("t-bold");
  }
  for (const [flag, name] of [
    [ITALIC, "t-italic"],
    [UNDERLINED, "t-underlined"],
    [STRUCK, "t-struck"],
  ] as const) {
    if (style & flag) {
      classes.push(name);
    }
  }
  return classes;
}

/** The style after `CSI parameters m`. */
function styleAfter(style: number, parameters: string): number {
  if (!/^[0-9;:]*$/.test(parameters)) {
    return style;
  }
  const groups = parameters.split(";");
  let after = style;
  for (let at = 0; at < groups.length; at++) {
    const group = groups[at] ?? "";
    const code = Number(group.split(":", 1)[0]);
    if (code === 38 || code === 48 || code === 58) {
      const { colour, taken } = extended(groups, at, code === 48);
      at += taken;
      if (colour !== null && code !== 58) {
        after = code === 38 ? withLetters(after, colour) : withGround(after, colour & LETTERS);
      }
    } else {
      after = simple(after, code, group);
    }
  }
  return after;
}

function simple(style: number, code: number, group: string): number {
  if (code >= 30 && code <= 37) {
    return withLetters(style, indexed(code - 30, false));
  }
  if (code >= 90 && code <= 97) {
    return withLetters(style, indexed(code - 82, false));
  }
  if (code >= 40 && code <= 47) {
    return withGround(style, indexed(code - 40, true));
  }
  if (code >= 100 && code <= 107) {
    return withGround(style, indexed(code - 92, true) & LETTERS);
  }
  switch (code) {
    case 0:
      return 0;
    case 1:
      return style | BOLD;
    case 2:
      return style | DIM;
    case 3:
      return style | ITALIC;
    case 4:
      return group === "4:0" ? style & ~UNDERLINED : style | UNDERLINED;
    case 7:
      return style | INVERSE;
    case 9:
      return style | STRUCK;
    case 21:
      return style | UNDERLINED;
    case 22:
      return style & ~(BOLD | DIM);
    case 23:
      return style & ~ITALIC;
    case 24:
      return style & ~UNDERLINED;
    case 27:
      return style & ~INVERSE;
    case 29:
      return style & ~STRUCK;
    case 39:
      return withLetters(style, 0);
    case 49:
      return withGround(style, 0);
    default:
      return style;
  }
}

function withLetters(style: number, colour: number): number {
  return (style & ~(LETTERS | BRIGHT)) | colour;
}

function withGround(style: number, colour: number): number {
  return (style & ~GROUND) | (colour << 4);
}

/** The colour that begins at a group (`38;5;n`, `38:2::r:g:b`); `taken`: how many further groups say it. */
function extended(
  groups: readonly string[],
  at: number,
  isGround: boolean,
): { readonly colour: number | null; readonly taken: number } {
  const own = (groups[at] ?? "").split(":");
  const isOne = own.length > 1;
  const numbers = (isOne ? own.slice(1) : groups.slice(at + 1, at + 5)).map(Number);
  const [kind, ...rest] = numbers;
  if (kind === 5) {
    return { colour: indexed(rest[0] ?? 0, isGround), taken: isOne ? 0 : 2 };
  }
  if (kind === 2) {
    // Between the kind and its values a colour space may be named.
    const [red = 0, green = 0, blue = 0] = isOne ? rest.slice(rest.length > 3 ? 1 : 0) : rest;
    return { colour: nearest(red, green, blue, isGround), taken: isOne ? 0 : 4 };
  }
  return { colour: null, taken: 0 };
}

/** Of the 256: eight, the same brighter, a cube, and greys. */
function indexed(index: number, isGround: boolean): number {
  if (index < 16) {
    const [hue, isBright] = [index % 8, index >= 8];
    if (hue === 0 || hue === 7) {
      return plain(hue === 7 ? 255 : isBright ? 128 : 0, isGround) | (hue === 7 && isBright ? BRIGHT : 0);
    }
    return hue | (isBright ? BRIGHT : 0);
  }
  if (index < 232) {
    const level = (value: number): number => (value === 0 ? 0 : 55 + 40 * value);
    const at = index - 16;
    return nearest(level(Math.floor(at / 36)), level(Math.floor(at / 6) % 6), level(at % 6), isGround);
  }
  return index < 256 ? plain(8 + 10 * (index - 232), isGround) : 0;
}

/** The nearest of the few colours. */
function nearest(red: number, green: number, blue: number, isGround: boolean): number {
  const [most, least] = [Math.max(red, green, blue), Math.min(red, green, blue)];
  const range = most - least;
  if (range < 48) {
    return plain((most + least) / 2, isGround);
  }
  const sector =
    most === red ? (green - blue) / range : most === green ? 2 + (blue - red) / range : 4 + (red - green) / range;
  const hue = (sector * 60 + 360) % 360;
  const bounds: readonly (readonly [number, (typeof COLOURS)[number]])[] = [
    [18, "red"],
    [70, "yellow"],
    [165, "green"],
    [200, "cyan"],
    [262, "blue"],
    [340, "magenta"],
    [360, "red"],
  ];
  return COLOURS.indexOf(bounds.find(([end]) => hue < end)?.[1] ?? "red");
}

/** A grey: what is nearly black or white is the page's own ink, whichever the page is. */
function plain(lightness: number, isGround: boolean): number {
  if (isGround) {
    return lightness < 96 ? 0 : lightness > 176 ? INK : GREY;
  }
  return lightness < 80 || lightness > 176 ? 0 : GREY;
}
