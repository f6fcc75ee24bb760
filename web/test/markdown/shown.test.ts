/** What a screen shows of Markdown, as the elements that it is made of. */
import { render } from "svelte/server";
import { expect, test } from "vitest";
import { itemOf } from "../../src/state/items";
import Markdown from "../../src/views/Markdown.svelte";
import ThreadItem from "../../src/views/ThreadItem.svelte";
import { LURES, WEIGHTS } from "../hostile";

/** Every element that there may be, and what it may have; the values that come from the text have a pattern. */
const CLASS = /^(?:lines|ghost|meta clip|meta|block|codehead|tap|i i--s|i|vh|task|long|aside|start|center|end|where)?$/;
const NOTHING = {};
const DIRECTED = { class: CLASS, dir: /^auto$/ };
const ELEMENTS: Readonly<Record<string, Readonly<Record<string, RegExp>>>> = {
  p: DIRECTED,
  h3: DIRECTED,
  h4: DIRECTED,
  h5: DIRECTED,
  h6: DIRECTED,
  em: NOTHING,
  strong: NOTHING,
  del: NOTHING,
  code: NOTHING,
  bdi: NOTHING,
  blockquote: NOTHING,
  ul: NOTHING,
  ol: { start: /^\d{1,9}$/, class: CLASS },
  li: { class: CLASS },
  hr: NOTHING,
  table: NOTHING,
  thead: NOTHING,
  tbody: NOTHING,
  tr: NOTHING,
  th: DIRECTED,
  td: DIRECTED,
  span: { class: CLASS, role: /^status$/ },
  div: { class: CLASS, tabindex: /^0$/, role: /^group$/, "aria-label": /^Table$/ },
  pre: { tabindex: /^0$/, "aria-label": /^Code$/ },
  button: { class: CLASS, type: /^button$/, "aria-label": /^Copy code$/ },
  svg: { class: CLASS, "aria-hidden": /^true$/ },
  use: { href: /^\/src\/style\/icons\.svg#i-(?:copy|done|idle)$/ },
  a: {
    href: /^(?:https?:\/\/|mailto:)[^\s"'<>]+$/,
    target: /^_blank$/,
    rel: /^noopener noreferrer$/,
    referrerpolicy: /^no-referrer$/,
  },
};

function html(text: string): string {
  return render(Markdown, { props: { text } }).body.replace(/<!--[^>]*?-->/g, "");
}

/** What is no element or attribute of those, as sentences. */
function strangers(markup: string): readonly string[] {
  return [...markup.matchAll(/<(\/?)([^\s>/]*)((?:\s+[^\s=>]+(?:="[^"]*")?)*)\s*\/?>|</g)].flatMap(
    ([found, , name = "", attributes = ""]) => {
      const known = ELEMENTS[name];
      if (known === undefined) {
        return [`element: ${found}`];
      }
      return [...attributes.matchAll(/\s([^\s=]+)(?:="([^"]*)")?/g)]
        .filter(([, attribute = "", value = ""]) => known[attribute]?.test(value) !== true)
        .map(([attribute]) => `attribute: ${found} ${attribute}`);
    },
  );
}

test("the look at elements finds those that may not be there", () => {
  for (const markup of ["<script>", '<p onclick="a">', '<p dir="ltr">', '<a href="javascript:a">', "a < b", "<img/>"]) {
    expect(strangers(markup), markup).not.toEqual([]);
  }
});

test("nothing but known elements is made of any lure or weight, and no attribute but addresses that were checked", () => {
  for (const [name, text] of Object.entries({ ...LURES, ...WEIGHTS })) {
    const markup = html(text);
    expect(strangers(markup), name).toEqual([]);
    expect(markup.match(/<\w+/g)?.length ?? 0, name).toBeLessThan(20_000);
  }
});

test("what a lure hides is seen", () => {
  const markup = html(LURES.bidi ?? "");
  for (const hidden of ["U+202E right-to-left override", "U+2066", "U+200B", "U+0000", "U+001B escape"]) {
    expect(markup).toContain(`<span class="ghost">${hidden}`);
  }
  const letters = ["\u202E", "\u202C", "\u2066", "\u200B", "\u0000", "\u001B"];
  expect(letters.filter((letter) => markup.includes(letter))).toEqual([]);
});

test("a picture is a line with its address", () => {
  const plain = html("![a chart](https://b.example/c.png)")
    .replace(/<[^>]*>/g, "")
    .trim();
  expect(plain).toBe("image: a chart (https://b.example/c.png)");
});

test("what was thought is one line with its first words, and no markup", () => {
  const item = itemOf(
    "1",
    { type: "reasoning", id: "a", summary: ["**Reading <b>** the code\u202e\n\nmore of it"] },
    false,
  );
  const markup = render(ThreadItem, { props: { item } }).body;
  expect(markup).toContain("Reading &lt;b> the code[U+202E right-to-left override]");
  expect(markup).not.toContain("more of it");
});
