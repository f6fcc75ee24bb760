/** One pairing at a time, as the screen shows it. */
import { Observable } from "../observable";
import { JoinError, type JoinFault } from "../pairing/error";
import { type Invitation, type JoinSetup, PERSON_TIMEOUT, join } from "../pairing/join";
import type { StoredHost } from "../store/hosts";
import type { Persistence } from "../store/persist";

export type PairingState =
  | { readonly at: "none" }
  /** On the way to the host. */
  | { readonly at: "meeting" }
  /** A person types these digits at the host, until then: milliseconds since 1970. */
  | { readonly at: "digits"; readonly digits: string; readonly until: number }
  | { readonly at: "paired"; readonly host: StoredHost; readonly persistence: Persistence }
  /** It did not come about. `typed`: the code was typed, so that a letter may be off. */
  | { readonly at: "failed"; readonly fault: JoinFault; readonly typed: boolean }
  /** What came with the address, or was put in, is no code; this says why. */
  | { readonly at: "noCode"; readonly why: string };

/** What a pairing needs, besides what comes from the screen. */
export type PairingSetup = Omit<JoinSetup, "show" | "signal"> & {
  /** Takes the host that is kept now. */
  readonly paired: (host: StoredHost) => Promise<void>;
};

/** See the module's header. */
export class Pairing {
  readonly state = new Observable<PairingState>({ at: "none" });
  readonly #setup: PairingSetup;
  #running: AbortController | null = null;

  constructor(setup: PairingSetup) {
    this.#setup = setup;
  }

  /** Begins; one that is under way is given up. */
  start(invitation: Invitation): void {
    this.cancel();
    const running = new AbortController();
    this.#running = running;
    this.state.set({ at: "meeting" });
    void this.#run(invitation, running);
  }

  /** Says that there is no code to begin with, and why. */
  noCode(why: string): void {
    this.cancel();
    this.state.set({ at: "noCode", why });
  }

  /** Gives up what is under way, and forgets how the last one ended. */
  cancel(): void {
    this.#running?.abort();
    this.#running = null;
    this.state.set({ at: "none" });
  }

  async #run(invitation: Invitation, running: AbortController): Promise<void> {
    const { paired, ...setup } = this.#setup;
    const tell = (state: PairingState): void => {
      if (this.#running === running) {
        this.state.set(state);
      }
    };
    try {
      const show = (digits: string): void => {
        tell({ at: "digits", digits, until: Date.now() + PERSON_TIMEOUT });
      };
      const { host, persistence } = await join(invitation, { ...setup, show, signal: running.signal });
      await paired(host);
      tell({ at: "paired", host, persistence });
    } catch (error) {
      if (!(error instanceof JoinError)) {
        tell({ at: "failed", fault: { kind: "protocol" }, typed: false });
        throw error;
      }
      tell({ at: "failed", fault: error.fault, typed: invitation.type === "code" });
    }
  }
}
