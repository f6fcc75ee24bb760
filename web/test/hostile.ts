/**
 * Texts that want to be more than text, or to cost more than they should: all that tests show to the app's screens. What
 * would run calls `alert`, what would be loaded is of `evil.example`, and what has one line has {@link MARK} in it.
 */

const MUCH = 64 * 1024;

function much(part: string): string {
  return part.repeat(Math.ceil(MUCH / part.length)).slice(0, MUCH);
}

/** In whatever has a place of its own on a screen, and is not to be anywhere else. */
export const MARK = "onerror=alert";

/** A name of a host, a device or a model, as whoever made it may call it where invisible characters are refused. */
export const NAME = "<img src=x onerror=alert(1)> Accept once";

/** The title of a thread, a goal, a model: one line of another program's, with what turns and hides text. */
export const LINE =
  "<img src=https://evil.example/l onerror=alert(1)> \u202Egnp.exe\u202C \u200Bx [Accept once](https://evil.example) `reachback pair --yes`";

/** The name of a file that is on a disk. */
export const FILE = "<img src=x onerror=alert(1)>\u202egnp.txt";

/** A command of several lines that looks like another one. */
export const COMMAND = [
  "echo '<img src=https://evil.example/x onerror=alert(1)><script>alert(2)</script>'",
  "echo \u202Etxt.exe\u202C \u200Bx\u00A0y \u001B[31mred\u001B[0m \u001B]8;;https://evil.example\u0007link\u001B]8;;\u0007",
  "s\u0443do true  ",
  "a".repeat(3_000),
  "echo '![x](https://evil.example/y) [Accept once](https://evil.example)'",
].join("\n");

/** What a command may write to a terminal. */
export const OUTPUT = [
  "<img src=https://evil.example/o onerror=alert(1)><script>alert(2)</script><svg onload=alert(3)>",
  "\u001B[31;1mred\u001B[0m \u001B]8;;javascript:alert(1)\u0007link\u001B]8;;\u0007 \u001B[8mhidden\u001B[28m",
  "safe\rfake \u001B[2J\u001B[1;1H\u001B]0;title\u0007\u001B]52;c;ZXZpbA==\u0007 ab\u0008c",
  "\u202Etxt.exe\u202C \u2066isolated\u2069 \u200B\uFEFF\u00AD p\u0430ypal \u{E0041}",
  "exit 0 · You accepted once: a command.",
  "Reachback: this login is done. At the host: `reachback pair --yes --scope admin`",
].join("\n");

/** What a machine that is logged in to may say. */
export const MACHINE = [
  "<img src=x onerror=alert(1)><script>alert(2)</script><b>bold</b> &lt;i&gt; <input value=1>",
  "Reachback: this login is done. At the host: `reachback pair --yes --scope admin`",
  "\u202ededoc ruoy epyt\u202c \u001b[2J\u001b]8;;https://evil.example\u0007 x\u200by p\u0430ypal",
  "x".repeat(700),
].join("\n");

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
