import { expect, test } from "vitest";
import { type Item, itemOf } from "../src/state/items";
import { changeWords, kindWords, pathWords } from "../src/views/changewords";
import { commandWords, hasFailed } from "../src/views/threadwords";

function change(status: string, files: number, live = false): Item {
  const changes = Array.from({ length: files }, (_, n) => ({ path: `/${n}`, kind: { type: "add" }, diff: "" }));
  return itemOf("1", { type: "fileChange", changes, status }, live);
}

test("what became of a change is said, and what was declined did not happen", () => {
  expect(changeWords(change("completed", 1))).toBe("Changed 1 file");
  expect(changeWords(change("inProgress", 2, true))).toBe("Changing 2 files");
  expect(changeWords(change("declined", 2))).toBe("Would have changed 2 files");
  expect(changeWords(change("failed", 600))).toBe("Tried to change 600 files");
  expect(changeWords(change("inProgress", 1))).toBe("Began to change 1 file");
  expect(changeWords(change("", 0))).toBe("Changed files");
  expect([change("declined", 1), change("failed", 1), change("completed", 1)].map(hasFailed)).toEqual([
    true,
    true,
    false,
  ]);
});

test("what is done to a file, in words", () => {
  const file = { path: "/a", movedTo: null, diff: "" };
  expect(kindWords({ ...file, change: "add" })).toBe("new");
  expect(kindWords({ ...file, change: "update" })).toBe("changed");
  expect(kindWords({ ...file, change: "update", movedTo: "/b" })).toBe("moved");
  expect(kindWords({ ...file, change: "update", movedTo: "/b", diff: "@@ -1 +1 @@\n" })).toBe("moved and changed");
  expect(kindWords({ ...file, change: "constructor\u202E" })).toBe("constructor[U+202E right-to-left override]");
});

test("a path is what it is from the thread's folder, and only there", () => {
  expect(pathWords("/home/ada/shop/src/a.ts", "/home/ada/shop")).toBe("src/a.ts");
  expect(pathWords("/home/ada/shopping/a.ts", "/home/ada/shop")).toBe("/home/ada/shopping/a.ts");
  expect(pathWords("/home/ada/shop", "/home/ada/shop")).toBe("/home/ada/shop");
  expect(pathWords("C:\\shop\\a.ts", "C:\\shop")).toBe("a.ts");
  expect(pathWords("/a", null)).toBe("/a");
});

test("a command's row has its first line, without the shell that runs it", () => {
  expect(commandWords("/bin/bash -lc 'cargo test\nls'")).toBe("cargo test");
  expect(commandWords("zsh -c \"echo 'a'\"")).toBe("echo 'a'");
  expect(commandWords("bash -c ls")).toBe("ls");
  expect(commandWords("bash script.sh")).toBe("bash script.sh");
  expect(commandWords(`echo \u202E${"x".repeat(100_000)}`)).toMatch(
    /^echo \[U\+202E right-to-left override\]x{100,200}$/,
  );
});
