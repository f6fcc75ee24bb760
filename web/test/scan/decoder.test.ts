/** That the decoder reads what `reachback pair` shows, and nothing where there is nothing. */
import encodeQR from "qr";
import { expect, test } from "vitest";
import vectors from "../../../proto/vectors/pairing.json";
import { decode } from "../../src/scan/decoder";

/** A picture, as a canvas gives one, of these squares; each is `size` pixels wide, and `dark` squares are dark. */
function picture(squares: readonly (readonly boolean[])[], size: number, dark = true): ImageData {
  const width = (squares.length + 8) * size;
  const data = new Uint8ClampedArray(width * width * 4).fill(255);
  for (let y = 0; y < width; y++) {
    for (let x = 0; x < width; x++) {
      const set = squares[Math.floor(y / size) - 4]?.[Math.floor(x / size) - 4] ?? false;
      data.fill(set === dark ? 0 : 255, (y * width + x) * 4, (y * width + x) * 4 + 3);
    }
  }
  return { data, width, height: width, colorSpace: "srgb" };
}

function squaresOf(text: string): boolean[][] {
  return encodeQR(text, "raw", { border: 1 });
}

test.each(vectors.urls)("reads $url, dark on light and light on dark, as a terminal has it", ({ url }) => {
  for (const dark of [true, false]) {
    expect(decode(picture(squaresOf(url), 6, dark))).toBe(url);
  }
});

test("finds nothing in a picture without a code, or with half of one", () => {
  const squares = squaresOf(vectors.urls[0]?.url ?? "");
  expect(decode(picture([], 40))).toBeNull();
  expect(decode(picture(squares.slice(0, squares.length / 2), 6))).toBeNull();
  let seed = 1;
  const noise = squares.map((row) => row.map(() => (seed = (seed * 48_271) % 2_147_483_647) % 2 === 0));
  expect(decode(picture(noise, 6))).toBeNull();
});
