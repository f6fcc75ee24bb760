/** What the screens say of a Codex that is not well. */
import { expect, test } from "vitest";
import { ApiClient } from "../src/api/client";
import type { EnvironmentInfo } from "../src/api/types";
import { utf8 } from "../src/bytes";
import { json } from "../src/json";
import { Codexes } from "../src/state/codexes";
import { codexFaults } from "../src/views/codexwords";

const WELL: EnvironmentInfo = { name: "local", state: "ready", account: { state: "signedIn", type: "chatgpt" } };

test.each<[string, EnvironmentInfo, readonly string[]]>([
  ["one that is well", WELL, []],
  ["one that is being started", { name: "local", state: "starting" }, []],
  [
    "one that hangs",
    { name: "local", state: "failed", reason: "codex does not answer", fix: "wait" },
    ["Codex does not run: codex does not answer. At the host: wait"],
  ],
  [
    "one of which nothing is known",
    { name: "local", state: "failed", reason: "gone." },
    ["Codex does not run: gone. It is tried again from time to time."],
  ],
  [
    "one that is signed out",
    { ...WELL, account: { state: "signedOut" } },
    ["Codex is signed out, and prompts fail. At the host: `codex login`"],
  ],
  [
    "one with a full disk",
    { ...WELL, troubles: [{ code: "diskFull", message: "The disk is full", fix: "make room there" }] },
    ["The disk is full. At the host: make room there"],
  ],
])("%s", (_, info, texts) => {
  expect(codexFaults(info).map(({ text }) => text)).toEqual(texts);
});

test("a host's words can't steer the screen", () => {
  const [fault] = codexFaults({ name: "local", state: "failed", reason: "a\u202eb" });
  expect(fault?.text).not.toContain("\u202e");
});

test("they are read once, and follow what the host says", async () => {
  const asked: string[] = [];
  const api: ApiClient = new ApiClient(
    (bytes) => {
      const { id, method } = json(JSON.parse(new TextDecoder().decode(bytes)));
      asked.push(String(method));
      queueMicrotask(() => {
        api.message(utf8(JSON.stringify({ id, result: { data: [WELL] } })), () => undefined);
      });
    },
    { notified: () => undefined, missed: () => undefined },
  );
  const codexes = new Codexes(api);
  await codexes.read();
  expect(codexes.view.value.get("local")).toEqual(WELL);
  const failed: EnvironmentInfo = { name: "local", state: "failed" };
  codexes.notified({ method: "environment/changed", params: failed });
  expect([...codexes.view.value.values()]).toEqual([failed]);
  expect(asked).toEqual(["environment/list"]);
});
