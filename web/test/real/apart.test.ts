/** A relay and a host for tests: where one of them does not start, nothing of them is left. */
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";
import { Apart } from "./apart";

/** How many programs run with this word among their arguments. */
function running(word: string): number {
  return readdirSync("/proc").filter((pid) => {
    try {
      return /^\d+$/.test(pid) && readFileSync(join("/proc", pid, "cmdline"), "utf8").includes(word);
    } catch {
      // It has ended meanwhile.
      return false;
    }
  }).length;
}

test.runIf(existsSync("/proc/self/cmdline"))("a host that does not start takes its relay with it", async () => {
  let folder = "";
  const starting = Apart.start((env) => {
    folder = dirname(env.HOME ?? "");
    // No folder: the relay has its own, and the agent can keep nothing.
    env.REACHBACK_HOME = "/dev/null/home";
  });
  await expect(starting).rejects.toThrow(/does not say ready/);
  expect(folder).not.toBe("");
  expect([existsSync(folder), running(folder)]).toEqual([false, 0]);
});
