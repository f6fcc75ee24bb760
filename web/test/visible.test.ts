import { expect, test } from "vitest";
import { isUnseen } from "../src/pairing/name";
import { type Piece, shortened, visible, visibleLine } from "../src/visible";

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

test("a text is in the pieces that its letters make one by one", () => {
  const letters = Array.from(
    "ab \n\t1#\u00e9\u4e2d\u{1F44D}\u{1F600}\u2764\ufe0f\ufe0f\r\u200b\u202e\u00a0\u3164\u{e0041}",
  );
  letters.push("\r\n", "\ud83d", "\ude00", "\u200d", "\u2014");
  let seed = 1;
  for (let round = 0; round < 5_000; round += 1) {
    const text = Array.from({ length: round % 9 }, () => {
      seed = (seed * 48_271) % 2_147_483_647;
      return letters[seed % letters.length] ?? "";
    }).join("");
    expect(joined(visible(text)), JSON.stringify(text)).toEqual(joined(byLetter(text)));
  }
});

/** Each letter as a piece of its own. */
function byLetter(text: string): readonly Piece[] {
  const letters = Array.from(text.replaceAll("\r\n", "\n"));
  return letters.map((letter, index) => {
    const isOfEmoji = letter === "\ufe0f" && /^[\p{Extended_Pictographic}#*0-9]$/u.test(letters[index - 1] ?? "");
    const isHidden = !/^[\n\t ]$/.test(letter) && (isUnseen(letter) || /^[\p{C}\p{Z}]$/u.test(letter));
    return isHidden && !isOfEmoji ? { text: codeOf(letter), hidden: true } : { text: letter, hidden: false };
  });
}

function codeOf(letter: string): string {
  return `U+${(letter.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, "0")}`;
}

/** What a person sees, with what is hidden in brackets. */
function joined(pieces: readonly Piece[]): string {
  return pieces.map((piece) => (piece.hidden ? `<${piece.text.split(" ")[0] ?? ""}>` : piece.text)).join("");
}

test("no two pieces of plain text follow each other", () => {
  for (const text of ["a\u200bb\u200b\u200bc", "1\ufe0f2\ufe0f", "\u200b", "\u{1F44D}\ufe0fx\ufe0f"]) {
    const pieces = visible(text);
    expect(pieces.some((piece, index) => !piece.hidden && pieces[index + 1]?.hidden === false)).toBe(false);
    expect(pieces.every((piece) => piece.text !== "")).toBe(true);
  }
});

test("one line has no breaks", () => {
  expect(visibleLine("a \n\n b\u200bc")).toBe("a b[U+200B zero width space]c");
});

test("a long text is cut between characters", () => {
  expect(shortened("abc", 3)).toEqual({ text: "abc", left: 0 });
  expect(shortened("abcd", 3)).toEqual({ text: "abc", left: 1 });
  expect(shortened("ab👍", 3)).toEqual({ text: "ab", left: 2 });
});
