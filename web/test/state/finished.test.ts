/** What has ended and was not read, of all hosts, in one list in which nothing moves. */
import { expect, test } from "vitest";
import type { AttentionInfo, ThreadInfo } from "../../src/api/types";
import { type End, endsFrom, isUnreadEnd } from "../../src/state/finished";
import type { Row } from "../../src/state/rows";

function row(id: string, state: AttentionInfo["state"] | null, more: { since?: number; unread?: boolean } = {}): Row {
  const { since = 1, unread = true } = more;
  const times = { createdAt: 1, changedAt: since };
  const info: ThreadInfo = {
    id,
    title: id,
    isNamed: false,
    folder: "/src",
    status: "idle",
    source: "cli",
    archived: false,
    unread,
    ...times,
  };
  const attention: AttentionInfo | null =
    state === null ? null : { environment: "local", threadId: id, state, since, folder: "/src" };
  return { environment: "local", info, attention, settledAt: since, leaving: false };
}

/** A host is only carried along. */
function ends(...rows: readonly Row[]): readonly End<string>[] {
  return rows.map((row) => ({ key: row.info.id, host: "host", row }));
}

test("what ended well or badly is there until somebody has read it, and nothing else", () => {
  expect([row("a", "done"), row("a", "failed")].map(isUnreadEnd)).toEqual([true, true]);
  const others = [
    row("a", "running"),
    row("a", "waitingOnApproval"),
    row("a", "interrupted"),
    row("a", null),
    row("a", "done", { unread: false }),
    { ...row("a", "done"), leaving: true },
    { ...row("a", "done"), info: { ...row("a", "done").info, archived: true } },
  ];
  expect(others.map(isUnreadEnd)).toEqual(others.map(() => false));
});

test("the newest is first, and then each keeps its place, whatever becomes of it", () => {
  const first = endsFrom(
    [],
    ends(row("old", "done", { since: 1 }), row("new", "failed", { since: 9 }), row("x", null)),
  );
  expect(first.map(({ key }) => key)).toEqual(["new", "old"]);
  const all = ends(
    row("newest", "done", { since: 20 }),
    row("old", "running", { since: 30 }),
    row("newer", "done", { since: 10 }),
  );
  const later = endsFrom(first, all);
  expect(later.map(({ key, row: { attention } }) => [key, attention?.state])).toEqual([
    ["new", "failed"],
    ["old", "running"],
    ["newest", "done"],
    ["newer", "done"],
  ]);
});
