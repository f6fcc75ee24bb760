/** What the screens say of files that are changed. */
import type { FileChange } from "../diff";
import type { Item } from "../state/items";
import { visibleLine } from "../visible";

/** What is done to a file; what is not known here stays in Codex's words. */
export const CHANGES: Readonly<Record<string, string>> = { add: "new", delete: "deleted", update: "changed" };

/** Of a diff that is none. */
export const UNREAD = "This is no difference that this app can read: here is all of it, as it came.";

/** What became of a change to so many files, or to the one with this name. */
export function changeWords({ end, live, changes, moreChanges }: Item): string {
  const count = changes.length + moreChanges;
  const files = count === 0 ? "files" : count === 1 ? "1 file" : `${count} files`;
  if (live) {
    return `Changing ${files}`;
  }
  switch (end) {
    case "declined":
      return `Would have changed ${files}`;
    case "failed":
      return `Tried to change ${files}`;
    case "inProgress":
      return `Began to change ${files}`;
    default:
      return `Changed ${files}`;
  }
}

/** What is done to a file, in words. */
export function kindWords({ change, movedTo, diff }: FileChange): string {
  if (change === "update" && movedTo !== null) {
    return /^@@/m.test(diff) ? "moved and changed" : "moved";
  }
  return Object.hasOwn(CHANGES, change) ? (CHANGES[change] ?? change) : visibleLine(change);
}

/** Where a file is, as seen from the folder that its thread works in. */
export function pathWords(path: string, folder: string | null): string {
  const isInside =
    folder !== null && folder !== "" && path.startsWith(folder) && /^[\\/]./.test(path.slice(folder.length));
  return isInside ? path.slice(folder.length + 1) : path;
}
