/**
 * The threads of one host, as its list shows them.
 *
 * Pages of the list are read while somebody looks, each in its environment; what becomes of a thread comes as
 * `attention/changed`, and is never asked for again and again. What stands where is settled when the list is opened:
 * after that rows change in place, and only threads that are new come on top of their group.
 */
import { RequestError } from "../api/error";
import type { AttentionChanged, AttentionInfo, Notification, ThreadInfo } from "../api/types";
import { Codex, CodexError } from "../host/codex";
import type { RemoteHost } from "../host/remote";
import type { Json } from "../json";
import { Observable } from "../observable";
import { type Row, groupKey, rowKey, settledOrder } from "./rows";

/** Bytes of a page: some fifty threads. */
const PAGE = 16 * 1024;
/** How long an archived thread can be brought back in its place, in milliseconds. */
const UNDO = 6_000;
/** Things that happen this close together, in milliseconds, have the list read once. */
const SOON = 150;

/** Which threads. */
export interface Query {
  readonly archived: boolean;
  /** Words in the title; empty for all. */
  readonly search: string;
}

/** What the screen shows. */
export interface ThreadsView {
  readonly query: Query;
  /** By their keys; `null` until the first page of this query is there. */
  readonly rows: ReadonlyMap<string, Row> | null;
  /** Groups in the order that was settled. */
  readonly order: readonly string[];
  /** Whether there are older ones that were not read. */
  readonly more: boolean;
  /** Groups of which all is there. */
  readonly whole: ReadonlySet<string>;
  /** Whether a page is being read. */
  readonly busy: boolean;
  /** Why an environment has no list, by its name. */
  readonly faults: ReadonlyMap<string, string>;
  /** When what is shown was read, in milliseconds since 1970. */
  readonly asOf: number | null;
}

const EMPTY: ThreadsView = {
  query: { archived: false, search: "" },
  rows: null,
  order: [],
  more: false,
  whole: new Set(),
  busy: false,
  faults: new Map(),
  asOf: null,
};

/** Where the next page begins: at the beginning, at a cursor of the host's, or nowhere. */
type Next = { readonly cursor?: string } | null;

const BEGIN = {};

/** What `thread/list` gave, for one environment. */
interface Page {
  readonly environment: string;
  readonly threads: readonly ThreadInfo[];
  readonly next: Next;
  readonly fault: string | null;
}

/** See the module's header. */
export class Threads {
  readonly view = new Observable<ThreadsView>(EMPTY);
  readonly #remote: RemoteHost;
  readonly #attention = new Map<string, AttentionInfo>();
  /** Where the next page of each environment begins. */
  #next = new Map<string, Next>();
  /** Where the next page of each group begins, where it was asked for by itself. */
  #nextOfGroup = new Map<string, Next>();
  /** Ends what is asked for a query that nobody wants any more. */
  #asking = new AbortController();
  #open = false;
  #soon: ReturnType<typeof setTimeout> | undefined;

  constructor(remote: RemoteHost) {
    this.#remote = remote;
  }

  /** Somebody looks: reads the list anew, and settles what stands where. */
  open(): void {
    this.#open = true;
    void this.#begin(this.view.value.query);
  }

  /** Nobody looks any more. What was read stays. */
  close(): void {
    this.#open = false;
    clearTimeout(this.#soon);
    this.#asking.abort();
    this.#change({ busy: false });
  }

  /** Shows others. */
  ask(query: Query): void {
    const before = this.view.value.query;
    if (query.archived !== before.archived) {
      this.view.set({ ...EMPTY, query });
    }
    void this.#begin(query);
  }

  /** Reads the next page of all. */
  async older(): Promise<void> {
    const { signal } = this.#asking;
    const next = [...this.#next].filter(([, from]) => from !== null);
    if (this.view.value.busy || next.length === 0) {
      return;
    }
    this.#change({ busy: true });
    const pages = await Promise.all(next.map(([environment, from]) => this.#page(environment, from, signal)));
    if (!signal.aborted) {
      this.#take(pages, "older");
    }
  }

  /** Reads the next page of one folder: what of it is not there yet. */
  async olderOf(environment: string, folder: string): Promise<void> {
    const key = groupKey(environment, folder);
    const { signal } = this.#asking;
    const count = (): number => this.view.value.rows?.size ?? 0;
    const before = count();
    if (this.view.value.busy) {
      return;
    }
    this.#change({ busy: true });
    // What was read with all the others comes once more.
    while (count() === before && !this.view.value.whole.has(key)) {
      const page = await this.#page(environment, this.#nextOfGroup.get(key) ?? BEGIN, signal, folder);
      if (signal.aborted) {
        return;
      }
      this.#merge([page], "bottom");
      this.#change({ faults: faultsOf([page]) });
      if (page.fault !== null) {
        break;
      }
      if (page.next === null) {
        this.#change({ whole: new Set(this.view.value.whole).add(key) });
      } else {
        this.#nextOfGroup.set(key, page.next);
      }
    }
    this.#change({ busy: false });
  }

  /** Gives a thread a name. Rejects with {@link CodexError}. */
  async rename(environment: string, thread: string, name: string): Promise<void> {
    await this.#tell(environment, "thread/name/set", { threadId: thread, name });
    this.#changeRow(rowKey(environment, thread), (row) => ({
      ...row,
      info: { ...row.info, title: name, isNamed: true },
    }));
  }

  /** Puts a thread away; its row stays for a moment, to be brought back. Rejects with {@link CodexError}. */
  async archive(environment: string, thread: string): Promise<void> {
    const key = rowKey(environment, thread);
    await this.#tell(environment, "thread/archive", { threadId: thread });
    this.#changeRow(key, (row) => ({ ...row, leaving: true }));
    setTimeout(() => {
      this.#changeRow(key, (row) => (row.leaving ? null : row));
    }, UNDO);
  }

  /** Takes a thread out of the archive. Rejects with {@link CodexError}. */
  async unarchive(environment: string, thread: string): Promise<void> {
    await this.#tell(environment, "thread/unarchive", { threadId: thread });
    const { archived } = this.view.value.query;
    this.#changeRow(rowKey(environment, thread), (row) => (archived ? null : { ...row, leaving: false }));
  }

  /** Makes a thread that goes on from where this one is; gives its id. Rejects with {@link CodexError}. */
  async fork(environment: string, thread: string): Promise<string> {
    const { thread: made } = await this.#tell(environment, "thread/fork", { threadId: thread, excludeTurns: true });
    const id = typeof made === "object" && made !== null && "id" in made ? made.id : null;
    if (typeof id !== "string") {
      throw new CodexError("Codex did not say which thread it made.");
    }
    this.#lookSoon();
    return id;
  }

  /** What the host says by itself. */
  notified(notification: Exclude<Notification, { method: "notices/missed" }>): void {
    if (notification.method === "attention/changed") {
      this.#attend(notification.params);
      this.#lookSoon();
    } else if (notification.method === "environment/changed" && notification.params.state === "ready") {
      this.missed();
    }
  }

  /** Something was not heard: what is shown is read again. */
  missed(): void {
    if (this.#open) {
      void this.#refresh(true);
    }
  }

  #tell(environment: string, method: string, params: Json): Promise<Json> {
    return Codex.once(this.#remote.session, environment, method, params);
  }

  // --- reading --------------------------------------------------------

  async #begin(query: Query): Promise<void> {
    this.#asking.abort();
    this.#asking = new AbortController();
    const { signal } = this.#asking;
    this.#change({ query, busy: true });
    const pages = await this.#first(signal);
    if (pages === null || signal.aborted) {
      return;
    }
    this.#nextOfGroup = new Map();
    this.#take(pages, "begin");
  }

  /** Reads what is on top again; rows that are there change in place. */
  async #refresh(attention: boolean): Promise<void> {
    const { signal } = this.#asking;
    const { rows, busy } = this.view.value;
    if (rows === null) {
      // What begins brings all of it.
      if (!busy) {
        await this.#begin(this.view.value.query);
      }
      return;
    }
    const pages = await this.#first(signal, attention);
    if (pages !== null && !signal.aborted) {
      this.#merge(pages, "top");
      this.#change({ faults: faultsOf(pages), asOf: Date.now() });
    }
  }

  #lookSoon(): void {
    if (this.#open) {
      clearTimeout(this.#soon);
      this.#soon = setTimeout(() => {
        void this.#refresh(false);
      }, SOON);
    }
  }

  /** The first page of each environment; `null` where the host did not say which there are. */
  async #first(signal: AbortSignal, attention = true): Promise<readonly Page[] | null> {
    try {
      const { data } = await this.#remote.api.request("environment/list", {}, signal);
      if (attention) {
        const told = await this.#remote.api.request("attention/list", {}, signal);
        this.#attention.clear();
        told.data.forEach((info) => {
          this.#attend(info);
        });
        this.#showAttention();
      }
      return await Promise.all(data.map(({ name }) => this.#page(name, BEGIN, signal)));
    } catch (error) {
      if (!(error instanceof RequestError)) {
        throw error;
      }
      if (!signal.aborted && error.fault.kind !== "gap") {
        this.#change({ busy: false, faults: new Map([["", error.message]]) });
      } else if (!signal.aborted) {
        // The next session tells of a gap once more.
        this.#change({ busy: false });
        this.#lookSoon();
      }
      return null;
    }
  }

  async #page(environment: string, from: Next, signal: AbortSignal, folder?: string): Promise<Page> {
    const { archived, search } = this.view.value.query;
    const words = search.trim();
    const params = {
      environment,
      bytes: PAGE,
      archived,
      ...from,
      ...(words !== "" && { search: words }),
      ...(folder !== undefined && { folder }),
    };
    try {
      const { data, nextCursor } = await this.#remote.api.request("thread/list", params, signal);
      return {
        environment,
        threads: data,
        next: nextCursor === undefined ? null : { cursor: nextCursor },
        fault: null,
      };
    } catch (error) {
      if (!(error instanceof RequestError)) {
        throw error;
      }
      return { environment, threads: [], next: null, fault: error.message };
    }
  }

  // --- what is shown --------------------------------------------------

  #take(pages: readonly Page[], which: "begin" | "older"): void {
    if (which === "begin") {
      this.#next = new Map();
      // An environment that could not be asked keeps what was read of it.
      const failed = new Set(pages.filter(({ fault }) => fault !== null).map(({ environment }) => environment));
      const kept = [...(this.view.value.rows ?? [])].filter(([, row]) => failed.has(row.environment));
      this.#change({ rows: new Map(kept), order: [], whole: new Set() });
    }
    for (const { environment, next, fault } of pages) {
      if (fault === null) {
        this.#next.set(environment, next);
      }
    }
    this.#merge(pages, "bottom");
    const more = [...this.#next.values()].some((next) => next !== null);
    this.#change({ more, busy: false, faults: faultsOf(pages), asOf: Date.now() });
  }

  /** Takes threads in; folders that are new stand at this end of the list. */
  #merge(pages: readonly Page[], end: "top" | "bottom"): void {
    const { rows: before, order } = this.view.value;
    const rows = new Map(before ?? []);
    for (const { environment, threads } of pages) {
      for (const info of threads) {
        const key = rowKey(environment, info.id);
        const row = rows.get(key);
        rows.set(key, {
          environment,
          info,
          attention: this.#attention.get(key) ?? null,
          settledAt: row?.settledAt ?? info.changedAt,
          leaving: row?.leaving ?? false,
        });
      }
    }
    const known = new Set(order);
    const added = settledOrder(rows.values()).filter((key) => !known.has(key));
    this.#change({ rows, order: end === "top" ? [...added, ...order] : [...order, ...added] });
  }

  #attend(change: AttentionChanged): void {
    const key = rowKey(change.environment, change.threadId);
    if (change.state === null) {
      this.#attention.delete(key);
    } else {
      this.#attention.set(key, change);
    }
    this.#changeRow(key, (row) => ({ ...row, attention: this.#attention.get(key) ?? null }));
  }

  #showAttention(): void {
    const rows = this.view.value.rows;
    if (rows !== null) {
      const attended = (key: string, row: Row): Row => ({ ...row, attention: this.#attention.get(key) ?? null });
      this.#change({ rows: new Map([...rows].map(([key, row]) => [key, attended(key, row)])) });
    }
  }

  #changeRow(key: string, change: (row: Row) => Row | null): void {
    const row = this.view.value.rows?.get(key);
    if (row !== undefined) {
      const rows = new Map(this.view.value.rows);
      const changed = change(row);
      if (changed === null) {
        rows.delete(key);
      } else {
        rows.set(key, changed);
      }
      this.#change({ rows });
    }
  }

  #change(change: Partial<ThreadsView>): void {
    this.view.set({ ...this.view.value, ...change });
  }
}

function faultsOf(pages: readonly Page[]): ReadonlyMap<string, string> {
  return new Map(pages.flatMap(({ environment, fault }) => (fault === null ? [] : [[environment, fault] as const])));
}
