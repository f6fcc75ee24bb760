/** A host that is reached, with all that the app has of it. */
import { Codex } from "../host/codex";
import { RemoteHost } from "../host/remote";
import type { End } from "../link/reach";
import type { StoredHost } from "../store/hosts";
import { Asking } from "./asking";
import { Codexes } from "./codexes";
import type { AsksCodex } from "./goals";
import { type Host, type HostsSetup, type Listener, revocation, tried } from "./hosts";
import { Messages } from "./messages";
import { NewThread } from "./start";
import { Threads } from "./threads";

/** What a host is reached with. */
export interface ReachSetup {
  readonly setup: HostsSetup;
  /** Whether another tab has the links. */
  readonly rests: boolean;
  /** What is written for it already. */
  readonly written: Pick<Host, "start" | "messages"> | undefined;
  /** Hears what else it is now. */
  readonly change: (remote: RemoteHost, change: (host: Host) => Host) => void;
  /** Hears that its session is over, by the host's word or by a breach of the protocol. */
  readonly ended: (remote: RemoteHost, end: End) => void;
}

/** Begins to reach a host. */
export function reach(stored: StoredHost, { setup, rests, written, change, ended }: ReachSetup): Host {
  const { store, page, create } = setup;
  const open = new Set<Listener>();
  const remote: RemoteHost = new RemoteHost(stored, {
    page,
    create,
    rests,
    // Each item comes whole before its turn ends, and of its text the channels know whose it is.
    read: { leanTurns: true, shortText: true, shortItems: true },
    notified: (notification) => {
      for (const listener of [threads, codexes, asking, start, messages, ...open]) {
        listener.notified(notification);
      }
    },
    missed: () => {
      for (const listener of [threads, codexes, asking, start, messages, ...open]) {
        listener.missed();
      }
    },
    learned: (facts) => {
      change(remote, (host) => ({ ...host, stored: { ...host.stored, ...facts } }));
      // What is not kept is learned again with the next session.
      tried(store.update(stored, facts));
    },
  });
  const threads = new Threads(remote);
  const codexes = new Codexes(remote.api);
  const asking = new Asking({
    api: remote.api,
    device: stored.deviceId,
    isOnline: () => remote.reach.value.at === "online",
  });
  const start = written?.start ?? new NewThread(remote.api, setup.starts, stored, asksOf(remote));
  const messages = written?.messages ?? new Messages(remote.api, setup.messages, stored);
  if (rests) {
    start.rest();
    messages.rest();
  }
  if (stored.revokedAt !== null) {
    // The host's word on that is its last one: no later list of its devices has these keys.
    void remote.end();
  }
  remote.reach.subscribe((reach) => {
    if (reach.at === "online") {
      change(remote, (host) => (host.over === null ? host : { ...host, over: null }));
    } else if (reach.at === "ended" && (reach.by === "host" || reach.error !== null)) {
      ended(remote, reach);
    }
  });
  const { attachments } = setup.messages;
  const parts = { threads, codexes, asking, start, messages, attachments, open };
  return { stored, remote, ...parts, over: revocation(stored) };
}

/** Asks Codex there, over the session that there is then. */
export function asksOf(remote: RemoteHost): AsksCodex {
  return (environment, method, params) => Codex.once(remote.session, environment, method, params);
}
