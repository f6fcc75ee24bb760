/** What a text in Markdown becomes: this and nothing else. There is no HTML in it, and no picture. */

/** A part of a line. */
export type Inline =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "code"; readonly text: string }
  | { readonly kind: "emphasis"; readonly inside: readonly Inline[] }
  | { readonly kind: "strong"; readonly inside: readonly Inline[] }
  | { readonly kind: "strike"; readonly inside: readonly Inline[] }
  | { readonly kind: "link"; readonly address: Address; readonly inside: readonly Inline[] }
  /** A link that opens nothing, such as one to a file, or a picture, which is not loaded. */
  | {
      readonly kind: "named";
      readonly what: "file" | "image";
      readonly text: string;
      readonly inside: readonly Inline[];
    };

/** Where a link leads: checked. */
export interface Address {
  readonly href: string;
  /** The host, or who gets the mail, where the text does not say the same. */
  readonly where: string | null;
}

/** A part of a text. */
export type Block =
  | { readonly kind: "paragraph"; readonly inside: readonly Inline[] }
  | { readonly kind: "heading"; readonly level: number; readonly inside: readonly Inline[] }
  | Code
  | { readonly kind: "quote"; readonly inside: readonly Block[] }
  | List
  | Table
  | { readonly kind: "rule" }
  /** As it is: what is no Markdown, or too much of it. */
  | { readonly kind: "plain"; readonly text: string };

/** A block of code. */
export interface Code {
  readonly kind: "code";
  readonly language: string;
  /** What stands beside the language, such as a path. */
  readonly about: string;
  readonly text: string;
  /** Whether its end was seen. */
  readonly closed: boolean;
}

/** A list. */
export interface List {
  readonly kind: "list";
  /** The first number; `null` where it has none. */
  readonly start: number | null;
  readonly items: readonly ListItem[];
}

/** What stands in a list. */
export interface ListItem {
  /** Whether it is done, where that is asked. */
  readonly done: boolean | null;
  readonly inside: readonly Block[];
}

/** A table. */
export interface Table {
  readonly kind: "table";
  readonly sides: readonly Side[];
  readonly head: readonly Cell[];
  readonly rows: readonly (readonly Cell[])[];
}

/** What stands in a table. */
export type Cell = readonly Inline[];

/** To which side of its column a cell goes. */
export type Side = "start" | "center" | "end";
