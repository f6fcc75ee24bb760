/** What the host says became of messages that a thread shows, of those that this device sent. */
import type { ApiClient } from "../api/client";
import { RequestError } from "../api/error";
import type { Notification, Receipt } from "../api/types";
import { Observable } from "../observable";

/** Ids that the host is asked about at once. */
const MOST = 100;

/** See the module's header. {@link Receipts.close} ends it. */
export class Receipts {
  /** By the id of the message. Not those that other devices sent. */
  readonly view = new Observable<ReadonlyMap<string, Receipt>>(new Map());
  readonly #api: ApiClient;
  readonly #asked = new Set<string>();
  readonly #asking = new AbortController();

  constructor(api: ApiClient) {
    this.#api = api;
  }

  /** Nobody looks any more. */
  close(): void {
    this.#asking.abort();
  }

  /** Asks about those that it has not asked about. */
  async read(ids: readonly string[]): Promise<void> {
    const unknown = ids.filter((id) => id !== "" && !this.#asked.has(id)).slice(-MOST);
    if (unknown.length === 0) {
      return;
    }
    unknown.forEach((id) => this.#asked.add(id));
    try {
      const { data } = await this.#api.request("prompt/read", { ids: unknown }, this.#asking.signal);
      this.#put(data.filter(({ state }) => state !== "never"));
    } catch (error) {
      if (!(error instanceof RequestError)) {
        throw error;
      }
      unknown.forEach((id) => this.#asked.delete(id));
    }
  }

  /** What the host says by itself. */
  notified(notification: Exclude<Notification, { method: "notices/missed" }>): void {
    if (notification.method === "prompt/changed") {
      this.#put([notification.params]);
    }
  }

  /** Something was not heard: all are asked about again. */
  missed(): void {
    const ids = [...this.#asked];
    this.#asked.clear();
    void this.read(ids);
  }

  #put(receipts: readonly Receipt[]): void {
    receipts.forEach(({ id }) => this.#asked.add(id));
    this.view.set(new Map([...this.view.value, ...receipts.map((receipt) => [receipt.id, receipt] as const)]));
  }
}
