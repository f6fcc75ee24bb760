/** What the screens say of threads. */
import type { Item } from "../state/items";
import type { Goal } from "../state/goals";
import type { WorkKind } from "../state/works";
import { type Row, type ThreadState, stateOf } from "../state/rows";
import { shortened, visibleLine } from "../visible";
import { named } from "./named";
import { timeOf } from "./words";

/** How a state looks, and what it is called. */
interface StateWords {
  readonly icon: string;
  readonly look: "accent" | "bad" | "";
  readonly text: string;
}

const STATES: Readonly<Record<ThreadState, StateWords>> = {
  approval: { icon: "shield", look: "accent", text: "Waiting: asks to do something" },
  answer: { icon: "ask", look: "accent", text: "Waiting: asks a question" },
  running: { icon: "ring", look: "", text: "Running" },
  failed: { icon: "fail", look: "bad", text: "Failed" },
  interrupted: { icon: "idle", look: "", text: "Stopped" },
  done: { icon: "idle", look: "", text: "Done" },
  unread: { icon: "done", look: "", text: "Done" },
  idle: { icon: "idle", look: "", text: "" },
};

/** How a thread is, for its row: Codex's own words stay visible in all of their characters. */
export function rowWords(row: Row): StateWords {
  const words = STATES[stateOf(row)];
  const error = row.attention?.state === "failed" ? row.attention.error : undefined;
  const said = error === undefined ? words.text : `${words.text}: ${named(error)}`;
  const branch = row.info.branch ?? "";
  return { ...words, text: [said, branch === "" ? "" : named(branch)].filter((part) => part !== "").join(" · ") };
}

/** Most letters of a line that is cut at its end anyway. */
const MOST_FIRST = 200;

/** What a folder is called: its last part. */
export function folderName(path: string): string {
  const parts = path.split(/[\\/]/).filter((part) => part !== "");
  return visibleLine(parts.at(-1) ?? path);
}

/** How long ago that was; a date where it is more than a day. Both are milliseconds since 1970. */
export function ago(at: number, now: number): string {
  const minutes = Math.floor(Math.max(0, now - at) / 60_000);
  if (minutes < 1) {
    return "now";
  }
  if (minutes < 60) {
    return `${minutes} m`;
  }
  const hours = Math.floor(minutes / 60);
  return hours < 24 ? `${hours} h` : new Intl.DateTimeFormat("en", dateOf(at, now)).format(at);
}

function dateOf(at: number, now: number): Intl.DateTimeFormatOptions {
  const isThisYear = new Date(at).getFullYear() === new Date(now).getFullYear();
  return { day: "numeric", month: "short", ...(!isThisYear && { year: "numeric" }) };
}

/** A date in full, for who wants to know it exactly. */
export function fullDate(at: number): string {
  return new Intl.DateTimeFormat("en", { dateStyle: "long", timeStyle: "short", hourCycle: "h23" }).format(at);
}

/** How old the list is, for the header of a host that is away. */
export function asOf(at: number | null, now: number): string {
  return at === null ? "" : ` · list as of ${timeOf(at, now)}`;
}

/** Who speaks in an item, or what is done there: for who can't see how it looks. */
export const ITEM_WORDS: Readonly<Record<Item["kind"], string>> = {
  you: "You",
  codex: "Codex",
  thought: "Thought",
  command: "Command",
  change: "Changed files",
  error: "Error",
  tool: "Called",
  search: "Searched",
  image: "Looked at",
  agent: "Sub-agent",
  note: "Work",
  other: "Something this app does not know:",
};

/** The picture of a work. */
export const WORK_ICONS: Readonly<Record<WorkKind | "other", string>> = {
  tool: "tool",
  search: "globe",
  image: "image",
  agent: "fork",
  note: "more",
  other: "ask",
};

/** The beginning of a text, in one line. */
export function lineWords(text: string): string {
  return visibleLine(shortened(text.trim(), MOST_FIRST).text);
}

/** The beginning of a text in Markdown, in one line and without its marks. */
export function firstWords(text: string): string {
  const [line = ""] = text.trimStart().split("\n", 1);
  return visibleLine(shortened(line.replace(/[*_`#]/g, "").trim(), MOST_FIRST).text);
}

const GOALS: ReadonlyMap<string, { readonly is: string; readonly waits: boolean }> = new Map([
  ["active", { is: "goal", waits: false }],
  ["paused", { is: "goal paused", waits: true }],
  ["blocked", { is: "goal blocked", waits: true }],
  ["usageLimited", { is: "goal at the usage limit", waits: true }],
  ["budgetLimited", { is: "goal at its budget", waits: false }],
  ["complete", { is: "goal reached", waits: false }],
]);

/** How a goal is, what it says in one line, and whether it waits for somebody to go on with it. */
export function goalWords({ objective, status }: Goal): {
  readonly is: string;
  readonly objective: string;
  readonly waits: boolean;
} {
  const known = GOALS.get(status) ?? { is: `goal ${visibleLine(status)}`, waits: false };
  return { ...known, objective: visibleLine(shortened(objective, MOST_FIRST).text) };
}

/** Most letters of a title that is one of several things in a line. */
const MOST_TITLE = 60;

/** The beginning of a thread's title. */
export function titleWords(title: string): string {
  const { text, left } = shortened(title, MOST_TITLE);
  return visibleLine(text) + (left > 0 ? "…" : "");
}

/** How shells are called to run one line, which is what a person wants to see of it first. */
const SHELL = /^(?:\S*\/)?(?:ba|da|z)?sh -l?c (['"]?)(.*)\1$/s;

/** The beginning of a command, in one line. */
export function commandWords(command: string): string {
  const [, , inside] = SHELL.exec(shortened(command).text) ?? [];
  const [line = ""] = (inside ?? command).trimStart().split("\n", 1);
  return visibleLine(shortened(line, MOST_FIRST).text);
}

/** How a command stands, or ended. */
export function endWords({ live, end }: Pick<Item, "live" | "end">): string {
  return live ? "running" : end === "" ? "exit 0" : end;
}

/** Whether work did not end as it should. */
export function hasFailed({ kind, live, end }: Item): boolean {
  return !live && (kind === "command" ? end !== "" : end === "declined" || end === "failed");
}
