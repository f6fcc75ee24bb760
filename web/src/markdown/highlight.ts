/** Code in colours, as pieces of text. It is much, so that it is loaded when the first code is there. */
import { common, createLowlight } from "lowlight";

/** One of the few looks that code has, as the style sheets call it. */
export type Look = "sk" | "ss" | "sn" | "sf" | "sc" | "sa" | "sd";

/** A piece of code. */
export interface CodePiece {
  readonly text: string;
  readonly look: Look | null;
}

/** What the library calls the parts of code. */
const LOOKS: Readonly<Record<string, Look>> = {
  keyword: "sk",
  built_in: "sk",
  type: "sk",
  literal: "sn",
  tag: "sk",
  name: "sk",
  "selector-tag": "sk",
  string: "ss",
  regexp: "ss",
  char: "ss",
  symbol: "ss",
  "template-tag": "ss",
  number: "sn",
  bullet: "sn",
  variable: "sn",
  "template-variable": "sn",
  attr: "sf",
  attribute: "sf",
  title: "sf",
  section: "sf",
  property: "sf",
  "selector-class": "sf",
  "selector-id": "sf",
  comment: "sc",
  quote: "sc",
  doctag: "sc",
  meta: "sc",
  addition: "sa",
  deletion: "sd",
};

const lowlight = createLowlight(common);

type Node = ReturnType<typeof lowlight.highlight>["children"][number];

/** `code` in pieces that follow each other; `null` where nobody knows the language. */
export function highlight(code: string, language: string): readonly CodePiece[] | null {
  const name = language.toLowerCase();
  if (!lowlight.registered(name)) {
    return null;
  }
  const pieces: CodePiece[] = [];
  const walk = (nodes: readonly Node[], look: Look | null): void => {
    for (const node of nodes) {
      if (node.type === "text") {
        pieces.push({ text: node.value, look });
      } else if (node.type === "element") {
        walk(node.children, lookOf(node.properties.className) ?? look);
      }
    }
  };
  walk(lowlight.highlight(name, code).children, null);
  return pieces;
}

function lookOf(names: unknown): Look | null {
  const name = Array.isArray(names) ? String(names[0]).replace(/^hljs-/, "") : "";
  return Object.hasOwn(LOOKS, name) ? (LOOKS[name] ?? null) : null;
}
