/** What fits a row of the inbox, where it may be answered. */
import { expect, test } from "vitest";
import { kindOf, partsOf } from "../src/state/ask";
import { fitsRow, inboxWords, quietWords, waitedWords, waitingWords } from "../src/views/askwords";

const COMMAND = "item/commandExecution/requestApproval";

/** Whether a request with these labels and texts fits. */
function fits(method: string, ...shown: readonly string[]): boolean {
  const parts = partsOf(["request", method, ...shown]);
  return fitsRow({ parts, kind: kindOf({ method, needed: "approve" }, parts) });
}

test("a short command fits, with its folder, where it runs and why", () => {
  const where = ["kind", "command", "claim", "it needs the network", "folder", "/home/me", "environment", "local"];
  expect(fits(COMMAND, ...where, "command", "/bin/bash -lc 'cargo update'")).toBe(true);
  expect(fits(COMMAND, "command", "one\ntwo\nthree")).toBe(true);
});

test.each<[string, string, readonly string[]]>([
  ["four lines", COMMAND, ["command", "one\ntwo\nthree\nfour"]],
  ["a long line", COMMAND, ["command", "x".repeat(241)]],
  ["a hidden character", COMMAND, ["command", "touch hid\u200bden"]],
  ["a letter that looks like another", COMMAND, ["command", "touch p\u0430ypal"]],
  ["a space at its end", COMMAND, ["command", "touch it "]],
  ["something hidden in its folder", COMMAND, ["folder", "/home/\u202eme", "command", "true"]],
  ["something hidden in the reason", COMMAND, ["claim", "so\u200b", "command", "true"]],
  ["a long reason", COMMAND, ["claim", "so that ".repeat(40), "command", "true"]],
  ["the network", COMMAND, ["network", "example.com", "command", "true"]],
  ["more reach", COMMAND, ["permissions", "{}", "command", "true"]],
  ["what this app does not know", COMMAND, ["other", "{}", "command", "true"]],
  ["a label that nobody knows", COMMAND, ["surprise", "x", "command", "true"]],
  ["something that is missing", COMMAND, ["missing", "the command is too large", "command", "true"]],
  ["a second command", COMMAND, ["command", "true", "command", "false"]],
  ["no command", COMMAND, ["folder", "/home/me"]],
  ["a file", COMMAND, ["command", "true", "file", "a", "change", "add", "diff", "+a"]],
  ["changes to files", "item/fileChange/requestApproval", ["file", "a", "change", "add", "diff", "+a"]],
  ["a question", "item/tool/requestUserInput", ["questionId", "q", "question", "Which?"]],
  ["permissions", "item/permissions/requestApproval", ["permissions", "{}"]],
  ["a request that nobody knows", "item/surprise", ["command", "true"]],
])("a request with %s does not", (_, method, shown) => {
  expect(fits(method, ...shown)).toBe(false);
});

test("how much waits, and for how long", () => {
  expect([inboxWords(0, 0, 1), inboxWords(0, 0, 3), inboxWords(1, 1, 3), inboxWords(4, 2, 2)]).toEqual([
    "Nothing waits on 1 host",
    "Nothing waits on 3 hosts",
    "1 waiting on 1 host",
    "4 waiting on 2 hosts",
  ]);
  expect(quietWords(0)).toMatch(/^What Codex asks/);
  expect([quietWords(1), quietWords(2)]).toEqual([
    expect.stringMatching(/^1 thread is running\. What/),
    expect.stringMatching(/^2 threads are running\. What/),
  ]);
  expect([waitedWords(0, 72_000), waitedWords(0, 3_700_000)]).toEqual(["1:12", "1 h 1 min"]);
  expect(waitingWords(0, 72_000)).toBe("waiting 1:12");
});
