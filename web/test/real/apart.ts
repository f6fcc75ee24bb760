/** A relay and a host agent as programs of their own, which can be killed and started again apart. */
import { rmSync } from "node:fs";
import { join, resolve } from "node:path";
import { CODEX, REACHBACK, RELAY, homes } from "./homes";
import { Program } from "./program";

export class Apart {
  readonly #folder: string;
  readonly #env: NodeJS.ProcessEnv;
  #relay: Program | null = null;
  #agent: Program | null = null;
  /** The address of the relay: the same after each start. */
  relayUrl = "http://127.0.0.1:0";

  private constructor() {
    const { folder, env } = homes();
    [this.#folder, this.#env] = [folder, env];
  }

  /** Starts both, in homes of their own, with `prepare` called before; ends what runs where one does not start. */
  static async start(prepare: (env: NodeJS.ProcessEnv) => void = () => undefined): Promise<Apart> {
    const apart = new Apart();
    try {
      prepare(apart.#env);
      await apart.startRelay();
      // Its key is good once.
      await apart.startAgent("--relay", apart.relayUrl, "--enroll-file", join(apart.#folder, "relay", "enroll-key"));
      return apart;
    } catch (fault) {
      await apart.stop();
      throw fault;
    }
  }

  async startRelay(): Promise<void> {
    const listen = new URL(this.relayUrl).host;
    const args = ["serve", "--data", join(this.#folder, "relay"), "--listen", listen, "--json"];
    this.#relay = new Program(resolve(RELAY), args, this.#env);
    this.relayUrl = await this.#relay.says("ready", "url");
  }

  async startAgent(...enrol: readonly string[]): Promise<void> {
    const args = ["host", ...enrol, "--codex-program", resolve(CODEX), "--json"];
    this.#agent = new Program(resolve(REACHBACK), args, this.#env);
    await this.#agent.says("ready", "host_id");
  }

  async stopRelay(signal: "SIGTERM" | "SIGKILL"): Promise<void> {
    await this.#relay?.stop(signal);
  }

  async stopAgent(signal: "SIGTERM" | "SIGKILL"): Promise<void> {
    await this.#agent?.stop(signal);
  }

  /** The environment of the host's owner. */
  get env(): NodeJS.ProcessEnv {
    return this.#env;
  }

  /** A command of the host's owner, while it runs. */
  command(...args: readonly string[]): Program {
    return new Program(resolve(REACHBACK), [...args, "--json"], this.#env);
  }

  /** Ends both in order, and removes their homes. */
  async stop(): Promise<void> {
    await this.stopAgent("SIGTERM");
    await this.stopRelay("SIGTERM");
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
