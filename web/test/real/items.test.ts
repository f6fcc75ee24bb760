/** Every type of item that the pinned Codex can send has a view of its own. */
import { execFileSync } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";
import { expect, test } from "vitest";
import { itemOf } from "../../src/state/items";
import { CODEX, homes } from "./homes";

test("each type of item that the pinned Codex can send is known by its name", () => {
  const { folder, env } = homes();
  try {
    const out = join(folder, "types");
    execFileSync(resolve(CODEX), ["app-server", "generate-ts", "--out", out], { env, stdio: "ignore" });
    const generated = readFileSync(join(out, "v2", "ThreadItem.ts"), "utf8");
    const types = [...generated.matchAll(/"type": "(\w+)"/g)].map(([, type = ""]) => type);
    expect(types.length).toBeGreaterThan(15);
    expect(types).toContain("agentMessage");
    expect(types.filter((type) => itemOf("1", { type }, false).kind === "other")).toEqual([]);
    expect(itemOf("1", { type: "somethingNew" }, false).kind).toBe("other");
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
