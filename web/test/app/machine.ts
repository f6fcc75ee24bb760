/**
 * A machine that a host reaches over SSH, on loopback: a real server (Debian: apt install openssh-server), whose sessions
 * are of a home of their own, with the pinned Codex, its threads and nobody signed in.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { type Server, type Socket, connect, createServer } from "node:net";
import { tmpdir, userInfo } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { vi } from "vitest";
import { CODEX } from "../real/homes";
import type { Up } from "../real/up";
import { writeThreads } from "./recordings";

/** Where Debian has it; it has to be started by its whole path. */
const SSHD = "/usr/sbin/sshd";

/** Where Debian has the server of SFTP (openssh-sftp-server), which comes with the other one. */
const SFTP = "/usr/lib/openssh/sftp-server";

/** Where PAM's services are. */
const PAM = "/etc/pam.d";

/** A server that the key is enough for, and one that asks after it. */
const ALONE = ["UsePAM no", "KbdInteractiveAuthentication no"];
const ASKS = [
  "UsePAM yes",
  "KbdInteractiveAuthentication yes",
  "AuthenticationMethods publickey,keyboard-interactive",
  "PermitRootLogin yes",
];

/** What the host's SSH configuration calls it. */
export const ALIAS = "devbox";

/** Takes connections, and says nothing. */
class Hole {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(server: Server) {
    this.#server = server;
    server.on("connection", (socket) => {
      this.#sockets.add(socket);
      socket.on("error", () => undefined);
    });
  }

  static async at(port = 0): Promise<Hole> {
    const server = createServer();
    await new Promise<void>((listens) => server.listen(port, "127.0.0.1", listens));
    return new Hole(server);
  }

  get port(): number {
    const address = this.#server.address();
    return typeof address === "object" && address !== null ? address.port : 0;
  }

  /** How many have come. */
  get count(): number {
    return this.#sockets.size;
  }

  /** Takes none any more, and lets go of those that it took. */
  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const socket of this.#sockets) {
      socket.destroy();
    }
    await closed;
  }
}

/** The code of a machine that asks for one. */
export const CODE = "open sesame";

export class Machine {
  readonly #folder: string;
  /** What PAM calls it, where it asks for a code. */
  readonly #service: string | null;
  /** Whether its files can be looked at. */
  readonly #files: boolean;
  readonly #port: number;
  #hole: Hole | null;
  #server: ChildProcess | null = null;
  #up: Up | null = null;

  private constructor(folder: string, hole: Hole, { asks, files }: { asks: boolean; files: boolean }) {
    [this.#folder, this.#hole, this.#port, this.#files] = [folder, hole, hole.port, files];
    // PAM looks for it in small letters.
    this.#service = asks ? basename(folder).toLowerCase() : null;
  }

  /**
   * One that takes connections and does not answer. {@link Machine.stop} ends it. One that `asks` wants {@link CODE}
   * after the key, through PAM (Debian: apt install libpam-pwdfile), whose services are root's to add.
   * Of one with `files` these can be looked at over SFTP, without which no device works there.
   */
  static async silent({ asks = false, files = false } = {}): Promise<Machine> {
    const folder = mkdtempSync(join(tmpdir(), "reachback-machine-"));
    const machine = new Machine(folder, await Hole.at(), { asks, files });
    for (const name of ["host", "one"]) {
      execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", machine.#at(name)]);
    }
    machine.#write("known_hosts", `[127.0.0.1]:${machine.#port} ${readFileSync(machine.#at("host.pub"), "utf8")}`);
    machine.#write("config", machine.#config());
    machine.#write("sshd", machine.#serverConfig());
    machine.#account();
    machine.#password();
    return machine;
  }

  /** The configuration that names it, for the host. */
  readonly named = (env: NodeJS.ProcessEnv): undefined => {
    env.REACHBACK_SSH_CONFIG = this.#at("config");
  };

  /** Is one of this host's, which may add it. */
  at(up: Up): void {
    this.#up = up;
  }

  /** Has the host's owner add it. */
  async joins(): Promise<void> {
    await ends(this.#up, "ssh", "add", "--unchecked", ALIAS);
  }

  /** Has the host's configuration say this instead of naming it. */
  hasConfiguration(config: string): void {
    this.#write("config", config);
  }

  /** Puts a folder in the place of the host's configuration, which nobody can read then. */
  hasNoConfiguration(): void {
    rmSync(this.#at("config"));
    mkdirSync(this.#at("config"));
  }

  /** Where the host's configuration says that it is. */
  get address(): string {
    return `${userInfo().username}@127.0.0.1:${this.#port}`;
  }

  /** Has the host's owner take it back. */
  async leaves(): Promise<void> {
    await ends(this.#up, "ssh", "remove", ALIAS);
  }

  /** Has the host's owner open its one folder. */
  async opens(): Promise<void> {
    await ends(this.#up, "workspace", "add", "--env", `ssh:${ALIAS}`, this.project);
  }

  /** The folder that Codex works in there. */
  get project(): string {
    return realpathSync(this.#at("home/infra"));
  }

  /** Gives its Codex the scripted model of its host, for which nobody has to sign in. */
  takesModel(): void {
    const [demo, codex] = [join(this.#up?.env.REACHBACK_HOME ?? "", "demo", "codex-home"), this.#at("home/.codex")];
    const [from, catalog] = [join(demo, "models.json"), join(codex, "models.json")];
    copyFileSync(from, catalog);
    this.#write("home/.codex/config.toml", readFileSync(join(demo, "config.toml"), "utf8").replace(from, catalog));
  }

  /** How often it was tried, while it does not answer. */
  get tries(): number {
    return this.#hole?.count ?? 0;
  }

  /** Is off: nobody listens there any more. */
  async goesOff(): Promise<void> {
    await this.#hole?.close();
    this.#hole = null;
  }

  /** Answers from now on. */
  async goesOn(): Promise<void> {
    await this.goesOff();
    // Of Debian's sshd, when it is root; its service makes it.
    mkdirSync("/run/sshd", { recursive: true });
    await this.#serves();
  }

  /** Starts its server, and waits until that listens. */
  async #serves(): Promise<void> {
    const program = this.#service === null ? SSHD : this.#at(this.#service);
    this.#server = spawn(program, ["-D", "-e", "-f", this.#at("sshd")], { stdio: "ignore" });
    const listens = (): Promise<boolean> =>
      new Promise((resolve) => {
        const socket = connect(this.#port, "127.0.0.1", () => {
          socket.destroy();
          resolve(true);
        });
        socket.on("error", () => {
          resolve(false);
        });
      });
    await vi.waitUntil(listens, { timeout: 30_000, interval: 20 });
  }

  /** Ends it, with what was started there; once its host is gone, which would start that again. */
  async stop(): Promise<void> {
    if (this.#server !== null) {
      if (this.#service !== null) {
        // The owner who ends what was started there types nothing.
        await this.#ends();
        this.#write("sshd", this.#serverConfig(ALONE));
        await this.#serves();
      }
      await ends(this.#up, "ssh", "stop", ALIAS);
      await this.#ends();
    }
    await this.goesOff();
    if (this.#service !== null) {
      rmSync(join(PAM, this.#service), { force: true });
    }
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** Says this to whoever is asked for the code, before that. */
  says(words: string): void {
    this.#write("words", words);
    this.#letsIn(`auth optional pam_echo.so file=${this.#at("words")}\n`);
  }

  /** Has the host's owner say whether devices are asked for its code. */
  async asksDevices(on: boolean): Promise<void> {
    await ends(this.#up, "ssh", "ask-devices", ALIAS, on ? "on" : "off");
  }

  async #ends(): Promise<void> {
    const ended = new Promise((resolve) => this.#server?.once("exit", resolve));
    this.#server?.kill();
    await ended;
  }

  #at(name: string): string {
    return join(this.#folder, name);
  }

  #write(name: string, text: string, mode = 0o600): void {
    mkdirSync(dirname(this.#at(name)), { recursive: true });
    writeFileSync(this.#at(name), text, { mode });
  }

  #config(): string {
    return [
      `Host ${ALIAS}`,
      `  HostName 127.0.0.1`,
      `  Port ${this.#port}`,
      `  User ${userInfo().username}`,
      `  IdentityFile ${this.#at("one")}`,
      `  IdentityAgent none`,
      `  UserKnownHostsFile ${this.#at("known_hosts")}`,
      `  GlobalKnownHostsFile none`,
      ``,
    ].join("\n");
  }

  #serverConfig(asks = this.#service === null ? ALONE : ASKS): string {
    return [
      `Port ${this.#port}`,
      `ListenAddress 127.0.0.1`,
      `HostKey ${this.#at("host")}`,
      `AuthorizedKeysFile ${this.#at("one.pub")}`,
      `ForceCommand ${this.#at("home/enter")}`,
      `PidFile none`,
      `StrictModes no`,
      ...asks,
      ...(this.#files ? [`Subsystem sftp ${SFTP}`] : []),
      `PasswordAuthentication no`,
      ``,
    ].join("\n");
  }

  #password(): void {
    if (this.#service !== null) {
      // A server's own name is that of its PAM service.
      symlinkSync(SSHD, this.#at(this.#service));
      const crypted = execFileSync("openssl", ["passwd", "-6", CODE], { encoding: "utf8" });
      this.#write("passwords", `${userInfo().username}:${crypted}`);
      this.#letsIn("");
    }
  }

  /** Writes the service of PAM that wants the password, and does this before. */
  #letsIn(before: string): void {
    if (this.#service !== null) {
      const lets = ["account", "session"].map((what) => `${what} required pam_permit.so\n`).join("");
      const asks = `auth required pam_pwdfile.so pwdfile=${this.#at("passwords")}\n`;
      writeFileSync(join(PAM, this.#service), `${before}${asks}${lets}`);
    }
  }

  #account(): void {
    const home = this.#at("home");
    // As sshd does it for whoever has this shell; Codex is on the path of a login alone.
    const variables = `HOME='${home}' SHELL=/bin/bash PATH=/usr/bin:/bin`;
    const node = dirname(process.execPath);
    this.#write("home/enter", `#!/bin/sh\nexec env -i ${variables} /bin/bash -c "$SSH_ORIGINAL_COMMAND"\n`, 0o755);
    this.#write("home/.bash_profile", `export PATH='${home}/bin:${node}:/usr/bin:/bin'\n`);
    this.#write("home/.codex/config.toml", "check_for_update_on_startup = false\n");
    mkdirSync(join(home, "bin"));
    symlinkSync(resolve(CODEX), join(home, "bin/codex"));
    mkdirSync(join(home, "infra"));
    writeThreads(join(home, ".codex"), join(home, "infra"), 2);
  }
}

/** Runs this command of the host's owner to its end, which has to be a good one. */
async function ends(up: Up | null, ...args: readonly string[]): Promise<void> {
  const code = await up?.command(...args).exited();
  if (code !== 0) {
    throw new Error(`reachback ${args.join(" ")} ended with ${String(code)}`);
  }
}
