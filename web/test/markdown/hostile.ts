/** Texts in Markdown that want to be more than text, or to cost more than they should. */

const MUCH = 64 * 1024;

function much(part: string): string {
  return part.repeat(Math.ceil(MUCH / part.length)).slice(0, MUCH);
}

/** Texts that want to run, load, open, or hide something. */
export const LURES: Readonly<Record<string, string>> = {
  script: "<script>alert(1)</script>\n\n<img src=x onerror=alert(1)>\n\nin a line <b onclick=alert(1)>b</b> <!-- c -->",
  frames:
    "<iframe src='https://evil.example'></iframe>\n<svg onload=alert(1)><style>@import 'https://evil.example'</style>",
  javascript: "[a](javascript:alert(1)) [b](JaVaScRiPt:alert(1)) [c](java&#10;script:alert(1)) <javascript:alert(1)>",
  spaced: "[a](<java\tscript:alert(1)>) [b](\u0001javascript:alert(1)) [c](%6aavascript:alert(1)) [d](vbscript:x)",
  data: "[a](data:text/html,<script>alert(1)</script>) [b](blob:https://a/b) [c](file:///etc/passwd) [d](//evil.example)",
  intents: "[a](intent://x#Intent;end) [b](tel:+1) [c](sms:1) [d](ftp://a.example/) [e](about:blank) [f](filesystem:x)",
  images:
    "![one](https://evil.example/a.png) ![two](data:image/png;base64,AAAA) [![in](https://evil.example/b.png)](https://c.example)",
  quotes:
    '[a](https://a.example/"onmouseover="alert(1)) [b](https://a.example "title\\" onclick=alert(1)") ![c](x"onerror="y)',
  names:
    "[https://bank.example](https://evil.example) [b](https://bank.example@evil.example/) <https://a:b@evil.example>",
  letters: "[https://раypal.example](https://раypal.example) https://аpple.com/",
  bidi: "a \u202Egnp.exe\u202C `b\u2066c` [d\u200b](https://e.example/\u202e) **\u0000\u001b[31m** &#x202e; &#8238; &#0; &#xD800;",
  fence: '```js"onload="alert(1)\n</code></pre><script>alert(1)</script>\n```\n\n``` <b>\n\u202e\n',
  table:
    "| <b> | [a](javascript:1) |\n| :-- | --: |\n| ![x](https://evil.example/a.png) | `|` |\n| only |\n| 1 | 2 | 3 |",
  lists: "0. <b>\n1. [x](javascript:1)\n   - [ ] <i>\n   - [x] ~~<u>~~\n\n999999999. last",
  classes:
    "# <h1 class=dock> {.ask #id style=x}\n\n[ref]: javascript:alert(1)\n\n[ref] [ref][ref] ![ref]\n\n:::ask\n$$x$$\n[^1]",
  prototype: "```__proto__\na\n```\n\n```constructor\nb\n```\n\n&constructor; &__proto__; &toString;",
  unclosed: "**a _b `c [d](https://e ![f](g ~~h <i |j|\n|-\n> > - ```k",
};

/** Texts that cost the square of their length, or the stack, or every node of a page, where nobody counts. */
export const WEIGHTS: Readonly<Record<string, string>> = {
  quotes: much(">"),
  quotesApart: much("> "),
  quoteLines: `${"> ".repeat(300)}a\n`.repeat(100),
  lazyQuote: much("> a\n"),
  lists: much("- "),
  numbers: much("1. "),
  listLines: Array.from({ length: 360 }, (_, index) => `${" ".repeat(index)}- a\n`).join(""),
  listSteps: Array.from({ length: 360 }, (_, index) => `${" ".repeat(2 * index)}- a\n`)
    .join("")
    .slice(0, MUCH),
  brackets: much("["),
  bracketsBoth: "[".repeat(MUCH / 2) + "]".repeat(MUCH / 2),
  linksBegun: much("[a]("),
  linksOpen: much("![["),
  links: much("[a](https://b.example) "),
  linkLines: much("[a](https://b.example)\n\n"),
  bare: much("https://a.example "),
  bareBrackets: `https://a.example/${much(")")}`,
  bareOpen: `https://a.example/${much("(")}`,
  stars: much("*a **b "),
  starsMixed: much("a**bc* "),
  starsDeep: "*".repeat(MUCH / 2) + "a" + "*".repeat(MUCH / 2),
  starsPaired: much("**a *b ").slice(0, MUCH / 2) + much("c* d** ").slice(0, MUCH / 2),
  strike: much("~a~~b "),
  ticks: Array.from({ length: 360 }, (_, index) => `${"`".repeat(index)} `).join(""),
  entities: much("&amp;"),
  escapes: much("\\*"),
  tags: much("<a b='"),
  comments: much("<!-- "),
  columns: `|${"a|".repeat(1_000)}\n|${"-|".repeat(1_000)}\n|${"b|".repeat(1_000)}\n`,
  cells: `|${"a|".repeat(1_000)}\n|${"-|".repeat(1_000)}\n${`|${"b|".repeat(1_000)}\n`.repeat(28)}`,
  rows: `|a|\n|-|\n${much("|b\n")}`,
  noRows: `|${"a|".repeat(1_000)}\n|${"-|".repeat(1_000)}\n${"|\n".repeat(20_000)}`,
  heads: much("# a\n"),
  paragraphs: much("a\n\n"),
  lines: much("a\n"),
  rules: much("---\n"),
  fence: `\`\`\`js\n${much("a\n")}`,
  fences: much("```\n\n"),
  spaces: `a${" ".repeat(MUCH)}b`,
  breaks: much("a  \n"),
};
