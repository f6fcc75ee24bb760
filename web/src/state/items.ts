/**
 * The items of a thread, as text: what Codex has, taken apart, and what its notifications make of it. Nothing here
 * asks a host.
 */
import type { PageItem } from "../api/types";
import type { FileChange } from "../diff";
import { type Json, isJson, json, list, text } from "../json";
import { NO_OUTPUT, type Output, outputAfter, outputOf, own, unhalved } from "./output";
import { type WorkKind, unknownOf, workOf } from "./works";

/** Whose word it is, or what was done. */
export type ItemKind = "you" | "codex" | "thought" | "command" | "change" | "error" | WorkKind | "other";

/** A file that is changed, and how many characters of its diff are not kept. */
export interface ItemChange extends FileChange {
  readonly left: number;
}

/** Most that is kept of the files that one item changes: how many, and how many characters in all. */
const MOST_CHANGES = 500;
const MOST_CHANGED = 256 * 1024;

/** One item. */
export interface Item {
  /** Unlike any other of its thread: Codex's ids are that within a turn. */
  readonly id: string;
  readonly kind: ItemKind;
  /** What was done, in the app's words; nothing where the kind says it. */
  readonly verb: string;
  /** What is said; of work, what is done. */
  readonly text: string;
  /** What came of it, such as a command's output. */
  readonly output: Output;
  /** The files that are changed, as many as are kept, and how many are not. */
  readonly changes: readonly ItemChange[];
  readonly moreChanges: number;
  /** How it ended, where it says so: a command's exit code, or a word of Codex's. */
  readonly end: string;
  /** Whether it is being written. */
  readonly live: boolean;
  /** Whether there is more of it than came. */
  readonly cut: boolean;
  /** The id that whoever sent it gave it; nothing where that is not known. */
  readonly client: string;
  /** How many pictures came along with what a person said: hosts give none of them back. */
  readonly pictures: number;
}

/** The item that Codex has; `live` while it is being written. */
export function itemOf(turn: string, raw: Json, live: boolean): Item {
  const id = idOf(turn, raw.id);
  const said = (kind: ItemKind, what: string, output = "", end = ""): Item => ({
    ...blank(id, kind, live),
    text: what,
    output: outputOf(output),
    end,
    client: text(raw.clientId),
  });
  switch (raw.type) {
    case "userMessage":
      return { ...said("you", inputTexts(raw.content) || text(raw.text)), pictures: picturesIn(raw.content) };
    case "agentMessage":
    case "plan":
      return said("codex", text(raw.text));
    case "reasoning":
      return said("thought", texts(raw.summary).join("\n\n") || text(raw.text));
    case "commandExecution":
      return said("command", text(raw.command), text(raw.aggregatedOutput) || text(raw.text), commandEnd(raw));
    case "fileChange":
      return { ...said("change", "", text(raw.text), text(raw.status)), ...changesOf(raw.changes) };
    default: {
      const work = workOf(raw);
      return work === null
        ? said("other", text(raw.type), text(raw.text) || unknownOf(raw))
        : { ...said(work.kind, work.text, work.output || text(raw.text), work.end), verb: work.verb };
    }
  }
}

/** The item of a page. */
export function itemOfPage({ turnId, item, size, outputDeferred }: PageItem): Item {
  const cut = size !== undefined || outputDeferred === true;
  return { ...itemOf(turnId, item, item.status === "inProgress"), cut };
}

/** What a notification changes in items that follow each other, the oldest first. `null` where it changes none. */
export function itemsAfter(items: readonly Item[], method: string, params: Json): readonly Item[] | null {
  switch (method) {
    case "item/started":
      return put(items, itemOf(text(params.turnId), json(params.item), true));
    case "item/completed":
      return put(items, itemOf(text(params.turnId), json(params.item), false));
    case "item/agentMessage/delta":
    case "item/plan/delta":
      return append(items, params, "codex", saidMore);
    case "item/reasoning/summaryTextDelta":
      return append(items, params, "thought", saidMore);
    case "item/commandExecution/outputDelta":
      return append(items, params, "command", (item, more) => ({ output: outputAfter(item.output, more) }));
    case "item/fileChange/patchUpdated":
      return append(items, params, "change", () => changesOf(params.changes));
    case "turn/completed":
      return itemsOfEnd(items, json(params.turn));
    default:
      return null;
  }
}

/** Items of an older page, the newest first as they came, before those that are there. */
export function itemsBefore(page: readonly PageItem[], items: readonly Item[]): readonly Item[] {
  const all = new Map([...items].reverse().map((item) => [item.id, item]));
  for (const item of page.map(itemOfPage)) {
    // What was heard since is newer than the page.
    all.set(item.id, all.get(item.id) ?? item);
  }
  return [...all.values()].reverse();
}

/** The turn and Codex's own id of an item. */
export function namesOf(id: string): { readonly turn: string; readonly item: string } {
  const at = id.indexOf(" ");
  return { turn: id.slice(0, at), item: id.slice(at + 1) };
}

/** A command with all of its output, as Codex has it. */
export interface WholeCommand {
  readonly command: string;
  readonly output: string;
  /** As in {@link Item}. */
  readonly end: string;
  readonly live: boolean;
}

/** The command that an item is; `null` where it is none. */
export function commandOf(raw: Json): WholeCommand | null {
  return raw.type !== "commandExecution"
    ? null
    : {
        command: text(raw.command),
        output: text(raw.aggregatedOutput),
        end: commandEnd(raw),
        live: raw.status === "inProgress",
      };
}

function idOf(turn: string, id: unknown): string {
  return `${turn} ${text(id)}`;
}

function put(items: readonly Item[], item: Item): readonly Item[] {
  const isThere = items.some(({ id }) => id === item.id);
  return isThere ? items.map((other) => (other.id === item.id ? item : other)) : [...items, item];
}

/** What is known of an item whose beginning was not heard. */
function blank(id: string, kind: ItemKind, live: boolean): Item {
  const nothing = {
    verb: "",
    text: "",
    output: NO_OUTPUT,
    changes: [],
    moreChanges: 0,
    end: "",
    cut: false,
    client: "",
    pictures: 0,
  };
  return { id, kind, live, ...nothing };
}

/** How a piece of an item changes it. */
type More = (item: Item, more: string) => Partial<Item>;

function append(items: readonly Item[], params: Json, kind: ItemKind, more: More): readonly Item[] {
  const id = idOf(text(params.turnId), params.itemId);
  const found = items.find((item) => item.id === id);
  const item = found ?? blank(id, kind, true);
  // A piece that comes after the whole is in it.
  return found?.live === false ? items : put(items, { ...item, ...more(item, text(params.delta)) });
}

function saidMore({ text: said }: Item, more: string): Partial<Item> {
  return { text: said + more };
}

/** What a turn's end changes. It may come without its items: each of them has come whole before. */
export function itemsOfEnd(items: readonly Item[], turn: Json): readonly Item[] {
  const still = items.map((item) => (item.live ? { ...item, live: false } : item));
  const failure = isJson(turn.error) ? text(turn.error.message) : "";
  if (turn.status !== "failed") {
    return still;
  }
  const error = failure || "The turn failed.";
  const id = idOf(text(turn.id), "error");
  return put(still, { ...blank(id, "error", false), text: error });
}

/** What a person gave, as text; pictures that came along are not in it. */
export function inputTexts(input: unknown): string {
  return list(input)
    .filter((one) => !isPicture(one))
    .map(inputText)
    .join("\n");
}

/** How many pictures came along. */
export function picturesIn(input: unknown): number {
  return list(input).filter(isPicture).length;
}

function isPicture(input: unknown): boolean {
  const { type, url } = json(input);
  return type === "image" && text(url).startsWith("data:");
}

function inputText(input: unknown): string {
  const { type, text: said, path, url } = json(input);
  return type === "text" ? text(said) : `[${[text(type), text(path) || hostOf(text(url))].filter(Boolean).join(" ")}]`;
}

/** Where an image is from; one that is in the text itself is not repeated. */
function hostOf(url: string): string {
  return URL.canParse(url) ? new URL(url).host : "";
}

function texts(value: unknown): readonly string[] {
  return list(value).map(text).filter(Boolean);
}

function commandEnd({ exitCode, status }: Json): string {
  if (typeof exitCode === "number") {
    return exitCode === 0 ? "" : `exit ${exitCode}`;
  }
  return status === "declined" || status === "failed" ? status : "";
}

/** The files of a change, as much of them as is kept. */
function changesOf(raw: unknown): Pick<Item, "changes" | "moreChanges"> {
  const all = list(raw).map(json);
  const changes: ItemChange[] = [];
  let room = MOST_CHANGED;
  for (const { path, kind, diff } of all.slice(0, MOST_CHANGES)) {
    const { type, move_path: movedTo } = json(kind);
    const whole = text(diff);
    const kept = whole.length <= room ? whole : own(whole.slice(0, unhalved(whole, room)));
    room -= kept.length;
    const moved = typeof movedTo === "string" ? movedTo : null;
    changes.push({
      path: text(path),
      change: text(type),
      movedTo: moved,
      diff: kept,
      left: whole.length - kept.length,
    });
  }
  return { changes, moreChanges: all.length - changes.length };
}
