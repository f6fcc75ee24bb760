/**
 * The folders of an environment, looked through one in the other, by a person who looks for one to work in.
 *
 * Each folder that was gone into is a step, and stays one: back shows again what was there, and reads it anew.
 */
import type { ApiClient } from "../api/client";
import { RequestError } from "../api/error";
import type { FolderInfo, FolderListResult, Notification } from "../api/types";
import { text } from "../json";
import { Observable } from "../observable";

/** Why a folder does not show. */
export interface FolderFault {
  /** One of the host's words, or none. */
  readonly reason: string;
  /** Of a folder that is refused: what is wrong with it, in one of the host's words. */
  readonly why: string;
  readonly message: string;
}

/** A folder that was gone into. */
export interface Step {
  /** `null` where one begins, when there are several places for that. */
  readonly folder: FolderInfo | null;
  /** What is in it; `null` until that was read. */
  readonly listing: FolderListResult | null;
  readonly fault: FolderFault | null;
}

/** What the screen shows. */
export interface FoldersView {
  readonly environment: string;
  /** From where one began. */
  readonly steps: readonly Step[];
  /** The number of the step that a person is at. */
  readonly at: number;
  /** Whether folders whose name begins with a dot are listed, too. */
  readonly hidden: boolean;
}

const UNREAD = { listing: null, fault: null };

/** See the module's header. {@link Folders.close} ends it. */
export class Folders {
  readonly view = new Observable<FoldersView>({ environment: "", steps: [], at: 0, hidden: false });
  readonly #api: Pick<ApiClient, "request">;
  #asking = new AbortController();

  constructor(api: Pick<ApiClient, "request">) {
    this.#api = api;
  }

  /** Nobody looks any more. */
  close(): void {
    this.#asking.abort();
  }

  /** Begins, in this environment. */
  begin(environment: string): void {
    this.view.set({ environment, steps: [{ folder: null, ...UNREAD }], at: 0, hidden: false });
    void this.again();
  }

  /** Goes into a folder, from the one that a person is in. */
  enter(folder: FolderInfo): void {
    const { steps, at } = this.view.value;
    this.#change({ steps: [...steps.slice(0, at + 1), { folder, ...UNREAD }], at: at + 1 });
    void this.again();
  }

  /** Shows the step with this number: back, or forward again. */
  show(at: number): void {
    if (at !== this.view.value.at && at < this.view.value.steps.length) {
      this.#change({ at });
      void this.again();
    }
  }

  /** Lists folders whose name begins with a dot, or leaves them out. */
  setHidden(hidden: boolean): void {
    this.#change({ hidden });
    void this.again();
  }

  /** Reads anew what is in the folder. */
  async again(): Promise<void> {
    this.#asking.abort();
    this.#asking = new AbortController();
    const { signal } = this.#asking;
    const { environment, steps, at, hidden } = this.view.value;
    const step = steps[at];
    if (step === undefined) {
      return;
    }
    const { folder } = step;
    try {
      const params = { environment, hidden, ...(folder !== null && { path: folder.path }) };
      const listing = await this.#api.request("folder/list", params, signal);
      if (signal.aborted) {
        return;
      }
      const [only, ...others] = listing.data;
      if (folder === null && only !== undefined && others.length === 0) {
        // Where there is one place to begin, that is where one is.
        this.#set(at, { folder: only, ...UNREAD });
        await this.again();
      } else {
        this.#set(at, { folder, listing, fault: null });
      }
    } catch (error) {
      if (!(error instanceof RequestError)) {
        throw error;
      }
      // What is asked anew anyway is no fault.
      if (!signal.aborted && error.fault.kind !== "gap") {
        this.#set(at, { folder, listing: null, fault: faultOf(error) });
      }
    }
  }

  /** What the host says by itself. */
  notified(notification: Exclude<Notification, { method: "notices/missed" }>): void {
    if (notification.method === "workspace/changed") {
      void this.again();
    }
  }

  /** Something was not heard. */
  missed(): void {
    void this.again();
  }

  #set(at: number, step: Step): void {
    this.#change({ steps: this.view.value.steps.map((other, index) => (index === at ? step : other)) });
  }

  #change(change: Partial<FoldersView>): void {
    this.view.set({ ...this.view.value, ...change });
  }
}

function faultOf({ fault, message }: RequestError): FolderFault {
  if (fault.kind !== "refused") {
    return { reason: fault.kind, why: "", message };
  }
  const { reason, params } = fault.error.data;
  return { reason, why: text(params.why), message };
}
