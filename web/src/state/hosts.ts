/** The hosts that this device is paired with, each with its link, which they have in one tab of the browser at a time. */
import { Codex } from "../host/codex";
import { RemoteHost, type RemoteSetup } from "../host/remote";
import type { Page } from "../link/page";
import type { End } from "../link/reach";
import type { SocketFactory } from "../link/socket";
import { Observable } from "../observable";
import type { AttachmentStore } from "../store/attachments";
import { StoreError } from "../store/error";
import type { HostStore, StoredHost } from "../store/hosts";
import type { MessageStore } from "../store/messages";
import type { StartStore } from "../store/starts";
import { ByeReason } from "../wire/frame";
import { Asking } from "./asking";
import { Codexes } from "./codexes";
import type { AsksCodex } from "./goals";
import { Messages } from "./messages";
import { NewThread } from "./start";
import { Threads } from "./threads";

/** Who hears what a host says by itself. */
export type Listener = Pick<RemoteSetup, "notified" | "missed">;

/** One of them. */
export interface Host {
  readonly stored: StoredHost;
  readonly remote: RemoteHost;
  readonly threads: Threads;
  /** How Codex is there. */
  readonly codexes: Codexes;
  /** What Codex asks there, in all threads. */
  readonly asking: Asking;
  /** The thread that is begun next. */
  readonly start: NewThread;
  /** What is written to the threads that are there. */
  readonly messages: Messages;
  /** The bytes of what is attached to either. */
  readonly attachments: AttachmentStore;
  /** What is open on the screen, and hears what the host says. */
  readonly open: Set<Listener>;
  /** How its last session ended, until another one is there: the host's own word, or a breach of the protocol. */
  readonly over: End | null;
}

/** What the hosts are kept in and reached by. */
export interface HostsSetup {
  readonly store: HostStore;
  readonly starts: StartStore;
  readonly messages: MessageStore;
  readonly page: Page;
  readonly create: SocketFactory;
}

/** See the module's header. */
export class Hosts {
  /** In the order in which they were paired; `null` until they are read. */
  readonly list = new Observable<readonly Host[] | null>(null);
  readonly #setup: HostsSetup;
  /** Whether another tab has the links. */
  #rests = false;

  constructor(setup: HostsSetup) {
    this.#setup = setup;
  }

  /** Reads what is kept, begins to reach it, and lets go of what is not kept any more. Rejects with {@link StoreError}. */
  async load(): Promise<void> {
    let [known, stored] = [this.list.value, await this.#setup.store.list()];
    while (this.list.value !== known) {
      // One may have been paired meanwhile.
      [known, stored] = [this.list.value, await this.#setup.store.list()];
    }
    const hosts = known ?? [];
    const next = stored.map((host) => hosts.find(isOf(host)) ?? this.#reach(host));
    this.list.set(next);
    for (const { remote, start, messages } of hosts.filter((host) => !next.includes(host))) {
      start.end();
      messages.end();
      void remote.end();
    }
  }

  /** Another tab has the links: none is here, and nothing that was written is sent from here. */
  rest(): void {
    this.#rests = true;
    for (const { remote, start, messages } of this.list.value ?? []) {
      remote.rest();
      start.rest();
      messages.rest();
    }
  }

  /** The links are this tab's, or are so still after another one may have had them. */
  wake(): void {
    this.#rests = false;
    for (const { remote, start, messages } of this.list.value ?? []) {
      remote.wake();
      start.wake();
      messages.wake();
    }
    if (this.list.value !== null) {
      // Others were paired there perhaps, or forgotten. Where that can't be read, what was known stays.
      tried(this.load());
    }
  }

  /** Takes a host that has just been paired; one that it takes the place of ends. */
  async add(stored: StoredHost): Promise<void> {
    const others = (this.list.value ?? []).filter((host) => host.stored.id !== stored.id);
    const before = this.list.value?.find((host) => host.stored.id === stored.id);
    before?.start.end();
    before?.messages.end();
    this.list.set([...others, this.#reach(stored)]);
    await before?.remote.end();
  }

  /** Forgets a host, its keys and its drafts, for good. Rejects with {@link StoreError}: then all of it is still there. */
  async forget({ stored, remote, start, messages }: Host): Promise<void> {
    // What is removed must not be written again.
    start.end();
    messages.end();
    try {
      await this.#setup.store.remove(stored.id);
    } catch (error) {
      start.begin(remote.api);
      messages.begin(remote.api);
      throw error;
    }
    this.list.set((this.list.value ?? []).filter((other) => other.remote !== remote));
    await remote.end();
  }

  /** Reaches a host whose session is over by another one. What is written for it stays as it is. */
  again({ stored, remote, start, messages, over }: Host): void {
    const isOver = remote.reach.value.at === "ended" && over !== null && !isRevoked(over);
    const list = this.list.value ?? [];
    if (isOver && list.some((other) => other.remote === remote)) {
      const next = { ...this.#reach(stored, { start, messages }), over };
      start.begin(next.remote.api, asksOf(next.remote));
      messages.begin(next.remote.api);
      this.list.set(list.map((other) => (other.remote === remote ? next : other)));
    }
  }

  /** `written`: what is written for it already. */
  #reach(stored: StoredHost, written?: Pick<Host, "start" | "messages">): Host {
    const { store, page, create } = this.#setup;
    const open = new Set<Listener>();
    const remote: RemoteHost = new RemoteHost(stored, {
      page,
      create,
      rests: this.#rests,
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
        this.#change(remote, (host) => ({ ...host, stored: { ...host.stored, ...facts } }));
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
    const start = written?.start ?? new NewThread(remote.api, this.#setup.starts, stored, asksOf(remote));
    const messages = written?.messages ?? new Messages(remote.api, this.#setup.messages, stored);
    if (this.#rests) {
      start.rest();
      messages.rest();
    }
    if (stored.revokedAt !== null) {
      // The host's word on that is its last one: no later list of its devices has these keys.
      void remote.end();
    }
    remote.reach.subscribe((reach) => {
      if (reach.at === "online") {
        this.#change(remote, (host) => (host.over === null ? host : { ...host, over: null }));
      } else if (reach.at === "ended" && (reach.by === "host" || reach.error !== null)) {
        this.#ended(stored, remote, reach);
      }
    });
    const { attachments } = this.#setup.messages;
    const parts = { threads, codexes, asking, start, messages, attachments, open };
    return { stored, remote, ...parts, over: revocation(stored) };
  }

  #ended(stored: StoredHost, remote: RemoteHost, over: End): void {
    const revokedAt = isRevoked(over) ? over.since : null;
    this.#change(remote, (host) => ({ ...host, stored: { ...host.stored, revokedAt }, over }));
    if (revokedAt !== null) {
      // What is not kept is the relay's word after a reload.
      tried(this.#setup.store.revoked(stored, revokedAt));
    }
  }

  #change(remote: RemoteHost, change: (host: Host) => Host): void {
    const { value } = this.list;
    if (value?.some((host) => host.remote === remote) === true) {
      this.list.set(value.map((host) => (host.remote === remote ? change(host) : host)));
    }
  }
}

/** Asks Codex there, over the session that there is then. */
function asksOf(remote: RemoteHost): AsksCodex {
  return (environment, method, params) => Codex.once(remote.session, environment, method, params);
}

/** Whether the host itself said that it took this device off. */
export function isRevoked({ by, reason }: End): boolean {
  return by === "host" && reason === ByeReason.revoked;
}

/** What the host said before this page was loaded. */
function revocation({ revokedAt }: StoredHost): End | null {
  const word = { at: "ended", by: "host", reason: ByeReason.revoked, error: null } as const;
  return revokedAt === null ? null : { ...word, since: revokedAt };
}

/** Lets what could not be kept, or read, be. */
function tried(work: Promise<void>): void {
  work.catch((error: unknown) => {
    if (!(error instanceof StoreError)) {
      throw error;
    }
  });
}

/** Whether a host is the one that is kept, paired at the same time. */
function isOf(kept: StoredHost): (host: Host) => boolean {
  return ({ stored }) => stored.id === kept.id && stored.deviceId === kept.deviceId;
}
