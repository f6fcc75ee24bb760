/** How a picture is written, with a browser that only says what it is asked for. */
import { expect, test } from "vitest";
import { MOST_PICTURE, MOST_PNG } from "../../src/attach/bounds";
import { type Easel, pictureIn } from "../../src/attach/picture";

/** Draws a picture of this size; `sizes`: how many bytes it has as PNG, and as JPEG of each quality. */
function easel(width: number, height: number, sizes: Readonly<Record<string, number | null>>) {
  const asked: string[] = [];
  const bitmap: ImageBitmap = {
    width,
    height,
    close: () => {
      asked.push("close");
    },
  };
  const all: Easel = {
    decode: () => Promise.resolve(width === 0 ? null : bitmap),
    draw: (_, size) => {
      asked.push(`${size.width} ${size.height}`);
      return {
        write: (type, quality) => {
          const how = [type.slice("image/".length), quality].filter((part) => part !== undefined).join(" ");
          asked.push(how);
          const bytes = sizes[how] ?? null;
          return Promise.resolve(bytes === null ? null : new Uint8Array(bytes));
        },
      };
    },
  };
  return { all, asked };
}

const photo = new Blob(["x"], { type: "image/jpeg" });
const screenshot = new Blob(["x"], { type: "image/png" });

test("a photo is drawn no larger than a model looks at, and written as JPEG", async () => {
  const { all, asked } = easel(4_032, 3_024, { "jpeg 0.85": 500 });
  expect(await pictureIn(photo, all)).toMatchObject({ type: "image/jpeg", data: { length: 500 } });
  expect(asked).toEqual(["2048 1536", "jpeg 0.85", "close"]);
});

test("a screenshot stays sharp where it is small", async () => {
  const { all } = easel(390, 844, { png: MOST_PNG, "jpeg 0.85": 10 });
  expect(await pictureIn(screenshot, all)).toMatchObject({ type: "image/png" });
  const large = easel(390, 844, { png: MOST_PNG + 1, "jpeg 0.85": 10 });
  expect(await pictureIn(screenshot, large.all)).toMatchObject({ type: "image/jpeg", data: { length: 10 } });
});

test("what is too large is written less well, and at last refused", async () => {
  const tooMuch = MOST_PICTURE + 1;
  const second = easel(10, 10, { "jpeg 0.85": tooMuch, "jpeg 0.7": MOST_PICTURE });
  expect(await pictureIn(photo, second.all)).toMatchObject({ data: { length: MOST_PICTURE } });
  const none = easel(10, 10, { "jpeg 0.85": tooMuch, "jpeg 0.7": tooMuch, "jpeg 0.5": tooMuch });
  expect(await pictureIn(photo, none.all)).toBe("large");
  expect(none.asked).toEqual(["10 10", "jpeg 0.85", "jpeg 0.7", "jpeg 0.5", "close"]);
});

test("what the browser can't read, or can't write, is no picture", async () => {
  expect(await pictureIn(photo, easel(0, 0, {}).all)).toBe("undecoded");
  const { all, asked } = easel(10, 10, {});
  expect(await pictureIn(photo, all)).toBe("undecoded");
  expect(asked.at(-1)).toBe("close");
});
