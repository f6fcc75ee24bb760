/**
 * A thread that somebody has open: its items, the newest first, and what becomes of it.
 *
 * Reading loads nothing at the host. A thread that Codex has loaded is followed on a channel to it; one that it has not
 * is followed once it runs. What is followed is asked for before the first page is read, so that nothing falls between
 * the two. Whatever is lost on the way (a session, Codex itself) has all of it read again.
 */
import { RequestError } from "../api/error";
import type { Notification } from "../api/types";
import { Codex, CodexError } from "../host/codex";
import type { RemoteHost } from "../host/remote";
import { type Json, json, list, text } from "../json";
import { Observable } from "../observable";
import { ChannelCloseReason } from "../wire/reason";
import { type Goal, goalOf } from "./goals";
import {
  type Item,
  type WholeCommand,
  commandOf,
  inputTexts,
  itemsAfter,
  itemsBefore,
  itemsOfEnd,
  namesOf,
  picturesIn,
} from "./items";

/** Bytes of a page: some screens full. */
const PAGE = 32 * 1024;
/** What streams is shown this often, in milliseconds: a screen can't take each piece by itself. */
const FRAME = 40;

/** Most of a queue that is shown. */
const QUEUE = 50;

/** Bounds of the pause before what was lost is read again, in milliseconds: the first, which doubles, and the last. */
const [FIRST_PAUSE, LAST_PAUSE] = [250, 30_000];

/** A message that waits for its turn, at Codex. */
export interface Queued {
  /** Codex's name for it. */
  readonly id: string;
  /** The id that whoever sent it gave it. */
  readonly client: string;
  readonly text: string;
  /** How many pictures go along. */
  readonly pictures: number;
}

/** What to stop: the turn, the turn and with it the goal for now, or the goal for good while the turn ends by itself. */
export type StopWhat = "turn" | "turn and goal" | "goal";

/** What the screen shows. */
export interface ThreadView {
  /** As Codex has it; `null` until that is known. */
  readonly title: string | null;
  readonly folder: string | null;
  /** The oldest first; `null` until a page is there. */
  readonly items: readonly Item[] | null;
  /** Whether there are older ones. */
  readonly more: boolean;
  /** Whether older ones are being read. */
  readonly busy: boolean;
  readonly running: boolean;
  /** Whether this device asked for the end of the turn that runs. */
  readonly stopping: boolean;
  /** What waits for its turn, in that order. */
  readonly queue: readonly Queued[];
  readonly goal: Goal | null;
  /** Whether Codex has something in it that nobody has read. */
  readonly unread: boolean;
  /** Why it can't be shown, or not followed: for a person. */
  readonly fault: string | null;
}

const EMPTY: ThreadView = {
  title: null,
  folder: null,
  items: null,
  more: false,
  busy: false,
  running: false,
  stopping: false,
  queue: [],
  goal: null,
  unread: false,
  fault: null,
};

/** See the module's header. {@link OpenThread.close} ends it. */
export class OpenThread {
  readonly view = new Observable<ThreadView>(EMPTY);
  readonly environment: string;
  readonly id: string;
  readonly #remote: RemoteHost;
  #codex: Codex | null = null;
  /** Whether Codex tells what happens in it. */
  #followed = false;
  /** Ends what is asked for an earlier reading. */
  #reading = new AbortController();
  /** Where the next page begins. */
  #cursor: string | undefined;
  /** All that is known, shown or not yet. */
  #items: readonly Item[] = [];
  /** The turn that it ended with, until that stands among the items. */
  #end: Json | null = null;
  /** Whether a page of this reading is there: before it, this would be a thread without a beginning. */
  #begun = false;
  #frame: ReturnType<typeof setTimeout> | undefined;
  /** Reads it again, after a pause of so many milliseconds. */
  #again: ReturnType<typeof setTimeout> | undefined;
  #pause = FIRST_PAUSE;
  /** When it was last begun to be read: `performance.now()`. */
  #since = 0;
  /** What Codex calls the state that it is unread in; `null` where that is not known, or was answered. */
  #revision: string | null = null;

  /** Begins to read it. */
  constructor(remote: RemoteHost, environment: string, id: string) {
    [this.#remote, this.environment, this.id] = [remote, environment, id];
    void this.#read();
  }

  /** Nobody looks any more. */
  close(): void {
    this.#reading.abort();
    clearTimeout(this.#frame);
    clearTimeout(this.#again);
    this.#codex?.close();
    this.#codex = null;
  }

  /** Reads what was before. */
  async older(): Promise<void> {
    if (!this.view.value.busy && this.view.value.more) {
      await this.#page(this.#reading.signal);
    }
  }

  /** The command with this id, with all of its output; `null` where Codex has none. Rejects with {@link CodexError}. */
  async command(id: string): Promise<WholeCommand | null> {
    const { turn: turnId, item } = namesOf(id);
    const wanted = { threadId: this.id, turnId, itemIds: [item] };
    const { data } = await Codex.once(this.#remote.session, this.environment, "thread/items/read", wanted);
    return commandOf(json(json(list(data)[0]).item));
  }

  /** Stops that. Rejects with {@link CodexError}. */
  async stop(what: StopWhat = "turn"): Promise<void> {
    const codex = this.#codex;
    if (codex === null) {
      throw new CodexError("There is no connection to Codex just now: it was not asked to stop.");
    }
    if (what === "goal") {
      await codex.request("thread/goal/clear", { threadId: this.id });
      return;
    }
    this.#change({ stopping: this.view.value.running });
    try {
      if (what === "turn and goal") {
        // First what begins the next turn. What it says stays as it is.
        await codex.request("thread/goal/set", { threadId: this.id, status: "paused" });
      }
      if (!(await this.#interrupt(codex))) {
        this.#change({ stopping: false });
      }
    } catch (error) {
      this.#change({ stopping: false });
      throw error;
    }
  }

  /** Ends the newest turn; gives whether one ran. */
  async #interrupt(codex: Codex): Promise<boolean> {
    const turn = await this.#newestTurn(codex);
    if (turn.status !== "inProgress") {
      return false;
    }
    try {
      await codex.request("turn/interrupt", { threadId: this.id, turnId: text(turn.id) });
    } catch (error) {
      this.#unless(error);
      // It may have ended by itself meanwhile.
      const now = await this.#newestTurn(codex);
      if (now.status === "inProgress") {
        throw error;
      }
    }
    return true;
  }

  /** Has a goal that was paused begin turns again, the first of them now. Rejects with {@link CodexError}. */
  async goOn(): Promise<void> {
    const codex = this.#codex;
    if (codex === null) {
      throw new CodexError("There is no connection to Codex just now: the goal was not asked to go on.");
    }
    if (!this.#followed) {
      // Codex begins turns in threads that it has loaded.
      await codex.request("thread/resume", { threadId: this.id, excludeTurns: true });
      this.#followed = this.#codex === codex;
    }
    await codex.request("thread/goal/set", { threadId: this.id, status: "active" });
  }

  /** Has a message that waits begin a turn now. Rejects with {@link CodexError}. */
  async sendNow(id: string): Promise<void> {
    await this.#codex?.request("thread/queue/start", { threadId: this.id, queuedSubmissionId: id });
  }

  /** Has a message that waits go before the one that it waits behind. Rejects with {@link CodexError}. */
  async moveUp(id: string): Promise<void> {
    const ids = this.view.value.queue.map((queued) => queued.id);
    const at = ids.indexOf(id);
    const before = ids[at - 1];
    if (before !== undefined) {
      ids.splice(at - 1, 2, id, before);
      await this.#codex?.request("thread/queue/reorder", { threadId: this.id, queuedSubmissionIds: ids });
    }
  }

  /** Somebody has read all of it; gives whether Codex knows. What came meanwhile stays unread. */
  async read(): Promise<boolean> {
    const [codex, expectedRevision] = [this.#codex, this.#revision];
    if (codex === null || expectedRevision === null) {
      return false;
    }
    this.#revision = null;
    try {
      const operation = { type: "read" };
      const params = { threadId: this.id, operation, expectedRevision };
      const { readState } = await codex.request("thread/readState/update", params);
      this.#learnUnread(readState);
      return !this.view.value.unread;
    } catch (error) {
      this.#unless(error);
      return false;
    }
  }

  /** It has another name. */
  renamed(title: string): void {
    this.#change({ title });
  }

  /** What the host says by itself. */
  notified(notification: Exclude<Notification, { method: "notices/missed" }>): void {
    const { method, params } = notification;
    if (method === "environment/changed") {
      if (params.name === this.environment && params.state === "ready" && this.#codex === null) {
        void this.#read();
      }
      return;
    }
    if (method !== "attention/changed" || params.threadId !== this.id || params.environment !== this.environment) {
      return;
    }
    // Who follows it hears that from Codex, in its place among the items.
    if (!this.#followed) {
      const running = isRunning(params.state);
      void (running || this.view.value.running ? this.#read() : undefined);
    }
  }

  /** Something was not heard: all is read again. */
  missed(): void {
    void this.#read();
  }

  async #read(): Promise<void> {
    this.#reading.abort();
    clearTimeout(this.#again);
    this.#since = performance.now();
    this.#codex?.close();
    this.#codex = null;
    this.#followed = false;
    this.#reading = new AbortController();
    const { signal } = this.#reading;
    this.#items = [];
    this.#begun = false;
    this.#end = null;
    this.#cursor = undefined;
    this.#change({ busy: false, stopping: false });
    const fault = await this.#follow(signal);
    if (!signal.aborted) {
      // It may be followed no more and still be read.
      this.#change({ fault });
      await this.#page(signal);
    }
  }

  /** Asks Codex for what it says of the thread, and for what will happen in it. Gives why it does not, for a person. */
  async #follow(signal: AbortSignal): Promise<string | null> {
    try {
      const codex = Codex.open(this.#remote.session, this.environment, {
        heard: (method, params) => {
          this.#heard(method, params);
        },
        closed: (reason) => {
          this.#lost(reason);
        },
        torn: () => {
          this.#lost(ChannelCloseReason.gap);
        },
      });
      this.#codex = codex;
      const { thread, readState } = await codex.request("thread/read", { threadId: this.id, includeTurns: false });
      if (signal.aborted) {
        return null;
      }
      this.#learnUnread(readState);
      const isLoaded = this.#learn(json(thread));
      if (isLoaded) {
        await codex.request("thread/resume", { threadId: this.id, excludeTurns: true });
        this.#followed = this.#codex === codex;
      }
      void this.#readQueue(codex);
      void this.#readGoal(codex);
      void this.#readEnd(codex);
      return null;
    } catch (error) {
      if (!(error instanceof CodexError)) {
        throw error;
      }
      return error.message;
    }
  }

  /** What Codex says of the thread; gives whether it is loaded. */
  #learn(thread: Json): boolean {
    const { type } = json(thread.status);
    const title = text(thread.name) || text(thread.preview) || null;
    this.#change({ title, folder: text(thread.cwd) || null, running: type === "active" });
    return type !== "notLoaded";
  }

  #learnUnread(state: unknown): void {
    const { firstUnread, revision } = json(state);
    this.#revision = typeof revision === "string" ? revision : null;
    this.#change({ unread: firstUnread !== undefined && firstUnread !== null });
  }

  async #newestTurn(codex: Codex): Promise<Json> {
    const newest = { threadId: this.id, limit: 1, sortDirection: "desc", itemsView: "notLoaded" };
    const { data } = await codex.request("thread/turns/list", newest);
    return json(list(data)[0]);
  }

  /** How its last turn ended is in none of its items. */
  async #readEnd(codex: Codex): Promise<void> {
    try {
      const turn = await this.#newestTurn(codex);
      if (this.#codex === codex && turn.status === "failed" && !this.view.value.running) {
        this.#end = turn;
        this.#showEnd();
      }
    } catch (error) {
      this.#unless(error);
    }
  }

  async #readQueue(codex: Codex): Promise<void> {
    try {
      const { data } = await codex.request("thread/queue/list", { threadId: this.id, limit: QUEUE });
      if (this.#codex === codex) {
        this.#change({ queue: list(data).map(json).map(queuedOf) });
      }
    } catch (error) {
      this.#unless(error);
    }
  }

  async #readGoal(codex: Codex): Promise<void> {
    try {
      const { goal } = await codex.request("thread/goal/get", { threadId: this.id });
      if (this.#codex === codex) {
        this.#change({ goal: goalOf(goal) });
      }
    } catch (error) {
      this.#unless(error);
    }
  }

  /** A thread without that is still one to be read. */
  #unless(error: unknown): void {
    if (!(error instanceof CodexError)) {
      throw error;
    }
  }

  #showEnd(): void {
    if (this.#begun && this.#end !== null) {
      this.#items = itemsOfEnd(this.#items, this.#end);
      this.#end = null;
      this.#showSoon();
    }
  }

  #heard(method: string, params: Json): void {
    if (params.threadId !== this.id) {
      return;
    }
    if (method === "thread/name/updated") {
      this.#change({ title: text(params.threadName) || this.view.value.title });
    } else if (method === "turn/started") {
      this.#change({ running: true, stopping: false });
    } else if (method === "turn/completed") {
      this.#change({ running: false, stopping: false });
    } else if (method === "thread/readState/changed") {
      this.#learnUnread(params.readState);
    } else if (method === "thread/goal/updated") {
      this.#change({ goal: goalOf(params.goal) });
    } else if (method === "thread/goal/cleared") {
      this.#change({ goal: null });
    } else if (method === "thread/queue/changed" && this.#codex !== null) {
      void this.#readQueue(this.#codex);
    }
    const items = itemsAfter(this.#items, method, params);
    if (items !== null && items !== this.#items) {
      this.#items = items;
      this.#showSoon();
    }
  }

  #lost(reason: number): void {
    this.#codex = null;
    this.#followed = false;
    // Without Codex there is nothing to read until it is there again: the host tells of that.
    if (reason === ChannelCloseReason.backendGone) {
      this.#change({ fault: "Codex ended at the host. This goes on when it is there again.", running: false });
    } else if (this.#remote.session.state.at !== "ended") {
      this.#readsAgain();
    }
  }

  /**
   * What was said meanwhile is lost: it was too much for the link, or for the host to keep, or the session is lost (then
   * {@link OpenThread.missed} is sooner). Later and later where it is lost again at once.
   */
  #readsAgain(): void {
    if (performance.now() - this.#since > LAST_PAUSE) {
      this.#pause = FIRST_PAUSE;
    }
    clearTimeout(this.#again);
    this.#again = setTimeout(() => void this.#read(), this.#pause);
    this.#pause = Math.min(this.#pause * 2, LAST_PAUSE);
  }

  async #page(signal: AbortSignal): Promise<void> {
    this.#change({ busy: true });
    const params = {
      environment: this.environment,
      threadId: this.id,
      bytes: PAGE,
      deferOutput: true,
      ...(this.#cursor !== undefined && { cursor: this.#cursor }),
    };
    try {
      const { items, nextCursor } = await this.#remote.api.request("thread/page", params, signal);
      this.#cursor = nextCursor;
      this.#begun = true;
      this.#items = itemsBefore(items, this.#items);
      this.#change({ items: this.#items, more: nextCursor !== undefined, busy: false });
      this.#showEnd();
    } catch (error) {
      if (!(error instanceof RequestError)) {
        throw error;
      }
      if (!signal.aborted) {
        this.#change({ busy: false, fault: error.message });
      }
    }
  }

  #showSoon(): void {
    this.#frame ??= setTimeout(() => {
      this.#frame = undefined;
      if (this.#begun) {
        this.#change({ items: this.#items });
      }
    }, FRAME);
  }

  #change(change: Partial<ThreadView>): void {
    this.view.set({ ...this.view.value, ...change });
  }
}

function queuedOf({ id, clientUserMessageId, input }: Json): Queued {
  const pictures = picturesIn(input);
  return { id: text(id), client: text(clientUserMessageId), text: inputTexts(input), pictures };
}

function isRunning(state: string | null): boolean {
  return state === "running" || state === "waitingOnApproval" || state === "waitingOnAnswer";
}
