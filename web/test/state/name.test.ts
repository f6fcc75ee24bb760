import { expect, test } from "vitest";
import { MAX_NAME, label } from "../../src/pairing/name";
import { type NameWindow, keepName, keptName, nameOf } from "../../src/state/name";

class Shelf {
  readonly kept = new Map<string, string>();

  getItem(key: string): string | null {
    return this.kept.get(key) ?? null;
  }

  setItem(key: string, value: string): void {
    this.kept.set(key, value);
  }

  removeItem(key: string): void {
    this.kept.delete(key);
  }
}

test("a name is what a person sees of it, and what the device is where that is nothing", () => {
  const names: readonly (readonly [string, string])[] = [
    ["Ada's phone", "Ada's phone"],
    ["  Ada's phone\t", "Ada's phone"],
    ["Ada\u202e\u200b\u0007's phone\u{e0041}", "Ada's phone"],
    ["\u200b", "iPhone"],
    ["", "iPhone"],
    ["\u00a0", "iPhone"],
    ["電話", "電話"],
  ];
  for (const [text, name] of names) {
    expect(nameOf(text, "iPhone")).toBe(name);
  }
});

test("whatever is typed, a host takes the name, or it is said to be too long", () => {
  expect(nameOf("a".repeat(64), "iPhone")).toBe("a".repeat(64));
  expect(nameOf("a".repeat(65), "iPhone")).toBeNull();
  expect(nameOf("€".repeat(21), "iPhone")).toBe("€".repeat(21));
  expect(nameOf("€".repeat(22), "iPhone")).toBeNull();
  // What is not seen does not count.
  expect(nameOf(`${"\u200b".repeat(64)}a`, "iPhone")).toBe("a");
  for (let point = 0; point < 0x11_0000; point += point < 0x3000 ? 1 : 97) {
    const name = nameOf(`x${String.fromCodePoint(point)}`, "iPhone");
    if (name === null || !label(name, MAX_NAME).ok) {
      expect.fail(`U+${point.toString(16)}`);
    }
  }
});

test("a name that was chosen is kept, the device's own is not, and what can't be one is not used", () => {
  const window = { localStorage: new Shelf() };
  expect(keptName(window, "iPhone")).toBe("iPhone");
  keepName(window, "Ada's phone", "iPhone");
  expect(keptName(window, "iPhone")).toBe("Ada's phone");
  keepName(window, "iPhone", "iPhone");
  expect([...window.localStorage.kept]).toEqual([]);
  for (const [kept, name] of [
    ["x".repeat(65), "iPhone"],
    ["\u202e", "iPhone"],
    ["a\u202eb", "ab"],
  ] as const) {
    window.localStorage.kept.set("reachback-name", kept);
    expect(keptName(window, "iPhone")).toBe(name);
  }
});

test("a browser that keeps nothing has the device's own name", () => {
  const closed: NameWindow = {
    get localStorage(): never {
      throw new DOMException("no", "SecurityError");
    },
  };
  keepName(closed, "Ada's phone", "iPhone");
  expect(keptName(closed, "iPhone")).toBe("iPhone");
});
