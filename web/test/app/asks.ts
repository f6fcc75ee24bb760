/** A Codex that asks. */
import { writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { CODEX } from "../real/homes";

/** An MCP server that asks. */
export const ASKER = resolve("../tests/e2e/conformance/asker.mjs");

/** A program that has Codex ask before it writes anything, with tools that ask, and is Codex then. */
export function asksAlways(env: NodeJS.ProcessEnv): string {
  const program = join(env.HOME ?? "", "codex-that-asks");
  const more = [
    "[features]",
    "request_permissions_tool = true",
    "exec_permission_approvals = true",
    "[mcp_servers.asker]",
    'command = "node"',
    `args = ["${ASKER}"]`,
  ];
  // Codex may be started twice at once: each looks at a copy, and what it makes of that is there at once.
  const lines = [
    "#!/bin/sh",
    'config="$CODEX_HOME/config.toml" mine="$CODEX_HOME/config.toml.$$"',
    'if [ -f "$config" ] && cp "$config" "$mine" && ! grep -q mcp_servers "$mine"; then',
    `  sed -i 's/"workspace-write"/"read-only"/' "$mine"`,
    ...more.map((line) => `  echo '${line}' >> "$mine"`),
    '  mv "$mine" "$config"',
    "fi",
    `exec '${resolve(CODEX)}' "$@"`,
    "",
  ];
  writeFileSync(program, lines.join("\n"), { mode: 0o700 });
  return program;
}
