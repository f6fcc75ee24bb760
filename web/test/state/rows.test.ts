import { expect, test } from "vitest";
import type { AttentionInfo, ThreadInfo } from "../../src/api/types";
import { type Row, groupKey, grouped, matches, passes, settledOrder, stateOf } from "../../src/state/rows";
import { ago, folderName, rowWords } from "../../src/views/threadwords";
import { named } from "../../src/views/named";

function row(change: Partial<ThreadInfo>, state?: AttentionInfo["state"], error?: string): Row {
  const info: ThreadInfo = {
    id: "t",
    title: "mend the shop",
    isNamed: false,
    folder: "/home/me/shop",
    status: "idle",
    createdAt: 1,
    changedAt: 1,
    source: "cli",
    archived: false,
    ...change,
  };
  const attention: AttentionInfo | null =
    state === undefined
      ? null
      : { environment: "local", threadId: "t", folder: "/", state, since: 1, ...(error !== undefined && { error }) };
  return { environment: "local", info, attention, settledAt: info.changedAt, leaving: false };
}

test("what wants a person comes before what runs, and that before what is over", () => {
  expect(stateOf(row({ status: "active" }, "waitingOnApproval"))).toBe("approval");
  expect(stateOf(row({ status: "active", waitingOn: ["waitingOnUserInput"] }))).toBe("answer");
  expect(stateOf(row({ status: "active", waitingOn: ["waitingOnApproval"] }))).toBe("approval");
  expect(stateOf(row({ status: "active" }))).toBe("running");
  // The host's word is newer than the list's.
  expect(stateOf(row({ status: "active" }, "done"))).toBe("done");
  expect(stateOf(row({ unread: true }, "done"))).toBe("unread");
  expect(stateOf(row({ unread: true }, "failed"))).toBe("failed");
  expect(stateOf(row({ status: "systemError" }))).toBe("failed");
  expect(stateOf(row({ unread: true }))).toBe("unread");
  expect(stateOf(row({ status: "notLoaded" }))).toBe("idle");
});

test("a filter takes what it names", () => {
  expect(passes(row({}), "all")).toBe(true);
  expect(passes(row({}, "waitingOnAnswer"), "waiting")).toBe(true);
  expect(passes(row({}, "running"), "running")).toBe(true);
  expect(passes(row({ unread: true }, "failed"), "unread")).toBe(true);
  expect(passes(row({}, "done"), "waiting")).toBe(false);
  expect(matches(row({}), " SHOP ")).toBe(true);
  expect(matches(row({}), "fence")).toBe(false);
});

test("groups stand in the order that was settled, their rows by age", () => {
  const rows = [
    row({ id: "a", folder: "/one", changedAt: 1 }),
    row({ id: "b", folder: "/two", changedAt: 2 }),
    row({ id: "c", folder: "/one", changedAt: 3 }),
  ];
  const [one, two] = [groupKey("local", "/one"), groupKey("local", "/two")];
  expect(settledOrder(rows)).toEqual([one, two]);
  const ids = (order: readonly string[]): readonly string[] =>
    grouped(rows, order).map((group) => group.rows.map(({ info }) => info.id).join(""));
  expect(ids([one, two])).toEqual(["ca", "b"]);
  expect(ids([two, one])).toEqual(["b", "ca"]);
  // What nobody settled comes last, and a group without rows not at all.
  expect(ids([groupKey("ssh:devbox", "/one"), two])).toEqual(["b", "ca"]);
});

test("a row says in words how its thread is, and hides nothing of Codex's", () => {
  expect(rowWords(row({ branch: "main" }, "running")).text).toBe(`Running · ${named("main")}`);
  expect(rowWords(row({}, "failed", "at\u202E capacity")).text).toBe(
    `Failed: ${named("at[U+202E right-to-left override] capacity")}`,
  );
});

test("a folder is called by its last part", () => {
  expect(["/home/me/shop", "/home/me/shop/", "C:\\src\\shop", "/"].map(folderName)).toEqual([
    "shop",
    "shop",
    "shop",
    "/",
  ]);
});

test("times are relative for a day", () => {
  const now = new Date(2026, 10, 26, 12).getTime();
  const minute = 60_000;
  const back = [-5, 0, 59, 60, 23 * 60 + 59].map((minutes) => ago(now - minutes * minute, now));
  expect(back).toEqual(["now", "now", "59 m", "1 h", "23 h"]);
  expect(ago(new Date(2026, 10, 3, 12).getTime(), now)).toBe("Nov 3");
  expect(ago(new Date(2025, 10, 3, 12).getTime(), now)).toBe("Nov 3, 2025");
});
