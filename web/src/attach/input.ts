/** A prompt as Codex takes it: text, and what goes along with it. */
import { type AttachmentStore, isPicture } from "../store/attachments";
import { StoreError } from "../store/error";
import type { Attached, AttachmentRow } from "../store/schema";
import { shortened, visibleLine } from "../visible";

/** Codex's input items. */
export type InputItem =
  { readonly type: "text"; readonly text: string } | { readonly type: "image"; readonly url: string };

/** Most characters of a file's name. */
const MOST_NAME = 100;
/** Bytes that become text at once: functions take so many arguments. */
const PART = 32 * 1024;

/** The same each time, as a prompt that is sent again has to be. Rejects with {@link StoreError}. */
export async function inputOf(
  store: Pick<AttachmentStore, "read">,
  host: string,
  text: string,
  attached: readonly Attached[] = [],
): Promise<InputItem[]> {
  const ids = attached.map(({ id }) => id);
  const rows = ids.length === 0 ? [] : await store.read(host, ids);
  if (rows.length < ids.length) {
    // It is never sent without what belongs to it.
    throw new StoreError("failed");
  }
  const said: InputItem[] = text === "" ? [] : [{ type: "text", text }];
  return [...said, ...rows.map(itemOf)];
}

/** A text file in a prompt: its name, which is no path of the host, and all of it, fenced. */
export function fenced(name: string, text: string): string {
  const longest = Math.max(0, ...(text.match(/`+/g) ?? []).map(({ length }) => length));
  const fence = "`".repeat(Math.max(3, longest + 1));
  const end = text.endsWith("\n") ? "" : "\n";
  return `Attached file, from the device that sends this: ${nameOf(name)}\n\n${fence}\n${text}${end}${fence}`;
}

/** A file's name in one line, with nothing hidden in it. */
export function nameOf(name: string): string {
  const begins = shortened(name, MOST_NAME);
  const shown = shortened(visibleLine(begins.text), MOST_NAME);
  return (begins.left + shown.left > 0 ? `${shown.text}…` : shown.text).trim() || "without a name";
}

function itemOf(row: AttachmentRow): InputItem {
  return isPicture(row)
    ? { type: "image", url: `data:${row.type};base64,${base64(row.data)}` }
    : { type: "text", text: fenced(row.name, new TextDecoder().decode(row.data)) };
}

function base64(bytes: Uint8Array): string {
  let binary = "";
  for (let at = 0; at < bytes.length; at += PART) {
    binary += String.fromCharCode(...bytes.subarray(at, at + PART));
  }
  return btoa(binary);
}
