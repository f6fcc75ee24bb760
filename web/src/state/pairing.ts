/** One pairing at a time, as the screen shows it. */
import type { Later } from "../later";
import { Observable } from "../observable";
import type { JoinError, JoinFault } from "../pairing/error";
import type { Invitation, JoinSetup, PERSON_TIMEOUT, join } from "../pairing/join";
import type { Origin } from "../pairing/origin";
import type { PairingUrl } from "../pairing/url";
import type { StoredHost } from "../store/hosts";
import type { Persistence } from "../store/persist";

export type PairingState =
  | { readonly at: "none" }
  /** A code is in hand, and the host has not heard of it: the name that this device will have there can be changed. */
  | { readonly at: "offered" }
  /** On the way to the host. */
  | { readonly at: "meeting" }
  /** A person types these digits at the host, until then: milliseconds since 1970. */
  | { readonly at: "digits"; readonly digits: string; readonly until: number }
  | { readonly at: "paired"; readonly host: StoredHost; readonly persistence: Persistence | "asked" }
  /** It did not come about at this relay. `typed`: the code was typed, so that a letter may be off. */
  | { readonly at: "failed"; readonly fault: JoinFault; readonly typed: boolean; readonly relay: Origin }
  /** What came with the address, or was put in, is no code; this says why. */
  | { readonly at: "noCode"; readonly why: string };

/** What is only needed where one pairs. */
export interface Joining {
  readonly join: typeof join;
  readonly JoinError: typeof JoinError;
  readonly PERSON_TIMEOUT: typeof PERSON_TIMEOUT;
}

/** What a pairing needs, besides what comes from the screen. */
export type PairingSetup = Omit<JoinSetup, "name" | "show" | "signal"> & {
  readonly joining: Later<Joining>;
  /** Takes the host that is kept now. */
  readonly paired: (host: StoredHost) => Promise<void>;
};

/** See the module's header. */
export class Pairing {
  readonly state = new Observable<PairingState>({ at: "none" });
  readonly #setup: PairingSetup;
  #running: AbortController | null = null;
  #offered: PairingUrl | null = null;

  constructor(setup: PairingSetup) {
    this.#setup = setup;
  }

  /** Has a person say whether to pair by this code, and as what; a pairing that is under way is given up. */
  offer(url: PairingUrl): void {
    this.cancel();
    this.#offered = url;
    this.state.set({ at: "offered" });
  }

  /** Pairs by the code that was offered, as a device with this name. */
  accept(name: string): void {
    const url = this.#offered;
    if (url !== null) {
      this.#offered = null;
      this.start({ type: "url", url }, name);
    }
  }

  /** Begins, as a device with this name; a pairing that is under way is given up. */
  start(invitation: Invitation, name: string): void {
    this.cancel();
    const running = new AbortController();
    this.#running = running;
    this.state.set({ at: "meeting" });
    void this.#run(invitation, name, running);
  }

  /** Says that there is no code to begin with, and why. */
  noCode(why: string): void {
    this.cancel();
    this.state.set({ at: "noCode", why });
  }

  /** Gives up what is under way or offered, and forgets how the last one ended. */
  cancel(): void {
    this.#running?.abort();
    this.#running = null;
    this.#offered?.secret.wipe();
    this.#offered = null;
    this.state.set({ at: "none" });
  }

  async #run(invitation: Invitation, name: string, running: AbortController): Promise<void> {
    const { paired, joining, ...setup } = this.#setup;
    const typed = invitation.type === "code";
    const relay = invitation.type === "code" ? invitation.relay : invitation.url.relay;
    const tell = (state: PairingState): void => {
      if (this.#running === running) {
        this.state.set(state);
      }
    };
    let known: Joining | null = null;
    try {
      known = await joining.get();
      const { join, PERSON_TIMEOUT } = known;
      const show = (digits: string): void => {
        tell({ at: "digits", digits, until: Date.now() + PERSON_TIMEOUT });
      };
      const { host, persistence } = await join(invitation, { ...setup, name, show, signal: running.signal });
      await paired(host);
      // A browser may ask a person whether the page may keep its data, and wait for that as long as it takes.
      tell({ at: "paired", host, persistence: "asked" });
      tell({ at: "paired", host, persistence: await persistence });
    } catch (error) {
      if (known === null || !(error instanceof known.JoinError)) {
        tell({ at: "failed", fault: { kind: "protocol" }, typed: false, relay });
        throw error;
      }
      tell({ at: "failed", fault: error.fault, typed, relay });
    }
  }
}
