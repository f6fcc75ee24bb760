/**
 * A server that has a build of the app and no relay, as where `web.origin` names one: with the relay's own headers, and
 * one build after the other.
 */
import { spawn } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { type IncomingMessage, type RequestListener, type Server, createServer } from "node:http";
import { createServer as createSecureServer, get } from "node:https";
import { tmpdir } from "node:os";
import { extname, join, resolve } from "node:path";
import type { Certificate } from "./certificate";

/** What the app is built from. */
const SOURCES = ["src", "public", "index.html", "vite.config.ts", "svelte.config.js", "tsconfig.json", "package.json"];
const KINDS: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".svg": "image/svg+xml",
  ".png": "image/png",
  ".webmanifest": "application/manifest+json",
};
/** What else the relay says with each file, which its policy is part of. */
const HEADERS = [
  "content-security-policy",
  "cross-origin-opener-policy",
  "cross-origin-resource-policy",
  "permissions-policy",
  "x-content-type-options",
  "referrer-policy",
  "cache-control",
];
/** The build that is in the programs. */
export const BUILT = resolve("dist");

/** The paths that a worker of this build keeps, in order. */
export function keptOf(build: string): readonly string[] {
  const files = readdirSync(join(build, "assets")).filter((name) => !/\.(br|gz)$/.test(name));
  return ["/", ...files.map((name) => `/assets/${name}`)].sort();
}

/** Copies what the app is built from to `folder`, with the packages that this needs. */
export function copySources(folder: string): void {
  for (const source of SOURCES) {
    cpSync(source, join(folder, source), { recursive: true });
  }
  symlinkSync(resolve("node_modules"), join(folder, "node_modules"));
}

/** Builds the app anew, below `folder`, with texts of it changed: by file, what becomes what. */
export async function rebuild(
  folder: string,
  changes: Readonly<Record<string, readonly [string, string]>>,
): Promise<string> {
  copySources(folder);
  for (const [file, [before, after]] of Object.entries(changes)) {
    const text = readFileSync(join(folder, file), "utf8");
    if (!text.includes(before)) {
      throw new Error(`${file} does not say ${before}`);
    }
    writeFileSync(join(folder, file), text.replace(before, after));
  }
  // What runs the tests calls itself a test, and the app would be built as one.
  const env = { ...process.env, NODE_ENV: "production" };
  const vite = spawn(process.execPath, [resolve("node_modules/vite/bin/vite.js"), "build", "--logLevel", "warn"], {
    cwd: folder,
    env,
    stdio: ["ignore", "ignore", "inherit"],
  });
  const code = await new Promise((exited) => vite.once("exit", exited));
  if (code !== 0) {
    throw new Error(`the app was not built: ${String(code)}`);
  }
  return join(folder, "dist");
}

export class Site {
  readonly #server: Server;
  readonly #scheme: string;
  readonly #headers: Map<string, string>;
  readonly #copies: string[] = [];
  /** The build that is served; `null` has it answer nobody. */
  build: string | null = BUILT;
  /** The paths that were asked for. */
  readonly asked: string[] = [];

  private constructor(headers: Map<string, string>, certificate: Certificate | null = null) {
    this.#headers = headers;
    this.#scheme = certificate === null ? "http" : "https";
    const answer: RequestListener = (request, response) => {
      const { pathname } = new URL(request.url ?? "/", "http://site.example");
      if (this.build === null) {
        request.socket.destroy();
        return;
      }
      this.asked.push(pathname);
      const file = join(this.build, pathname === "/" ? "index.html" : pathname);
      const isThere = existsSync(file);
      response.setHeaders(new Map(this.#headers).set("content-type", KINDS[extname(file)] ?? "text/plain"));
      response.writeHead(isThere ? 200 : 404).end(isThere ? readFileSync(file) : "Nothing is here.\n");
    };
    this.#server = certificate === null ? createServer(answer) : createSecureServer(certificate.pems, answer);
  }

  /** Starts it, with the headers that this relay's page has. */
  static async start(relayUrl: string): Promise<Site> {
    const { headers } = await fetch(relayUrl);
    const site = new Site(new Map(HEADERS.map((name) => [name, headers.get(name) ?? ""])));
    return site.#listens();
  }

  /** Starts one over TLS, which has no headers before {@link Site.allows}. */
  static async secure(certificate: Certificate): Promise<Site> {
    return new Site(new Map(), certificate).#listens();
  }

  /** Has its headers be those of this relay, with the policy that docs/operations.md asks for where pages may connect to these. */
  async allows(certificate: Certificate, relay: string, relays: readonly string[] = [relay]): Promise<void> {
    const { headers } = await new Promise<IncomingMessage>((answered) =>
      get(relay, { ca: certificate.pems.cert, headers: { host: "127.0.0.1" } }, (response) => {
        response.resume();
        answered(response);
      }),
    );
    for (const name of HEADERS) {
      this.#headers.set(name, String(headers[name] ?? ""));
    }
    const sockets = relays.map((relay) => new URL(relay).host).map((host) => `wss://${host}`);
    const policy = this.#headers.get("content-security-policy") ?? "";
    const own = policy.replace("connect-src 'self'", `connect-src ${sockets.join(" ") || "'none'"}`);
    this.#headers.set("content-security-policy", own);
  }

  async #listens(): Promise<this> {
    await new Promise<void>((listening) => this.#server.listen(0, "127.0.0.1", listening));
    return this;
  }

  get url(): string {
    const address = this.#server.address();
    return `${this.#scheme}://127.0.0.1:${String(typeof address === "object" ? address?.port : "")}/`;
  }

  /** A copy of a build, with this done to it. */
  copy(build: string, change: (folder: string) => void): string {
    const folder = mkdtempSync(join(tmpdir(), "reachback-site-"));
    this.#copies.push(folder);
    cpSync(build, folder, { recursive: true });
    change(folder);
    return folder;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((closed) => this.#server.close(closed));
    for (const folder of this.#copies) {
      rmSync(folder, { recursive: true, force: true });
    }
  }
}
