/** What Codex goes on for in a thread, turn after turn, until it holds. */
import { CodexError, CodexRefusal } from "../host/codex";
import { type Json, json, text } from "../json";
import { Observable } from "../observable";
import type { ThreadPlace } from "./prompt";

/** Most letters of one (measured: Codex refuses more). */
export const MOST_GOAL = 4_000;

/** What Codex works towards in a thread, over turns: while it is active, the end of a turn begins the next one. */
export interface Goal {
  readonly objective: string;
  /** `active`, `paused`, `blocked`, `usageLimited`, `budgetLimited`, `complete`, or another word of Codex's. */
  readonly status: string;
}

/** Asks the Codex of an environment. Rejects with {@link CodexError}. */
export type AsksCodex = (environment: string, method: string, params: Json) => Promise<Json>;

/** The goal in Codex's words; `null` where there is none. */
export function goalOf(raw: unknown): Goal | null {
  const { objective, status } = json(raw);
  return typeof status === "string" ? { objective: text(objective), status } : null;
}

/** The goal of a thread; `null` where there is none. Rejects with {@link CodexError}. */
export async function readGoal(asks: AsksCodex, { environment, thread }: ThreadPlace): Promise<Goal | null> {
  return goalOf((await asks(environment, "thread/goal/get", { threadId: thread })).goal);
}

/** Has Codex go on until this holds, in place of any other goal. Rejects with {@link CodexError}. */
export async function setGoal(asks: AsksCodex, { environment, thread }: ThreadPlace, goal: string): Promise<void> {
  // A person said so: what Codex does for a goal without that word is not authorised by one.
  const set = { threadId: thread, objective: goal, status: "active", origin: "user" };
  await asks(environment, "thread/goal/set", set);
}

/** The goal that a thread was to have from its beginning, and has not. */
export interface Unset extends ThreadPlace {
  readonly goal: string;
  /** Codex's words, or why it could not be asked. */
  readonly why: string;
}

/** So often Codex is asked again where there is no way to it, */
const TRIES = 5;
/** and so long after the first time, in milliseconds; then twice as long each time. */
const PAUSE = 1_000;

/**
 * Goals of threads that were begun here. Codex takes them with no turn: each is set once its thread is there, before the
 * draft is another one. So a page that goes away meanwhile sets it when it is there again.
 */
export class FirstGoals {
  /** The newest that was not set. */
  readonly unset = new Observable<Unset | null>(null);
  asks: AsksCodex;
  readonly #going = new Map<string, Promise<void>>();

  constructor(asks: AsksCodex) {
    this.asks = asks;
  }

  /** Sets the goal of the thread that the prompt with this id began. One that has a goal keeps it. Never rejects. */
  set(prompt: string, at: ThreadPlace, goal: string): Promise<void> {
    const going = this.#going.get(prompt) ?? this.#set(at, goal);
    this.#going.set(prompt, going);
    return going;
  }

  async #set(at: ThreadPlace, goal: string): Promise<void> {
    for (let tried = 0; ; tried += 1) {
      try {
        // It may have been set before the page went away, and be reached or changed by now.
        if ((await readGoal(this.asks, at)) === null) {
          await setGoal(this.asks, at, goal);
        }
        return;
      } catch (error) {
        if (!(error instanceof CodexError)) {
          throw error;
        }
        if (error instanceof CodexRefusal || tried === TRIES) {
          const { environment, thread } = at;
          this.unset.set({ environment, thread, goal, why: error.message });
          return;
        }
        await new Promise((resolve) => setTimeout(resolve, PAUSE * 2 ** tried));
      }
    }
  }
}
