/**
 * What opens without network: the page at `/` and the files of its build, kept by the browser in a cache of that build.
 *
 * A page and its files come from one build or from none: also a page that was on its way while another worker took over,
 * which is why what the build before kept is removed with the next page only. They are fetched together, compared with what the build says of
 * them, and only then kept; after that the page always comes from there, and so never meets files of another build.
 * Nothing else is kept, under no other names: no answer of the API, no address that a page was opened with.
 */

/** What the build says of itself. `vite.config.ts` writes it in front of the worker's code. */
export interface Build {
  /** Another one for each build, and for each worker. */
  readonly id: string;
  /** The page, with the blanks that a relay fills in. */
  readonly page: string;
  /** The files of the page, by their paths: the SHA-256 of each, in base64. */
  readonly files: Readonly<Record<string, string>>;
}

/** The browser's caches, as far as they are needed. */
export interface Caches extends Pick<CacheStorage, "has" | "delete" | "keys"> {
  open(name: string): Promise<{ put(url: string, response: Response): Promise<void> }>;
  match(url: string, options: MultiCacheQueryOptions): Promise<Response | undefined>;
}

/** What the worker stands on. */
export interface ShellSetup {
  readonly build: Build;
  readonly origin: string;
  readonly caches: Caches;
  readonly fetch: (request: string | Request, init?: RequestInit) => Promise<Response>;
}

/** The parts of a request that decide whether it is answered from here. */
export type Asked = Pick<Request, "method" | "mode" | "url">;

const PAGE = "/";
/** The worker's own script, which is never kept. */
const SCRIPT = "/sw.js";
/** Where files lie whose names change with their content. */
const FILES = "/assets/";
const PREFIX = "reachback-app-";
/** Statuses of 4xx that pass by themselves: too slow, too often. */
const PASSING = [408, 429];

/** The server did not give what belongs to this build. */
export class ShellError extends Error {}

/** See the module's header. */
export class Shell {
  readonly #setup: ShellSetup;
  readonly #name: string;

  constructor(setup: ShellSetup) {
    this.#setup = setup;
    this.#name = PREFIX + setup.build.id;
  }

  /** Keeps the page and all its files, or nothing. */
  async install(): Promise<void> {
    const { build, caches } = this.#setup;
    const files = Object.entries(build.files).map(([path, digest]) => this.#file(path, digest));
    const all = await Promise.all([this.#page(), ...files]);
    // The worker before may be of the same build, and stand on it.
    const isKept = await caches.has(this.#name);
    try {
      const cache = await caches.open(this.#name);
      await Promise.all(all.map(([path, response]) => cache.put(this.#url(path), response)));
    } catch (error) {
      if (!isKept) {
        await caches.delete(this.#name);
      }
      throw error;
    }
  }

  /** Removes what earlier builds kept. */
  async tidy(): Promise<void> {
    await this.#remove((name) => name !== this.#name);
  }

  /** The path that a request is answered for from here, files of other builds included; `null` where it is none of the worker's business. */
  pathOf({ method, mode, url }: Asked): string | null {
    const { origin, pathname, search } = new URL(url);
    if (method !== "GET" || origin !== this.#setup.origin) {
      return null;
    }
    if (mode === "navigate") {
      return pathname === PAGE ? PAGE : null;
    }
    return search === "" && pathname.startsWith(FILES) ? pathname : null;
  }

  /** What is kept for a path; where the browser has lost it, what the server has. */
  async answer(path: string, request: Request): Promise<Response> {
    const { caches, fetch } = this.#setup;
    const url = this.#url(path);
    // The name of a file holds its digest: whichever build kept it, it is that one.
    const kept = await caches.match(
      url,
      path === PAGE ? { cacheName: this.#name, ignoreVary: true } : { ignoreVary: true },
    );
    return kept ?? fetch(request);
  }

  /**
   * Asks the server for its page. One of this build is kept anew: a relay may have another name or key by now, or give
   * it another policy. Gives false where the server has neither this page nor any worker: then nobody would ever
   * replace this one.
   */
  async look(): Promise<boolean> {
    const { build, caches } = this.#setup;
    const page = await this.#asked(PAGE);
    if (page === null) {
      return true;
    }
    if (page.status !== 200 || !isPageOf(build, await page.clone().text())) {
      const script = await this.#asked(SCRIPT);
      return script === null || !isGone(script);
    }
    if (await caches.has(this.#name)) {
      await (await caches.open(this.#name)).put(this.#url(PAGE), page);
    }
    return true;
  }

  /** Removes all that any build kept. */
  async leave(): Promise<void> {
    await this.#remove(() => true);
  }

  async #page(): Promise<[string, Response]> {
    const page = await this.#given(PAGE);
    if (!isPageOf(this.#setup.build, await page.clone().text())) {
      throw new ShellError("the page is not the one of this build");
    }
    return [PAGE, page];
  }

  async #file(path: string, digest: string): Promise<[string, Response]> {
    const file = await this.#given(path);
    const bytes = new Uint8Array(await crypto.subtle.digest("SHA-256", await file.clone().arrayBuffer()));
    if (btoa(String.fromCharCode(...bytes)) !== digest) {
      throw new ShellError(`${path} is not the one of this build`);
    }
    return [path, file];
  }

  async #given(path: string): Promise<Response> {
    // The browser's own cache is asked, too, but not believed.
    const response = await this.#setup.fetch(this.#url(path), { cache: "no-cache", redirect: "error" });
    if (response.status !== 200) {
      throw new ShellError(`${path}: the server says ${response.status}`);
    }
    return response;
  }

  /** What the server says, redirects included; `null` where none answers. */
  async #asked(path: string): Promise<Response | null> {
    try {
      return await this.#setup.fetch(this.#url(path), { cache: "no-cache", redirect: "manual" });
    } catch {
      return null;
    }
  }

  async #remove(which: (name: string) => boolean): Promise<void> {
    const { caches } = this.#setup;
    const names = (await caches.keys()).filter((name) => name.startsWith(PREFIX) && which(name));
    await Promise.all(names.map((name) => caches.delete(name)));
  }

  #url(path: string): string {
    return this.#setup.origin + path;
  }
}

/** Whether this is the page of a build, whatever its blanks were filled with. */
export function isPageOf({ page }: Pick<Build, "page">, text: string): boolean {
  const [first = "", ...rest] = page.split(/\{\{\w+\}\}/);
  if (!text.startsWith(first)) {
    return false;
  }
  let at = first.length;
  for (const part of rest) {
    const filled = /^[^"<>]*/.exec(text.slice(at))?.[0].length ?? 0;
    if (!text.startsWith(part, at + filled)) {
      return false;
    }
    at += filled + part.length;
  }
  return at === text.length;
}

/** Whether an answer to the question for a worker's script says that there is none, and not only that it can't be had now. */
export function isGone({ type, status, headers }: Pick<Response, "type" | "status" | "headers">): boolean {
  if (status === 200) {
    return !(headers.get("content-type") ?? "").includes("javascript");
  }
  return type === "opaqueredirect" || (status >= 400 && status < 500 && !PASSING.includes(status));
}
