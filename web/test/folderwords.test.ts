/** What the screens say of folders. */
import { expect, test } from "vitest";
import { type Row, groupKey, rowKey } from "../src/state/rows";
import { type Read, threadsWords } from "../src/views/folderwords";
import { named } from "../src/views/named";

function row(id: string, folder: string, changedAt: number, branch?: string): Row {
  const info = { id, title: id, isNamed: false, folder, status: "idle", createdAt: 0, changedAt, source: "cli" };
  return {
    environment: "local",
    info: { ...info, archived: false, ...(branch !== undefined && { branch }) },
    attention: null,
    leaving: false,
    settledAt: 0,
  };
}

function read(change: Partial<Read> = {}): Read {
  const rows = [row("a", "/shop", 1, "main"), row("b", "/shop", 2, "redis\u202e"), row("c", "/site", 3)];
  return {
    query: { archived: false, search: "" },
    rows: new Map(rows.map((row) => [rowKey(row.environment, row.info.id), row])),
    more: false,
    whole: new Set(),
    awaited: new Set(),
    faults: new Map(),
    ...change,
  };
}

test("a folder has so many threads, and the branch of the newest, as a name of its own", () => {
  expect(threadsWords(read(), "local", "/shop")).toBe(`2 threads · last on ${named("redis\u202e")}`);
  expect(threadsWords(read(), "local", "/site")).toBe("1 thread");
  expect(threadsWords(read(), "local", "/else")).toBe("No threads yet");
  expect(threadsWords(read(), "ssh:box", "/site")).toBe("No threads yet");
});

test("of a list that is not all, it is no more than what was read", () => {
  const shop = groupKey("local", "/shop");
  for (const part of [{ more: true }, { awaited: new Set(["local"]) }, { faults: new Map([["local", "gone"]]) }]) {
    expect(threadsWords(read(part), "local", "/site")).toBe("1 thread or more");
    expect(threadsWords(read(part), "local", "/else")).toBe(null);
  }
  expect(threadsWords(read({ more: true, whole: new Set([shop]) }), "local", "/shop")).toMatch(/^2 threads · /);
});

test("a list of some threads alone says nothing", () => {
  const searched = { query: { archived: false, search: "shop" } };
  for (const none of [{ rows: null }, searched, { query: { archived: true, search: "" } }]) {
    expect(threadsWords(read(none), "local", "/shop")).toBe(null);
  }
});
