/** Where the programs are, and homes of their own for them. */
import { existsSync, mkdirSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

/** Seen from `web/`; `REACHBACK`, `REACHBACK_RELAY` and `REACHBACK_CODEX` name others. */
export const REACHBACK = process.env.REACHBACK ?? "../target/debug/reachback";
export const RELAY = process.env.REACHBACK_RELAY ?? "../target/debug/reachback-relay";
export const CODEX = process.env.REACHBACK_CODEX ?? "../tests/codex/node_modules/.bin/codex";

/** There is no logind here: a test keeps no machine awake. */
const NOWHERE = "unix:path=/nowhere/bus";

/** A folder that is removed by who asked for it, and an environment in which all state is below it. */
export function homes(): { folder: string; env: NodeJS.ProcessEnv } {
  for (const program of [REACHBACK, RELAY, CODEX]) {
    if (!existsSync(program)) {
      throw new Error(`${resolve(program)} is not there: see test/real/vitest.config.ts`);
    }
  }
  const folder = mkdtempSync(join(tmpdir(), "reachback-web-"));
  const home = (name: string): string => {
    const path = join(folder, name);
    mkdirSync(path, { mode: 0o700 });
    return path;
  };
  const env = {
    ...process.env,
    HOME: home("home"),
    REACHBACK_HOME: home("reachback"),
    CODEX_HOME: home("codex"),
    DBUS_SYSTEM_BUS_ADDRESS: NOWHERE,
  };
  return { folder, env };
}
