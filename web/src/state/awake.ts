/**
 * Whether a host's computer is kept awake while devices may come, for a device that may turn that on and off.
 *
 * What is turned elsewhere, by another device or by the owner at the host, shows as the host tells of it.
 */
import type { ApiClient } from "../api/client";
import { RequestError } from "../api/error";
import type { KeepAwakeInfo, Notification } from "../api/types";
import { Observable } from "../observable";

/** Why it was not turned on or off. */
export interface AwakeFault {
  /** What it was to be turned to. */
  readonly on: boolean;
  /** The host's reason; `lost` where no answer came, so that it may have been done, and `unsent` where it was not. */
  readonly reason: string;
  readonly message: string;
}

/** What the screen shows. */
export interface AwakeView {
  /** As the host said last; `null` until it did. */
  readonly now: KeepAwakeInfo | null;
  /** What it is being turned to; `null` while it is not. */
  readonly turning: boolean | null;
  /** Why that was not done. */
  readonly fault: AwakeFault | null;
}

/** See the module's header. {@link KeepAwake.close} ends it. */
export class KeepAwake {
  readonly view = new Observable<AwakeView>({ now: null, turning: null, fault: null });
  readonly #api: Pick<ApiClient, "request">;
  #asking = new AbortController();

  constructor(api: Pick<ApiClient, "request">) {
    this.#api = api;
  }

  /** Nobody looks any more. What was begun is done all the same. */
  close(): void {
    this.#asking.abort();
  }

  /** Asks anew. A host that does not say stays as it was shown: there is nothing that a person could do about it. */
  async read(): Promise<void> {
    this.#asking.abort();
    this.#asking = new AbortController();
    const { signal } = this.#asking;
    try {
      const now = await this.#api.request("host/keepAwake", {}, signal);
      if (!signal.aborted) {
        this.#change({ now });
      }
    } catch (error) {
      if (!(error instanceof RequestError)) {
        throw error;
      }
    }
  }

  /** Turns it on or off; gives whether it was. */
  async turn(on: boolean): Promise<boolean> {
    if (this.view.value.turning !== null) {
      return false;
    }
    this.#change({ turning: on, fault: null });
    const fault = await this.#ask(on);
    this.#change({ turning: null, fault });
    return fault === null;
  }

  /** What the host says by itself. */
  notified(notification: Exclude<Notification, { method: "notices/missed" }>): void {
    if (notification.method === "keepAwake/changed") {
      this.#hear(notification.params);
    }
  }

  /** Something was not heard. */
  missed(): void {
    void this.read();
  }

  async #ask(on: boolean): Promise<AwakeFault | null> {
    try {
      this.#hear(await this.#api.request("host/keepAwake", { on }));
      return null;
    } catch (error) {
      if (!(error instanceof RequestError)) {
        throw error;
      }
      const { fault, message } = error;
      if (fault.kind === "unsent") {
        return { on, reason: "unsent", message };
      }
      // What was to be turned off is off, whether or not the host's disk took that; and no answer may tell anything.
      await this.read();
      if (fault.kind === "refused") {
        return { on, reason: fault.error.data.reason, message };
      }
      return this.view.value.now?.on === on ? null : { on, reason: "lost", message };
    }
  }

  /** The last word of the host holds: what was asked before it may be older. */
  #hear(now: KeepAwakeInfo): void {
    this.#asking.abort();
    this.#change({ now });
  }

  #change(change: Partial<AwakeView>): void {
    this.view.set({ ...this.view.value, ...change });
  }
}
