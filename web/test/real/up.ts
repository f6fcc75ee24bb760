/** `reachback up --demo --json`: relay, agent, the real Codex and a scripted model in one process, on loopback. */
import { rmSync } from "node:fs";
import { resolve } from "node:path";
import { CODEX, REACHBACK, homes } from "./homes";
import { Program } from "./program";

export class Up {
  readonly #program: Program;
  readonly #folder: string;
  /** The address of its relay. */
  readonly relayUrl: string;
  /** The URL of its pairing code; whoever has it is let in without digits, once. */
  readonly pairingUrl: string;

  private constructor(program: Program, folder: string, relayUrl: string, pairingUrl: string) {
    [this.#program, this.#folder, this.relayUrl, this.pairingUrl] = [program, folder, relayUrl, pairingUrl];
  }

  /** Starts it in homes of its own, and waits until it shows a code. */
  static async start(): Promise<Up> {
    const { folder, env } = homes();
    const args = ["up", "--demo", "--json", "--listen", "127.0.0.1:0", "--codex", resolve(CODEX)];
    const program = new Program(resolve(REACHBACK), args, env);
    return new Up(program, folder, await program.says("ready", "relay_url"), await program.says("pairing", "url"));
  }

  /** Ends it in order, and removes its homes. Gives its exit code. */
  async stop(): Promise<number | null> {
    const code = await this.#program.stop("SIGTERM");
    rmSync(this.#folder, { recursive: true, force: true });
    return code;
  }
}
