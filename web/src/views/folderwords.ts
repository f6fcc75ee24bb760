/** What the screens say of folders that are looked through. */
import type { FolderInfo } from "../api/types";
import type { FolderFault } from "../state/folders";
import { visibleLine } from "../visible";

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

/** What a host says, as a sentence. */
export function sentence(message: string): string {
  const words = visibleLine(message).replace(/\.$/, "");
  return `${words.charAt(0).toUpperCase()}${words.slice(1)}.`;
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
