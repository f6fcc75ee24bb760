/**
 * Text in Markdown, taken apart: a text from a host, which may be hostile. What the library finds in it becomes one of a
 * few kinds of parts; whatever is none of them, such as HTML, stays the text that it is.
 *
 * The library takes time with the square of what some marks nest or pair. So a paragraph of very many marks has none, and
 * a text that is nested too deep, or has too many parts, is not taken apart at all.
 */
import { type MarkdownConfig, Strikethrough, Table, TaskList, parser } from "@lezer/markdown";
import { addressOf, linked } from "./address";
import { entityText } from "./entity";
import type { Block, Cell, Code, Inline, List, ListItem, Side, Table as TableBlock } from "./tree";

/** Most letters, and most marks, of a paragraph that has any. */
const MOST_LETTERS = 8 * 1024;
const MOST_MARKS = 1024;
/** Most that is nested in each other: of quotes, lists, emphasis and links together. */
const MOST_DEPTH = 24;
/** More of what nests, at the beginning of one line. */
const DEEP = new RegExp(`^(?:[ \\t]*(?:>|(?:[-+*]|\\d{1,9}[.)])(?=[ \\t]))){${MOST_DEPTH + 1}}`, "m");
/** Most parts of a text: a browser has to lay all of them out. */
export const MOST_PARTS = 8 * 1024;
/** As many parts as a block of code is, with what stands above it. */
const CODE_PARTS = 16;

const MARKS = /[*_~[\]!<&`\\]/g;

/** Has a paragraph of too many marks be text. */
const bounded: MarkdownConfig = {
  parseInline: [
    {
      name: "Bounded",
      before: "Escape",
      parse: ({ offset, text, end }, _, at) => {
        const isTooMuch = (): boolean => text.length > MOST_LETTERS || (text.match(MARKS)?.length ?? 0) > MOST_MARKS;
        return at === offset && isTooMuch() ? end : -1;
      },
    },
  ],
};

const markdown = parser.configure([Table, Strikethrough, TaskList, bounded]);

type Node = ReturnType<typeof markdown.parse>["topNode"];

/** A block, where its first line begins in the text, and how many parts it and those before it have. */
export interface Placed {
  readonly at: number;
  readonly block: Block;
  readonly parts: number;
}

/** The blocks of `text`, of at most so many parts. All of it in one plain block where it is nested too deep, or has more. */
export function parse(text: string, most = MOST_PARTS): readonly Placed[] {
  if (!DEEP.test(text)) {
    const reader = new Reader(text, most);
    try {
      return children(markdown.parse(text).topNode).flatMap((node) => {
        const at = text.lastIndexOf("\n", node.from - 1) + 1;
        return reader.block(node, 0).map((block) => ({ at, block, parts: reader.parts }));
      });
    } catch (error) {
      if (!(error instanceof TooMuch)) {
        throw error;
      }
    }
  }
  return [{ at: 0, block: { kind: "plain", text }, parts: 1 }];
}

/** The text is not to be taken apart. */
class TooMuch extends Error {}

class Reader {
  parts = 0;
  readonly #text: string;
  readonly #most: number;

  constructor(text: string, most: number) {
    [this.#text, this.#most] = [text, most];
  }

  /** The blocks in `node`; none where it is but a mark. */
  block(node: Node, depth: number): readonly Block[] {
    this.#count(depth);
    const { name } = node;
    const heading = /^(?:ATX|Setext)Heading(\d)$/.exec(name);
    if (heading !== null) {
      return [{ kind: "heading", level: Number(heading[1]), inside: this.#line(node, depth) }];
    }
    switch (name) {
      case "Paragraph":
      case "Task":
        return [{ kind: "paragraph", inside: this.#line(node, depth) }];
      case "FencedCode":
      case "CodeBlock":
        this.#count(depth, CODE_PARTS);
        return [this.#code(node)];
      case "Blockquote":
        return [{ kind: "quote", inside: this.#blocks(node, depth) }];
      case "BulletList":
      case "OrderedList":
        return [this.#list(node, depth)];
      case "Table":
        return [this.#table(node, depth)];
      case "HorizontalRule":
        return [{ kind: "rule" }];
      case "QuoteMark":
      case "ListMark":
        return [];
      default:
        return [{ kind: "plain", text: this.#raw(node) }];
    }
  }

  #count(depth: number, parts = 1): void {
    this.parts += parts;
    if (depth > MOST_DEPTH || this.parts > this.#most) {
      throw new TooMuch();
    }
  }

  #blocks(node: Node, depth: number): readonly Block[] {
    return children(node).flatMap((child) => this.block(child, depth + 1));
  }

  #list(node: Node, depth: number): List {
    const items = children(node).filter(({ name }) => name === "ListItem");
    const mark = items[0]?.getChild("ListMark");
    const start = node.name === "OrderedList" && mark ? Number.parseInt(this.#slice(mark), 10) : null;
    return { kind: "list", start, items: items.map((item) => this.#item(item, depth + 1)) };
  }

  #item(node: Node, depth: number): ListItem {
    const mark = node.getChild("Task")?.getChild("TaskMarker");
    return { done: mark ? /x/i.test(this.#slice(mark)) : null, inside: this.#blocks(node, depth) };
  }

  #code(node: Node): Code {
    const parts = children(node);
    const of = (name: string): readonly Node[] => parts.filter((part) => part.name === name);
    const [info] = of("CodeInfo");
    const [, language = "", about = ""] = /^(\S*)\s*(.*)$/s.exec(info === undefined ? "" : this.#slice(info)) ?? [];
    const text = of("CodeText")
      .map((part) => this.#slice(part))
      .join("");
    const isOpen = node.name === "FencedCode" && of("CodeMark").length < 2;
    return { kind: "code", language, about, text: isOpen ? text.replace(/\n$/, "") : text, closed: !isOpen };
  }

  #table(node: Node, depth: number): TableBlock {
    const parts = children(node);
    const cells = (row: Node): readonly Cell[] => this.#cells(row, depth + 1);
    const line = parts.find(({ name }) => name === "TableDelimiter");
    const sides = line === undefined ? [] : sidesOf(this.#slice(line));
    const head = parts.filter(({ name }) => name === "TableHeader").flatMap(cells);
    return { kind: "table", sides, head, rows: parts.filter(({ name }) => name === "TableRow").map(cells) };
  }

  /** The cells of a row: one that is empty is between two bars, and nowhere else. */
  #cells(row: Node, depth: number): readonly Cell[] {
    const cells: Cell[] = [];
    let isOpen = false;
    children(row).forEach((part, index) => {
      this.#count(depth);
      if (part.name === "TableCell") {
        cells.push(this.#line(part, depth));
        isOpen = true;
      } else if (part.name === "TableDelimiter") {
        if (!isOpen && index > 0) {
          cells.push([]);
        }
        isOpen = false;
      }
    });
    return cells;
  }

  /** What stands in the lines of `node`, without the space around it. */
  #line(node: Node, depth: number): readonly Inline[] {
    const inside = [...this.#inlines(node, node.from, node.to, depth, true)];
    const [first] = inside;
    if (first?.kind === "text") {
      inside[0] = { kind: "text", text: first.text.replace(/^[ \t\n]+/, "") };
    }
    const last = inside.at(-1);
    if (last?.kind === "text") {
      inside[inside.length - 1] = { kind: "text", text: withoutEnd(last.text) };
    }
    return inside.filter((part) => part.kind !== "text" || part.text !== "");
  }

  /** What stands between these two places of `node`. */
  #inlines(node: Node, from: number, to: number, depth: number, links: boolean): readonly Inline[] {
    const parts: Inline[] = [];
    let text = "";
    let at = from;
    const put = (...more: readonly Inline[]): void => {
      if (text !== "") {
        // Space around a line's end is none of the text.
        const said = lines(text).join("\n");
        const found: readonly Inline[] = links ? linked(said) : [{ kind: "text", text: said }];
        this.#count(depth, found.length);
        parts.push(...found);
        text = "";
      }
      parts.push(...more);
    };
    for (const child of children(node)) {
      if (child.from < from || child.to > to) {
        continue;
      }
      text += this.#text.slice(at, child.from);
      at = child.to;
      const plain = this.#plain(child);
      if (plain !== null) {
        text += plain;
      } else {
        put(...this.#inline(child, depth + 1, links));
      }
    }
    text += this.#text.slice(at, to);
    put();
    return parts;
  }

  /** The text of a part that is nothing but text; `null` of any other. */
  #plain(node: Node): string | null {
    switch (node.name) {
      case "EmphasisMark":
      case "StrikethroughMark":
      case "HeaderMark":
      case "QuoteMark":
      case "TaskMarker":
        return "";
      case "HardBreak":
        return "\n";
      case "Escape":
        return this.#slice(node).slice(1);
      case "Entity":
        return entityText(this.#slice(node));
      case "Emphasis":
      case "StrongEmphasis":
      case "Strikethrough":
      case "InlineCode":
      case "Link":
      case "Image":
      case "Autolink":
        return null;
      default:
        return this.#raw(node);
    }
  }

  #inline(node: Node, depth: number, links: boolean): readonly Inline[] {
    const inside = (): readonly Inline[] => this.#inlines(node, node.from, node.to, depth, links);
    this.#count(depth);
    switch (node.name) {
      case "Emphasis":
        return [{ kind: "emphasis", inside: inside() }];
      case "StrongEmphasis":
        return [{ kind: "strong", inside: inside() }];
      case "Strikethrough":
        return [{ kind: "strike", inside: inside() }];
      case "InlineCode":
        return [{ kind: "code", text: this.#inlineCode(node) }];
      case "Autolink":
        return [this.#autolink(node, links)];
      default:
        return this.#link(node, depth, links);
    }
  }

  #inlineCode(node: Node): string {
    const marks = node.getChildren("CodeMark");
    const [from, to] = [marks[0]?.to ?? node.from, marks.at(-1)?.from ?? node.to];
    const text = lines(this.#without(node, from, to)).join(" ");
    return text.startsWith(" ") && text.endsWith(" ") && /[^ ]/.test(text) ? text.slice(1, -1) : text;
  }

  #autolink(node: Node, links: boolean): Inline {
    const text = this.#slice(node).slice(1, -1);
    const address = !links ? null : addressOf(text.includes(":") ? text : `mailto:${text}`, text);
    return address === null
      ? { kind: "text", text: this.#slice(node) }
      : { kind: "link", address, inside: [{ kind: "text", text }] };
  }

  /** A link, or a picture: an address that is opened, or named. One to a place that the text gives elsewhere is text. */
  #link(node: Node, depth: number, links: boolean): readonly Inline[] {
    const [open, close] = node.getChildren("LinkMark");
    const url = node.getChild("URL");
    if (open === undefined || close === undefined || url === null) {
      const parts =
        open === undefined || close === undefined ? [] : this.#inlines(node, open.to, close.from, depth, links);
      const [before, after] = [open?.to ?? node.to, close?.from ?? node.to];
      const text = (from: number, to: number): Inline => ({ kind: "text", text: this.#text.slice(from, to) });
      return [text(node.from, before), ...parts, text(after, node.to)];
    }
    const written = this.#slice(url)
      .replace(/^<(.*)>$/s, "$1")
      .replace(/\\([!-/:-@[-`{-~])/g, "$1")
      .replace(/&(?:#x[0-9a-f]{1,6}|#[0-9]{1,7}|[a-z0-9]{1,31});/gi, entityText);
    const isImage = node.name === "Image";
    const inside = this.#inlines(node, open.to, close.from, depth, false);
    const said = isImage ? "" : inside.map((part) => (part.kind === "text" ? part.text : "\n")).join("");
    const address = links ? addressOf(written, said) : null;
    if (isImage || address === null) {
      return [{ kind: "named", what: isImage ? "image" : "file", text: written === said ? "" : written, inside }];
    }
    return [{ kind: "link", address, inside }];
  }

  #slice({ from, to }: Node): string {
    return this.#text.slice(from, to);
  }

  #raw(node: Node): string {
    return this.#without(node, node.from, node.to);
  }

  /** The text between two places, without the marks of a quote around it. */
  #without(node: Node, from: number, to: number): string {
    let text = "";
    let at = from;
    for (const mark of node.getChildren("QuoteMark")) {
      if (mark.from >= at && mark.to <= to) {
        text += this.#text.slice(at, mark.from);
        at = this.#text[mark.to] === " " ? mark.to + 1 : mark.to;
      }
    }
    return text + this.#text.slice(at, to);
  }
}

function children(node: Node): readonly Node[] {
  const all: Node[] = [];
  for (let child = node.firstChild; child !== null; child = child.nextSibling) {
    all.push(child);
  }
  return all;
}

/** The lines of `text`, without the space around their ends. */
function lines(text: string): readonly string[] {
  const all = text.split("\n");
  return all.map((line, index) => {
    const begun = index === 0 ? line : line.replace(/^[ \t]+/, "");
    return index === all.length - 1 ? begun : withoutEnd(begun);
  });
}

/** Without the space at its end. A pattern would look at each space of a long text anew. */
function withoutEnd(text: string): string {
  let end = text.length;
  while (" \t\n".includes(text.charAt(end - 1)) && end > 0) {
    end--;
  }
  return text.slice(0, end);
}

/** Of the line below a table's head. */
function sidesOf(line: string): readonly Side[] {
  return line
    .trim()
    .replace(/^\||\|$/g, "")
    .split("|")
    .map((cell) => cell.trim())
    .map((cell) => (cell.endsWith(":") ? (cell.startsWith(":") ? "center" : "end") : "start"));
}
