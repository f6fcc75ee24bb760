import { expect, test } from "vitest";
import { MOST_OUTPUT, NO_OUTPUT, outputAfter, outputOf } from "../../src/state/output";

test("what is short is kept whole, however it came", () => {
  const text = "a line\n".repeat(20_000);
  const { start, end, left } = outputOf(text);
  expect([start + end === text, left]).toEqual([true, 0]);
  let output = NO_OUTPUT;
  for (let at = 0; at < text.length; at += 997) {
    output = outputAfter(output, text.slice(at, at + 997));
  }
  expect([output.start + output.end === text, output.left]).toEqual([true, 0]);
});

test("of what is long the beginning and the end are kept, cut after a line, and the rest is counted", () => {
  const text = Array.from({ length: 100_000 }, (_, n) => `line ${n}\n`).join("");
  let pieces = NO_OUTPUT;
  for (let at = 0; at < text.length; at += 9_973) {
    pieces = outputAfter(pieces, text.slice(at, at + 9_973));
    expect(pieces.start.length + pieces.end.length).toBeLessThanOrEqual(MOST_OUTPUT);
  }
  for (const { start, end, left } of [outputOf(text), pieces]) {
    expect(text.startsWith(start)).toBe(true);
    expect(text.endsWith(end)).toBe(true);
    expect(end.startsWith("line ")).toBe(true);
    expect(start.length + end.length + left).toBe(text.length);
    expect(end.length).toBeGreaterThan(100_000);
  }
});

test("no character is cut in halves, and one without an end is cut all the same", () => {
  const smiles = "x" + "\u{1F600}".repeat(400_000);
  const { start, end, left } = outputOf(smiles);
  expect(start + "\u{1F600}".repeat(left / 2) + end === smiles).toBe(true);
  expect(outputOf("\uFEFF" + "x".repeat(400_000)).start.charAt(0)).toBe("\uFEFF");
});
