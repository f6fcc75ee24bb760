/** What the screens say of threads. */
import { expect, test } from "vitest";
import { goalWords, titleWords } from "../src/views/threadwords";

test.each([
  ["active", "goal", false],
  ["paused", "goal paused", true],
  ["blocked", "goal blocked", true],
  ["usageLimited", "goal at the usage limit", true],
  ["budgetLimited", "goal at its budget", false],
  ["complete", "goal reached", false],
  ["a word\u202e of tomorrow's", "goal a word[U+202E right-to-left override] of tomorrow's", false],
])("a goal that is %j", (status, is, waits) => {
  expect(goalWords({ objective: "all tests pass", status })).toEqual({ is, objective: "all tests pass", waits });
});

test("what a goal says stands in one line, with what is hidden in it, and not without end", () => {
  expect(goalWords({ objective: "mend\nthe\u200bshop", status: "active" }).objective).toBe(
    "mend the[U+200B zero width space]shop",
  );
  expect(goalWords({ objective: "x".repeat(5_000), status: "active" }).objective.length).toBeLessThan(300);
});

test("a title is cut where it is one of several things in a line", () => {
  expect(titleWords("mend\nthe shop")).toBe("mend the shop");
  expect(titleWords("x".repeat(61))).toBe(`${"x".repeat(60)}…`);
});
