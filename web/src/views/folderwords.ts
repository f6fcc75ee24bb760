/** What the screens say of folders that are looked through. */
import type { FolderInfo } from "../api/types";
import type { FolderFault } from "../state/folders";
import { groupKey } from "../state/rows";
import type { ThreadsView } from "../state/threads";
import { visibleLine } from "../visible";
import { named } from "./named";
import { sentence } from "./sentence";

const GONE: Readonly<Record<string, string>> = {
  missing: "Go back, and choose another one.",
  outside: "Go back, and choose another one, or have the host's owner open this one: `reachback workspace add FOLDER`.",
  state: "Go back, and choose another one.",
  form: "Go back, and choose another one. At the host, `reachback workspace add FOLDER` opens it.",
};

const STEPS: Readonly<Record<string, string>> = {
  environment: "Close this, and choose a folder of another one.",
  scope:
    "Close this, and choose a workspace, or have the host's owner let this device approve: `reachback devices scope`.",
  method: "Close this, and choose a workspace. A newer Reachback at the host can show its folders.",
  ended: "Close this: once the host lets this device in again, look again.",
};

/** Why a folder does not show, what comes next, and whether asking again may help. Between backquotes is a command. */
export function folderFault({ reason, why, message }: FolderFault): {
  readonly what: string;
  readonly next: string;
  readonly again: boolean;
} {
  const next = reason === "folder" ? GONE[why] : STEPS[reason];
  return { what: sentence(message), next: next ?? "Try again.", again: next === undefined || why === "missing" };
}

/** Where a folder really is; `null` where its name says so. `within` is the folder that it was found in. */
export function whereWords({ name, path }: FolderInfo, within: FolderInfo | null): string | null {
  return within !== null && path === `${within.path.replace(/\/$/, "")}/${name}` ? null : visibleLine(path);
}

/** A path or a name as one word of a shell, for a command; a stand-in where somebody could not type what they see. */
export function shellWord(word: string, standIn = "FOLDER"): string {
  if (visibleLine(word) !== word || word.includes("`")) {
    return standIn;
  }
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", String.raw`'\''`)}'`;
}

/** What was read of threads, as far as it says how many there are in a folder. */
export type Read = Pick<ThreadsView, "query" | "rows" | "more" | "whole" | "awaited" | "faults">;

/**
 * How many threads of a folder are in the list that was read, and which branch the newest of them worked on last;
 * `null` where that does not say. The folder itself may be on another branch by now.
 */
export function threadsWords(read: Read, environment: string, path: string): string | null {
  const { query, rows, more, whole, awaited, faults } = read;
  if (rows === null || query.archived || query.search !== "") {
    return null;
  }
  const here = [...rows.values()].filter(
    (row) => row.environment === environment && row.info.folder === path && !row.leaving,
  );
  const isUnread = awaited.has(environment) || faults.has(environment);
  const isAll = !isUnread && (!more || whole.has(groupKey(environment, path)));
  const [newest, ...others] = here.sort((one, other) => other.info.changedAt - one.info.changedAt);
  if (newest === undefined) {
    return isAll ? "No threads yet" : null;
  }
  const number = others.length + 1;
  const count = `${number} thread${number === 1 ? "" : "s"}${isAll ? "" : " or more"}`;
  const branch = newest.info.branch ?? "";
  return branch === "" ? count : `${count} · last on ${named(branch)}`;
}
