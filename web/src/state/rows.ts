/** The threads of a list in groups: what stands where, and how each one is. Nothing here asks a host. */
import type { AttentionInfo, ThreadInfo } from "../api/types";

/** How a thread is, as a list tells it. */
export type ThreadState = "approval" | "answer" | "running" | "failed" | "interrupted" | "done" | "unread" | "idle";

/** A thread in a list. */
export interface Row {
  readonly environment: string;
  readonly info: ThreadInfo;
  /** What the host last said of it that is worth attention. */
  readonly attention: AttentionInfo | null;
  /** When it had changed last as it came into the list, by which it stands in its group. */
  readonly settledAt: number;
  /** It was archived here a moment ago, and can come back. */
  readonly leaving: boolean;
}

/** The threads of one folder. */
export interface Group {
  readonly key: string;
  readonly environment: string;
  readonly folder: string;
  readonly rows: readonly Row[];
}

/** Names a thread among all of a host. */
export function rowKey(environment: string, thread: string): string {
  return JSON.stringify([environment, thread]);
}

/** Names a folder among all of a host. */
export function groupKey(environment: string, folder: string): string {
  return JSON.stringify([environment, folder]);
}

/** How a thread is: what wants a person first. */
export function stateOf({ info, attention }: Pick<Row, "info" | "attention">): ThreadState {
  switch (attention?.state) {
    case "waitingOnApproval":
      return "approval";
    case "waitingOnAnswer":
      return "answer";
    case "running":
    case "failed":
    case "interrupted":
      return attention.state;
    case "done":
      return info.unread === true ? "unread" : "done";
    case undefined:
      return stateByCodex(info);
  }
}

function stateByCodex({ status, waitingOn = [], unread }: ThreadInfo): ThreadState {
  if (waitingOn.includes("waitingOnApproval")) {
    return "approval";
  }
  if (waitingOn.length > 0) {
    return "answer";
  }
  if (status === "active" || status === "systemError") {
    return status === "active" ? "running" : "failed";
  }
  return unread === true ? "unread" : "idle";
}

/** What a list shows of all. */
export type Filter = "all" | "waiting" | "running" | "unread";

/** Whether a thread is one of those. */
export function passes(row: Row, filter: Filter): boolean {
  const state = stateOf(row);
  switch (filter) {
    case "all":
      return true;
    case "waiting":
      return state === "approval" || state === "answer";
    case "running":
      return state === "running";
    case "unread":
      return row.info.unread === true;
  }
}

/** Whether the title has these words, as the host looks for them. */
export function matches(row: Row, search: string): boolean {
  return row.info.title.toLowerCase().includes(search.trim().toLowerCase());
}

/** Rows by folder: the groups in this order, whatever is not in it after that; in a group the newest first. */
export function grouped(rows: Iterable<Row>, order: readonly string[]): readonly Group[] {
  const groups = new Map<string, Row[]>(order.map((key) => [key, []]));
  for (const row of rows) {
    const key = groupKey(row.environment, row.info.folder);
    const group = groups.get(key);
    if (group === undefined) {
      groups.set(key, [row]);
    } else {
      group.push(row);
    }
  }
  return [...groups].flatMap(([key, found]) => {
    const [first] = found;
    return first === undefined
      ? []
      : [{ key, environment: first.environment, folder: first.info.folder, rows: found.sort(newestFirst) }];
  });
}

/** The groups of these rows, the one that changed last first. */
export function settledOrder(rows: Iterable<Row>): readonly string[] {
  return [...new Set([...rows].sort(newestFirst).map((row) => groupKey(row.environment, row.info.folder)))];
}

function newestFirst(one: Row, other: Row): number {
  return other.settledAt - one.settledAt;
}
