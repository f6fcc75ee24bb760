/** Recordings as Codex writes them, made without it: many threads, each of one prompt and its answer. */
import { mkdirSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** When the oldest thread begins, in seconds since 1970, and how much later each next one does. */
const BEGINNING = 1_700_000_000;
const STEP = 200;

/** Writes so many threads of this folder into Codex's home; the last one is the newest. */
export function writeThreads(codexHome: string, folder: string, count: number): void {
  for (let number = 0; number < count; number += 1) {
    writeThread(codexHome, folder, number);
  }
}

function writeThread(codexHome: string, cwd: string, number: number): void {
  const at = BEGINNING + number * STEP;
  const timestamp = new Date(at * 1_000).toISOString();
  const id = `018c0000-0000-7000-8000-${number.toString().padStart(12, "0")}`;
  const turn = `018c0000-0000-7001-8000-${number.toString().padStart(12, "0")}`;
  const item = (body: object): object => ({
    type: "item_completed",
    thread_id: id,
    turn_id: turn,
    item: body,
    started_at_ms: at * 1_000,
    completed_at_ms: at * 1_000,
  });
  const of = { turn_id: turn, root_turn_id: turn, started_at: at };
  const content = [{ type: "text", text: `thread ${number} of many`, text_elements: [] }];
  const lines: readonly (readonly [string, object])[] = [
    ["session_meta", { ...META, id, session_id: id, timestamp, cwd }],
    ["event_msg", { ...of, type: "task_started", model_context_window: 258_400, collaboration_mode_kind: "default" }],
    ["event_msg", item({ type: "UserMessage", id: "user", content })],
    ["event_msg", item({ type: "AgentMessage", id: "agent", content: [{ type: "Text", text: "It is done." }] })],
    ["event_msg", { ...of, type: "task_complete", last_agent_message: "x", completed_at: at + 1, duration_ms: 1_000 }],
  ];
  const day = join(codexHome, "sessions", timestamp.slice(0, 10).replaceAll("-", "/"));
  mkdirSync(day, { recursive: true });
  const file = join(day, `rollout-${timestamp.slice(0, 19).replaceAll(":", "-")}-${id}.jsonl`);
  const text = lines.map(([type, payload], ordinal) => JSON.stringify({ timestamp, ordinal, type, payload }));
  writeFileSync(file, `${text.join("\n")}\n`);
  utimesSync(file, at, at);
}

const META = {
  originator: "reachback_app_test",
  cli_version: "0.169.0",
  source: "vscode",
  model_provider: "scripted",
  base_instructions: { text: "" },
  history_mode: "paginated",
};
