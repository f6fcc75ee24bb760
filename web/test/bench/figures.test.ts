import { describe, expect, test } from "vitest";
import { type Figure, droppedOf, framesOf, isMet, linesOf, median, slope, tableOf } from "../../bench/figures";

describe("frames", () => {
  test("a page that begins each frame drops none, however its beginnings are rounded", () => {
    const begun = [0, 16.6, 33.4, 50, 66.7];
    expect(framesOf(begun, 16.7)).toMatchObject({ expected: 4, dropped: 0 });
  });

  test("what begins later has dropped those before it", () => {
    const frames = framesOf([0, 10, 40, 50, 71], 10);
    expect(frames).toEqual({ expected: 7, dropped: 3, longest: 30 });
    expect(droppedOf([frames, framesOf([0, 10], 10)])).toBe(3 / 8);
  });

  test("two beginnings within one interval are two frames", () => {
    expect(framesOf([0, 3, 10], 10)).toMatchObject({ expected: 2, dropped: 0 });
  });

  test("of nothing nothing is dropped", () => {
    expect(framesOf([], 10)).toEqual({ expected: 0, dropped: 0, longest: 0 });
    expect(droppedOf([])).toBe(0);
  });
});

test("the median is the middle one, or between two", () => {
  expect(median([9, 1, 5])).toBe(5);
  expect(median([4, 1, 2, 9])).toBe(3);
  expect(() => median([])).toThrow("nothing was measured");
});

test("the slope is what each is more than the one before", () => {
  expect(slope([10, 12, 14, 16])).toBe(2);
  expect(slope([5, 5, 5])).toBe(0);
  expect(slope([7])).toBe(0);
});

describe("figures", () => {
  const figure: Figure = { figure: "frames dropped", unit: "share", value: 0.021, goal: 0.02, rounds: [0.01, 0.04] };

  test("one that is more than its goal misses it", () => {
    expect(isMet(figure)).toBe(false);
    expect(isMet({ ...figure, value: 0.02 })).toBe(true);
    expect(isMet({ ...figure, goal: null })).toBe(null);
    // What could not be measured meets nothing.
    expect(isMet({ ...figure, value: NaN })).toBe(false);
  });

  test("a program reads each as a line", () => {
    const [line = ""] = linesOf([figure]);
    expect(JSON.parse(line)).toEqual({ ...figure, met: false });
  });

  test("a person reads them in a table", () => {
    const open: Figure = { figure: "open", unit: "ms", value: 1234.4, goal: null, rounds: [1234.4] };
    expect(tableOf([figure, open]).slice(2)).toEqual([
      "| frames dropped | 2.1 % (1.0 % to 4.0 %) | ≤ 2.0 % | **no** |",
      "| open | 1,234 ms | – | – |",
    ]);
  });
});
