/** Another host at the relay of one that is there, with a home of its own and the same scripted model. */
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { CODEX, REACHBACK, RELAY, homes } from "./homes";
import { Program } from "./program";
import type { Up } from "./up";

export class Second {
  readonly #folder: string;
  readonly #env: NodeJS.ProcessEnv;
  readonly #name: string;
  #agent: Program;

  /** The folder that Codex works in. */
  readonly project: string;

  private constructor(at: { folder: string; project: string; env: NodeJS.ProcessEnv; name: string; agent: Program }) {
    [this.#folder, this.#env, this.#name, this.#agent] = [at.folder, at.env, at.name, at.agent];
    this.project = at.project;
  }

  /**
   * Starts one that devices call this; `asks`: its Codex asks before it writes anything, calls its model that, and has a
   * tool server, which Node.js runs with these arguments.
   */
  static async start(
    up: Up,
    name: string,
    asks?: { readonly folder: string; readonly model: string; readonly asker: readonly string[] },
  ): Promise<Second> {
    const { folder, env } = homes();
    const project = join(folder, asks?.folder ?? "project");
    mkdirSync(project);
    const [demo, codex] = [join(up.env.REACHBACK_HOME ?? "", "demo", "codex-home"), env.CODEX_HOME ?? ""];
    const catalog = join(codex, "models.json");
    const models = readFileSync(join(demo, "models.json"), "utf8");
    const model =
      asks === undefined
        ? models
        : models.replaceAll(
            /"(display_name|description)":"[^"]*"/g,
            (_, name) => `"${name}":${JSON.stringify(asks.model)}`,
          );
    writeFileSync(catalog, model);
    const trusted = `[projects.${JSON.stringify(realpathSync(project))}]\ntrust_level = "trusted"\n`;
    const config = readFileSync(join(demo, "config.toml"), "utf8")
      .replace(join(demo, "models.json"), catalog)
      .replace('"workspace-write"', asks === undefined ? '"workspace-write"' : '"read-only"');
    const asker =
      asks === undefined ? "" : `[mcp_servers.asker]\ncommand = "node"\nargs = ${JSON.stringify(asks.asker)}\n`;
    writeFileSync(join(codex, "config.toml"), `${config}\n${trusted}${asker}`);
    // A key is good for one host.
    const data = join(up.env.REACHBACK_HOME ?? "", "relay");
    const key = execFileSync(resolve(RELAY), ["enroll", "--data", data], { env, encoding: "utf8" }).trim();
    const enrol = ["--relay", up.relayUrl, "--enroll-file", key];
    const agent = await Second.#started(env, "--name", name, "--workspace", project, ...enrol);
    return new Second({ folder, project, env, name, agent });
  }

  static async #started(env: NodeJS.ProcessEnv, ...args: readonly string[]): Promise<Program> {
    const codex = ["--codex-program", resolve(CODEX)];
    const agent = new Program(resolve(REACHBACK), ["host", ...args, ...codex, "--json"], env);
    await agent.says("ready", "host_id");
    return agent;
  }

  /** A command of the host's owner, while it runs. */
  command(...args: readonly string[]): Program {
    return new Program(resolve(REACHBACK), [...args, "--json"], this.#env);
  }

  /** Ends the agent as if its computer lost the network, for good. */
  async vanishes(): Promise<void> {
    await this.#agent.stop("SIGKILL");
  }

  /** Starts it anew. */
  async comesBack(): Promise<void> {
    this.#agent = await Second.#started(this.#env, "--name", this.#name);
  }

  /** Ends it, and removes its home. */
  async stop(): Promise<void> {
    await this.#agent.stop("SIGTERM");
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
