/** What is a picture, what is text, and what is neither. */
import { expect, test } from "vitest";
import { MOST_FILE, MOST_TEXT } from "../../src/attach/bounds";
import { contentOf } from "../../src/attach/file";
import { leftOutWords, sizeWords } from "../../src/views/attachwords";
import { named } from "../../src/views/named";

const picture = (): Promise<"undecoded"> => Promise.resolve("undecoded");

function file(content: BlobPart, name: string, type = ""): File {
  return new File([content], name, { type });
}

test.each([
  ["a.png", "image/png"],
  ["a.HEIC", ""],
  ["a.jpeg", ""],
])("%s of type '%s' is decoded as a picture", async (name, type) => {
  expect(await contentOf(file("not a picture", name, type), picture)).toBe("undecoded");
});

test.each([
  ["build.log", "", "one\ntwo\n"],
  ["main.rs", "text/rust", "fn main() {}"],
  ["a.svg", "image/svg+xml", "<svg onload='x()'/>"],
  ["a.json", "application/json", '{"a":"ü"}'],
  ["esc.log", "", "\u001b[31mred\u001b[0m"],
])("%s of type '%s' is text", async (name, type, content) => {
  const found = await contentOf(file(content, name, type), picture);
  expect(typeof found === "string" ? found : [found.type, new TextDecoder().decode(found.data)]).toEqual([
    "text/plain",
    content,
  ]);
});

test("what is neither, too much, or nothing is refused", async () => {
  expect(await contentOf(file("", "a.log"), picture)).toBe("empty");
  expect(await contentOf(file("a\0b", "a.bin"), picture)).toBe("binary");
  expect(await contentOf(file(new Uint8Array([0x66, 0xff]), "a.txt"), picture)).toBe("binary");
  expect(await contentOf(file("x".repeat(MOST_TEXT), "a.log"), picture)).toMatchObject({ type: "text/plain" });
  // The bound falls into the midst of a letter.
  expect(await contentOf(file(`x${"ü".repeat(MOST_TEXT / 2)}`, "a.log"), picture)).toBe("long");
  expect(await contentOf(file(new Uint8Array(MOST_TEXT + 1), "a.zip"), picture)).toBe("binary");
  const huge = file("x", "a.jpg", "image/jpeg");
  Object.defineProperty(huge, "size", { value: MOST_FILE + 1 });
  expect(await contentOf(huge, picture)).toBe("large");
});

test("a file that is gone by now is said to be", async () => {
  const gone = file("x", "a.log");
  gone.arrayBuffer = () => Promise.reject(new DOMException("gone", "NotReadableError"));
  expect(await contentOf(gone, picture)).toBe("unread");
});

test("what is left out is said by reason, with what comes next and nothing hidden in names", () => {
  const out = [
    { name: "a\u202egpj.heic", why: "undecoded" },
    ...["1", "2", "3", "4", "5"].map((name) => ({ name, why: "count" }) as const),
    { name: "", why: "quota" },
  ] as const;
  expect(leftOutWords(out)).toEqual([
    `${named("a[U+202E right-to-left override]gpj.heic")}: can't be opened as a picture by this browser. ` +
      "Attach a screenshot of it, or a copy as JPEG or PNG.",
    `${named("1")}, ${named("2")}, ${named("3")} and 2 more: not attached: 8 go along with one message. Send them with the next one.`,
    `${named("without a name")}: not attached. This device has no room left for the app's data. Make room, or send it without.`,
  ]);
});

test("sizes are said as people read them", () => {
  expect([1, 950, 9_940, 214_000, 999_999, 1_250_000, 12_000_000].map(sizeWords)).toEqual([
    "0.1 kB",
    "1 kB",
    "9.9 kB",
    "214 kB",
    "1000 kB",
    "1.3 MB",
    "12 MB",
  ]);
});
