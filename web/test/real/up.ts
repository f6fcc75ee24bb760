/** `reachback up --demo --json`: relay, agent, the real Codex and a scripted model in one process, on loopback. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { vi } from "vitest";

/** How long it may take to start, and to stop, in milliseconds. */
const PATIENCE = 30_000;
/** Where the programs are, seen from `web/`; `REACHBACK` and `REACHBACK_CODEX` name others. */
const REACHBACK = process.env.REACHBACK ?? "../target/debug/reachback";
const CODEX = process.env.REACHBACK_CODEX ?? "../tests/codex/node_modules/.bin/codex";

/** One line of its output. */
type Line = Readonly<Record<string, unknown>>;

export class Up {
  readonly #child: ChildProcess;
  readonly #folder: string;
  readonly #lines: Line[] = [];
  #errors = "";

  private constructor(child: ChildProcess, folder: string) {
    this.#child = child;
    this.#folder = folder;
    if (child.stdout !== null) {
      createInterface({ input: child.stdout }).on("line", (text) => {
        const line: unknown = JSON.parse(text);
        this.#lines.push(typeof line === "object" ? { ...line } : {});
      });
    }
    child.stderr?.on("data", (data: Buffer) => (this.#errors += data.toString()));
  }

  /** Starts it in homes of its own, and waits until it shows a code. */
  static async start(): Promise<Up> {
    for (const program of [REACHBACK, CODEX]) {
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
    const env = { ...process.env, HOME: home("home"), REACHBACK_HOME: home("reachback"), CODEX_HOME: home("codex") };
    const args = ["up", "--demo", "--json", "--listen", "127.0.0.1:0", "--codex", resolve(CODEX)];
    const up = new Up(spawn(resolve(REACHBACK), args, { env, stdio: ["ignore", "pipe", "pipe"] }), folder);
    try {
      await vi.waitUntil(() => up.#text("pairing", "url") !== null && up.#text("ready", "relay_url") !== null, {
        timeout: PATIENCE,
      });
    } catch (cause) {
      await up.stop();
      throw new Error(`reachback up did not start: ${up.#errors}`, { cause });
    }
    return up;
  }

  /** The address of its relay. */
  get relayUrl(): string {
    return this.#text("ready", "relay_url") ?? "";
  }

  /** The URL of its pairing code; whoever has it is let in without digits, once. */
  get pairingUrl(): string {
    return this.#text("pairing", "url") ?? "";
  }

  /** Ends it in order, and removes its homes. Gives its exit code. */
  async stop(): Promise<number | null> {
    const { exitCode } = this.#child;
    const exited = new Promise<number | null>((resolve) => this.#child.once("exit", resolve));
    this.#child.kill("SIGTERM");
    const late = setTimeout(() => this.#child.kill("SIGKILL"), PATIENCE);
    const code = exitCode ?? (await exited);
    clearTimeout(late);
    rmSync(this.#folder, { recursive: true, force: true });
    return code;
  }

  #text(event: string, member: string): string | null {
    const value = this.#lines.find((line) => line.event === event)?.[member];
    return typeof value === "string" ? value : null;
  }
}
