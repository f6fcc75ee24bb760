import { expect, test } from "vitest";
import type { Json } from "../../src/json";
import { type Item, itemOf, itemsAfter, itemsBefore } from "../../src/state/items";
import { MOST_OUTPUT, NO_OUTPUT, outputOf } from "../../src/state/output";

function after(items: readonly Item[], ...events: readonly (readonly [string, Json])[]): readonly Item[] {
  return events.reduce((all, [method, params]) => itemsAfter(all, method, { turnId: "1", ...params }) ?? all, items);
}

const shown = (items: readonly Item[]): readonly string[] => items.map(({ kind, text }) => `${kind}: ${text}`);

test("each kind of item has its words", () => {
  const items: readonly (readonly [Json, Partial<Item>])[] = [
    [
      {
        type: "userMessage",
        clientId: "mine",
        content: [
          { type: "text", text: "look" },
          { type: "image", url: "data:image/png;base64,AAAA" },
        ],
      },
      { kind: "you", text: "look", pictures: 1, client: "mine" },
    ],
    [
      { type: "agentMessage", text: "<b>no markup</b>" },
      { kind: "codex", text: "<b>no markup</b>" },
    ],
    [
      { type: "commandExecution", command: "ls", aggregatedOutput: "a\n", exitCode: 2, status: "failed" },
      { kind: "command", text: "ls", output: outputOf("a\n"), end: "exit 2" },
    ],
    [
      { type: "commandExecution", command: "ls", aggregatedOutput: null, exitCode: 0 },
      { kind: "command", output: NO_OUTPUT, end: "" },
    ],
    [
      {
        type: "fileChange",
        changes: [
          { path: "/a", kind: { type: "add" }, diff: "one\n" },
          { path: "/b", kind: { type: "update", move_path: "/c" }, diff: "" },
        ],
        status: "completed",
      },
      {
        kind: "change",
        changes: [
          { path: "/a", change: "add", movedTo: null, diff: "one\n", left: 0 },
          { path: "/b", change: "update", movedTo: "/c", diff: "", left: 0 },
        ],
        end: "completed",
      },
    ],
    [
      { type: "fileChange", text: "@@ -1 +1 @@" },
      { kind: "change", changes: [], output: outputOf("@@ -1 +1 @@"), end: "" },
    ],
    [
      { type: "reasoning", summary: ["one", 2, "three"] },
      { kind: "thought", text: "one\n\nthree" },
    ],
    [{ type: "somethingNew" }, { kind: "other", text: "somethingNew" }],
    [{}, { kind: "other", text: "" }],
  ];
  for (const [raw, item] of items) {
    expect(itemOf("1", raw, false)).toMatchObject(item);
  }
});

test("a message grows by its pieces, and is what it was in the end", () => {
  const id = { itemId: "m" };
  const live = after(
    [],
    ["item/started", { item: { id: "m", type: "agentMessage", text: "" } }],
    ["item/agentMessage/delta", { ...id, delta: "He" }],
    ["item/agentMessage/delta", { ...id, delta: "llo" }],
  );
  expect(live).toMatchObject([{ text: "Hello", live: true }]);
  const done = after(
    live,
    ["item/completed", { item: { id: "m", type: "agentMessage", text: "Hello you" } }],
    ["item/agentMessage/delta", { ...id, delta: " late" }],
  );
  expect(done).toMatchObject([{ text: "Hello you", live: false }]);
});

test("pieces whose beginning was not heard begin an item", () => {
  const items = after([], ["item/commandExecution/outputDelta", { itemId: "c", delta: "out" }]);
  expect(items).toMatchObject([{ kind: "command", output: outputOf("out"), live: true }]);
});

test("a turn ends without its items", () => {
  const begun = after([], ["item/started", { item: { id: "m", type: "agentMessage", text: "a" } }]);
  const done = after(begun, ["turn/completed", { turn: { id: "1", items: [], status: "completed" } }]);
  expect(done).toMatchObject([{ text: "a", live: false }]);
  const error = { message: "at capacity" };
  const failed = after(done, ["turn/completed", { turn: { id: "1", items: [], status: "failed", error } }]);
  expect(shown(failed)).toEqual(["codex: a", "error: at capacity"]);
  expect(itemsAfter(failed, "thread/tokenUsage/updated", {})).toBeNull();
});

test("an older page comes before what is there, each item once", () => {
  const page = (id: string, text: string, turnId = "1") => ({ turnId, item: { id, type: "agentMessage", text } });
  const now = after([], ["item/completed", { item: { id: "c", type: "agentMessage", text: "heard" } }]);
  const items = itemsBefore([page("c", "read"), page("b", "two"), page("a", "one")], now);
  expect(shown(items)).toEqual(["codex: one", "codex: two", "codex: heard"]);
  // Ids of another turn may be the same.
  expect(shown(itemsBefore([page("a", "zero", "0")], items)).at(0)).toBe("codex: zero");
  expect(itemsBefore([{ ...page("d", "part"), size: 5_000 }], [])).toMatchObject([{ cut: true }]);
});

test("output that never ends is bounded, and so are changes", () => {
  let items = after([], ["item/started", { item: { id: "c", type: "commandExecution", command: "yes" } }]);
  const delta = "y\n".repeat(5_000);
  for (let count = 0; count < 100; count++) {
    items = after(items, ["item/commandExecution/outputDelta", { itemId: "c", delta }]);
  }
  const { start, end, left } = items[0]?.output ?? NO_OUTPUT;
  expect(start.length + end.length).toBeLessThanOrEqual(MOST_OUTPUT);
  expect(start.length + end.length + left).toBe(1_000_000);
  const changes = Array.from({ length: 600 }, (_, n) => ({
    path: `/${n}`,
    kind: { type: "add" },
    diff: "\u{1F600}".repeat(20_000),
  }));
  const patched = after(
    [],
    ["item/started", { item: { id: "f", type: "fileChange", changes: [] } }],
    ["item/fileChange/patchUpdated", { itemId: "f", changes }],
  );
  expect(patched[0]?.changes.length).toBe(500);
  expect(patched[0]?.moreChanges).toBe(100);
  const kept = patched[0]?.changes.map(({ diff, left }) => [diff.length, diff.length + left]) ?? [];
  expect(kept.reduce((sum, [diff = 0]) => sum + diff, 0)).toBeLessThanOrEqual(256 * 1024);
  expect(kept.every(([, whole]) => whole === 40_000)).toBe(true);
  expect(patched[0]?.changes.some(({ diff }) => /[\uD800-\uDBFF]$/.test(diff))).toBe(false);
});
