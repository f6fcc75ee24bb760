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

  /** The environment of its owner. */
  readonly env: NodeJS.ProcessEnv;

  private constructor(program: Program, at: Pick<Up, "relayUrl" | "pairingUrl" | "env"> & { folder: string }) {
    [this.#program, this.#folder] = [program, at.folder];
    [this.relayUrl, this.pairingUrl, this.env] = [at.relayUrl, at.pairingUrl, at.env];
  }

  /**
   * Starts it in homes of its own, and waits until it shows a code. `prepare` puts into them what is there before;
   * where it gives a program, that is run as Codex. `more` arguments go with it.
   */
  static async start(
    prepare: (env: NodeJS.ProcessEnv) => string | undefined = () => undefined,
    more: readonly string[] = [],
  ): Promise<Up> {
    const { folder, env } = homes();
    try {
      const codex = prepare(env) ?? resolve(CODEX);
      const args = ["up", "--demo", "--json", "--listen", "127.0.0.1:0", "--codex-program", codex, ...more];
      const program = new Program(resolve(REACHBACK), args, env);
      const relayUrl = await program.says("ready", "relay_url");
      return new Up(program, { folder, env, relayUrl, pairingUrl: await program.says("pairing", "url") });
    } catch (fault) {
      // The program was ended by who waited for it.
      rmSync(folder, { recursive: true, force: true });
      throw fault;
    }
  }

  /** The folder that Codex works in, beside the home of the host. */
  get project(): string {
    return `${this.env.REACHBACK_HOME ?? ""}-project`;
  }

  /** A command of the host's owner, while it runs. */
  command(...args: readonly string[]): Program {
    return new Program(resolve(REACHBACK), [...args, "--json"], this.env);
  }

  /** Ends it in order, and removes its homes. Gives its exit code. */
  async stop(): Promise<number | null> {
    const code = await this.#program.stop("SIGTERM");
    rmSync(this.#folder, { recursive: true, force: true });
    return code;
  }
}
