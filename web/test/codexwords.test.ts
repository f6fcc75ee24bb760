/** What the screens say of a Codex that is not well. */
import { expect, test } from "vitest";
import { ApiClient } from "../src/api/client";
import type { EnvironmentInfo } from "../src/api/types";
import { utf8 } from "../src/bytes";
import { json } from "../src/json";
import { Codexes } from "../src/state/codexes";
import { alertsOf, boundWords, closedWords, codexFaults } from "../src/views/codexwords";
import { alsoWords } from "../src/views/environmentwords";
import { named } from "../src/views/named";

const UNREACHED: EnvironmentInfo = {
  name: "ssh:devbox",
  maxScope: "view",
  state: "failed",
  reason: "“devbox” can't be reached: timed out",
  fix: "is it on, and does ssh reach it from here?",
};
const UNREACHED_WORDS =
  "“devbox” can't be reached: timed out. Seen from the host: is it on, and does ssh reach it from here?";
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
    "one that is signed out on a machine",
    { ...WELL, name: "ssh:my box", account: { state: "signedOut" } },
    [
      "Codex is signed out there, and prompts fail. To sign in on that machine: " +
        "`ssh -t 'my box' codex login --device-auth`",
    ],
  ],
  ["one on a machine that is out of reach", UNREACHED, [UNREACHED_WORDS]],
  [
    "one on a machine, of which nothing is known",
    { name: "ssh:devbox", state: "failed" },
    ["its host does not say why. It is tried again when somebody asks for it."],
  ],
  [
    "one with a full disk",
    { ...WELL, troubles: [{ code: "diskFull", message: "The disk is full", fix: "make room there" }] },
    ["The disk is full. At the host: make room there"],
  ],
])("%s", (_, info, texts) => {
  expect(codexFaults(info).map(({ text }) => text)).toEqual(texts);
});

test("what is wrong is said once, though a list could not be read for it", () => {
  const infos = new Map([WELL, UNREACHED].map((info) => [info.name, info]));
  const faults = new Map([
    ["ssh:devbox", "codex is not running: “devbox” can't be reached: timed out"],
    ["local", "the disk is slow"],
  ]);
  expect(alertsOf(infos, faults)).toEqual([
    { environment: "ssh:devbox", stops: true, text: UNREACHED_WORDS, again: true },
    { environment: "local", stops: true, text: "The disk is slow.", again: true },
  ]);
  // What the host has not said yet is said by the list.
  const starting = new Map([["ssh:devbox", { ...UNREACHED, state: "starting" as const }]]);
  expect(alertsOf(starting, new Map([["ssh:devbox", "codex is still starting"]]))).toEqual([
    { environment: "ssh:devbox", stops: true, text: "codex is still starting.", again: true },
  ]);
});

test("why no thread begins on a machine is said, with what one does instead", () => {
  expect([closedWords(WELL), boundWords(WELL)]).toEqual([null, null]);
  expect(closedWords({ name: "local", state: "failed" })).toBeNull();
  expect(closedWords({ name: "ssh:devbox", state: "idle" })).toBeNull();
  const bound = "View only: no device may do more there. To work there, at the host: `ssh -t devbox codex`";
  expect(closedWords({ name: "ssh:devbox", maxScope: "view", state: "idle" })).toBe(bound);
  const why = { maxScopeReason: "its folders can't be looked at: it has no SFTP" };
  expect(boundWords({ name: "ssh:devbox", maxScope: "view", state: "ready", ...why })).toBe(
    "View only: its folders can't be looked at: it has no SFTP. To work there, at the host: `ssh -t devbox codex`",
  );
  expect(closedWords(UNREACHED)).toBe(`${UNREACHED_WORDS} ${bound}`);
  expect(closedWords({ ...UNREACHED, maxScope: "steer" })).toBe(UNREACHED_WORDS);
});

test("the machines of a host are in one line, with what is not as ever", () => {
  expect(alsoWords([WELL])).toBeNull();
  const box = (alias: string, info: Partial<EnvironmentInfo>): EnvironmentInfo => ({
    name: `ssh:${alias}`,
    state: "ready",
    ...info,
  });
  const boxes = [WELL, box("a", {}), box("b", { state: "failed" }), box("c\u202e", { state: "idle" })];
  expect(alsoWords(boxes, new Set(["ssh:a"]))).toBe(
    `Also ${named("a")} (connecting), ${named("b")} (out of reach), ${named("c[U+202E right-to-left override]")} over SSH`,
  );
  expect(alsoWords([box("a", { account: { state: "signedOut" } })])).toBe(`Also ${named("a")} (signed out) over SSH`);
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

  // The end of one that was taken back brings it not back.
  codexes.notified({ method: "environment/changed", params: UNREACHED });
  codexes.notified({ method: "environment/removed", params: { name: UNREACHED.name } });
  codexes.notified({ method: "environment/changed", params: { ...UNREACHED, state: "stopped" } });
  expect([...codexes.view.value.keys()]).toEqual(["local"]);
});
