/**
 * A host that this device is paired with, from its keys to a session that is kept up.
 *
 * It owns the session, the dialler that keeps it on a link, and the client of the agent's API. Each session begins with
 * `host/read`; what the host says of itself there and later (its name, its relays, this device's scope) is told to be
 * kept, and the dialler takes the relays from then on.
 */
import { ApiClient } from "../api/client";
import { RequestError } from "../api/error";
import type { HostInfo, HostReadParams, Notification } from "../api/types";
import { equal } from "../bytes";
import { Dialler } from "../link/dialler";
import { linkToHost } from "../link/host";
import type { Page } from "../link/page";
import type { Reach } from "../link/reach";
import type { SocketFactory } from "../link/socket";
import { Observable } from "../observable";
import { SessionDriver, type SessionState } from "../session/driver";
import type { HostFacts, StoredHost } from "../store/hosts";
import { ByeReason } from "../wire/reason";
import { factsOf } from "./facts";

/** What a connection to a host is made of, and who hears of it. */
export interface RemoteSetup {
  readonly page: Page;
  /** What each session asks for first. */
  readonly read: HostReadParams;
  /** A notification of the host's. */
  readonly notified: (notification: Exclude<Notification, { method: "notices/missed" }>) => void;
  /** Notifications are missing, perhaps with the whole session: read again what is shown. */
  readonly missed: () => void;
  /** The host says this of itself: keep it. */
  readonly learned: (facts: HostFacts) => void;
  /** Whether it rests at first. */
  readonly rests?: boolean;
  /** Makes WebSockets; the platform's own if left out. */
  readonly create?: SocketFactory;
}

/** See the module's header. {@link RemoteHost.end} ends it. */
export class RemoteHost {
  /** For channels to the host's environments. */
  readonly session: SessionDriver;
  readonly api: ApiClient;
  /** What the host last said of itself. */
  readonly info = new Observable<HostInfo | null>(null);
  readonly #setup: RemoteSetup;
  readonly #dialler: Dialler;
  #relays: StoredHost["relays"];
  /** Whether this session has been asked who the host is. */
  #read = false;

  /** Begins to dial, unless it rests. */
  constructor(host: StoredHost, setup: RemoteSetup) {
    this.#setup = setup;
    this.#relays = host.relays;
    this.api = new ApiClient(
      (bytes) => {
        this.session.api.send(bytes);
      },
      {
        notified: (notification) => {
          if (notification.method === "host/changed") {
            this.#learn(notification.params);
          } else if (notification.method === "host/asleep") {
            this.#dialler.hostSleeps();
          }
          setup.notified(notification);
        },
        missed: setup.missed,
      },
    );
    this.session = new SessionDriver({
      state: (state) => {
        this.#changed(state);
      },
      lost: () => {
        this.#read = false;
        this.api.lost();
      },
      roundTrip: (ms) => {
        this.#dialler.roundTrip(ms);
      },
      api: this.api,
    });
    const { page, create, rests = false } = setup;
    this.#dialler = new Dialler({
      session: this.session,
      relays: () => this.#relays,
      page,
      dial: ({ key, origin }, signal, present) => {
        const target = { origin, admits: (found: Uint8Array) => equal(found, key), signal, ...(create && { create }) };
        return linkToHost(target, host.keys, present);
      },
    });
    if (!rests) {
      this.#dialler.start();
    }
  }

  /** How the host is reached. */
  get reach(): Observable<Reach> {
    return this.#dialler.reach;
  }

  /** A person wants a link now. */
  tryNow(): void {
    this.#dialler.tryNow();
  }

  /** Has no link from here on, and keeps the session. */
  rest(): void {
    this.#dialler.rest();
  }

  /** Has one again. */
  wake(): void {
    this.#dialler.start();
  }

  /** Ends the session with a last word. */
  async end(): Promise<void> {
    this.#dialler.stop();
    await this.session.end(ByeReason.normal);
  }

  #changed(state: SessionState): void {
    this.#dialler.sessionChanged(state);
    if (state.at === "up" && !this.#read) {
      this.#read = true;
      void this.#ask();
    }
  }

  async #ask(): Promise<void> {
    try {
      this.#learn(await this.api.request("host/read", this.#setup.read));
    } catch (error) {
      // The next session asks again.
      if (!(error instanceof RequestError)) {
        throw error;
      }
    }
  }

  #learn(info: HostInfo): void {
    this.info.set(info);
    const facts = factsOf(info);
    if (facts !== null) {
      this.#relays = facts.relays;
      this.#setup.learned(facts);
    }
  }
}
