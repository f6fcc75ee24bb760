/** The host's terminal, at which a person types digits: in a tmux of its own. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { vi } from "vitest";
import { REACHBACK } from "../real/homes";

export class Terminal {
  readonly #folder = mkdtempSync(join(tmpdir(), "reachback-tmux-"));

  /** Runs this command of the host's owner. */
  constructor(env: NodeJS.ProcessEnv, ...args: readonly string[]) {
    const homes = ["HOME", "REACHBACK_HOME"].flatMap((name) => ["-e", `${name}=${env[name] ?? ""}`]);
    // What was printed stays on the screen when the command has ended.
    const stay = ["sh", "-c", '"$@"; printf "\\n[exit code %s]\\n" $?; exec cat', "sh", resolve(REACHBACK)];
    this.#tmux("new-session", "-d", "-x", "200", "-y", "60", ...homes, "--", ...stay, ...args);
  }

  /** Waits until it shows this; gives the first group of the pattern. */
  async shows(pattern: RegExp): Promise<string> {
    const screen = (): string => this.#tmux("capture-pane", "-p", "-J", "-S", "-");
    try {
      return await vi.waitUntil(() => pattern.exec(screen())?.[1], { timeout: 30_000, interval: 50 });
    } catch (cause) {
      throw new Error(`the terminal does not show ${String(pattern)}, but:\n${screen()}`, { cause });
    }
  }

  /** Types a line. */
  types(text: string): void {
    this.#tmux("send-keys", "-l", text);
    this.#tmux("send-keys", "Enter");
  }

  /** Ends it, and what runs in it. */
  close(): void {
    this.#tmux("kill-server");
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #tmux(...args: readonly string[]): string {
    return execFileSync("tmux", ["-f", "/dev/null", "-S", join(this.#folder, "tmux"), ...args], { encoding: "utf8" });
  }
}
