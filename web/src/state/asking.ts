/**
 * What Codex asks: in one thread, while somebody has it open, or in all of a host, for the inbox.
 *
 * What is accepted is what was shown: an acceptance goes out only after the end of exactly these texts was seen, and
 * carries the digest that this device made of them. An answer whose fate is not known is never followed by another one:
 * whether the request still waits is looked up, and then the same answer may be sent again.
 */
import type { ApiClient } from "../api/client";
import { RequestError } from "../api/error";
import type { AnswerSendParams, ApiError, Choice, Notification, RequestClosed, RequestInfo, Who } from "../api/types";
import { Observable } from "../observable";
import { shownDigest } from "../shown";
import { type Kind, type Parts, type Said, bodyOf, kindOf, partsOf } from "./ask";

/** How far an answer is. */
export type Fate =
  | { readonly at: "open" }
  /** On its way. */
  | { readonly at: "sending"; readonly said: Said }
  /** It is being looked up whether it arrived. */
  | { readonly at: "doubt"; readonly said: Said }
  /** The request still waits: the same answer may be sent once more. */
  | { readonly at: "again"; readonly said: Said }
  /** It was refused and did nothing, for this reason. */
  | { readonly at: "refused"; readonly why: string };

/** What is asked, as it is shown. */
export interface Shown {
  readonly parts: Parts;
  readonly kind: Kind;
  /** Made here, in hex. */
  readonly digest: string;
  /** Whether the host made the same. */
  readonly agrees: boolean;
}

/** A request that waits. */
export interface Ask {
  readonly key: string;
  readonly info: RequestInfo;
  /** `null` until it is there. */
  readonly shown: Shown | null;
  /** Whether the end of it, as it is now, was on the screen for long enough. */
  readonly seen: boolean;
  /** Whether it is another than this device showed before. */
  readonly changed: boolean;
  readonly fate: Fate;
}

/** A request that waits no more. */
export interface Outcome {
  readonly key: string;
  readonly itemId: string | null;
  readonly kind: Kind;
  /** A device that answered; `null` where that is not known, or was at the host. */
  readonly by: Who | null;
  /** Whether that was this one. */
  readonly ours: boolean;
  readonly decision: Choice | null;
  /** Why less was done than was said. */
  readonly lessened: string | null;
  /** What this device said that did nothing, because somebody was faster. */
  readonly late: boolean;
  /** Whether it ended while this device did not hear the host. */
  readonly missed: boolean;
  readonly at: number;
}

/** What the screen shows. */
export interface AskingView {
  /** The oldest first. */
  readonly asks: readonly Ask[];
  readonly outcomes: readonly Outcome[];
  /** Why it can't be said what is asked. */
  readonly fault: string | null;
  /** Whether the host has said once what waits. */
  readonly known: boolean;
}

/** Most outcomes that are kept. */
const OUTCOMES = 50;

/** What it stands on. */
export interface AskingSetup {
  readonly api: Pick<ApiClient, "request">;
  /** The thread that is looked at; left out, all are, and what is too long for a list is not asked for. */
  readonly of?: { readonly environment: string; readonly thread: string };
  /** This device's id at the host. */
  readonly device: string;
  /** Whether there is a link: whatever lets something happen is not kept for later. */
  readonly isOnline: () => boolean;
}

/** See the module's header. {@link Asking.close} ends it. */
export class Asking {
  readonly view = new Observable<AskingView>({ asks: [], outcomes: [], fault: null, known: false });
  readonly #setup: AskingSetup;
  /** Those that are over. */
  readonly #over = new Set<string>();
  /** Those that were told of since the list was asked for. */
  #fresh = new Set<string>();
  #reading = new AbortController();

  /** Begins to read them. */
  constructor(setup: AskingSetup) {
    this.#setup = setup;
    void this.#read();
  }

  /** Nobody looks any more. An answer that is on its way stays so. */
  close(): void {
    this.#reading.abort();
  }

  /** The end of what has this digest was on the screen for long enough. */
  seen(key: string, digest: string): void {
    this.#change(key, (ask) => (ask.shown?.digest === digest && ask.shown.agrees ? { ...ask, seen: true } : ask));
  }

  /** Whether this may be said to it now. */
  may(ask: Ask, said: Said): boolean {
    const { fate, info, shown, seen } = ask;
    if (shown === null || fate.at === "sending" || fate.at === "doubt") {
      return false;
    }
    if (fate.at === "again" && JSON.stringify(fate.said) !== JSON.stringify(said)) {
      return false;
    }
    if (said.how === "decline" || said.how === "cancel") {
      return info.needed !== undefined;
    }
    const isRead = said.how === "answer" || seen;
    return isRead && shown.agrees && info.answers.includes(said.how) && this.#setup.isOnline();
  }

  /** Says this to it, as this digest shows it; what may not be said, or not of that, is not sent. */
  async say(key: string, digest: string, said: Said): Promise<void> {
    const ask = this.view.value.asks.find((ask) => ask.key === key);
    const shown = ask?.shown;
    if (ask === undefined || shown?.digest !== digest || !this.may(ask, said)) {
      return;
    }
    const { info } = ask;
    const body = bodyOf(info.method, shown.parts, said);
    if (body === null) {
      return;
    }
    this.#change(key, (ask) => ({ ...ask, fate: { at: "sending", said } }));
    const when = await this.#decided(key, said);
    if (when === null) {
      return;
    }
    const params: AnswerSendParams = {
      environment: info.environment,
      instance: info.instance,
      requestId: info.requestId,
      threadId: info.threadId,
      ...(info.turnId !== undefined && { turnId: info.turnId }),
      ...(info.itemId !== undefined && { itemId: info.itemId }),
      digest,
      ...when,
      ...body,
    };
    try {
      const { decision, lessened = null } = await this.#setup.api.request("answer/send", params);
      this.#close(ask, { ours: true, decision, lessened });
    } catch (error) {
      if (!(error instanceof RequestError)) {
        throw error;
      }
      this.#failed(ask, said, error);
    }
  }

  /**
   * When this is decided, which is now: also by the host's clock, for what lets something happen, as it may wait for a link and
   * grow old on its way. `null`, where the host does not say what time it is.
   */
  async #decided(key: string, { how }: Said): Promise<Pick<AnswerSendParams, "age" | "decidedAt"> | null> {
    if (how === "decline" || how === "cancel") {
      return { age: 0 };
    }
    const decided = Date.now();
    try {
      const { now } = await this.#setup.api.request("host/read", {});
      const age = Math.max(0, Date.now() - decided);
      return { age, decidedAt: now - age };
    } catch (error) {
      if (!(error instanceof RequestError)) {
        throw error;
      }
      const why = error.message;
      this.#change(key, (ask) => ({ ...ask, fate: { at: "refused", why } }));
      return null;
    }
  }

  /** What the host says by itself. */
  notified(notification: Exclude<Notification, { method: "notices/missed" }>): void {
    const { method, params } = notification;
    if (method === "request/opened" && this.#isOurs(params)) {
      this.#fresh.add(keyOf(params));
      this.#put(params);
    } else if (method === "request/shown") {
      const { shownTo } = params;
      this.#change(keyOf(params), (ask) => ({ ...ask, info: { ...ask.info, shownTo } }));
    } else if (method === "request/closed" && this.#isOurs(params)) {
      this.#closed(params);
    }
  }

  /** Something was not heard: all are read again. */
  missed(): void {
    void this.#read();
  }

  #isOurs({ environment, threadId }: Pick<RequestInfo, "environment" | "threadId">): boolean {
    const { of } = this.#setup;
    return of === undefined || (environment === of.environment && threadId === of.thread);
  }

  async #read(): Promise<void> {
    this.#reading.abort();
    this.#reading = new AbortController();
    const { signal } = this.#reading;
    this.#fresh = new Set();
    const { of } = this.#setup;
    try {
      const where = of === undefined ? {} : { environment: of.environment };
      const { data } = await this.#setup.api.request("request/list", where, signal);
      if (signal.aborted) {
        return;
      }
      const waiting = data.filter((info) => this.#isOurs(info));
      const keys = new Set(waiting.map(keyOf));
      for (const ask of this.view.value.asks) {
        if (!keys.has(ask.key) && !this.#fresh.has(ask.key)) {
          this.#close(ask, { missed: true });
        }
      }
      waiting.forEach((info) => {
        this.#put(info);
      });
      // Each of them is asked for an answer still: what was said did not arrive.
      for (const { key, fate } of this.view.value.asks) {
        if (fate.at === "doubt" && keys.has(key)) {
          this.#change(key, (ask) => ({ ...ask, fate: { at: "again", said: fate.said } }));
        }
      }
      this.view.set({ ...this.view.value, fault: null, known: true });
    } catch (error) {
      if (!(error instanceof RequestError)) {
        throw error;
      }
      // Of a gap the next session tells once more.
      if (!signal.aborted && error.fault.kind === "refused") {
        this.view.set({ ...this.view.value, fault: error.message });
      }
    }
  }

  /** Takes one in, as it is now. */
  #put(info: RequestInfo): void {
    const key = keyOf(info);
    if (this.#over.has(key)) {
      return;
    }
    const { asks } = this.view.value;
    const before = asks.find((ask) => ask.key === key);
    if (before === undefined) {
      const ask: Ask = { key, info, shown: null, seen: false, changed: false, fate: { at: "open" } };
      this.#show([...asks, ask]);
    } else {
      const isSame = before.info.digest === info.digest;
      this.#change(key, (ask) => ({
        ...ask,
        info,
        // What was shown before can't be answered any more.
        ...(!isSame && { shown: null, seen: false, changed: ask.changed || ask.shown !== null }),
        ...(!isSame && (ask.fate.at === "again" || ask.fate.at === "refused") && { fate: { at: "open" } }),
      }));
      if (isSame && before.shown !== null) {
        return;
      }
    }
    void this.#prepare(key, info);
  }

  /** Makes of it what the screen shows. */
  async #prepare(key: string, info: RequestInfo): Promise<void> {
    const shown = info.shown ?? (this.#setup.of === undefined ? null : await this.#alone(info));
    if (shown === null) {
      return;
    }
    const digest = hex(await shownDigest(shown));
    const parts = partsOf(shown);
    this.#change(key, (ask) =>
      ask.info.digest === info.digest
        ? { ...ask, shown: { parts, kind: kindOf(info, parts), digest, agrees: digest === info.digest } }
        : ask,
    );
  }

  /** What is too long for the list. */
  async #alone({ environment, requestId, digest }: RequestInfo): Promise<readonly string[] | null> {
    try {
      const { data } = await this.#setup.api.request("request/list", { environment, requestId }, this.#reading.signal);
      return data.find((info) => info.digest === digest)?.shown ?? null;
    } catch (error) {
      if (!(error instanceof RequestError)) {
        throw error;
      }
      return null;
    }
  }

  #failed(ask: Ask, said: Said, { fault, message }: RequestError): void {
    if (fault.kind !== "refused" && fault.kind !== "unsent") {
      // It may have arrived. Of a gap the client tells, and then all are read again.
      this.#doubt(ask.key, said);
      if (fault.kind === "answer") {
        void this.#read();
      }
      return;
    }
    const reason = fault.kind === "refused" ? fault.error.data.reason : null;
    if (reason === "answered" && fault.kind === "refused") {
      const word = wordOf(fault.error);
      const ours = word.by?.deviceId === this.#setup.device;
      this.#close(ask, { ...word, ours, late: !ours });
    } else if (reason === "codex") {
      this.#doubt(ask.key, said);
      void this.#read();
    } else {
      this.#change(ask.key, (now) => ({ ...now, fate: { at: "refused", why: message } }));
      if (reason === "digest" || reason === "instance") {
        void this.#read();
      }
    }
  }

  #doubt(key: string, said: Said): void {
    this.#change(key, (now) => ({ ...now, fate: { at: "doubt", said } }));
  }

  #closed(params: RequestClosed): void {
    const { by, decision = null } = params;
    const key = keyOf(params);
    const ask = this.view.value.asks.find((ask) => ask.key === key);
    this.#over.add(key);
    if (ask !== undefined) {
      const ours = by?.deviceId === this.#setup.device;
      // Whoever was faster is named to who sent one, too: what it says of that comes with its own answer.
      this.#close(ask, { by, decision, ours });
    }
  }

  #close(ask: Ask, what: Partial<Outcome>): void {
    const { key, info } = ask;
    this.#over.add(key);
    const { asks, outcomes } = this.view.value;
    const before = outcomes.find((outcome) => outcome.key === key);
    const outcome: Outcome = {
      key,
      itemId: info.itemId ?? null,
      kind: ask.shown?.kind ?? "unknown",
      by: null,
      ours: false,
      decision: null,
      lessened: null,
      late: false,
      missed: false,
      at: Date.now(),
      ...before,
      ...what,
    };
    this.view.set({
      ...this.view.value,
      asks: asks.filter((ask) => ask.key !== key),
      outcomes: [...outcomes.filter((other) => other !== before), outcome].slice(-OUTCOMES),
    });
  }

  #change(key: string, change: (ask: Ask) => Ask): void {
    const { asks } = this.view.value;
    if (asks.some((ask) => ask.key === key)) {
      this.#show(asks.map((ask) => (ask.key === key ? change(ask) : ask)));
    }
  }

  #show(asks: readonly Ask[]): void {
    this.view.set({ ...this.view.value, asks });
  }
}

function keyOf({ instance, requestId }: Pick<RequestInfo, "instance" | "requestId">): string {
  return `${instance} ${JSON.stringify(requestId)}`;
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const CHOICES: readonly Choice[] = ["accept", "acceptForLonger", "decline", "cancel", "answer"];

/** Who was faster, and with what. */
function wordOf(error: ApiError): Pick<Outcome, "by" | "decision"> {
  const { deviceId, name, decision: said } = error.data.params;
  const decision = CHOICES.find((choice) => choice === said) ?? null;
  return { by: deviceId === undefined ? null : { deviceId: String(deviceId), name: String(name ?? "") }, decision };
}
