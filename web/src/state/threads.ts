/**
 * The threads of one host, as its list shows them.
 *
 * Pages of the list are read while somebody looks, each in its environment, and shown as they come: a machine that the
 * host can't reach holds up nothing but its own. What becomes of a thread comes as `attention/changed`, and is never
 * asked for again and again. What stands where is settled when the list is opened: after that rows change in place, only
 * threads that are new come on top of their group, and an environment that answers late comes at the end.
 */
import { RequestError } from "../api/error";
import type { AttentionChanged, AttentionInfo, EnvironmentInfo, Notification, ThreadInfo } from "../api/types";
import { Codex, CodexError } from "../host/codex";
import type { RemoteHost } from "../host/remote";
import type { Json } from "../json";
import { Observable } from "../observable";
import { type Goal, readGoal, setGoal } from "./goals";
import { LOCAL } from "./route";
import { type Row, groupKey, rowKey, settledOrder } from "./rows";

/** Bytes of a page: some fifty threads. */
const PAGE = 16 * 1024;
/** How long an archived thread can be brought back in its place, in milliseconds. */
const UNDO = 6_000;
/** Things that happen this close together, in milliseconds, have the list read once. */
const SOON = 150;
/**
 * How often a list is read again for a thread that works and is not in it, each time after twice as long: Codex answers
 * `turn/start` before it lists a thread that is new (measured: 50 ms on a quiet machine). After the last one, 4.65 s
 * have passed: a thread that is in no list, as one of a sub-agent, is not asked for again and again.
 */
const LOOKS = 5;

/** Which threads. */
export interface Query {
  readonly archived: boolean;
  /** Words in the title; empty for all. */
  readonly search: string;
}

/** What the screen shows. */
export interface ThreadsView {
  readonly query: Query;
  /** By their keys; `null` until the first page of this query is there, of whichever environment. */
  readonly rows: ReadonlyMap<string, Row> | null;
  /** Groups in the order that was settled. */
  readonly order: readonly string[];
  /** Whether there are older ones that were not read. */
  readonly more: boolean;
  /** Groups of which all is there. */
  readonly whole: ReadonlySet<string>;
  /** Whether a page is being read that nothing else is read beside. */
  readonly busy: boolean;
  /** The environments of which the first page is still to come. */
  readonly awaited: ReadonlySet<string>;
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
  awaited: new Set(),
  faults: new Map(),
  asOf: null,
};

/** How a thread is that works, or waits for a person while it does. */
const LIVE: ReadonlySet<AttentionInfo["state"]> = new Set(["running", "waitingOnApproval", "waitingOnAnswer"]);

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
  readonly #remote: Pick<RemoteHost, "api" | "session">;
  readonly #attention = new Map<string, AttentionInfo>();
  /** The environments that the host has, by its last list of them. */
  #known: ReadonlySet<string> = new Set();
  /** Where the next page of each environment begins. */
  #next = new Map<string, Next>();
  /** Where the next page of each group begins, where it was asked for by itself. */
  #nextOfGroup = new Map<string, Next>();
  /** Ends what is asked for a query that nobody wants any more. */
  #asking = new AbortController();
  #open = false;
  #soon: ReturnType<typeof setTimeout> | undefined;
  /** The environments that are looked at soon. */
  readonly #soonAt = new Set<string>();
  /** How often the list was read again for a thread that works and was not in it, by its key. */
  readonly #looks = new Map<string, number>();

  constructor(remote: Pick<RemoteHost, "api" | "session">) {
    this.#remote = remote;
  }

  /** Somebody looks: reads the list anew, and settles what stands where. */
  open(): void {
    this.#open = true;
    this.#looks.clear();
    void this.#begin(this.view.value.query, true);
  }

  /** Tries again what could not be read. */
  again(query: Query): void {
    void this.#begin(query, true);
  }

  /** Nobody looks any more. What was read stays. */
  close(): void {
    this.#open = false;
    clearTimeout(this.#soon);
    this.#soonAt.clear();
    this.#asking.abort();
    this.#change({ busy: false, awaited: new Set() });
  }

  /** Shows others. */
  ask(query: Query): void {
    const before = this.view.value.query;
    if (query.archived !== before.archived) {
      this.view.set({ ...EMPTY, query });
    }
    void this.#begin(query, false);
  }

  /** Reads the next page of all. */
  async older(): Promise<void> {
    const { signal } = this.#asking;
    const next = [...this.#next].filter(([, from]) => from !== null);
    if (this.view.value.busy || next.length === 0) {
      return;
    }
    this.#change({ busy: true });
    await Promise.all(
      next.map(async ([environment, from]) => {
        this.#take(await this.#page(environment, from, signal), signal);
      }),
    );
    if (!signal.aborted) {
      this.#change({ busy: false });
    }
  }

  /** Reads the next page of one folder: what of it is not there yet. */
  async olderOf(environment: string, folder: string): Promise<void> {
    const key = groupKey(environment, folder);
    const { signal } = this.#asking;
    const count = (): number =>
      [...(this.view.value.rows?.values() ?? [])].filter((row) => row.environment === environment).length;
    const before = count();
    if (this.view.value.busy || this.view.value.awaited.has(environment)) {
      return;
    }
    this.#change({ busy: true });
    // What was read with all the others comes once more.
    while (count() === before && !this.view.value.whole.has(key)) {
      const page = await this.#page(environment, this.#nextOfGroup.get(key) ?? BEGIN, signal, folder);
      if (signal.aborted) {
        return;
      }
      if (page === null) {
        break;
      }
      this.#merge(page, "bottom");
      this.#change({ faults: this.#faultsWith(page) });
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
    this.#lookSoon(environment);
    return id;
  }

  /** What Codex goes on for in a thread; `null` for nothing. Rejects with {@link CodexError}. */
  async goal(environment: string, thread: string): Promise<Goal | null> {
    return readGoal((...asked) => this.#tell(...asked), { environment, thread });
  }

  /** Has Codex go on in a thread until this holds. Rejects with {@link CodexError}. */
  async aim(environment: string, thread: string, goal: string): Promise<void> {
    // Codex begins turns in threads that it has loaded.
    await this.#tell(environment, "thread/resume", { threadId: thread, excludeTurns: true });
    await setGoal((...asked) => this.#tell(...asked), { environment, thread }, goal);
  }

  /** Has it go on for nothing; a turn that runs goes on. Rejects with {@link CodexError}. */
  async dropGoal(environment: string, thread: string): Promise<void> {
    await this.#tell(environment, "thread/goal/clear", { threadId: thread, origin: "user" });
  }

  /** Somebody has read a thread to its end here. */
  seen(environment: string, thread: string): void {
    this.#changeRow(rowKey(environment, thread), (row) =>
      row.info.unread === true ? { ...row, info: { ...row.info, unread: false } } : row,
    );
  }

  /** What the host says by itself. */
  notified(notification: Exclude<Notification, { method: "notices/missed" }>): void {
    if (notification.method === "attention/changed") {
      this.#attend(notification.params);
      this.#lookSoon(notification.params.environment);
    } else if (notification.method === "environment/changed") {
      this.#changed(notification.params);
    } else if (notification.method === "environment/removed") {
      this.#keep((environment) => environment !== notification.params.name);
    }
  }

  /** Something was not heard: what is shown is read again. */
  missed(): void {
    if (this.#open) {
      void this.#refresh({ attention: true });
    }
  }

  #changed({ name, state }: EnvironmentInfo): void {
    const isNew = this.view.value.rows !== null && !this.#known.has(name);
    // What is awaited comes by itself.
    if (this.#open && (isNew || (state === "ready" && !this.view.value.awaited.has(name)))) {
      void this.#refresh({ attention: true, only: new Set([name]) });
    }
  }

  #tell(environment: string, method: string, params: Json): Promise<Json> {
    return Codex.once(this.#remote.session, environment, method, params);
  }

  // --- reading --------------------------------------------------------

  /** `tries`: also what was out of reach a moment ago. */
  async #begin(query: Query, tries: boolean): Promise<void> {
    this.#asking.abort();
    this.#asking = new AbortController();
    const { signal } = this.#asking;
    this.#change({ query, busy: true });
    const isOver = (): boolean => signal.aborted;
    const environments = await this.#environments(signal, true);
    if (environments === null || isOver()) {
      return;
    }
    this.#next = new Map();
    this.#nextOfGroup = new Map();
    this.#change({ whole: new Set(), awaited: this.#known, faults: new Map() });
    let isSettled = false;
    const begun = await Promise.all(
      environments.map(async (environment) => {
        const page = await this.#first(environment, tries, signal);
        if (page === null || isOver()) {
          return false;
        }
        this.#begun(page, !isSettled);
        isSettled = isSettled || page.fault === null;
        return true;
      }),
    );
    if (!begun.includes(true) && !isOver()) {
      this.#change({ busy: false });
    }
  }

  /** Takes the first page of an environment; what stands where is settled with the first that has one. */
  #begun(page: Page, settles: boolean): void {
    const { environment, fault } = page;
    const { rows, awaited } = this.view.value;
    // An environment that could not be asked keeps what was read of it.
    const kept = [...(rows ?? [])].filter(([, row]) => fault !== null || row.environment !== environment);
    this.#change({
      rows: new Map(kept),
      awaited: without(awaited, environment),
      // With the first of them, one may read on, or look at what others have.
      ...(settles && { order: [], busy: false }),
    });
    this.#take(page, this.#asking.signal);
    this.#lookForUnlisted(page);
  }

  /** Reads what is on top again, in these environments or all; rows that are there change in place. */
  async #refresh({ attention, only }: { attention: boolean; only?: ReadonlySet<string> }): Promise<void> {
    const { signal } = this.#asking;
    const { rows, busy, query } = this.view.value;
    if (rows === null) {
      if (!busy) {
        await this.#begin(query, false);
      } else {
        // The page that is on its way may be older than what happened.
        this.#lookSoon(...(only ?? this.#known));
      }
      return;
    }
    // What comes late comes below.
    const { faults, awaited } = this.view.value;
    const late = new Set([...faults.keys(), ...awaited]);
    const known = this.#known;
    const environments = (await this.#environments(signal, attention)) ?? [];
    await Promise.all(
      environments
        .filter(({ name }) => only === undefined || only.has(name))
        .map(async (environment) => {
          const page = await this.#first(environment, false, signal);
          if (page !== null && !signal.aborted) {
            const isLate = late.has(page.environment) || !known.has(page.environment);
            this.#merge(page, isLate ? "bottom" : "top");
            this.#change({
              faults: this.#faultsWith(page),
              awaited: without(this.view.value.awaited, page.environment),
              asOf: Date.now(),
            });
            this.#lookForUnlisted(page);
          }
        }),
    );
  }

  #lookSoon(...environments: readonly string[]): void {
    this.#look(SOON, environments);
  }

  /** Reads these again after that many milliseconds. */
  #look(after: number, environments: readonly string[]): void {
    if (this.#open) {
      environments.forEach((environment) => this.#soonAt.add(environment));
      clearTimeout(this.#soon);
      this.#soon = setTimeout(() => {
        const only = new Set(this.#soonAt);
        this.#soonAt.clear();
        void this.#refresh({ attention: false, only });
      }, after);
    }
  }

  /** The first page of an environment is there: reads it again where a thread that works is not in it yet. */
  #lookForUnlisted({ environment, fault }: Page): void {
    const { query, rows } = this.view.value;
    if (fault !== null || query.archived || query.search.trim() !== "") {
      return;
    }
    const unlisted = [...this.#attention]
      .filter(([key, info]) => info.environment === environment && LIVE.has(info.state) && rows?.has(key) === false)
      .map(([key]) => ({ key, looks: this.#looks.get(key) ?? 0 }))
      .filter(({ looks }) => looks < LOOKS);
    if (unlisted.length > 0) {
      unlisted.forEach(({ key, looks }) => this.#looks.set(key, looks + 1));
      this.#look(SOON * 2 ** Math.min(...unlisted.map(({ looks }) => looks)), [environment]);
    }
  }

  /** The host's environments; `null` where it did not say which there are. */
  async #environments(signal: AbortSignal, attention: boolean): Promise<readonly EnvironmentInfo[] | null> {
    try {
      const { data } = await this.#remote.api.request("environment/list", {}, signal);
      const known = new Set(data.map(({ name }) => name));
      if (attention) {
        const told = await this.#remote.api.request("attention/list", {}, signal);
        this.#attention.clear();
        told.data.forEach((info) => {
          this.#attend(info);
        });
        this.#showAttention();
      }
      this.#known = known;
      this.#keep((environment) => known.has(environment));
      return data;
    } catch (error) {
      if (!(error instanceof RequestError)) {
        throw error;
      }
      if (!signal.aborted && error.fault.kind !== "gap") {
        this.#change({ busy: false, awaited: new Set(), faults: new Map([["", error.message]]) });
      } else if (!signal.aborted) {
        // The next session tells of a gap once more.
        this.#change({ busy: false });
        this.#lookSoon(...this.#known);
      }
      return null;
    }
  }

  /** The first page of an environment. A machine that is out of reach is not tried for each letter of a search. */
  async #first({ name, state, reason }: EnvironmentInfo, tries: boolean, signal: AbortSignal): Promise<Page | null> {
    if (!tries && state === "failed" && name !== LOCAL) {
      return { environment: name, threads: [], next: null, fault: reason ?? "it is out of reach" };
    }
    return this.#page(name, BEGIN, signal);
  }

  /** A page; `null` where it is to be asked for once more, or where the environment is no more. */
  async #page(environment: string, from: Next, signal: AbortSignal, folder?: string): Promise<Page | null> {
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
      if (!this.#known.has(environment)) {
        return null;
      }
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
      if (error.fault.kind === "gap") {
        if (this.view.value.rows === null) {
          // What is there already is read again by who tells of the gap.
          this.#lookSoon(environment);
        }
        return null;
      }
      // That there is none any more is no fault.
      const isGone = !this.#known.has(environment);
      return isGone ? null : { environment, threads: [], next: null, fault: error.message };
    }
  }

  // --- what is shown --------------------------------------------------

  #take(page: Page | null, signal: AbortSignal): void {
    if (page === null || signal.aborted) {
      return;
    }
    if (page.fault === null) {
      this.#next.set(page.environment, page.next);
    }
    this.#merge(page, "bottom");
    const more = [...this.#next.values()].some((next) => next !== null);
    this.#change({ more, faults: this.#faultsWith(page), asOf: Date.now() });
  }

  /** Takes threads in; folders that are new stand at this end of the list. */
  #merge({ environment, threads }: Page, end: "top" | "bottom"): void {
    const { rows: before, order } = this.view.value;
    const rows = new Map(before ?? []);
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
    const known = new Set(order);
    const added = settledOrder(rows.values()).filter((key) => !known.has(key));
    this.#change({ rows, order: end === "top" ? [...added, ...order] : [...order, ...added] });
  }

  #faultsWith({ environment, fault }: Page): ReadonlyMap<string, string> {
    const others = [...this.view.value.faults].filter(([name]) => name !== environment && name !== "");
    return new Map(fault === null ? others : [...others, [environment, fault]]);
  }

  /** Lets go of what is of no environment of these. */
  #keep(isKept: (environment: string) => boolean): void {
    const { rows, awaited, faults } = this.view.value;
    this.#known = new Set([...this.#known].filter(isKept));
    this.#next = new Map([...this.#next].filter(([name]) => isKept(name)));
    this.#change({
      rows: rows && new Map([...rows].filter(([, { environment }]) => isKept(environment))),
      awaited: new Set([...awaited].filter(isKept)),
      faults: new Map([...faults].filter(([name]) => isKept(name))),
    });
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

function without(names: ReadonlySet<string>, name: string): ReadonlySet<string> {
  return new Set([...names].filter((other) => other !== name));
}
