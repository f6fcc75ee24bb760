/**
 * What has ended in the threads of all hosts and was not read yet, for the inbox: the newest first once each host has said
 * it, and after that nothing changes its place.
 */
import { Observable } from "../observable";
import type { Host, Listener } from "./hosts";
import { type Row, rowKey, stateOf } from "./rows";
import { Threads } from "./threads";

/** As much of a host as this stands on. */
type Known = Pick<Host, "stored" | "remote" | "open" | "over">;

/** One of them, as it is now; it stays when it was read, or goes on. */
export interface End<At = Host> {
  readonly key: string;
  readonly host: At;
  readonly row: Row;
}

/** What the screen shows. */
export interface FinishedView<At extends Known = Host> {
  readonly ends: readonly End<At>[];
  /** How many threads run. */
  readonly running: number;
  /** The threads of each host, by its id, as far as they were read. */
  readonly rows: ReadonlyMap<string, ReadonlyMap<string, Row>>;
}

/** Whether its last turn ended, well or not, and nobody has read that. What somebody stopped is known to somebody. */
export function isUnreadEnd({ info, attention, leaving }: Row): boolean {
  const ended = attention?.state === "done" || attention?.state === "failed";
  return ended && info.unread === true && !info.archived && !leaving;
}

/** See the module's header. {@link Finished.close} ends it. */
export class Finished<At extends Known = Host> {
  readonly view = new Observable<FinishedView<At>>({ ends: [], running: 0, rows: new Map() });
  /** What is read of each host, and how to leave that. */
  readonly #lists = new Map<At["remote"], { host: At; readonly threads: Threads; readonly leave: () => void }>();
  readonly #deafen: () => void;
  /** Whether each host has said it once. */
  #settled = false;

  constructor(hosts: Observable<readonly At[] | null>) {
    this.#deafen = hosts.subscribe((list) => {
      const open = (list ?? []).filter(({ over }) => over === null);
      for (const [remote, { leave }] of this.#lists) {
        if (!open.some((host) => host.remote === remote)) {
          leave();
          this.#lists.delete(remote);
        }
      }
      open.forEach((host) => {
        this.#look(host);
      });
      this.#show();
    });
  }

  /** Nobody looks any more. */
  close(): void {
    this.#deafen();
    this.#lists.forEach(({ leave }) => {
      leave();
    });
    this.#lists.clear();
  }

  #look(host: At): void {
    const known = this.#lists.get(host.remote);
    if (known !== undefined) {
      known.host = host;
      return;
    }
    // Of its own: what somebody searches in the list of the host is no matter here.
    const threads = new Threads(host.remote);
    const listener: Listener = threads;
    host.open.add(listener);
    const deafen = threads.view.subscribe(() => {
      this.#show();
    });
    const leave = (): void => {
      deafen();
      threads.close();
      host.open.delete(listener);
    };
    this.#lists.set(host.remote, { host, threads, leave });
    threads.open();
  }

  #show(): void {
    const lists = [...this.#lists.values()];
    const all = lists.flatMap(({ host, threads }) =>
      [...(threads.view.value.rows?.values() ?? [])].map((row) => ({ key: keyOf(host, row), host, row })),
    );
    const isSettled = lists.every(({ threads: { view } }) => view.value.rows !== null && view.value.awaited.size === 0);
    this.view.set({
      ends: endsFrom(this.#settled ? this.view.value.ends : [], all),
      running: all.filter(({ row }) => stateOf(row) === "running").length,
      rows: new Map(lists.map(({ host, threads }) => [host.stored.id, threads.view.value.rows ?? new Map()])),
    });
    this.#settled ||= isSettled;
  }
}

/** Those that were there, as they are now, and then what is new, the newest first. */
export function endsFrom<At>(before: readonly End<At>[], all: readonly End<At>[]): readonly End<At>[] {
  const now = new Map(all.map((end) => [end.key, end]));
  const known = new Set(before.map(({ key }) => key));
  const fresh = all.filter(({ key, row }) => !known.has(key) && isUnreadEnd(row));
  return [
    ...before.map((end) => now.get(end.key) ?? end),
    ...fresh.sort((one, other) => endedAt(other.row) - endedAt(one.row)),
  ];
}

function endedAt({ attention, info }: Row): number {
  return attention?.since ?? info.changedAt;
}

function keyOf(host: Pick<Known, "stored">, { environment, info }: Row): string {
  return `${host.stored.id} ${rowKey(environment, info.id)}`;
}
