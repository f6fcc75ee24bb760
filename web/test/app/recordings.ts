/** Recordings as Codex writes them, made without it: many threads, each of one prompt and its answer, or long ones. */
import { mkdirSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** When the oldest thread begins, in seconds since 1970, and how much later each next one does. */
const BEGINNING = 1_700_000_000;
const STEP = 200;

/** Items of a turn of a long thread, its prompt among them, and about how long each is, in characters. */
const LONG_TURN = 100;
const LONG_TEXT = 400;

/** What somebody said, and what was answered. */
interface Turn {
  readonly prompt: string;
  readonly answers: readonly string[];
}

/** Writes so many threads of this folder into Codex's home; the last one is the newest. */
export function writeThreads(codexHome: string, folder: string, count: number): void {
  for (let number = 0; number < count; number += 1) {
    writeThread(codexHome, folder, number, [{ prompt: `thread ${number} of many`, answers: ["It is done."] }]);
  }
}

/** Writes one thread of so many items, a multiple of 100. Gives its id, how it is listed, and the end of its last item. */
export function writeLongThread(
  codexHome: string,
  folder: string,
  { number, items }: { readonly number: number; readonly items: number },
): { readonly id: string; readonly title: string; readonly last: string } {
  const title = `long thread ${number}`;
  const answer = (turn: number, index: number): string => {
    const words = `what was found in step ${index} of turn ${turn} of thread ${number}`;
    return `**Step ${index}.** ${`${words}, and `.repeat(LONG_TEXT / words.length)}${words}.`;
  };
  const turns = Array.from({ length: items / LONG_TURN }, (_, turn) => ({
    prompt: turn === 0 ? title : `go on with turn ${turn}`,
    answers: Array.from({ length: LONG_TURN - 1 }, (_, index) => answer(turn, index)),
  }));
  const id = writeThread(codexHome, folder, number, turns);
  return {
    id,
    title,
    last: `and ${
      answer(turns.length - 1, LONG_TURN - 2)
        .split(", and ")
        .at(-1) ?? ""
    }`,
  };
}

function writeThread(codexHome: string, cwd: string, number: number, turns: readonly Turn[]): string {
  const at = BEGINNING + number * STEP;
  const timestamp = new Date(at * 1_000).toISOString();
  const id = `018c0000-0000-7000-8000-${number.toString().padStart(12, "0")}`;
  const lines = turns.flatMap((turn, index) => linesOfTurn(turn, { id, number, index, at }));
  const day = join(codexHome, "sessions", timestamp.slice(0, 10).replaceAll("-", "/"));
  mkdirSync(day, { recursive: true });
  const file = join(day, `rollout-${timestamp.slice(0, 19).replaceAll(":", "-")}-${id}.jsonl`);
  const meta = ["session_meta", { ...META, id, session_id: id, timestamp, cwd }] as const;
  const text = [meta, ...lines].map(([type, payload], ordinal) =>
    JSON.stringify({ timestamp, ordinal, type, payload }),
  );
  writeFileSync(file, `${text.join("\n")}\n`);
  utimesSync(file, at, at);
  return id;
}

/** A line of a recording: what it is, and what it holds. */
type Line = readonly [type: string, payload: object];

/** Where a turn stands: in which thread, of which number, as which one, and when that began, in seconds since 1970. */
interface Place {
  readonly id: string;
  readonly number: number;
  readonly index: number;
  readonly at: number;
}

function linesOfTurn({ prompt, answers }: Turn, { id, number, index, at }: Place): readonly Line[] {
  const digits = (value: number): string => value.toString().padStart(6, "0");
  const turn = `018c0000-0000-7001-8000-${digits(index)}${digits(number)}`;
  const item = (body: object): Line => [
    "event_msg",
    {
      type: "item_completed",
      thread_id: id,
      turn_id: turn,
      item: body,
      started_at_ms: at * 1_000,
      completed_at_ms: at * 1_000,
    },
  ];
  const of = { turn_id: turn, root_turn_id: turn, started_at: at };
  const content = [{ type: "text", text: prompt, text_elements: [] }];
  const said = answers.map((text, answer) =>
    item({ type: "AgentMessage", id: `agent-${index}-${answer}`, content: [{ type: "Text", text }] }),
  );
  return [
    ["event_msg", { ...of, type: "task_started", model_context_window: 258_400, collaboration_mode_kind: "default" }],
    item({ type: "UserMessage", id: `user-${index}`, content }),
    ...said,
    ["event_msg", { ...of, type: "task_complete", last_agent_message: "x", completed_at: at + 1, duration_ms: 1_000 }],
  ];
}

const META = {
  originator: "reachback_app_test",
  cli_version: "0.169.0",
  source: "vscode",
  model_provider: "scripted",
  base_instructions: { text: "" },
  history_mode: "paginated",
};
