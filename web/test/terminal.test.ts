import { expect, test } from "vitest";
import { GrowingTerminal, LOOKS, Terminal, firstOf, lastOf, runsOf } from "../src/terminal";

/** The lines of a text, as a terminal has them. */
function plain(text: string): readonly string[] {
  const terminal = new Terminal();
  terminal.write(text);
  return terminal.lines.map((line) => line.map(({ text }) => text).join(""));
}

/** The runs of a text: `look|text`. */
function looks(text: string): readonly string[] {
  const terminal = new Terminal();
  terminal.write(text);
  return runsOf(terminal.lines).map(({ text, look }) => `${look}|${text}`);
}

const ESC = "\u001B";

test.each([
  ["the sixteen colours", `${ESC}[31mr${ESC}[92mg${ESC}[0m.`, ["t-red|r", "t-green t-bold|g", "|."]],
  ["black and white are the page's own ink", `${ESC}[30mb${ESC}[37mw${ESC}[39m.`, ["|bw."]],
  ["bright black is grey, bright white is bold", `${ESC}[90mg${ESC}[97mw`, ["t-grey|g", "t-bold|w"]],
  ["one of 256", `${ESC}[38;5;1mr${ESC}[38;5;208mo${ESC}[38;5;244mg`, ["t-red|r", "t-yellow|o", "t-grey|g"]],
  ["a true colour", `${ESC}[38;2;30;144;255mb${ESC}[38;2;250;250;250mw`, ["t-blue|b", "|w"]],
  [
    "with colons",
    `${ESC}[38:2::0:200:0mg${ESC}[38:5:5mm${ESC}[4:3mu`,
    ["t-green|g", "t-magenta|m", "t-magenta t-underlined|u"],
  ],
  ["what comes after a colour counts", `${ESC}[38;5;4;1;3mx`, ["t-blue t-bold t-italic|x"]],
  [
    "styles, and their ends",
    `${ESC}[1;2;3;4;9ma${ESC}[22;23;24;29mb`,
    ["t-grey t-bold t-italic t-underlined t-struck|a", "|b"],
  ],
  ["a ground has the page's letters", `${ESC}[31;44ma${ESC}[49mb`, ["t-on-blue|a", "t-red|b"]],
  ["a white ground is ink, a black one is the page", `${ESC}[30;47ma${ESC}[37;40mb`, ["t-on-ink|a", "|b"]],
  ["turned round", `${ESC}[7ma${ESC}[31mb${ESC}[44mc${ESC}[27md`, ["t-on-ink|a", "t-on-red|bc", "t-on-blue|d"]],
  ["invisible text is visible", `${ESC}[8msecret${ESC}[28m`, ["|secret"]],
  [
    "a look goes on in the next line, and an end of line has none",
    `${ESC}[41ma\nb`,
    ["t-on-red|a", "|\n", "t-on-red|b"],
  ],
  ["an empty sequence ends all", `${ESC}[31ma${ESC}[mb`, ["t-red|a", "|b"]],
])("%s", (_, text, wanted) => {
  expect(looks(text)).toEqual(wanted);
});

test.each([
  ["a carriage return overwrites", "10 %\r100 %\r", ["100 %"]],
  ["what is shorter leaves the rest", "downloading\rdone", ["doneloading"]],
  ["but for an erased line", `downloading\r${ESC}[Kdone`, ["done"]],
  ["erased up to the cursor", `abcdef\b\b${ESC}[1K`, ["     f"]],
  ["erased as a whole, it begins anew", `abc${ESC}[2Kd`, ["d"]],
  ["the first column", `downloading${ESC}[2K${ESC}[1Gdone${ESC}[G`, ["done"]],
  ["a backspace", "abc\b\bX", ["aXc"]],
  ["not past the beginning", "a\b\b\bX", ["X"]],
  ["lines end in either way", "a\r\nb\nc\n", ["a", "b", "c"]],
  ["an empty line is one", "a\n\nb", ["a", "", "b"]],
  ["the last line may be unfinished", "a\nb", ["a", "b"]],
  ["nothing", "", []],
])("%s", (_, text, wanted) => {
  expect(plain(text)).toEqual(wanted);
});

test.each([
  ["the cursor goes nowhere", `a${ESC}[2A${ESC}[10;20Hb${ESC}[5Cc${ESC}[2J${ESC}[Hd`, ["abcd"]],
  ["a title", `${ESC}]0;rm -rf\u0007a${ESC}]2;x${ESC}\\b`, ["ab"]],
  ["a link is its text", `${ESC}]8;;https://evil.example${ESC}\\here${ESC}]8;;${ESC}\\`, ["here"]],
  ["a clipboard", `${ESC}]52;c;cm0gLXJm\u0007x`, ["x"]],
  ["a string for a device", `${ESC}P1$r0m${ESC}\\a${ESC}_apc${ESC}\\b${ESC}^pm${ESC}\\c${ESC}Xsos${ESC}\\d`, ["abcd"]],
  ["modes and what a terminal is asked", `${ESC}[?25l${ESC}[?1049h${ESC}[c${ESC}[6n${ESC}[>4;2mx${ESC}[!p`, ["x"]],
  ["other letters", `${ESC}(B${ESC})0${ESC}7a${ESC}8${ESC}=${ESC}cb`, ["ab"]],
  ["a bell, and what prints nothing", "a\u0007\u0000\u000E\u007Fb", ["ab"]],
  ["a title without an end hides no more than its line", `${ESC}]0;hidden\nseen`, ["", "seen"]],
  ["a title without an end hides no more of a long line", `${ESC}]0;${"x".repeat(4_094)}seen`, ["seen"]],
  ["a sequence that is none by its length", `${ESC}[${"1".repeat(128)}2seen`, ["2seen"]],
  ["a sequence that another one breaks off", `${ESC}[3${ESC}[31mred`, ["red"]],
  ["a sequence that a line's end breaks off", `a${ESC}[3\nb${ESC}\nc`, ["a", "b", "c"]],
  ["a sequence that a letter breaks off", `${ESC}[3\u00E4b`, ["\u00E4b"]],
  ["what never ends", `a${ESC}`, ["a"]],
])("is dropped: %s", (_, text, wanted) => {
  expect(plain(text)).toEqual(wanted);
});

test("what Unicode hides stays in the text, to be shown", () => {
  expect(plain("a\u202Eb\u200B\u009B31mc")).toEqual(["a\u202Eb\u200B\u009B31mc"]);
});

/** Anything, of what is awkward. */
function anything(random: () => number, length: number): string {
  const parts = [
    ESC,
    "[",
    "]",
    "31",
    ";",
    ":",
    "38;5;",
    "48;2;",
    "m",
    "K",
    "\r",
    "\n",
    "\b",
    "\u0007",
    "\\",
    "a",
    "\u{1F600}",
    "?",
    "P",
    "(",
    "\uD800",
    "G",
    "\t",
    "99999999999",
    "-",
    "<b>",
  ];
  return Array.from({ length }, () => parts[Math.floor(random() * parts.length)] ?? "").join("");
}

/** Numbers that look like chance, the same each time. */
function chance(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

test("whatever is written, and however it is cut, it is the same lines, in looks that are known", () => {
  for (let seed = 1; seed <= 300; seed++) {
    const random = chance(seed);
    const text = anything(random, 200);
    const whole = new GrowingTerminal();
    const wanted = whole.of(text);
    const pieces = new GrowingTerminal();
    for (let at = 0; at < text.length; at += 1 + Math.floor(random() * 5)) {
      pieces.of(text.slice(0, at));
    }
    expect(pieces.of(text)).toEqual(wanted);
    for (const { look } of wanted.flat()) {
      expect(look.split(" ").filter((word) => word !== "" && !LOOKS.includes(word))).toEqual([]);
    }
  }
});

test("a text that is another one is read anew", () => {
  const growing = new GrowingTerminal();
  growing.of(`${ESC}[31mone\ntwo`);
  expect(growing.of("three")).toEqual([[{ text: "three", look: "" }]]);
});

test("text of too many colours is text without", () => {
  const terminal = new Terminal();
  terminal.write(`${ESC}[31ma${ESC}[32mb\n`.repeat(15_000));
  const runs = runsOf(terminal.lines);
  expect(runs.length).toBeLessThan(50_000);
  expect(terminal.lines.length).toBe(15_000);
  expect(runs.at(-1)?.look).toBe("");
});

test.each([
  ["erased up to the cursor", `${"x".repeat(100_000)}${`${ESC}[1K`.repeat(25_000)}`],
  ["erased as a whole", `${"x".repeat(100_000)}${`${ESC}[2Kx`.repeat(20_000)}`],
  ["overwritten", `${"x".repeat(100_000)}${"\rx".repeat(50_000)}${"\bx".repeat(50_000)}`],
  ["sequences without an end", `${ESC}[`.repeat(100_000)],
  ["many parameters", `${ESC}[${"1;".repeat(60)}m`.repeat(1_600)],
])("a long text takes no longer than it is: %s", (_, text) => {
  const begun = performance.now();
  plain(text);
  expect(performance.now() - begun).toBeLessThan(3_000);
});

test("of a long line its beginning, in its looks, without half a character", () => {
  const terminal = new Terminal();
  terminal.write(`plain${ESC}[31mred\u{1F600}${ESC}[0mrest`);
  const [line = []] = terminal.lines;
  const texts = (most: number): readonly [readonly string[], number] => {
    const { line: kept, left } = firstOf(line, most);
    return [kept.map(({ text, look }) => `${look}:${text}`), left];
  };
  expect(texts(99)).toEqual([[":plain", "t-red:red\u{1F600}", ":rest"], 0]);
  expect(texts(9)).toEqual([[":plain", "t-red:red"], 6]);
  expect(texts(5)).toEqual([[":plain"], 9]);
});

test("the last lines, and of a long one its end", () => {
  const terminal = new Terminal();
  terminal.write(`one\ntwo\n${ESC}[31mth${ESC}[32mree`);
  const texts = (most: number, letters: number): readonly string[] =>
    lastOf(terminal.lines, most, letters).map((line) => line.map(({ text }) => text).join(""));
  expect(texts(2, 100)).toEqual(["two", "three"]);
  expect(texts(9, 100)).toEqual(["one", "two", "three"]);
  expect(texts(9, 4)).toEqual(["hree"]);
  expect(texts(9, 8)).toEqual(["wo", "three"]);
  const smiles = new Terminal();
  smiles.write("\u{1F600}".repeat(3));
  expect(lastOf(smiles.lines, 1, 3)).toEqual([[{ text: "\u{1F600}", look: "" }]]);
});
