/** A program that says what it does in lines of JSON. */
import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { vi } from "vitest";

/** How long a program may take to start, and to stop, in milliseconds. */
export const PATIENCE = 30_000;

/** One line of its output. */
type Line = Readonly<Record<string, unknown>>;

export class Program {
  readonly #child: ChildProcess;
  readonly #lines: Line[] = [];
  #errors = "";
  /** Whether all that it says was heard: it has ended. */
  #isHeard = false;

  /** Starts it. */
  constructor(program: string, args: readonly string[], env: NodeJS.ProcessEnv) {
    this.#child = spawn(program, args, { env, stdio: ["ignore", "pipe", "pipe"] });
    if (this.#child.stdout !== null) {
      const lines = createInterface({ input: this.#child.stdout });
      lines.on("line", (text) => {
        const line: unknown = JSON.parse(text);
        this.#lines.push(typeof line === "object" ? { ...line } : {});
      });
      lines.on("close", () => (this.#isHeard = true));
    }
    this.#child.stderr?.on("data", (data: Buffer) => (this.#errors += data.toString()));
  }

  /** Waits until it has said this; stops it if it does not, or ends before. */
  async says(event: string, member: string): Promise<string> {
    try {
      const heard = (): string | true | null => this.#text(event, member) ?? (this.#isHeard || null);
      const said = await vi.waitUntil(heard, { timeout: PATIENCE });
      if (said === true) {
        throw new Error("it has ended");
      }
      return said;
    } catch (cause) {
      await this.stop("SIGKILL");
      const events = this.#lines.map((line) => String(line.event)).join();
      throw new Error(`it does not say ${event}, but ${events}: ${this.#errors}`, { cause });
    }
  }

  /** Waits until it has ended by itself; gives its exit code. */
  async exited(): Promise<number | null> {
    await vi.waitUntil(() => this.#child.exitCode !== null, { timeout: PATIENCE });
    return this.#child.exitCode;
  }

  /** Ends it; gives its exit code, or `null` where a signal ended it. */
  async stop(signal: "SIGTERM" | "SIGKILL"): Promise<number | null> {
    const { exitCode, signalCode } = this.#child;
    if (exitCode !== null || signalCode !== null) {
      return exitCode;
    }
    const exited = new Promise<number | null>((resolve) => this.#child.once("exit", resolve));
    this.#child.kill(signal);
    const late = setTimeout(() => this.#child.kill("SIGKILL"), PATIENCE);
    const code = await exited;
    clearTimeout(late);
    return code;
  }

  #text(event: string, member: string): string | null {
    const value = this.#lines.find((line) => line.event === event)?.[member];
    return typeof value === "string" ? value : null;
  }
}
