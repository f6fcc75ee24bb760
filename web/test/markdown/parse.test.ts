import { expect, test } from "vitest";
import { MOST_PARTS, parse } from "../../src/markdown/parse";
import type { Block, Inline } from "../../src/markdown/tree";
import { LURES, WEIGHTS } from "../hostile";

const blocks = (text: string): readonly Block[] => parse(text).map(({ block }) => block);
const text = (said: string): Inline => ({ kind: "text", text: said });
const paragraph = (...inside: readonly Inline[]): Block => ({ kind: "paragraph", inside });

/** The parts of the only paragraph of a text. */
function line(said: string): readonly Inline[] {
  const [block] = blocks(said);
  return block?.kind === "paragraph" ? block.inside : [];
}

test("paragraphs, headings, rules and quotes", () => {
  expect(blocks("# One *a* #\n\ntwo\n  lines  \nof it\n\nThree\n===\n\n---\n\n> q\n> > r\n")).toEqual([
    { kind: "heading", level: 1, inside: [text("One "), { kind: "emphasis", inside: [text("a")] }] },
    paragraph(text("two\nlines\nof it")),
    { kind: "heading", level: 1, inside: [text("Three")] },
    { kind: "rule" },
    { kind: "quote", inside: [paragraph(text("q")), { kind: "quote", inside: [paragraph(text("r"))] }] },
  ]);
});

test("what is marked in a line, and what is not", () => {
  expect(line("**a** ~~b~~ `` `c` `` \\*d\\* &amp; &#x41; &never; snake_case 2 * 3 * 4")).toEqual([
    { kind: "strong", inside: [text("a")] },
    text(" "),
    { kind: "strike", inside: [text("b")] },
    text(" "),
    { kind: "code", text: "`c`" },
    text(" *d* & A &never; snake_case 2 * 3 * 4"),
  ]);
});

test("HTML is the text that it is", () => {
  expect(line("a <b>c</b> <!-- d -->")).toEqual([text("a <b>c</b> <!-- d -->")]);
  expect(blocks("<div>\n<b>\n</div>")).toEqual([{ kind: "plain", text: "<div>\n<b>\n</div>" }]);
});

test("lists are nested, numbered from where they begin, and of tasks", () => {
  const item = (done: boolean | null, ...inside: readonly Block[]) => ({ done, inside });
  expect(blocks("3. a\n4. b\n   - [ ] c\n   - [x] d")).toEqual([
    {
      kind: "list",
      start: 3,
      items: [
        item(null, paragraph(text("a"))),
        item(null, paragraph(text("b")), {
          kind: "list",
          start: null,
          items: [item(false, paragraph(text("c"))), item(true, paragraph(text("d")))],
        }),
      ],
    },
  ]);
});

test("code is as it is written, also in a quote, in a list, and without an end", () => {
  const code = { kind: "code", language: "", about: "", closed: true };
  expect(blocks("```ts src/a.ts\n  <b>\n\n```")).toEqual([
    { ...code, language: "ts", about: "src/a.ts", text: "  <b>\n" },
  ]);
  expect(blocks("> ```\n> a\n>\n>  b\n> ```")).toEqual([{ kind: "quote", inside: [{ ...code, text: "a\n\n b" }] }]);
  expect(blocks("- ```\n  a\n    b\n  ```")).toMatchObject([{ items: [{ inside: [{ ...code, text: "a\n  b" }] }] }]);
  expect(blocks("a\n\n    b\n\n      c")).toEqual([paragraph(text("a")), { ...code, text: "b\n\n  c" }]);
  expect(blocks("```sh\na")).toEqual([{ ...code, language: "sh", text: "a", closed: false }]);
});

test("a table has its sides, its empty cells, and no more than was written", () => {
  expect(blocks("|a|b|c|\n|:-|:-:|-:|\n|1||3|\n|only\n|1|2|3|4|")).toEqual([
    {
      kind: "table",
      sides: ["start", "center", "end"],
      head: [[text("a")], [text("b")], [text("c")]],
      rows: [[[text("1")], [], [text("3")]], [[text("only")]], ["1", "2", "3", "4"].map((cell) => [text(cell)])],
    },
  ]);
});

test("a link opens what is safe to open, and says where that is unless its text does", () => {
  const links: readonly (readonly [string, string | null, string | null])[] = [
    ["[a](https://b.example/c)", "https://b.example/c", "b.example"],
    ["[a](<https://b.example/c d> 'title')", "https://b.example/c%20d", "b.example"],
    ["<https://b.example/c>", "https://b.example/c", null],
    ["https://b.example/c_d?e=(f).", "https://b.example/c_d?e=(f)", null],
    ["[https://b.example](https://b.example)", "https://b.example/", null],
    ["[https://b.example](https://evil.example)", "https://evil.example/", "evil.example"],
    ["<a@b.example>", "mailto:a@b.example", null],
    ["[mail](mailto:a@b.example)", "mailto:a@b.example", "a@b.example"],
    ["https://\u0430pple.example/", "https://xn--pple-43d.example/", "xn--pple-43d.example"],
    ["[a](src/b.ts)", null, null],
    ["[a](/etc/passwd)", null, null],
    ["[a](C:\\b)", null, null],
    ["[a](//b.example)", null, null],
    ["[a](javascript:alert(1))", null, null],
    ["[a](JAVA&#10;SCRIPT:alert(1))", null, null],
    ["[a](data:text/html,b)", null, null],
    ["[a](https://bank.example@evil.example)", null, null],
    ["[a][b]", null, null],
  ];
  for (const [written, href, where] of links) {
    const found = line(written).filter((part) => part.kind === "link");
    expect(
      found.map(({ address }) => address),
      written,
    ).toEqual(href === null ? [] : [{ href, where }]);
  }
});

test("what opens nothing is text, with the address that it has", () => {
  const alt = [text("alt")];
  expect(line("[a](src/b.ts:3)")).toEqual([{ kind: "named", what: "file", text: "src/b.ts:3", inside: [text("a")] }]);
  expect(line("[src/b.ts](src/b.ts)")).toMatchObject([{ what: "file", text: "" }]);
  expect(line("![alt](https://b.example/c.png)")).toEqual([
    { kind: "named", what: "image", text: "https://b.example/c.png", inside: alt },
  ]);
  expect(line("[ref][`x`]")).toEqual([text("["), text("ref"), text("][`x`]")]);
});

test("no lure becomes more than a part of a known kind", () => {
  for (const [name, lure] of Object.entries(LURES)) {
    for (const href of JSON.stringify(blocks(lure)).match(/"href":"[^"]*"/g) ?? []) {
      expect(href, name).toMatch(/^"href":"(?:https?:\/\/|mailto:)[^\s"<>]+"$/);
    }
  }
});

test("no weight takes long, nests deep, or has more parts than a page", () => {
  for (const [name, weight] of Object.entries(WEIGHTS)) {
    const started = performance.now();
    const placed = parse(weight);
    // Ten times what it takes on a busy computer; those that are not bounded take minutes, or the stack.
    expect(performance.now() - started, name).toBeLessThan(5_000);
    expect(placed.at(-1)?.parts, name).toBeLessThanOrEqual(MOST_PARTS);
  }
});

test("what is too deep, or too much, is shown as it is", () => {
  for (const name of ["quotes", "numbers", "listSteps", "cells", "linkLines"]) {
    const weight = WEIGHTS[name] ?? "";
    expect(
      blocks(weight).every(({ kind }) => kind === "plain"),
      name,
    ).toBe(true);
  }
  for (const name of ["starsDeep", "brackets", "links", "ticks"]) {
    expect(
      line(WEIGHTS[name] ?? "").every(({ kind }) => kind === "text" || kind === "link"),
      name,
    ).toBe(true);
  }
  expect(blocks(WEIGHTS.columns ?? "")).toMatchObject([{ kind: "table" }]);
});
