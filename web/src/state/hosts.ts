/** The hosts that this device is paired with, each with its link, which they have in one tab of the browser at a time. */
import type { RemoteHost, RemoteSetup } from "../host/remote";
import { type Later, PartError } from "../later";
import type { Page } from "../link/page";
import type { End } from "../link/reach";
import type { SocketFactory } from "../link/socket";
import { Observable } from "../observable";
import type { AttachmentStore } from "../store/attachments";
import { StoreError } from "../store/error";
import type { HostStore, StoredHost } from "../store/hosts";
import type { MessageStore } from "../store/messages";
import type { StartStore } from "../store/starts";
import { ByeReason } from "../wire/reason";
import type { Asking } from "./asking";
import type { Codexes } from "./codexes";
import type { Messages } from "./messages";
import type { asksOf, reach } from "./reach";
import type { NewThread } from "./start";
import type { Threads } from "./threads";

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

/** What is only needed where there is a host. */
export interface Reaching {
  readonly reach: typeof reach;
  readonly asksOf: typeof asksOf;
}

/** What the hosts are kept in and reached by. */
export interface HostsSetup {
  readonly store: HostStore;
  readonly starts: StartStore;
  readonly messages: MessageStore;
  readonly page: Page;
  readonly create: SocketFactory;
  readonly reaching: Later<Reaching>;
}

/** See the module's header. */
export class Hosts {
  /** In the order in which they were paired; `null` until they are read. */
  readonly list = new Observable<readonly Host[] | null>(null);
  readonly #setup: HostsSetup;
  /** What they are reached by: there where one of them is. */
  #reaching: Reaching | null = null;
  /** Whether another tab has the links. */
  #rests = false;

  constructor(setup: HostsSetup) {
    this.#setup = setup;
  }

  /**
   * Reads what is kept, begins to reach it, and lets go of what is not kept any more. Rejects with {@link StoreError}, and
   * with {@link PartError} where what reaches hosts did not come: then all is as it was.
   */
  async load(): Promise<void> {
    let [known, stored] = [this.list.value, await this.#read()];
    while (this.list.value !== known) {
      // One may have been paired meanwhile.
      [known, stored] = [this.list.value, await this.#read()];
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
    this.#reaching = await this.#setup.reaching.get();
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
      start.begin(next.remote.api, this.#reaching?.asksOf(next.remote));
      messages.begin(next.remote.api);
      this.list.set(list.map((other) => (other.remote === remote ? next : other)));
    }
  }

  async #read(): Promise<readonly StoredHost[]> {
    const stored = await this.#setup.store.list();
    if (stored.length > 0) {
      this.#reaching = await this.#setup.reaching.get();
    }
    return stored;
  }

  /** `written`: what is written for it already. */
  #reach(stored: StoredHost, written?: Pick<Host, "start" | "messages">): Host {
    if (this.#reaching === null) {
      throw new Error("a host is known before what reaches it");
    }
    return this.#reaching.reach(stored, {
      setup: this.#setup,
      rests: this.#rests,
      change: (remote, change) => {
        this.#change(remote, change);
      },
      ended: (remote, end) => {
        this.#ended(stored, remote, end);
      },
      written,
    });
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

/** Whether the host itself said that it took this device off. */
export function isRevoked({ by, reason }: End): boolean {
  return by === "host" && reason === ByeReason.revoked;
}

/** What the host said before this page was loaded. */
export function revocation({ revokedAt }: StoredHost): End | null {
  const word = { at: "ended", by: "host", reason: ByeReason.revoked, error: null } as const;
  return revokedAt === null ? null : { ...word, since: revokedAt };
}

/** Lets what could not be kept, or read, be. */
export function tried(work: Promise<void>): void {
  work.catch((error: unknown) => {
    if (!(error instanceof StoreError || error instanceof PartError)) {
      throw error;
    }
  });
}

/** Whether a host is the one that is kept, paired at the same time. */
function isOf(kept: StoredHost): (host: Host) => boolean {
  return ({ stored }) => stored.id === kept.id && stored.deviceId === kept.deviceId;
}
