/**
 * What waits for a person, at all hosts that let this device in: the oldest first, so that nothing which comes moves what
 * is there.
 */
import type { End } from "../link/reach";
import { Observable } from "../observable";
import type { Ask, Asking } from "./asking";
import type { Host } from "./hosts";

/** As much of a host as an inbox stands on. */
interface Known {
  readonly stored: Pick<Host["stored"], "id">;
  readonly asking: Pick<Asking, "view">;
  readonly over: End | null;
}

/** A request, and where it is asked. */
export interface Waiting<At extends Known = Host> {
  readonly host: At;
  readonly ask: Ask;
}

/** What the screen shows. */
export interface InboxView<At extends Known = Host> {
  readonly waiting: readonly Waiting<At>[];
  /** Whether each of the hosts has said once what waits there. */
  readonly known: boolean;
}

/** One that somebody looks at. It keeps its place when it is over. */
export interface Kept<At extends Known = Host> extends Waiting<At> {
  readonly key: string;
  readonly waits: boolean;
}

/** See the module's header. */
export class Inbox<At extends Known = Host> {
  readonly view = new Observable<InboxView<At>>({ waiting: [], known: false });
  #hosts: readonly At[] = [];
  /** Ends what is heard of the hosts there were before. */
  #deaf: readonly (() => void)[] = [];

  constructor(hosts: Observable<readonly At[] | null>) {
    hosts.subscribe((list) => {
      this.#deaf.forEach((deafen) => {
        deafen();
      });
      this.#hosts = (list ?? []).filter(({ over }) => over === null);
      this.#deaf = this.#hosts.map(({ asking }) =>
        asking.view.subscribe(() => {
          this.#show();
        }),
      );
      this.#show();
    });
  }

  #show(): void {
    const all = this.#hosts.flatMap((host) => host.asking.view.value.asks.map((ask) => ({ host, ask })));
    this.view.set({
      waiting: all.sort((one, other) => one.ask.info.openedAt - other.ask.info.openedAt),
      known: this.#hosts.every(({ asking }) => asking.view.value.known),
    });
  }
}

/** What was looked at, as it is now: nothing changes its place, and what is new comes at the end. */
export function keptFrom<At extends Known>(
  before: readonly Kept<At>[],
  waiting: readonly Waiting<At>[],
): readonly Kept<At>[] {
  const now = new Map(
    waiting.map(({ host, ask }) => {
      const key = `${host.stored.id} ${ask.key}`;
      return [key, { host, ask, key, waits: true }] as const;
    }),
  );
  const kept = before.map((one) => now.get(one.key) ?? { ...one, waits: false });
  const known = new Set(before.map(({ key }) => key));
  return [...kept, ...[...now.values()].filter(({ key }) => !known.has(key))];
}
