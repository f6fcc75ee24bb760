import { expect, test } from "vitest";
import { shortened, visible, visibleLine } from "../src/visible";

test("what nobody sees is shown as its code point", () => {
  expect(visible("a\u202Eb")).toEqual([
    { text: "a", hidden: false },
    { text: "U+202E right-to-left override", hidden: true },
    { text: "b", hidden: false },
  ]);
  for (const hidden of ["\0", "\x1b", "\x7f", "\u0085", "\u00a0", "\u200b", "\u2003", "\u2028", "\u2066", "\u3000"]) {
    expect(visible(hidden)).toMatchObject([{ hidden: true }]);
  }
  for (const hidden of ["\r", "\ufeff", "\ufe0f", "\ud800", "\u{e0041}"]) {
    expect(visible(hidden)).toMatchObject([{ hidden: true }]);
  }
});

test("lines, tabs and letters of all kinds stay as they are", () => {
  for (const plain of ["", "two\nlines\tand a tab", "šŁ中文ÄÖ", "👍 ❤️ 1\ufe0f", "العربية"]) {
    expect(visible(plain)).toEqual(plain === "" ? [] : [{ text: plain, hidden: false }]);
  }
  expect(visible("a\r\nb")).toEqual([{ text: "a\nb", hidden: false }]);
});

test("one line has no breaks", () => {
  expect(visibleLine("a \n\n b\u200bc")).toBe("a b[U+200B zero width space]c");
});

test("a long text is cut between characters", () => {
  expect(shortened("abc", 3)).toEqual({ text: "abc", left: 0 });
  expect(shortened("abcd", 3)).toEqual({ text: "abc", left: 1 });
  expect(shortened("ab👍", 3)).toEqual({ text: "ab", left: 2 });
});
