import { expect, test } from "vitest";
import { Growing } from "../../src/markdown/growing";
import { type Placed, parse } from "../../src/markdown/parse";
import { LURES } from "../hostile";

const WHOLE = [
  "# Title\n\nA paragraph with **strong** words\nin two lines.\n\n",
  "- one\n- two\n  - three\n\n  more of two\n\n1. first\n2. second\n\n",
  "```ts\nconst a = 1;\n\n```\n\n> quoted\n> ```\n> code\n\nUnder\n---\n\n| a | b |\n|---|--:|\n| 1 | 2 |\n\n",
  "    indented\n\n      more\n\n  - a list that is indented\n\n***\nThe end",
].join("");

/** What is shown of a text that comes in pieces of this many letters. */
function grown(text: string, size: number): readonly (readonly Placed[])[] {
  const growing = new Growing();
  const steps: (readonly Placed[])[] = [];
  for (let end = size; end < text.length; end += size) {
    steps.push(growing.of(text.slice(0, end), true));
  }
  return [...steps, growing.of(text, false)];
}

const blocks = (placed: readonly Placed[] | undefined): readonly unknown[] => placed?.map(({ block }) => block) ?? [];

test("a text that grew is what it is when it comes at once", () => {
  for (const text of [WHOLE, WHOLE.replaceAll("\n", "\r\n"), ...Object.values(LURES)]) {
    const once = blocks(new Growing().of(text, false));
    for (const size of [1, 3, 7, 50]) {
      expect(blocks(grown(text, size).at(-1))).toEqual(once);
    }
  }
});

test("a block that is done stays the same object, and in its place", () => {
  const steps = grown(WHOLE, 1);
  for (const [index, step] of steps.entries()) {
    const next = steps[index + 1] ?? step;
    for (const [at, placed] of step.slice(0, -1).entries()) {
      expect(next[at], JSON.stringify(placed)).toBe(placed);
    }
  }
});

test("a text of many blocks is taken apart once", () => {
  const growing = new Growing();
  let text = "";
  let last: readonly Placed[] = [];
  for (let count = 0; count < 1_000; count++) {
    text += "Some **words** of it.\n\n";
    last = growing.of(text, true);
  }
  expect(last).toHaveLength(1_000);
  // The last one alone is another each time.
  expect(growing.of(text, true).filter((placed, index) => placed !== last[index])).toHaveLength(1);
});

test("a line below a paragraph makes no heading of it before it is one", () => {
  const kinds = (text: string) => new Growing().of(text, true).map(({ block }) => block.kind);
  expect(kinds("Three things:\n-")).toEqual(["paragraph"]);
  expect(kinds("Three things:\n- ")).toEqual(["paragraph"]);
  expect(kinds("Three things:\n- a")).toEqual(["paragraph", "list"]);
  expect(kinds("Three things:\n--")).toEqual(["paragraph"]);
  expect(kinds("Three things:\n``")).toEqual(["paragraph"]);
  expect(kinds("Three things:\n```s")).toEqual(["paragraph", "code"]);
});

test("code without its end is code so far, and whole when nothing more comes", () => {
  const growing = new Growing();
  const code = (closed: boolean) => [{ kind: "code", language: "sh", about: "", text: "ls", closed }];
  expect(blocks(growing.of("```sh\nls", true))).toEqual(code(false));
  expect(blocks(growing.of("```sh\nls", false))).toEqual(code(true));
});

test("another text in its place is another", () => {
  const growing = new Growing();
  growing.of("one\n\ntwo\n\nthree", true);
  expect(blocks(growing.of("# four", false))).toEqual(blocks(parse("# four")));
});

test("too many parts are text from there on", () => {
  const many = "**a** b\n\n".repeat(5_000);
  const kinds = new Set(
    grown(many, 1_000)
      .at(-1)
      ?.map(({ block }) => block.kind),
  );
  expect(kinds).toEqual(new Set(["paragraph", "plain"]));
});
