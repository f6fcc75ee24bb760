// An MCP server that asks: its tools `form` and `link` put a question to the person, and `act` says that it may destroy.
// What they answer is the answer of the tool. An argument has questions in the place of these, as JSON.
import { createInterface } from "node:readline";

const asked = {
  form: {
    mode: "form",
    message: "Who are you?",
    requestedSchema: { type: "object", properties: { name: { type: "string" } }, required: ["name"] },
  },
  link: { mode: "url", message: "Sign in there.", url: "https://example.com/sign-in", elicitationId: "one" },
  ...JSON.parse(process.argv[2] ?? "{}"),
};
const tools = [
  ...Object.keys(asked).map((name) => ({ name, annotations: { readOnlyHint: true } })),
  { name: "act", annotations: { readOnlyHint: false, destructiveHint: true } },
].map((tool) => ({ ...tool, description: tool.name, inputSchema: { type: "object", properties: {} } }));

const send = (message) => process.stdout.write(`${JSON.stringify({ jsonrpc: "2.0", ...message })}\n`);
const says = (id, text) => send({ id, result: { content: [{ type: "text", text }] } });
const calls = new Map();

createInterface({ input: process.stdin }).on("line", (line) => {
  const { id, method, params, result, error } = JSON.parse(line);
  if (method === "initialize") {
    const serverInfo = { name: "asker", version: "0" };
    send({ id, result: { protocolVersion: params.protocolVersion, capabilities: { tools: {} }, serverInfo } });
  } else if (method === "tools/list") {
    send({ id, result: { tools } });
  } else if (method === "tools/call" && params.name in asked) {
    const question = `question-${id}`;
    calls.set(question, id);
    send({ id: question, method: "elicitation/create", params: asked[params.name] });
  } else if (method === "tools/call") {
    says(id, "it was done");
  } else if (method === undefined && calls.has(id)) {
    says(calls.get(id), JSON.stringify(result ?? error));
    calls.delete(id);
  } else if (method !== undefined && id !== undefined) {
    send({ id, result: {} });
  }
});
