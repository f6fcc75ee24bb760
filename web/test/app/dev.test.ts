/** `cargo xtask web dev`: the app as it is being changed, served by Vite with a running relay behind it. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, afterAll, expect, test, vi } from "vitest";
import { copySources } from "./site";
import { Stage } from "./stage";

/** What a browser says where nothing is that could become a worker: only a build has one. */
const NO_WORKER = /^(Failed to load resource: |The script has an unsupported MIME type)/;
const WELCOME = "src/views/Welcome.svelte";

const stage = Stage.ofFile({ apart: true });
let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "reachback-dev-"));
  copySources(folder);
});

afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

/** A port of this computer's that nobody listens at. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  const address = server.address();
  await new Promise((closed) => server.close(closed));
  return typeof address === "object" ? (address?.port ?? 0) : 0;
}

/** Runs the script that `cargo xtask web dev` runs, in a copy of `web/`; gives where it serves the app. */
async function dev(relay: string): Promise<string> {
  const port = await freePort();
  const args = ["run", "--silent", "dev", "--", "--host", "127.0.0.1", "--port", String(port), "--strictPort"];
  // A group of its own, as npm has children of its own.
  const env = { ...process.env, NODE_ENV: "development", RELAY: relay, NO_COLOR: "1" };
  const npm: ChildProcess = spawn("npm", args, { cwd: folder, env, detached: true });
  stage.leftovers.add(async () => {
    const exited = new Promise((exit) => npm.once("exit", exit));
    process.kill(-(npm.pid ?? NaN), "SIGTERM");
    await exited;
  });
  let said = "";
  const hear = (data: Buffer): void => {
    said += data.toString();
  };
  npm.stdout?.on("data", hear);
  npm.stderr?.on("data", hear);
  await vi.waitUntil(() => said.includes("Local:") || npm.exitCode !== null, { timeout: 30_000 });
  expect(npm.exitCode, said).toBe(null);
  return `http://127.0.0.1:${port}/`;
}

test("the app pairs through the relay behind it, and a file that is changed shows by itself", async () => {
  const { apart } = stage;
  const url = await dev(apart.relayUrl);
  const phone = await stage.unbox({ bears: NO_WORKER });
  await phone.page.goto(url);
  await phone.sees("Your Codex, from here");
  const named = phone.page.locator('meta[name="reachback-relay"]');
  expect(await named.getAttribute("content")).toBe(new URL(apart.relayUrl).origin);

  const file = join(folder, WELCOME);
  const text = readFileSync(file, "utf8");
  expect(text).toContain("Your Codex, from here");
  writeFileSync(file, text.replace("Your Codex, from here", "Your Codex, from there"));
  await phone.sees("Your Codex, from there");

  const terminal = stage.terminal("pair");
  const code = (await terminal.shows(/reachback join '(\S+)'/)).split("#")[1] ?? "";
  await phone.page.goto("about:blank");
  await phone.opens(`${url}#${code}`);
  await phone.sees("Type these six digits");
  await terminal.shows(/(wants to pair)/);
  terminal.types(await phone.digits());
  await phone.sees("Paired with");
  await phone.taps(/^Open/);
  await phone.sees("Online");
});
