/** How the items of a thread are put together. */
import { beforeEach, expect, test } from "vitest";
import { type Item, type ItemKind, itemOf } from "../src/state/items";
import { type ItemStretch, Stretches } from "../src/views/stretches";

const RAW: Partial<Record<ItemKind, string>> = {
  you: "userMessage",
  codex: "agentMessage",
  command: "commandExecution",
};

function item(number: number, kind: ItemKind = "codex", text = "Done."): Item {
  return { ...itemOf("t", { type: RAW[kind], id: `i${number}` }, false), text };
}

function messages(from: number, to: number): readonly Item[] {
  return Array.from({ length: to - from }, (_, index) => item(from + index));
}

/** The keys, and what each stretch begins with and how much it holds. */
function shapes(all: readonly ItemStretch[]): readonly (readonly [key: number, first: string, count: number])[] {
  return all.map(({ key, items }) => [key, items[0]?.id ?? "", items.length]);
}

let stretches: Stretches;

beforeEach(() => {
  stretches = new Stretches();
});

test("stretches have sixteen items, and stay while more come behind", () => {
  expect(shapes(stretches.of(messages(0, 20)))).toEqual([
    [1, "t i0", 16],
    [2, "t i16", 4],
  ]);
  expect(shapes(stretches.of(messages(0, 40)))).toEqual([
    [1, "t i0", 16],
    [2, "t i16", 16],
    [3, "t i32", 8],
  ]);
  expect(stretches.of([])).toEqual([]);
});

test("what comes before makes stretches of its own, and changes none that is there", () => {
  stretches.of(messages(100, 110));
  expect(shapes(stretches.of(messages(80, 110)))).toEqual([
    [-1, "t i80", 4],
    [0, "t i84", 16],
    [1, "t i100", 10],
  ]);
  expect(shapes(stretches.of(messages(70, 117)))).toEqual([
    [-2, "t i70", 10],
    [-1, "t i80", 4],
    [0, "t i84", 16],
    [1, "t i100", 16],
    [2, "t i116", 1],
  ]);
});

test("a long text has the next message begin another one, and nothing but a message does before there are 64 items", () => {
  const long = [item(0, "you"), item(1, "codex", "a".repeat(8_000)), item(2, "command"), item(3, "you")];
  expect(shapes(stretches.of(long))).toEqual([
    [1, "t i0", 3],
    [2, "t i3", 1],
  ]);
  const commands = Array.from({ length: 100 }, (_, number) => item(number, "command"));
  const all = [...commands, item(100)];
  expect(shapes(new Stretches().of(all))).toEqual([
    [1, "t i0", 64],
    [2, "t i64", 36],
    [3, "t i100", 1],
  ]);
  const others = new Stretches();
  others.of([item(100)]);
  expect(shapes(others.of(all))).toEqual([
    [-1, "t i0", 36],
    [0, "t i36", 64],
    [1, "t i100", 1],
  ]);
});

test("a thread that is read again goes on with the stretches whose beginning is still there", () => {
  stretches.of(messages(0, 40));
  expect(shapes(stretches.of(messages(20, 45)))).toEqual([
    [2, "t i20", 12],
    [3, "t i32", 13],
  ]);
  expect(shapes(stretches.of(messages(50, 60)))).toEqual([[4, "t i50", 10]]);
});

test("items that come in another order are all there, and no key comes twice", () => {
  const long = (number: number): Item => item(number, "codex", "a".repeat(8_000));
  stretches.of([long(0), long(1), long(2), long(3)]);
  const all = stretches.of([long(3), long(1), long(0), long(2), long(4)]);
  const keys = all.map(({ key }) => key);
  expect(keys).toEqual([...new Set(keys)].sort((one, other) => one - other));
  expect(all.flatMap(({ items }) => items.map(({ id }) => id))).toEqual(["t i3", "t i1", "t i0", "t i2", "t i4"]);
});
