import { expect, test } from "vitest";
import { Going, type Pressed, fileStepOf } from "../src/views/keys";

function pressed(key: string, held: Partial<Pressed> = {}): Pressed {
  return { key, ctrlKey: false, metaKey: false, altKey: false, repeat: false, ...held };
}

test("G and one of three letters soon after it lead somewhere, large or small", () => {
  const going = new Going();
  for (const [first, second, place] of [
    ["g", "i", "inbox"],
    ["G", "T", "threads"],
    ["g", "h", "hosts"],
  ] as const) {
    expect(going.heard(pressed(first), 0)).toBeNull();
    expect(going.heard(pressed(second), 1_500)).toBe(place);
  }
});

test("anything between the two, or around them, leads nowhere", () => {
  const going = new Going();
  const all = (...keys: readonly (readonly [Pressed, number])[]): readonly unknown[] =>
    keys.map(([key, at]) => going.heard(key, at));
  expect(all([pressed("i"), 0], [pressed("t"), 1])).toEqual([null, null]);
  expect(all([pressed("g"), 0], [pressed("x"), 1], [pressed("i"), 2])).toEqual([null, null, null]);
  expect(all([pressed("g"), 0], [pressed("i"), 1_501])).toEqual([null, null]);
  expect(all([pressed("g", { ctrlKey: true }), 0], [pressed("i"), 1])).toEqual([null, null]);
  expect(all([pressed("g"), 0], [pressed("i", { metaKey: true }), 1])).toEqual([null, null]);
  expect(all([pressed("g", { repeat: true }), 0], [pressed("i"), 1])).toEqual([null, null]);
  expect(all([pressed("g"), 0], [pressed("Enter"), 1], [pressed("h"), 2])).toEqual([null, null, null]);
  // It is over once it led somewhere, and once somebody wrote.
  expect(all([pressed("g"), 0], [pressed("i"), 1], [pressed("t"), 2])).toEqual([null, "inbox", null]);
  going.heard(pressed("g"), 0);
  going.forget();
  expect(going.heard(pressed("i"), 1)).toBeNull();
  // One G after the other begins anew.
  expect(all([pressed("g"), 0], [pressed("g"), 1_400], [pressed("h"), 2_000])).toEqual([null, null, "hosts"]);
});

test("brackets lead from file to file, also where a keyboard has them behind AltGr", () => {
  expect([fileStepOf(pressed("]")), fileStepOf(pressed("["))]).toEqual([1, -1]);
  expect(fileStepOf(pressed("]", { ctrlKey: true, altKey: true }))).toBe(1);
  expect(fileStepOf(pressed("]", { altKey: true }))).toBe(1);
  // The browser's own, back and forth.
  expect(fileStepOf(pressed("]", { metaKey: true }))).toBeNull();
  expect(fileStepOf(pressed("]", { ctrlKey: true }))).toBeNull();
  expect(fileStepOf(pressed("5"))).toBeNull();
});
