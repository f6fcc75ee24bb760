/** What the screens say of what Codex asks. */
import type { Choice } from "../api/types";
import type { Kind, Parts } from "../state/ask";
import type { Ask, Outcome, Shown } from "../state/asking";
import type { Scope } from "../scope";
import { strictlyVisible, visibleLine } from "../visible";
import { named } from "./named";

/** What is asked, and how that looks. */
export const KIND_WORDS: Readonly<
  Record<Kind, { readonly title: string; readonly icon: string; readonly end: string }>
> = {
  command: { title: "Run this command?", icon: "shield", end: "End of command" },
  files: { title: "Make these changes?", icon: "shield", end: "End of the changes" },
  permissions: { title: "Give Codex more reach?", icon: "shield", end: "End of the request" },
  question: { title: "Codex asks", icon: "ask", end: "End of the questions" },
  form: { title: "A tool server asks for a few values", icon: "tool", end: "End of the form" },
  link: { title: "A tool server asks to open a link", icon: "globe", end: "End of the request" },
  consent: { title: "A tool server asks for consent", icon: "tool", end: "End of the request" },
  unknown: { title: "A request this app does not know", icon: "warn", end: "End of the request" },
};

const LABELS: Readonly<Record<string, string>> = {
  request: "Request",
  kind: "Kind",
  claim: "Reason",
  folder: "Folder",
  environment: "Runs in",
  grantRoot: "Opens for longer",
  network: "Network",
  permissions: "More reach",
  server: "Tool server",
  mode: "Mode",
  title: "Title",
  message: "It says",
  description: "About it",
  link: "Address",
  other: "Also",
};

/** What a label of the host's is called here; one that is not known stays as it is. */
export function labelWords(label: string): string {
  return Object.hasOwn(LABELS, label) ? (LABELS[label] ?? label) : visibleLine(label);
}

/** Where in a text something is hidden, by line from 1; how many characters that are. */
export function hiddenIn(text: string): { readonly count: number; readonly lines: readonly number[] } {
  const counts = text.split("\n").map((line) => strictlyVisible(line).filter(({ hidden }) => hidden).length);
  const lines = counts.flatMap((count, index) => (count > 0 ? [index + 1] : []));
  return { count: counts.reduce((sum, count) => sum + count, 0), lines };
}

/** How long it waits. */
export function waitingWords(openedAt: number, now: number): string {
  return `waiting ${waitedWords(openedAt, now)}`;
}

/** The same, where it stands by itself. */
export function waitedWords(openedAt: number, now: number): string {
  const seconds = Math.max(0, Math.floor((now - openedAt) / 1_000));
  const [hours, minutes] = [Math.floor(seconds / 3_600), Math.floor(seconds / 60)];
  const two = (count: number): string => String(count).padStart(2, "0");
  return hours > 0 ? `${hours} h ${minutes % 60} min` : `${minutes}:${two(seconds % 60)}`;
}

/** That something is asked, in a sentence for who does not look: nothing of what is asked is in it. */
export function calledWords({ kind, parts }: Pick<Shown, "kind" | "parts">): string {
  const many = (count: number, one: string): string => (count === 1 ? `1 ${one}` : `${count} ${one}s`);
  switch (kind) {
    case "command":
      return `Codex asks to run a command, ${many(parts.command?.split("\n").length ?? 0, "line")}`;
    case "files":
      return `Codex asks to change ${many(parts.files.length, "file")}`;
    case "permissions":
      return "Codex asks for more reach";
    case "question":
      return `Codex asks ${many(parts.questions.length, "question")}`;
    case "unknown":
      return "Codex asks something that this app does not know";
    case "form":
    case "link":
    case "consent":
      return KIND_WORDS[kind].title;
  }
}

/** How many lines of a command, and letters of any text, fit a row of the inbox. */
const ROW = { lines: 3, letters: 240 };
/** What is said of a command that asks for nothing besides. */
const PLAIN: ReadonlySet<string> = new Set(["request", "kind", "folder", "environment"]);

/** Whether all of it fits a row of the inbox, as far as that can be said before it is laid out. */
export function fitsRow({ kind, parts }: Pick<Shown, "kind" | "parts">): boolean {
  const { command, claim, facts } = parts;
  if (kind !== "command" || command === null) {
    return false;
  }
  const others = [parts.form, ...parts.files, ...parts.questions, ...parts.missing];
  const isPlain = others.every((other) => other === null) && facts.every(({ label }) => PLAIN.has(label));
  const fits = (text: string): boolean =>
    hiddenIn(text).count === 0 && text.length <= ROW.letters && text.split("\n").length <= ROW.lines;
  return isPlain && [command, claim ?? "", ...facts.map(({ text }) => text)].every(fits);
}

/** Whether a command, as it is laid out, takes no more lines than fit a row of the inbox. */
export function isLow(lines: Iterable<Element>): boolean {
  const heights = [...lines].map((line) => line.clientHeight / parseFloat(getComputedStyle(line).lineHeight));
  return heights.reduce((sum, height) => sum + Math.max(1, Math.round(height)), 0) <= ROW.lines;
}

/** How much waits, at how many hosts of how many. */
export function inboxWords(count: number, hosts: number, all: number): string {
  const many = (hosts: number): string => (hosts === 1 ? "1 host" : `${hosts} hosts`);
  return count === 0 ? `Nothing waits on ${many(all)}` : `${count} waiting on ${many(hosts)}`;
}

/** What is said where nothing waits. */
export function quietWords(running: number): string {
  const shows = "What Codex asks, and what it has finished, shows up here, from all threads of all hosts.";
  return running === 0 ? shows : `${running === 1 ? "1 thread is" : `${running} threads are`} running. ${shows}`;
}

/** How many hidden or misleading characters there are. */
export function hiddenWords(count: number): string {
  return count === 1 ? "1 hidden or misleading character" : `${count} hidden or misleading characters`;
}

/** All texts of what is asked. */
export function textsOf(parts: Parts): readonly string[] {
  return [
    parts.command,
    parts.claim,
    parts.form,
    ...parts.facts.map(({ text }) => text),
    ...parts.files.flatMap(({ path, movedTo, diff }) => [path, movedTo, diff]),
    ...parts.questions.flatMap(({ header, question, options }) => [
      header,
      question,
      ...options.flatMap(({ label, explanation }) => [label, explanation]),
    ]),
  ].filter((text) => text !== null);
}

/** How far an acceptance can go that lasts, the shortest first. What is asked stands with it. */
export function lastingWords({
  kind,
  parts,
}: Pick<Shown, "kind" | "parts">): readonly {
  readonly lasts: "turn" | "session";
  readonly title: string;
  readonly note: string;
}[] {
  const again = "Codex does not ask again until it ends.";
  if (kind === "permissions") {
    return [
      { lasts: "turn", title: "This turn", note: "Codex may do that until the turn ends." },
      {
        lasts: "session",
        title: "This thread",
        note: "Codex may do that until it ends, in every turn of this thread.",
      },
    ];
  }
  if (kind === "files") {
    const one = parts.files.length === 1;
    const title = one ? "This file, in this thread" : "These files, in this thread";
    return [{ lasts: "session", title, note: `${again} What it writes into ${one ? "it" : "them"} may be anything.` }];
  }
  return [{ lasts: "session", title: "Exactly this command, in this thread", note: again }];
}

/** What the digest is called on a screen. */
export function digestWords(digest: string): string {
  return `${digest.slice(0, 4)}…${digest.slice(-4)}`;
}

const DONE: Readonly<Record<Choice, string>> = {
  accept: "accepted once",
  acceptForLonger: "accepted for longer",
  decline: "declined",
  cancel: "declined, and stopped the turn",
  answer: "answered",
};

const ABOUT: Readonly<Record<Kind, string>> = {
  command: "a command",
  files: "a change to files",
  permissions: "more reach for Codex",
  question: "what Codex asked",
  form: "a form of a tool server",
  link: "a link of a tool server",
  consent: "a tool call",
  unknown: "a request",
};

/** How a request ended, as a sentence with names; `host` is how its host is called in one. */
export function outcomeWords(outcome: Outcome, host: string): string {
  const { by, ours, decision, kind, late, missed } = outcome;
  const about = ABOUT[kind];
  const who = by === null ? null : by.name === "" ? "Another device" : named(by.name);
  if (late) {
    const counts =
      who === null || decision === null
        ? "It was answered at the host, or its turn had ended"
        : `${who} ${DONE[decision]} first`;
    return `${counts}: ${about}. Your answer did nothing.`;
  }
  if (ours && decision !== null) {
    return `You ${DONE[decision]}: ${about}.`;
  }
  if (who !== null) {
    return `${who} ${decision === null ? "answered" : DONE[decision]}: ${about}.`;
  }
  if (missed) {
    return `No longer asked: ${about}. It was answered, or its turn ended, while this device did not hear ${host}.`;
  }
  return `No longer asked: ${about}. It was answered at ${host}, or its turn ended.`;
}

/** Why this device can't answer, and what would let it; `null` where it can. `host` is how its host is called in a sentence. */
export function boundAskWords(
  { info }: Pick<Ask, "info">,
  { scope, device, host }: { readonly scope: Scope; readonly device: string; readonly host: string },
  covers: boolean,
): string | null {
  if (info.needed === undefined) {
    return `Only the terminal at ${host} can answer this.`;
  }
  return covers
    ? null
    : `Answering this needs \`${info.needed}\`; this device has \`${scope}\`. At the host: \`reachback devices scope ${device} ${info.needed}\``;
}
