/** How much goes along with a prompt, and how large a picture is. */
import { expect, test } from "vitest";
import { MOST, MOST_BYTES, MOST_PICTURE, MOST_TEXT, excessOf, fitted } from "../../src/attach/bounds";
import type { Attached } from "../../src/store/schema";

function some(count: number, bytes: number, type: Attached["type"] = "image/jpeg"): readonly Attached[] {
  return Array.from({ length: count }, (_, at) => ({ id: `${type} ${at}`, name: "a", type, bytes }));
}

test.each([
  [4_032, 3_024, 2_048, 1_536],
  [3_024, 4_032, 1_536, 2_048],
  [2_048, 2_048, 2_048, 2_048],
  [2_049, 10, 2_048, 10],
  [640, 480, 640, 480],
  [1, 1, 1, 1],
  [100_000, 1, 2_048, 1],
])("%i by %i is drawn as %i by %i", (width, height, fittedWidth, fittedHeight) => {
  expect(fitted({ width, height })).toEqual({ width: fittedWidth, height: fittedHeight });
});

test("a smaller edge may be asked for", () => {
  expect(fitted({ width: 400, height: 100 }, 40)).toEqual({ width: 40, height: 10 });
});

test("so many things, so many bytes of pictures, and so many of text go along with one prompt", () => {
  expect(excessOf([])).toBe(null);
  expect(excessOf(some(MOST, MOST_BYTES / MOST))).toBe(null);
  expect(excessOf(some(MOST + 1, 1))).toBe("count");
  expect(excessOf(some(4, MOST_PICTURE))).toBe(null);
  expect(excessOf([...some(4, MOST_PICTURE), ...some(1, 1, "image/png")])).toBe("bytes");
  expect(excessOf([...some(4, MOST_PICTURE), ...some(1, MOST_TEXT, "text/plain")])).toBe(null);
  expect(excessOf(some(2, MOST_TEXT / 2 + 1, "text/plain"))).toBe("text");
});

test("the most that goes along fits the request that the host takes, as base64 and as JSON", () => {
  const written = (MOST_BYTES * 4) / 3 + MOST_TEXT * "\\u0001".length;
  expect(written).toBeLessThan((16 << 20) - (1 << 20));
  expect((MOST_PICTURE * 4) / 3).toBeLessThan(8 << 20);
});
