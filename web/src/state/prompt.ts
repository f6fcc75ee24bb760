/**
 * One prompt of this device's, from a draft to the host's word on what became of it.
 *
 * What is written is kept on every change. What is sent is kept, with the id that the host knows it by, before anything
 * leaves this device; then it is sent as often as it takes, with that id, also after a reload and while other screens
 * are shown. Before each time the host is asked what it knows of it: where it can't say, a person decides. The id is
 * kept until a receipt of the host's ends it.
 *
 * All tabs of a browser keep the same one, and one of them at a time sends it: see `link/lock.ts`. So what is kept is
 * read anew before the host is asked.
 */
import type { ApiClient } from "../api/client";
import { RequestError } from "../api/error";
import type { Notification, PromptSendParams, Receipt } from "../api/types";
import { Observable } from "../observable";
import { StoreError } from "../store/error";
import type { StoredHost } from "../store/hosts";
import type { SentRow } from "../store/schema";

/** Hosts know a prompt for seven days; what is nearly that old is not sent again without a word. */
const KNOWN = 6 * 24 * 60 * 60 * 1_000;

/** How far it is. Times are milliseconds since 1970. */
export type Progress =
  | { readonly at: "draft" }
  /** Being written down. */
  | { readonly at: "keeping" }
  /** Written down here, by this device's clock; the host has not said that it has it. */
  | { readonly at: "held"; readonly since: number }
  /** The host has it, by its own clock. */
  | { readonly at: "taken"; readonly since: number }
  /** Codex has it, by the host's clock. */
  | {
      readonly at: "started";
      /** The prompt's. */
      readonly id: string;
      readonly environment: string;
      readonly thread: string;
      readonly since: number;
      /** It began a turn, joined the one that ran, or waits for its turn. */
      readonly how: "began" | "steered" | "queued";
    }
  /** The host can't say whether it has run. */
  | { readonly at: "doubt" };

/** Why it is a draft again, or can't be kept: `reason` is one of the host's words, or none. */
export interface PromptFault {
  readonly reason: string;
  readonly message: string;
}

/** A prompt as it is kept. */
export interface PromptRow {
  /** `null` while it is a draft. */
  readonly sent: SentRow | null;
}

/** What the screen shows. */
export interface PromptView<Row extends PromptRow> {
  readonly row: Row;
  readonly progress: Progress;
  /** Whether what is shown is written down. */
  readonly kept: boolean;
  readonly fault: PromptFault | null;
}

/** Where a prompt is kept. Everything rejects with `StoreError`. */
export interface PromptStore<Row extends PromptRow> {
  /** What is kept; `null` where nothing is. */
  read(): Promise<Row | null>;
  /** Keeps a draft, or a prompt that is about to be sent; gives what is kept then. A prompt that is under way stays. */
  keep(row: Row): Promise<Row>;
  /**
   * Puts `row` in the place of the prompt with this id, and first sent into this journal where one is named; gives what
   * is kept then. One that is another by now, perhaps by another tab, stays.
   */
  settle(sent: Pick<SentRow, "id"> & Partial<SentRow>, row: Row): Promise<Row | null>;
}

/** Which thread. */
export interface ThreadPlace {
  readonly environment: string;
  readonly thread: string;
}

/** What a prompt is. */
export interface PromptKind<Row extends PromptRow> {
  readonly store: PromptStore<Row>;
  /** Where nothing is kept. */
  readonly empty: Row;
  environment(row: Row): string;
  /** What the host is given beside its id: the same each time. Rejects with {@link StoreError}. */
  params(row: Row): Promise<Omit<PromptSendParams, "id">>;
  /** Codex has it, in this thread: what there is to be done before what is kept is another; `null` where nothing is. */
  started(row: Row, at: ThreadPlace): Promise<void> | null;
  /** It runs: what is kept then. */
  done(row: Row): Row;
  /** It does not run: a draft again. */
  drafted(row: Row): Row;
  /** What is kept, with what the screen alone has beside the prompt that is under way. */
  carried(kept: Row, shown: Row): Row;
}

/** Whether a prompt that the host calls unknown has not run there, so that it can be sent. */
export function isUnheard(sent: SentRow, deviceId: string, journal: string, now: number): boolean {
  const isFirst = sent.journal === null;
  return sent.deviceId === deviceId && (isFirst || (sent.journal === journal && now - sent.at < KNOWN));
}

/** See the module's header. */
export class Prompt<Row extends PromptRow> {
  /** `null` until what is kept was read. */
  readonly view = new Observable<PromptView<Row> | null>(null);
  #api: ApiClient;
  readonly #kind: PromptKind<Row>;
  readonly #store: PromptStore<Row>;
  readonly #host: Pick<StoredHost, "deviceId">;
  /** Ends what is asked about the prompt. */
  #asking = new AbortController();
  #ended = false;
  /** Whether another tab sees to it. */
  #rests = false;

  constructor(api: ApiClient, host: Pick<StoredHost, "deviceId">, kind: PromptKind<Row>) {
    [this.#api, this.#host, this.#kind, this.#store] = [api, host, kind, kind.store];
    void this.#load();
  }

  /** Whether what was sent is still this device's alone, and this tab sees to it. */
  get isHeld(): boolean {
    const at = this.view.value?.progress.at;
    return at === "keeping" || (at === "held" && !this.#rests);
  }

  /** The host is no longer one of this device's: nothing is written or sent any more. */
  end(): void {
    this.#ended = true;
    this.#asking.abort();
  }

  /** Goes on, over another session of the host. */
  begin(api: ApiClient): void {
    this.#api = api;
    this.#ended = false;
    void this.look();
  }

  /** Another tab sees to what is sent. */
  rest(): void {
    this.#rests = true;
    this.#asking.abort();
  }

  /** This tab does, with what is kept by now. */
  wake(): void {
    this.#rests = false;
    void this.look();
  }

  /** Shows this row, of the same prompt or the same draft, and keeps it. */
  protected async rewrite(row: Row): Promise<void> {
    const view = this.view.value;
    if (view === null || this.#ended) {
      return;
    }
    this.view.set({ ...view, row, kept: false });
    if (view.progress.at === "keeping") {
      // It is kept after what is being kept.
      return;
    }
    try {
      const isKept = (await (row.sent === null ? this.#store.keep(row) : this.#store.settle(row.sent, row))) === row;
      this.#changeIf(row, { kept: isKept });
    } catch (error) {
      this.#changeIf(row, { fault: faultOf(error) });
    }
  }

  /** Sends this, in the place of a draft. */
  protected async dispatch(row: Row): Promise<void> {
    const view = this.view.value;
    if (view?.row.sent !== null || view.progress.at === "keeping" || this.#ended) {
      return;
    }
    this.view.set({ row, progress: { at: "keeping" }, kept: true, fault: null });
    try {
      const next = { ...row, sent: this.#newSent() };
      const kept = await this.#store.keep(next);
      if (kept !== next) {
        // Another tab was faster: what was to be sent from here is a draft still.
        this.#change({ row: this.#kind.drafted(this.view.value?.row ?? row), kept: false });
      }
      await this.#take(kept);
    } catch (error) {
      const now = this.view.value?.row ?? row;
      this.view.set({ ...view, row: this.#kind.drafted(now), fault: faultOf(error) });
    }
  }

  /** Reads again what is kept, and asks what became of it where it was sent. */
  async look(): Promise<void> {
    const before = this.view.value;
    if (before === null || before.progress.at === "keeping") {
      // It goes its way by itself.
      return;
    }
    try {
      const row = (await this.#store.read()) ?? this.#kind.empty;
      if (this.view.value?.row === before.row && !this.#ended) {
        await this.#adopt(row, this.view.value);
      }
    } catch (error) {
      this.#change({ fault: faultOf(error) });
    }
  }

  /** Sends it under another id, so that it may run twice: a person said so. */
  async sendAgain(): Promise<void> {
    if (await this.#exchange((row) => ({ ...row, sent: this.#newSent() }))) {
      await this.look();
    }
  }

  /** Takes back what has not started. */
  async withdraw(): Promise<void> {
    const row = this.view.value?.row;
    if (row === undefined || row.sent === null) {
      return;
    }
    const { id, journal } = row.sent;
    if (journal === null) {
      // It was never handed to a link, unless by another tab just now: then the host is asked.
      this.#asking.abort();
      if (await this.#exchange((now) => this.#kind.drafted(now), { progress: { at: "draft" }, fault: null })) {
        return;
      }
    }
    try {
      this.#hear(await this.#api.request("prompt/withdraw", { id, environment: this.#kind.environment(row) }));
    } catch (error) {
      this.#refused(error);
    }
  }

  /** Makes it a draft again; what the host has of it is not touched. */
  async backToDraft(fault: PromptFault | null = null): Promise<void> {
    this.#asking.abort();
    await this.#settle((row) => this.#kind.drafted(row), { progress: { at: "draft" }, fault });
  }

  /** What the host says by itself. */
  notified(notification: Exclude<Notification, { method: "notices/missed" }>): void {
    if (notification.method === "prompt/changed") {
      this.#hear(notification.params);
    }
  }

  /** Something was not heard, perhaps the answer: the host is asked again. */
  missed(): void {
    const at = this.view.value?.progress.at;
    if (at === "held" || at === "taken") {
      void this.look();
    }
  }

  async #load(): Promise<void> {
    try {
      const row = (await this.#store.read()) ?? this.#kind.empty;
      this.view.set({ row, progress: { at: "draft" }, kept: true, fault: null });
      await this.#take(row);
    } catch (error) {
      this.view.set({ row: this.#kind.empty, progress: { at: "draft" }, kept: false, fault: faultOf(error) });
    }
  }

  /** Goes on with what is kept, in the place of what is shown. */
  async #adopt(row: Row, { row: shown, progress, kept, fault }: PromptView<Row>): Promise<void> {
    if (row.sent !== null) {
      await this.#take(row);
    } else if (shown.sent !== null) {
      const next = this.#withShown(row);
      this.view.set({ row: next, progress: { at: "draft" }, kept, fault: null });
    } else if (kept) {
      this.view.set({ row, progress, kept, fault });
    }
    // What could not be kept is nowhere but on this screen: it stays there.
  }

  /** What is kept, with what could not be kept yet. */
  #withShown(row: Row): Row {
    const view = this.view.value;
    return view === null || view.kept ? row : this.#kind.carried(row, view.row);
  }

  #newSent(): SentRow {
    return { id: crypto.randomUUID(), deviceId: this.#host.deviceId, at: Date.now(), journal: null };
  }

  /** Has the prompt that is kept go its way. */
  async #take(row: Row): Promise<void> {
    const { sent } = row;
    if (sent === null) {
      return;
    }
    this.#asking.abort();
    this.#asking = new AbortController();
    const shown = this.#withShown(row);
    this.view.set({ row: shown, progress: { at: "held", since: sent.at }, kept: true, fault: null });
    if (shown !== row) {
      void this.rewrite(shown);
    }
    if (this.#ended || this.#rests) {
      return;
    }
    try {
      await this.#deliver(row, sent, this.#asking.signal);
    } catch (error) {
      this.#refused(error);
    }
  }

  async #deliver(row: Row, sent: SentRow, signal: AbortSignal): Promise<void> {
    const { id } = sent;
    const isOver = (): boolean => signal.aborted;
    const { journal, data } = await this.#api.request("prompt/read", { ids: [id] }, signal);
    const [known] = data;
    if (isOver()) {
      return;
    }
    if (known !== undefined && known.state !== "never") {
      this.#hear(known);
      return;
    }
    if (!isUnheard(sent, this.#host.deviceId, journal, Date.now())) {
      this.#change({ progress: { at: "doubt" } });
      return;
    }
    const params = await this.#kind.params(row);
    // Not even once without that written down: it is what tells later whether it may be sent again.
    const isKept = await this.#exchange((now) => ({ ...now, sent: { ...sent, journal } }));
    if (!isKept || isOver()) {
      return;
    }
    try {
      this.#hear(await this.#api.request("prompt/send", { id, ...params }, signal));
    } catch (error) {
      if (!(error instanceof RequestError) || error.fault.kind !== "refused") {
        throw error;
      }
      await this.#takeBack(row, id, faultOf(error), signal);
    }
  }

  /**
   * The host said no to this copy. One that was sent before may still be on its way, from another link or tab: only a
   * receipt ends the id, so that the text never runs under a second one as well.
   */
  async #takeBack(row: Row, id: string, fault: PromptFault, signal: AbortSignal): Promise<void> {
    this.#change({ fault });
    const params = { id, environment: this.#kind.environment(row) };
    const receipt = await this.#api.request("prompt/withdraw", params, signal);
    if (receipt.state === "withdrawn") {
      await this.backToDraft(fault);
    } else {
      this.#hear(receipt);
    }
  }

  #hear(receipt: Receipt): void {
    const view = this.view.value;
    if (view === null || view.row.sent?.id !== receipt.id) {
      return;
    }
    switch (receipt.state) {
      case "taken":
        this.#change({ progress: { at: "taken", since: receipt.takenAt ?? Date.now() }, fault: null });
        return;
      case "queued":
      case "started":
        this.#started(view.row, receipt);
        return;
      case "refused":
        void this.backToDraft({ reason: receipt.reason, message: receipt.message });
        return;
      case "withdrawn":
        void this.backToDraft();
        return;
      case "unknown":
      case "never":
        this.#change({ progress: { at: "doubt" } });
    }
  }

  #started(row: Row, receipt: Extract<Receipt, { state: "queued" | "started" }>): void {
    this.#asking.abort();
    const progress: Progress = {
      at: "started",
      id: receipt.id,
      environment: receipt.environment ?? this.#kind.environment(row),
      thread: receipt.threadId ?? "",
      since: receipt.changedAt ?? Date.now(),
      how: receipt.state === "queued" ? "queued" : receipt.steered ? "steered" : "began",
    };
    const settle = (): Promise<boolean> => this.#settle((row) => this.#kind.done(row), { progress, fault: null });
    const first = this.#kind.started(row, progress);
    void (first === null ? settle() : first.then(settle));
  }

  /** A question about the prompt has no answer: it stays what it is, and what is wrong is said. */
  #refused(error: unknown): void {
    const isOver = error instanceof RequestError && ["gap", "aborted"].includes(error.fault.kind);
    if (!isOver && !this.#ended) {
      // After a gap the host is asked again anyway.
      this.#change({ fault: faultOf(error) });
    }
  }

  /** Keeps another row in the place of the prompt, whose id a receipt has ended: see {@link Prompt.#replace}. */
  async #settle(next: (row: Row) => Row, change: Partial<PromptView<Row>> = {}): Promise<boolean> {
    const id = this.view.value?.row.sent?.id;
    return id !== undefined && this.#replace({ id }, next, change);
  }

  /** The same, where it may be that another tab has handed the prompt on: then that stays. */
  async #exchange(next: (row: Row) => Row, change: Partial<PromptView<Row>> = {}): Promise<boolean> {
    const sent = this.view.value?.row.sent;
    return sent != null && this.#replace(sent, next, change);
  }

  /** What is shown changes with it. Gives whether it is kept; where it is another one by now, goes on with that. */
  async #replace(
    sent: Parameters<PromptStore<Row>["settle"]>[0],
    next: (row: Row) => Row,
    change: Partial<PromptView<Row>>,
  ): Promise<boolean> {
    const view = this.view.value;
    if (view === null || this.#ended) {
      return false;
    }
    const row = next(view.row);
    this.view.set({ ...view, row, ...change });
    try {
      if ((await this.#store.settle(sent, row)) === row) {
        return true;
      }
      void this.look();
      return false;
    } catch (error) {
      this.#change({ kept: false, fault: faultOf(error) });
      return false;
    }
  }

  #change(change: Partial<PromptView<Row>>): void {
    const view = this.view.value;
    if (view !== null) {
      this.view.set({ ...view, ...change });
    }
  }

  #changeIf(row: Row, change: Partial<PromptView<Row>>): void {
    if (this.view.value?.row === row) {
      this.#change(change);
    }
  }
}

/** What a person is told. Rejects what is nobody's fault but this app's. */
function faultOf(error: unknown): PromptFault {
  if (error instanceof StoreError) {
    return { reason: "store", message: error.message };
  }
  if (error instanceof RequestError) {
    const reason = error.fault.kind === "refused" ? error.fault.error.data.reason : error.fault.kind;
    return { reason, message: error.message };
  }
  throw error;
}
