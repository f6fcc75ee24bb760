import { expect, test } from "vitest";
import { type Kind, bodyOf, contentOf, fieldsOf, kindOf, partsOf } from "../../src/state/ask";
import { calledWords, hiddenIn } from "../../src/views/askwords";
import { strictlyVisible } from "../../src/visible";

const NOTHING = partsOf([]);

test("every text that is shown is in one place, whatever the order", () => {
  const shown = ["request", "m", "claim", "why", "command", "ls", "command", "rm", "diff", "stray", "new", "x", "odd"];
  const parts = partsOf(shown);
  expect(parts).toMatchObject({ claim: "why", command: "ls" });
  expect(parts.facts).toEqual([
    { label: "request", text: "m" },
    { label: "command", text: "rm" },
    { label: "diff", text: "stray" },
    { label: "new", text: "x" },
    { label: "odd", text: "" },
  ]);
});

test("that something is asked is said in a sentence without any of it", () => {
  const called = (kind: Kind, ...texts: readonly string[]): string => calledWords({ kind, parts: partsOf(texts) });
  expect(called("command", "request", "m", "command", "cargo test\nrm -r x")).toBe(
    "Codex asks to run a command, 2 lines",
  );
  expect(called("files", "file", "a", "change", "update")).toBe("Codex asks to change 1 file");
  expect(called("question", "questionId", "q", "header", "H", "question", "Q?")).toBe("Codex asks 1 question");
  expect(called("form", "claim", "secret")).toBe("A tool server asks for a few values");
  for (const kind of ["permissions", "link", "consent", "unknown"] as const) {
    expect(called(kind, "claim", "secret")).not.toContain("secret");
  }
});

test("files and questions are taken apart", () => {
  const { files } = partsOf([
    "file",
    "a",
    "change",
    "update",
    "movedTo",
    "b",
    "diff",
    "@@",
    "file",
    "c",
    "change",
    "add",
  ]);
  expect(files).toEqual([
    { path: "a", change: "update", movedTo: "b", diff: "@@" },
    { path: "c", change: "add", movedTo: null, diff: "" },
  ]);
  const asked = ["questionId", "q", "header", "H", "question", "Q?", "option", "Red", "explanation", "warm"];
  const { questions } = partsOf([...asked, "other", '{"isSecret":true}']);
  expect(questions).toMatchObject([
    { id: "q", header: "H", question: "Q?", options: [{ label: "Red", explanation: "warm" }], secret: true },
  ]);
});

test("each answer has the type that Codex gives it", () => {
  const command = "item/commandExecution/requestApproval";
  expect(bodyOf(command, NOTHING, { how: "cancel" })).toEqual({ result: { decision: "cancel" } });
  expect(bodyOf(command, NOTHING, { how: "acceptForLonger", lasts: "session" })).toEqual({
    result: { decision: "acceptForSession" },
  });
  expect(bodyOf("execCommandApproval", NOTHING, { how: "accept" })).toEqual({ result: { decision: "approved" } });
  const wish = partsOf(["permissions", '{"network":{"enabled":true}}']);
  const grants = "item/permissions/requestApproval";
  expect(bodyOf(grants, wish, { how: "acceptForLonger", lasts: "turn" })).toEqual({
    result: { permissions: { network: { enabled: true } }, scope: "turn" },
  });
  expect(bodyOf(grants, wish, { how: "decline" })).toEqual({ result: { permissions: {}, scope: "turn" } });
  const consent = partsOf(["questionId", "mcp_tool_call_approval_1", "option", "Cancel", "option", "Allow"]);
  expect(bodyOf("item/tool/requestUserInput", consent, { how: "accept" })).toEqual({
    result: { answers: { mcp_tool_call_approval_1: { answers: ["Allow"] } } },
  });
  expect(bodyOf("mcpServer/elicitation/request", NOTHING, { how: "answer", content: { name: "Ada" } })).toEqual({
    result: { action: "accept", content: { name: "Ada" } },
  });
});

test("what is not known can be declined, and nothing else", () => {
  const method = "item/browser/requestControl";
  expect(kindOf({ method, needed: "approve" }, NOTHING)).toBe("unknown");
  expect(bodyOf(method, NOTHING, { how: "decline" })).toHaveProperty("error");
  expect(bodyOf(method, NOTHING, { how: "accept" })).toBeNull();
});

test("what an MCP server asks is a form, a link or consent", () => {
  const method = "mcpServer/elicitation/request";
  const form = partsOf(["form", "{}"]);
  expect(kindOf({ method, needed: "steer" }, form)).toBe("form");
  expect(kindOf({ method, needed: "approve" }, form)).toBe("consent");
  expect(kindOf({ method, needed: "approve" }, partsOf(["link", "https://example.com"]))).toBe("link");
});

test("a form is filled in, in its own types", () => {
  const properties = {
    name: { type: "string" },
    age: { type: "integer" },
    color: { type: "string", enum: ["r"], enumNames: ["Red"] },
    many: { type: "array", items: { anyOf: [{ const: "a", title: "A" }] } },
    sure: { type: "boolean" },
    odd: { type: "object" },
  };
  const fields = fieldsOf(JSON.stringify({ properties, required: ["name"] }));
  expect(fields.map(({ type }) => type)).toEqual(["text", "integer", "one", "many", "boolean", "unknown"]);
  expect(contentOf(fields, new Map())).toMatchObject({ ok: false, field: { name: "name" } });
  expect(
    contentOf(
      fields,
      new Map([
        ["name", "Ada"],
        ["age", "x"],
      ]),
    ),
  ).toMatchObject({ ok: false });
  expect(
    contentOf(
      fields,
      new Map([
        ["name", "Ada"],
        ["age", "36"],
      ]),
    ),
  ).toEqual({ ok: true, content: { name: "Ada", age: 36, sure: false } });
});

test("what hides in a line, or passes for something else, stands as its code point", () => {
  const named = (line: string): readonly string[] =>
    strictlyVisible(line)
      .filter(({ hidden }) => hidden)
      .map(({ text }) => text.split(" ")[0] ?? "");
  expect(named("rm\u202E -rf\u200B \u00A0x")).toEqual(["U+202E", "U+200B", "U+00A0"]);
  expect(named("\u001B[31mred\r")).toEqual(["U+001B", "U+000D"]);
  expect(named("s\u0443do 1\uFE0F \u{E0041}")).toEqual(["U+0443", "U+FE0F", "U+E0041"]);
  expect(named("echo x  ")).toEqual(["U+0020", "U+0020"]);
  expect(named("echo h\u00E9llo \u043F\u0440\u0438\u0432\u0435\u0442 --flag=1\t| sh")).toEqual([]);
  expect(strictlyVisible("plain text")).toEqual([{ text: "plain text", hidden: false }]);
  expect(hiddenIn("a\nb\u200B\nc")).toEqual({ count: 1, lines: [2] });
});
