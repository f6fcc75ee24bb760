/**
 * What a person writes to a thread: a draft, and beside it at most one message that is on its way. A message that the
 * host took back, or refused, stands before the draft again.
 */
import type { ApiClient } from "../api/client";
import type { StoredHost } from "../store/hosts";
import type { MessageStore, Place } from "../store/messages";
import type { MessageRow } from "../store/schema";
import { Prompt, type PromptView } from "./prompt";

/** What the screen shows. */
export type MessageView = PromptView<MessageRow>;

/** See the module's header. */
export class Message extends Prompt<MessageRow> {
  constructor(api: ApiClient, store: MessageStore, host: Pick<StoredHost, "deviceId">, place: Place) {
    super(api, host, {
      store: {
        read: () => store.read(place),
        keep: (row) => store.keep(row),
        settle: (sent, row) => store.settle(sent, row),
      },
      empty: { ...place, text: "", message: "", delivery: "start", sent: null },
      environment: ({ environment }) => environment,
      params: ({ environment, thread, delivery, message }) => ({
        environment,
        threadId: thread,
        delivery,
        input: [{ type: "text", text: message }],
      }),
      // What was said is shown until the thread has it.
      done: (row) => ({ ...row, sent: null }),
      drafted: (row) => ({ ...row, text: together(row.message, row.text), message: "", sent: null }),
      carried: (kept, { text }) => ({ ...kept, text }),
    });
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
      this.view.set({ ...view, row: { ...view.row, message: "" }, progress: { at: "draft" } });
    }
  }

  /** Changes the draft, and keeps it. */
  async write(text: string): Promise<void> {
    const view = this.view.value;
    if (view !== null) {
      await this.rewrite({ ...view.row, text });
    }
  }

  /** Puts this before the draft. */
  async giveBack(text: string): Promise<void> {
    await this.write(together(text, this.view.value?.row.text ?? ""));
  }

  /** Sends the draft. */
  async send(delivery: MessageRow["delivery"]): Promise<void> {
    const row = this.view.value?.row;
    if (row !== undefined && this.isFree && row.text.trim() !== "") {
      await this.dispatch({ ...row, text: "", message: row.text, delivery });
    }
  }
}

/** Whether nothing is on its way. */
export function isFree({ row, progress }: MessageView): boolean {
  return row.sent === null && progress.at !== "keeping";
}

function together(...texts: readonly string[]): string {
  return texts.filter((text) => text !== "").join("\n\n");
}
