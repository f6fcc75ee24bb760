/** What a new thread can be given, by a host of which one machine is slow. */
import { afterEach, expect, test, vi } from "vitest";
import { ApiClient } from "../../src/api/client";
import type { EnvironmentInfo } from "../../src/api/types";
import { utf8 } from "../../src/bytes";
import { type Json, json, text } from "../../src/json";
import { SessionDriver } from "../../src/session/driver";
import { Choices } from "../../src/state/choices";

const ENVIRONMENTS: readonly EnvironmentInfo[] = [
  { name: "local", state: "ready" },
  { name: "ssh:slow", state: "idle" },
  { name: "ssh:looks", state: "ready", maxScope: "view" },
  { name: "ssh:away", state: "failed", reason: "“away” can't be reached" },
];

let choices: Choices | null = null;

afterEach(() => {
  choices?.close();
});

test("workspaces of a machine that is slow hold up no others, and one that takes no threads is not asked", async () => {
  const asked = new Map<string, (answer: Json) => void>();
  const api: ApiClient = new ApiClient(
    (bytes) => {
      const { id, method, params } = json(JSON.parse(new TextDecoder().decode(bytes)));
      const answer = (answer: Json): void => {
        api.message(utf8(JSON.stringify({ id, ...answer })), () => undefined);
      };
      if (method === "workspace/list") {
        asked.set(text(json(params).environment), answer);
      } else {
        queueMicrotask(() => {
          answer({ result: { data: ENVIRONMENTS } });
        });
      }
    },
    { notified: () => undefined, missed: () => undefined },
  );
  const nobody = { message: () => undefined, closed: () => undefined };
  const session = new SessionDriver({ state: () => undefined, lost: () => undefined, api: nobody });
  const { view } = (choices = new Choices({ api, session }));
  await vi.waitUntil(() => asked.size > 0);
  expect([...asked.keys()]).toEqual(["local", "ssh:slow"]);

  asked.get("local")?.({ result: { data: [{ path: "/src/shop", name: "shop", source: "owner" }] } });
  await vi.waitUntil(() => view.value.places !== null);
  expect(view.value.places).toEqual([{ environment: "local", path: "/src/shop" }]);
  expect([...view.value.awaited]).toEqual(["ssh:slow"]);

  // Why a machine does not answer is told of the machine.
  asked.get("ssh:slow")?.({ error: { code: -32011, message: "slow", data: { reason: "slow", params: {} } } });
  await vi.waitUntil(() => view.value.awaited.size === 0);
  expect([view.value.places?.length, view.value.fault]).toEqual([1, null]);
});
