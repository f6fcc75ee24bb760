/** The thread that a person begins next at a host: a draft, and then a prompt on its way. */
import type { ApiClient } from "../api/client";
import { excessOf } from "../attach/bounds";
import { inputOf } from "../attach/input";
import { CodexError } from "../host/codex";
import type { StoredHost } from "../store/hosts";
import type { Attached, StartRow } from "../store/schema";
import type { StartStore } from "../store/starts";
import { type AsksCodex, FirstGoals } from "./goals";
import { retained } from "./attaching";
import { Prompt, type PromptView } from "./prompt";

/** What the screen shows. */
export type StartView = PromptView<StartRow>;

/** What a person changes. */
export type Draft = Pick<
  StartRow,
  "text" | "attached" | "environment" | "folder" | "untrusted" | "model" | "effort" | "goal"
>;

/** Parameters of Codex's `thread/start`: nothing of what the host's own configuration decides. */
export function startOf({ folder, model, effort }: Draft): Record<string, unknown> {
  return {
    cwd: folder,
    ...(model !== null && { model }),
    ...(effort !== null && { config: { model_reasoning_effort: effort } }),
  };
}

/** See the module's header. */
export class NewThread extends Prompt<StartRow> {
  /** The goals of what was begun. */
  readonly goals: FirstGoals;

  constructor(
    api: ApiClient,
    store: StartStore,
    host: Pick<StoredHost, "id" | "deviceId">,
    asks: AsksCodex = () => Promise.reject(new CodexError("There is no connection to Codex just now.")),
  ) {
    const goals = new FirstGoals(asks);
    super(api, host, {
      store: {
        read: () => store.read(host.id),
        keep: (row) => store.keep(row),
        settle: (sent, row) => store.settle(sent, row),
      },
      empty: { host: host.id, text: "", environment: null, folder: null, model: null, effort: null, sent: null },
      environment: ({ environment }) => environment ?? "",
      params: async (row) => ({
        environment: row.environment ?? "",
        start: startOf(row),
        input: await inputOf(store.attachments, host.id, row.text, row.attached),
      }),
      started: ({ sent, attached, goal = "" }, at) => {
        const kept = retained(store.attachments, host.id, sent, attached);
        const set = sent === null || goal.trim() === "" ? null : goals.set(sent.id, at, goal.trim());
        return kept === null || set === null ? (kept ?? set) : Promise.all([kept, set]).then(() => undefined);
      },
      done: (row) => ({ ...row, text: "", attached: [], goal: "", sent: null }),
      drafted: (row) => ({ ...row, sent: null }),
      carried: (kept) => kept,
    });
    this.goals = goals;
  }

  /** Goes on, over another session of the host. */
  override begin(api: ApiClient, asks?: AsksCodex): void {
    this.goals.asks = asks ?? this.goals.asks;
    super.begin(api);
  }

  /** Somebody looks: what ran while nobody did is over. */
  open(): void {
    const view = this.view.value;
    if (view?.progress.at === "started") {
      this.view.set({ ...view, progress: { at: "draft" } });
    }
  }

  /** Changes the draft, and keeps it. */
  async write(change: Partial<Draft>): Promise<void> {
    const view = this.view.value;
    if (view?.progress.at === "draft") {
      await this.rewrite({ ...view.row, ...change });
    }
  }

  /** What is attached to the draft. */
  get attached(): readonly Attached[] {
    return this.view.value?.row.attached ?? [];
  }

  /** Attaches this, whose bytes are kept, and keeps the draft. */
  async attach(one: Attached): Promise<void> {
    await this.write({ attached: [...this.attached, one] });
  }

  /** Takes what has this id off the draft. */
  async detach(id: string): Promise<void> {
    await this.write({ attached: this.attached.filter((one) => one.id !== id) });
  }

  /** Sends what is written. */
  async send(): Promise<void> {
    const { row, progress } = this.view.value ?? {};
    if (progress?.at === "draft" && row?.folder != null && row.text.trim() !== "" && excessOf(this.attached) === null) {
      await this.dispatch(row);
    }
  }
}
