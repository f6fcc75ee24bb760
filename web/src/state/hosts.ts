/** The hosts that this device is paired with, each with its link. */
import { RemoteHost, type RemoteSetup } from "../host/remote";
import type { Page } from "../link/page";
import type { SocketFactory } from "../link/socket";
import { Observable } from "../observable";
import { StoreError } from "../store/error";
import type { HostStore, StoredHost } from "../store/hosts";
import type { StartStore } from "../store/starts";
import { NewThread } from "./start";
import { Threads } from "./threads";

/** Who hears what a host says by itself. */
export type Listener = Pick<RemoteSetup, "notified" | "missed">;

/** One of them. */
export interface Host {
  readonly stored: StoredHost;
  readonly remote: RemoteHost;
  readonly threads: Threads;
  /** The thread that is begun next. */
  readonly start: NewThread;
  /** What is open on the screen, and hears what the host says. */
  readonly open: Set<Listener>;
}

/** What the hosts are kept in and reached by. */
export interface HostsSetup {
  readonly store: HostStore;
  readonly starts: StartStore;
  readonly page: Page;
  readonly create: SocketFactory;
}

/** See the module's header. */
export class Hosts {
  /** In the order in which they were paired; `null` until they are read. */
  readonly list = new Observable<readonly Host[] | null>(null);
  readonly #setup: HostsSetup;

  constructor(setup: HostsSetup) {
    this.#setup = setup;
  }

  /** Reads what is kept, and begins to reach it. Rejects with {@link StoreError}. */
  async load(): Promise<void> {
    const stored = await this.#setup.store.list();
    const known = this.list.value ?? [];
    this.list.set(stored.map((host) => known.find(isOf(host)) ?? this.#reach(host)));
  }

  /** Takes a host that has just been paired; one that it takes the place of ends. */
  async add(stored: StoredHost): Promise<void> {
    const others = (this.list.value ?? []).filter((host) => host.stored.id !== stored.id);
    const before = this.list.value?.find((host) => host.stored.id === stored.id);
    before?.start.end();
    this.list.set([...others, this.#reach(stored)]);
    await before?.remote.end();
  }

  /** Forgets a host and its keys, for good. Rejects with {@link StoreError}. */
  async forget(host: Host): Promise<void> {
    // Its keys go last: without them nobody could try again.
    await this.#setup.starts.remove(host.stored.id);
    await this.#setup.store.remove(host.stored.id);
    this.list.set((this.list.value ?? []).filter((other) => other !== host));
    host.start.end();
    await host.remote.end();
  }

  #reach(stored: StoredHost): Host {
    const { store, starts, page, create } = this.#setup;
    const open = new Set<Listener>();
    const remote: RemoteHost = new RemoteHost(stored, {
      page,
      create,
      // Each item comes whole before its turn ends.
      read: { leanTurns: true },
      notified: (notification) => {
        for (const listener of [threads, start, ...open]) {
          listener.notified(notification);
        }
      },
      missed: () => {
        for (const listener of [threads, start, ...open]) {
          listener.missed();
        }
      },
      learned: (facts) => {
        const changed = (host: Host): Host =>
          host.remote === remote ? { ...host, stored: { ...host.stored, ...facts } } : host;
        this.list.set(this.list.value?.map(changed) ?? null);
        // What is not kept is learned again with the next session.
        store.update(stored, facts).catch((error: unknown) => {
          if (!(error instanceof StoreError)) {
            throw error;
          }
        });
      },
    });
    const threads = new Threads(remote);
    const start = new NewThread(remote.api, starts, stored);
    return { stored, remote, threads, start, open };
  }
}

/** Whether a host is the one that is kept, paired at the same time. */
function isOf(kept: StoredHost): (host: Host) => boolean {
  return ({ stored }) => stored.id === kept.id && stored.deviceId === kept.deviceId;
}
