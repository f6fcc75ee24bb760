/** What is written to the threads of a host. What is on its way there goes on while nobody looks, and after a reload. */
import type { ApiClient } from "../api/client";
import type { Notification } from "../api/types";
import { StoreError } from "../store/error";
import type { StoredHost } from "../store/hosts";
import type { MessageStore } from "../store/messages";
import type { MessageRow } from "../store/schema";
import { Message } from "./message";

/** See the module's header. */
export class Messages {
  readonly #all = new Map<string, Message>();
  #api: ApiClient;
  readonly #store: MessageStore;
  readonly #host: Pick<StoredHost, "id" | "deviceId">;
  #ended = false;
  #rests = false;

  constructor(api: ApiClient, store: MessageStore, host: Pick<StoredHost, "id" | "deviceId">) {
    [this.#api, this.#store, this.#host] = [api, store, host];
    void this.#load();
    void this.#sweep();
  }

  /** What is written to this thread. */
  to(environment: string, thread: string): Message {
    const key = JSON.stringify([environment, thread]);
    const known = this.#all.get(key);
    if (known !== undefined) {
      return known;
    }
    const message = new Message(this.#api, this.#store, this.#host, { host: this.#host.id, environment, thread });
    if (this.#rests) {
      message.rest();
    }
    if (this.#ended) {
      message.end();
    }
    this.#all.set(key, message);
    return message;
  }

  /** All that is kept. Where that can't be read, nothing. */
  async kept(): Promise<readonly MessageRow[]> {
    try {
      return await this.#store.list(this.#host.id);
    } catch (error) {
      if (!(error instanceof StoreError)) {
        throw error;
      }
      return [];
    }
  }

  /** See {@link Message.isHeld}. */
  get isHeld(): boolean {
    return [...this.#all.values()].some(({ isHeld }) => isHeld);
  }

  /** The host is no longer one of this device's. */
  end(): void {
    this.#ended = true;
    this.#each((message) => {
      message.end();
    });
  }

  /** Goes on, over another session of the host. */
  begin(api: ApiClient): void {
    this.#api = api;
    this.#ended = false;
    this.#each((message) => {
      message.begin(api);
    });
  }

  /** Another tab sees to what is sent. */
  rest(): void {
    this.#rests = true;
    this.#each((message) => {
      message.rest();
    });
  }

  /** This tab does, with what is kept by now. */
  wake(): void {
    this.#rests = false;
    this.#each((message) => {
      message.wake();
    });
    void this.#load();
  }

  /** What the host says by itself. */
  notified(notification: Exclude<Notification, { method: "notices/missed" }>): void {
    this.#each((message) => {
      message.notified(notification);
    });
  }

  /** Something was not heard. */
  missed(): void {
    this.#each((message) => {
      message.missed();
    });
  }

  async #load(): Promise<void> {
    for (const { environment, thread, sent } of await this.kept()) {
      if (sent !== null) {
        this.to(environment, thread);
      }
    }
  }

  /** What an earlier page left behind; where that can't be done, it waits for the next one. */
  async #sweep(): Promise<void> {
    try {
      await this.#store.attachments.sweep(this.#host.id);
    } catch (error) {
      if (!(error instanceof StoreError)) {
        throw error;
      }
    }
  }

  #each(work: (message: Message) => void): void {
    [...this.#all.values()].forEach(work);
  }
}
