/**
 * What is changed in a file, as lines: of a file that is new or deleted all of it, else a unified diff. A diff that is
 * none is there as it is, line by line, and counts nothing.
 */

/** A file as it would be changed, or was, in Codex's words. */
export interface FileChange {
  readonly path: string;
  /** `add`, `delete`, `update`; a newer Codex may say something else. */
  readonly change: string;
  readonly movedTo: string | null;
  readonly diff: string;
}

/** A line of a change; a `hunk` is what stands between lines of the file, such as where they are. */
export interface DiffLine {
  readonly look: "" | "add" | "del" | "hunk";
  /** Its number in the file before, and after. */
  readonly before: number | null;
  readonly after: number | null;
  readonly sign: "" | "+" | "−";
  readonly text: string;
}

/** A change, taken apart. */
export interface Diff {
  readonly lines: readonly DiffLine[];
  /** How many lines come, and go; `null` where the diff is there as it is. */
  readonly counts: { readonly added: number; readonly removed: number } | null;
}

/** The lines of a text, as many as there are, and whether it ends in the middle of one. */
export function linesOf(text: string): { readonly lines: readonly string[]; readonly open: boolean } {
  const lines = text.split("\n");
  const open = lines.at(-1) !== "";
  return { lines: open ? lines : lines.slice(0, -1), open };
}

/** A change as its lines. `cut`: its end is not there. */
export function diffOf(file: FileChange, cut = false): Diff {
  const { lines } = linesOf(file.diff);
  if (file.change === "add" || file.change === "delete") {
    return wholeFile(file.diff === "" ? [] : lines, file.change === "add");
  }
  return unified(lines, file.movedTo, cut) ?? { lines: lines.map(between), counts: null };
}

/** A line before and after, each `null` where there is none; or what stands between lines of the file. */
export type SplitLine =
  | { readonly between: DiffLine }
  | { readonly between: null; readonly before: DiffLine | null; readonly after: DiffLine | null };

/** The lines of a change with before and after beside each other: what goes stands beside what comes in its place. */
export function splitOf(lines: readonly DiffLine[]): readonly SplitLine[] {
  const rows: SplitLine[] = [];
  let [gone, come]: [DiffLine[], DiffLine[]] = [[], []];
  const put = (): void => {
    for (let at = 0; at < Math.max(gone.length, come.length); at++) {
      rows.push({ between: null, before: gone[at] ?? null, after: come[at] ?? null });
    }
    [gone, come] = [[], []];
  };
  for (const line of lines) {
    if (line.look === "add") {
      come.push(line);
    } else if (line.look === "del") {
      if (come.length > 0) {
        put();
      }
      gone.push(line);
    } else {
      put();
      rows.push(line.look === "hunk" ? { between: line } : { between: null, before: line, after: line });
    }
  }
  put();
  return rows;
}

function wholeFile(lines: readonly string[], isNew: boolean): Diff {
  const [added, removed] = isNew ? [lines.length, 0] : [0, lines.length];
  return {
    lines: lines.map((text, index) =>
      isNew
        ? { look: "add", before: null, after: index + 1, sign: "+", text }
        : { look: "del", before: index + 1, after: null, sign: "−", text },
    ),
    counts: { added, removed },
  };
}

function between(text: string): DiffLine {
  return { look: "hunk", before: null, after: null, sign: "", text };
}

const HUNK = /^@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@(?: |$)/;
/** What tools write before the first hunk. */
const HEADER =
  /^(?:diff |index |--- |\+\+\+ |(?:old|new|deleted) (?:file )?mode |similarity index |rename (?:from|to) )/;

/** The lines of a unified diff; `null` for what is none. */
function unified(texts: readonly string[], movedTo: string | null, cut: boolean): Diff | null {
  const lines: DiffLine[] = [];
  let [before, after] = [0, 0];
  /** How many lines the hunk still has, of the file before and after. */
  let [olds, news] = [0, 0];
  let [added, removed] = [0, 0];
  let begun = false;
  for (const [index, text] of texts.entries()) {
    const hunk = olds === 0 && news === 0 ? HUNK.exec(text) : null;
    if (hunk !== null) {
      [before, after] = [Number(hunk[1]), Number(hunk[3])];
      [olds, news] = [Number(hunk[2] ?? 1), Number(hunk[4] ?? 1)];
      begun = true;
      lines.push(between(text));
    } else if (text.startsWith("\\") && begun) {
      lines.push(between(text));
    } else if (text.startsWith("+") && news > 0) {
      lines.push({ look: "add", before: null, after: after++, sign: "+", text: text.slice(1) });
      [news, added] = [news - 1, added + 1];
    } else if (text.startsWith("-") && olds > 0) {
      lines.push({ look: "del", before: before++, after: null, sign: "−", text: text.slice(1) });
      [olds, removed] = [olds - 1, removed + 1];
    } else if ((text === "" || text.startsWith(" ")) && olds > 0 && news > 0) {
      lines.push({ look: "", before: before++, after: after++, sign: "", text: text.slice(1) });
      [olds, news] = [olds - 1, news - 1];
    } else if (olds === 0 && news === 0 && texts.length - index <= 3 && isMove(texts.slice(index), movedTo)) {
      // Codex writes it below the diff: the file's own line says it.
      break;
    } else if (!begun && HEADER.test(text)) {
      lines.push(between(text));
    } else {
      return null;
    }
  }
  const isWhole = olds === 0 && news === 0 && (begun || texts.length === 0 || movedTo !== null);
  return isWhole || cut ? { lines, counts: { added, removed } } : null;
}

/** Whether what is left of a diff says no more than where the file is now. */
function isMove(rest: readonly string[], movedTo: string | null): boolean {
  const said = rest.filter((text) => text !== "");
  return movedTo !== null && said.length === 1 && said[0] === `Moved to: ${movedTo}`;
}
