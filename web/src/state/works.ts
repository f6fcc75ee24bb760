/**
 * What Codex does besides speaking, running commands and changing files: tools, searches, pictures, other agents. Each is a
 * row: what was done in the app's words, about what in Codex's, and what came of it.
 */
import { type Json, isJson, json, list, text } from "../json";

/** What it is about. */
export type WorkKind = "tool" | "search" | "image" | "agent" | "note";

/** One such work. */
export interface Work {
  readonly kind: WorkKind;
  /** What was done. */
  readonly verb: string;
  /** With what, in Codex's words or a tool's. */
  readonly text: string;
  /** What came of it. */
  readonly output: string;
  /** How it ended, where that is not plain. */
  readonly end: string;
}

/** What was done with other agents, by Codex's word for it. */
const AGENTS: Readonly<Record<string, string>> = {
  spawnAgent: "Began a sub-agent",
  sendInput: "Told a sub-agent",
  sendMessage: "Told a sub-agent",
  followupTask: "Gave a sub-agent more to do",
  resumeAgent: "Went on with a sub-agent",
  wait: "Waited for sub-agents",
  closeAgent: "Ended a sub-agent",
  interruptAgent: "Stopped a sub-agent",
  listAgents: "Looked at its sub-agents",
};

/** What a sub-agent tells of itself. */
const ACTIVITIES: Readonly<Record<string, string>> = {
  started: "A sub-agent began",
  interacted: "A sub-agent was told something",
  interrupted: "A sub-agent was stopped",
  completed: "A sub-agent is done",
};

/** What Codex did, from an item; `null` where this app does not know its type. */
export function workOf(raw: Json): Work | null {
  const does = (kind: WorkKind, verb: string, what = "", ...output: readonly string[]): Work => ({
    kind,
    verb,
    text: what,
    output: output.filter((part) => part !== "").join("\n\n"),
    end: endOf(raw.status),
  });
  switch (raw.type) {
    case "mcpToolCall":
      return does("tool", "Called", joined(": ", raw.server, raw.tool), given(raw.arguments), returned(raw));
    case "dynamicToolCall":
      return does(
        "tool",
        "Called",
        joined("/", raw.namespace, raw.tool),
        given(raw.arguments),
        saidIn(raw.contentItems),
      );
    case "functionCallOutput":
      return does("tool", "Heard from", joined("/", raw.namespace, raw.name), text(raw.output) || saidIn(raw.output));
    case "collabAgentToolCall":
      return does(
        "agent",
        worded(AGENTS, raw.tool, "Did something with sub-agents"),
        text(raw.prompt),
        states(raw.agentsStates),
      );
    case "subAgentActivity":
      return does("agent", worded(ACTIVITIES, raw.kind, "A sub-agent did something"), text(raw.agentPath));
    case "webSearch":
      return does("search", "Searched", text(raw.query) || searched(json(raw.action)));
    case "imageView":
      return does("image", "Looked at", text(raw.path));
    case "imageGeneration":
      return does("image", "Made a picture", text(raw.revisedPrompt), text(raw.savedPath));
    case "sleep":
      return does(
        "note",
        "Waited",
        typeof raw.durationMs === "number" ? `${Math.round(raw.durationMs / 1_000)} s` : "",
      );
    case "enteredReviewMode":
      return does("note", "Began a review", text(raw.review));
    case "exitedReviewMode":
      return does("note", "Ended its review", "", text(raw.review));
    case "hookPrompt":
      return does("note", "A hook at the host said", "", saidIn(raw.fragments));
    case "contextCompaction":
      return does("note", "Shortened what it remembers");
    default:
      return null;
  }
}

/** An item of a type that is not known here, word for word. */
export function unknownOf(raw: Json): string {
  return Object.keys(raw).length > 2 ? JSON.stringify(raw, null, 2) : "";
}

function endOf(status: unknown): string {
  return status === "completed" || status === "inProgress" ? "" : text(status);
}

function joined(by: string, ...parts: readonly unknown[]): string {
  return parts.map(text).filter(Boolean).join(by);
}

function worded(words: Readonly<Record<string, string>>, word: unknown, otherwise: string): string {
  return Object.hasOwn(words, text(word)) ? (words[text(word)] ?? otherwise) : otherwise;
}

/** What a tool was given. */
function given(value: unknown): string {
  return value === undefined || value === null ? "" : JSON.stringify(value, null, 2);
}

/** What an MCP tool gave back, or why it did not. */
function returned({ error, result, text: cut }: Json): string {
  return text(json(error).message) || saidIn(json(result).content) || text(cut);
}

/** The texts in a list of parts; of other parts, what they are. */
function saidIn(parts: unknown): string {
  return list(parts)
    .filter(isJson)
    .map((part) => text(part.text) || `[${text(part.type)}]`)
    .join("\n");
}

/** How sub-agents are, and what they said last. */
function states(agents: unknown): string {
  return Object.values(json(agents))
    .map((state) => joined(": ", json(state).status, json(state).message))
    .join("\n");
}

/** What was searched or opened in another way. */
function searched({ queries, url, pattern }: Json): string {
  return joined(", ", ...list(queries), url, pattern);
}
