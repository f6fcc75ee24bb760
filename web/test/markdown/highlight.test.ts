import { expect, test } from "vitest";
import { highlight } from "../../src/markdown/highlight";

const CODE =
  'export async function a(b: string): Promise<number> {\n  // <b>\n  return b === "c\u202e" ? 1 : null;\n}\n';

/** Most that is coloured. */
const MUCH = 16 * 1024;

test("code is the same in colours as without", () => {
  for (const language of ["ts", "TypeScript", "rust", "sh", "html", "diff", "json", "python", "c++", "yaml"]) {
    expect(
      highlight(CODE, language)
        ?.map(({ text }) => text)
        .join(""),
      language,
    ).toBe(CODE);
  }
});

test("words, strings, comments and numbers have looks", () => {
  const looks = new Map(highlight(CODE, "ts")?.map(({ text, look }) => [text, look]));
  expect(looks.get("export")).toBe("sk");
  expect(looks.get("// <b>")).toBe("sc");
  expect(looks.get('"c\u202e"')).toBe("ss");
  expect(looks.get("1")).toBe("sn");
  expect(highlight("-a\n+b\n", "diff")?.map(({ look }) => look)).toContain("sd");
});

test("a language that nobody knows has no colours", () => {
  for (const language of ["", "nobodyknows", "constructor", "__proto__", "toString", "<b>", 'js"onload="a']) {
    expect(highlight("a", language), language).toBeNull();
  }
});

test("hostile code takes no long time in any of the common languages", () => {
  const languages = "ts py rust sh html css json yaml md sql go cpp php diff toml";
  for (const part of [
    "<a ",
    "(",
    "{[",
    '"',
    "a(",
    "/*",
    "<!--",
    "\\",
    "a:",
    "$",
    "`",
    "- a\n  ",
    "@a ",
    "=~ /",
    "::a<",
  ]) {
    const code = part.repeat(MUCH / part.length);
    for (const language of languages.split(" ")) {
      const started = performance.now();
      highlight(code, language);
      expect(performance.now() - started, `${language} ${part}`).toBeLessThan(3_000);
    }
  }
});
