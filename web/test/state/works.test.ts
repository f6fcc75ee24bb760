/** What Codex does besides speaking, running commands and changing files. */
import { expect, test } from "vitest";
import type { Json } from "../../src/json";
import { type Item, itemOf } from "../../src/state/items";
import { outputOf } from "../../src/state/output";
import { hasFailed } from "../../src/views/threadwords";

const TEXT = [{ type: "text", text: "three of them" }];

test.each<[Json, Pick<Item, "kind" | "verb" | "text" | "end">, string]>([
  [
    {
      type: "mcpToolCall",
      server: "mock",
      tool: "list",
      status: "completed",
      arguments: {},
      result: { content: TEXT },
    },
    { kind: "tool", verb: "Called", text: "mock: list", end: "" },
    "{}\n\nthree of them",
  ],
  [
    { type: "mcpToolCall", server: "mock", tool: "list", status: "failed", arguments: null, error: { message: "no" } },
    { kind: "tool", verb: "Called", text: "mock: list", end: "failed" },
    "no",
  ],
  [
    {
      type: "dynamicToolCall",
      namespace: null,
      tool: "look",
      status: "completed",
      contentItems: [{ type: "inputImage" }],
    },
    { kind: "tool", verb: "Called", text: "look", end: "" },
    "[inputImage]",
  ],
  [
    { type: "functionCallOutput", namespace: "a", name: "b", output: "done" },
    { kind: "tool", verb: "Heard from", text: "a/b", end: "" },
    "done",
  ],
  [
    {
      type: "collabAgentToolCall",
      tool: "spawnAgent",
      status: "completed",
      prompt: "look around",
      agentsStates: { x: { status: "running", message: null } },
    },
    { kind: "agent", verb: "Began a sub-agent", text: "look around", end: "" },
    "running",
  ],
  [
    { type: "collabAgentToolCall", tool: "constructor", status: "interrupted" },
    { kind: "agent", verb: "Did something with sub-agents", text: "", end: "interrupted" },
    "",
  ],
  [
    { type: "subAgentActivity", kind: "completed", agentPath: "/root/one" },
    { kind: "agent", verb: "A sub-agent is done", text: "/root/one", end: "" },
    "",
  ],
  [{ type: "webSearch", query: "how" }, { kind: "search", verb: "Searched", text: "how", end: "" }, ""],
  [
    { type: "webSearch", query: "", action: { type: "open_page", url: "https://a.example" } },
    { kind: "search", verb: "Searched", text: "https://a.example", end: "" },
    "",
  ],
  [{ type: "imageView", path: "/a.png" }, { kind: "image", verb: "Looked at", text: "/a.png", end: "" }, ""],
  [
    { type: "imageGeneration", status: "completed", revisedPrompt: "a cat", savedPath: "/cat.png", result: "AAAA" },
    { kind: "image", verb: "Made a picture", text: "a cat", end: "" },
    "/cat.png",
  ],
  [{ type: "sleep", durationMs: 12_400 }, { kind: "note", verb: "Waited", text: "12 s", end: "" }, ""],
  [
    { type: "exitedReviewMode", review: "all is well" },
    { kind: "note", verb: "Ended its review", text: "", end: "" },
    "all is well",
  ],
  [
    { type: "hookPrompt", fragments: [{ text: "not so", hookRunId: "1" }] },
    { kind: "note", verb: "A hook at the host said", text: "", end: "" },
    "not so",
  ],
])("%j has its words", (raw, words, output) => {
  const item = itemOf("1", raw, false);
  expect(item).toMatchObject({ ...words, output: outputOf(output) });
  expect(hasFailed(item)).toBe(words.end === "failed");
});

test("what is not known is there word for word", () => {
  const raw = { type: "somethingNew", id: "a", why: "<b>" };
  const item = itemOf("1", raw, false);
  expect(item).toMatchObject({ kind: "other", verb: "", text: "somethingNew" });
  expect(JSON.parse(item.output.start)).toEqual(raw);
});
