/**
 * Asks the host agent: requests and notifications on channel 0 of a session, docs/api.md.
 *
 * A request waits as long as the session does: a link that is lost resumes, and the answer comes. When the host has lost
 * the session, requests without an answer end with `gap`, and {@link ApiUser.missed} says that notifications may be
 * missing. The host takes 32 unanswered requests of a session; what is more waits here in order.
 */
import { type Bytes, utf8 } from "../bytes";
import type { Consumer } from "../session/handle";
import { SendError } from "../session/error";
import { RequestError, type RequestFault } from "./error";
import { hear } from "./message";
import type { Methods, Notification } from "./types";

/** Requests that the host takes unanswered from one session. */
export const MAX_UNANSWERED = 32;

/** Who hears what was not asked for. */
export interface ApiUser {
  /** A notification; each tells a state, the last one of a kind holds. */
  readonly notified: (notification: Exclude<Notification, { method: "notices/missed" }>) => void;
  /** Notifications are missing: read again what is shown. */
  readonly missed: () => void;
}

interface Request {
  readonly method: keyof Methods;
  readonly bytes: Bytes;
  readonly resolve: (result: object) => void;
  readonly reject: (fault: RequestFault, cause?: unknown) => void;
}

/** See the module's header. It is the consumer of a session's API channel. */
export class ApiClient implements Consumer {
  readonly #send: (bytes: Bytes) => void;
  readonly #user: ApiUser;
  /** Sent and unanswered, by id. */
  readonly #unanswered = new Map<number, Request>();
  /** Not sent yet, in order. */
  readonly #waiting = new Map<number, Request>();
  #nextId = 0;
  #ended = false;

  /** `send` queues a message on the channel, as `ChannelHandle.send` does. */
  constructor(send: (bytes: Bytes) => void, user: ApiUser) {
    this.#send = send;
    this.#user = user;
  }

  /** Asks, and resolves with the answer. Rejects with {@link RequestError}; `signal` gives the answer up. */
  async request<M extends keyof Methods>(
    method: M,
    params: Methods[M]["params"],
    signal?: AbortSignal,
  ): Promise<Methods[M]["result"]> {
    const result = await this.#ask(method, params, signal);
    if (!isResult(method, result)) {
      throw new RequestError(method, { kind: "answer" });
    }
    return result;
  }

  /** The host no longer has the session: what was asked and not answered may have been done or not. */
  lost(): void {
    // What was never sent goes to the new session.
    this.#fail([...this.#unanswered.values()], { kind: "gap" });
    this.#unanswered.clear();
    this.#pump();
    this.#user.missed();
  }

  message(bytes: Bytes, handled: () => void): void {
    try {
      this.#take(bytes);
    } finally {
      handled();
    }
  }

  closed(): void {
    this.#ended = true;
    const all = [...this.#unanswered.values(), ...this.#waiting.values()];
    this.#unanswered.clear();
    this.#waiting.clear();
    this.#fail(all, { kind: "ended" });
  }

  #ask(method: keyof Methods, params: object, signal: AbortSignal | undefined): Promise<object> {
    return new Promise((resolve, reject) => {
      const id = this.#nextId++;
      const done = new AbortController();
      const fail = (fault: RequestFault, cause?: unknown): void => {
        done.abort();
        reject(new RequestError(method, fault, cause === undefined ? {} : { cause }));
      };
      if (this.#ended) {
        fail({ kind: "ended" });
        return;
      }
      if (signal?.aborted === true) {
        fail({ kind: "aborted" });
        return;
      }
      const giveUp = (): void => {
        // One that is sent keeps its place until it is answered: the host counts it.
        this.#waiting.delete(id);
        fail({ kind: "aborted" });
      };
      signal?.addEventListener("abort", giveUp, { signal: done.signal });
      this.#waiting.set(id, {
        method,
        bytes: utf8(JSON.stringify({ id, method, params })),
        resolve: (result) => {
          done.abort();
          resolve(result);
        },
        reject: fail,
      });
      this.#pump();
    });
  }

  #pump(): void {
    for (const [id, request] of this.#waiting) {
      if (this.#unanswered.size >= MAX_UNANSWERED) {
        return;
      }
      this.#waiting.delete(id);
      try {
        this.#send(request.bytes);
        this.#unanswered.set(id, request);
      } catch (cause) {
        if (!(cause instanceof SendError)) {
          throw cause;
        }
        request.reject({ kind: "unsent" }, cause);
      }
    }
  }

  #take(bytes: Bytes): void {
    const heard = hear(bytes);
    if (heard === null) {
      return;
    }
    if (heard.type === "notification") {
      this.#notified(heard.notification);
      return;
    }
    const request = this.#unanswered.get(heard.id);
    if (request === undefined) {
      return;
    }
    this.#unanswered.delete(heard.id);
    if (heard.type === "result") {
      request.resolve(heard.result);
    } else {
      request.reject(heard.type === "error" ? { kind: "refused", error: heard.error } : { kind: "answer" });
    }
    this.#pump();
  }

  #notified(notification: Notification): void {
    if (notification.method === "notices/missed") {
      this.#user.missed();
    } else {
      this.#user.notified(notification);
    }
  }

  #fail(requests: readonly Request[], fault: RequestFault): void {
    for (const request of requests) {
      request.reject(fault);
    }
  }
}

/** Where a result is an object it is the method's: the types are made from the code that answers. */
function isResult<M extends keyof Methods>(_: M, result: object): result is Methods[M]["result"] {
  return !Array.isArray(result);
}
