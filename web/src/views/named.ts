/**
 * Names in the app's own sentences: of hosts, devices, machines, folders, files. A name may have letters of any direction,
 * and backquotes: nothing of it is to move the words around it, or to stand as a command. {@link named} puts it between
 * marks, and `Words` shows what is between them as an element of its own. The marks are Unicode's isolates, which
 * `visibleLine` leaves in no text of others, so that no name ends before its end; and where a sentence is shown without
 * `Words`, they still do what they are for.
 */
import { visibleLine } from "../visible";

const BEGINS = "\u2068";
const ENDS = "\u2069";
const NAMES = new RegExp(`${BEGINS}([^${BEGINS}${ENDS}]*)${ENDS}`);

/** This name, in one line and with its hidden characters by their names, for a sentence that `Words` shows. */
export function named(name: string): string {
  return `${BEGINS}${visibleLine(name)}${ENDS}`;
}

/** A part of a sentence: the app's own words, a command to type, or a name. */
export interface Part {
  readonly kind: "words" | "command" | "name";
  readonly text: string;
}

/** A sentence in its parts; those without text are left out. What stands between backquotes is a command. */
export function partsOf(sentence: string): readonly Part[] {
  const parts = sentence.split(NAMES).flatMap((text, index): readonly Part[] => {
    if (index % 2 === 1) {
      return [{ kind: "name", text }];
    }
    return text.split("`").map((text, index) => ({ kind: index % 2 === 1 ? "command" : "words", text }));
  });
  return parts.filter(({ text }) => text !== "");
}
