import { expect, test } from "vitest";
import { type FileChange, diffOf, splitOf } from "../src/diff";

function change(diff: string, more: Partial<FileChange> = {}): FileChange {
  return { path: "/a", change: "update", movedTo: null, diff, ...more };
}

/** Lines as `look before after sign text`. */
function shown(file: FileChange, cut = false): readonly string[] {
  return diffOf(file, cut).lines.map(({ look, before, after, sign, text }) =>
    [look || "same", before ?? ".", after ?? ".", sign || ".", text].join(" "),
  );
}

test("a unified diff, with the numbers of its lines before and after, and how many there are", () => {
  const diff = "@@ -1,3 +1,3 @@\n a\n-b\n+c\n d\n@@ -10 +10,2 @@ function\n-x\n+y\n+z\n\\ No newline at end of file\n";
  expect(shown(change(diff))).toEqual([
    "hunk . . . @@ -1,3 +1,3 @@",
    "same 1 1 . a",
    "del 2 . − b",
    "add . 2 + c",
    "same 3 3 . d",
    "hunk . . . @@ -10 +10,2 @@ function",
    "del 10 . − x",
    "add . 10 + y",
    "add . 11 + z",
    "hunk . . . \\ No newline at end of file",
  ]);
  expect(diffOf(change(diff)).counts).toEqual({ added: 3, removed: 2 });
});

test("a line of the file is one, whatever it looks like", () => {
  const diff = "@@ -1,3 +1,3 @@\n--- a\n+++ b\n-@@ -1 +1 @@\n+@@ -9 +9 @@\n \n";
  expect(shown(change(diff))).toEqual([
    "hunk . . . @@ -1,3 +1,3 @@",
    "del 1 . − -- a",
    "add . 1 + ++ b",
    "del 2 . − @@ -1 +1 @@",
    "add . 2 + @@ -9 +9 @@",
    "same 3 3 . ",
  ]);
});

test("a file that is new or deleted is shown whole", () => {
  expect(shown(change("one\n\ntwo", { change: "add" }))).toEqual(["add . 1 + one", "add . 2 + ", "add . 3 + two"]);
  expect(shown(change("@@ -1 +1 @@\n", { change: "delete" }))).toEqual(["del 1 . − @@ -1 +1 @@"]);
  expect(diffOf(change("", { change: "add" }))).toEqual({ lines: [], counts: { added: 0, removed: 0 } });
});

test("a file that is moved: what Codex says of that below the diff is said elsewhere", () => {
  const moved = { movedTo: "/b" };
  expect(shown(change("@@ -1 +1 @@\n-a\n+b\n\n\nMoved to: /b", moved))).toEqual([
    "hunk . . . @@ -1 +1 @@",
    "del 1 . − a",
    "add . 1 + b",
  ]);
  expect(diffOf(change("\n\nMoved to: /b", moved))).toEqual({ lines: [], counts: { added: 0, removed: 0 } });
  // Another place than it was moved to is no such word of Codex's.
  expect(diffOf(change("@@ -1 +1 @@\n-a\n+b\n\n\nMoved to: /c", moved)).counts).toBeNull();
});

test("headers of other tools are in the way of nothing", () => {
  const { counts } = diffOf(change("diff --git a/a b/a\nindex 1..2 100644\n--- a/a\n+++ b/a\n@@ -1 +1 @@\n-a\n+b\n"));
  expect(counts).toEqual({ added: 1, removed: 1 });
});

test.each([
  ["words", "this is no diff\n"],
  ["lines without a hunk", "+a\n-b\n"],
  ["more lines than the hunk has", "@@ -1 +1 @@\n-a\n+b\n+c\n"],
  ["fewer lines than the hunk has", "@@ -1,2 +1,2 @@\n-a\n+b\n"],
  ["a line of no kind", "@@ -1,2 +1,2 @@\n-a\n+b\n*c\n"],
  ["numbers that are too large", "@@ -1,99999999999 +1 @@\n-a\n"],
  ["a hunk in a hunk", "@@ -1,2 +1,2 @@\n@@ -1 +1 @@\n-a\n+b\n"],
])("what is no diff is there as it is: %s", (_, diff) => {
  const { lines, counts } = diffOf(change(diff));
  expect(counts).toBeNull();
  expect(lines.map(({ text }) => `${text}\n`).join("")).toBe(diff);
  expect(lines.every(({ look, sign }) => look === "hunk" && sign === "")).toBe(true);
});

test("a diff whose end is not kept is one as far as it goes", () => {
  const diff = "@@ -1,9 +1,9 @@\n a\n-b\n+c";
  expect(diffOf(change(diff)).counts).toBeNull();
  expect(diffOf(change(diff), true).counts).toEqual({ added: 1, removed: 1 });
});

test("a diff of a newer Codex's kind is read as one", () => {
  expect(diffOf(change("@@ -1 +1 @@\n-a\n+b\n", { change: "rewritten" })).counts).toEqual({ added: 1, removed: 1 });
});

test("long ones take no longer than they are", () => {
  const begun = performance.now();
  diffOf(change("index 1\n".repeat(40_000), { movedTo: "/b" }));
  diffOf(change(`@@ -1,100000 +1,100000 @@\n${"\n".repeat(100_000)}`));
  expect(performance.now() - begun).toBeLessThan(5_000);
});

test("before and after stand beside each other, and what goes beside what comes in its place", () => {
  const diff = ["@@ -1,6 +1,6 @@", " a", "-b", "-c", "+B", " d", "+e", "-f", " g", "+h"].join("\n");
  const { lines } = diffOf({ path: "x", change: "update", movedTo: null, diff });
  const sides = splitOf(lines).map((row) =>
    row.between !== null ? `= ${row.between.text}` : `${row.before?.text ?? ""}|${row.after?.text ?? ""}`,
  );
  expect(sides).toEqual(["= @@ -1,6 +1,6 @@", "a|a", "b|B", "c|", "d|d", "|e", "f|", "g|g", "|h"]);
  expect(splitOf([])).toEqual([]);
});
