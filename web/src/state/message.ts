/**
 * What a person writes to a thread: a draft, and beside it at most one message that is on its way. A message that the
 * host took back, or refused, stands before the draft again.
 */
import type { ApiClient } from "../api/client";
import { excessOf } from "../attach/bounds";
import { inputOf } from "../attach/input";
import type { StoredHost } from "../store/hosts";
import type { MessageStore, Place } from "../store/messages";
import type { Attached, MessageRow } from "../store/schema";
import { retained } from "./attaching";
import { Prompt, type PromptView } from "./prompt";

/** What the screen shows. */
export type MessageView = PromptView<MessageRow>;

/** See the module's header. */
export class Message extends Prompt<MessageRow> {
  readonly #store: MessageStore;
  readonly #place: Place;

  constructor(api: ApiClient, store: MessageStore, host: Pick<StoredHost, "deviceId">, place: Place) {
    super(api, host, {
      store: {
        read: () => store.read(place),
        keep: (row) => store.keep(row),
        settle: (sent, row) => store.settle(sent, row),
      },
      empty: { ...place, text: "", message: "", delivery: "start", sent: null },
      environment: ({ environment }) => environment,
      params: async ({ environment, thread, delivery, message, along }) => ({
        environment,
        threadId: thread,
        delivery,
        input: await inputOf(store.attachments, place.host, message, along),
      }),
      started: ({ sent, along }) => retained(store.attachments, place.host, sent, along),
      // What was said is shown until the thread has it.
      done: (row) => ({ ...row, sent: null }),
      drafted: (row) => ({
        ...row,
        text: together(row.message, row.text),
        attached: [...(row.along ?? []), ...(row.attached ?? [])],
        message: "",
        along: [],
        sent: null,
      }),
      carried: (kept, { text, attached = [] }) => ({ ...kept, text, attached }),
    });
    [this.#store, this.#place] = [store, place];
  }

  /** Whether another message may be sent. */
  get isFree(): boolean {
    const view = this.view.value;
    return view !== null && isFree(view);
  }

  /** Somebody looks, or the thread shows it: what was said is over. */
  seen(): void {
    const view = this.view.value;
    if (view?.progress.at === "started") {
      this.view.set({ ...view, row: { ...view.row, message: "", along: [] }, progress: { at: "draft" } });
    }
  }

  /** Changes the draft, and keeps it. */
  async write(text: string): Promise<void> {
    const view = this.view.value;
    if (view !== null) {
      await this.rewrite({ ...view.row, text });
    }
  }

  /** What is attached to the draft. */
  get attached(): readonly Attached[] {
    return this.view.value?.row.attached ?? [];
  }

  /** Attaches this, whose bytes are kept, and keeps the draft. */
  async attach(one: Attached): Promise<void> {
    await this.#attaches([...this.attached, one]);
  }

  /** Takes what has this id off the draft. */
  async detach(id: string): Promise<void> {
    await this.#attaches(this.attached.filter((one) => one.id !== id));
  }

  /**
   * Puts the text of a prompt that Codex no longer has before the draft, with its pictures that are still on this
   * device; gives how many those are. Rejects with {@link StoreError}: then the text is there.
   */
  async giveBack(text: string, prompt: string): Promise<number> {
    await this.write(together(text, this.view.value?.row.text ?? ""));
    const back = await this.#store.attachments.takenBack(this.#place.host, prompt);
    if (back.length > 0) {
      await this.#attaches([...back, ...this.attached]);
    }
    return back.length;
  }

  /** Sends the draft. */
  async send(delivery: MessageRow["delivery"]): Promise<void> {
    const row = this.view.value?.row;
    if (row !== undefined && this.isFree && isSomething(row)) {
      const along = row.attached ?? [];
      await this.dispatch({ ...row, text: "", attached: [], message: row.text, along, delivery });
    }
  }

  async #attaches(attached: readonly Attached[]): Promise<void> {
    const view = this.view.value;
    if (view !== null) {
      await this.rewrite({ ...view.row, attached });
    }
  }
}

/** Whether there is anything to be sent, and no more than goes along with one prompt. */
export function isSomething({ text, attached = [] }: Pick<MessageRow, "text" | "attached">): boolean {
  return (text.trim() !== "" || attached.length > 0) && excessOf(attached) === null;
}

/** Whether nothing is on its way. */
export function isFree({ row, progress }: MessageView): boolean {
  return row.sent === null && progress.at !== "keeping";
}

function together(...texts: readonly string[]): string {
  return texts.filter((text) => text !== "").join("\n\n");
}
