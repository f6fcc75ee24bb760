/** What the service worker keeps and answers, over caches and a server that are in memory. */
import { createHash } from "node:crypto";
import { beforeEach, describe, expect, test } from "vitest";
import { type Build, type Caches, Shell, ShellError, isGone, isPageOf } from "../../src/worker/shell";

const ORIGIN = "https://relay.example";
const PAGE =
  '<meta name="a" content="{{origin}}" /><meta name="b" content="{{fingerprint}}" /><script src="/assets/a.js">';
const FILLED = PAGE.replace("{{origin}}", ORIGIN).replace("{{fingerprint}}", "r4nd0m");
const SCRIPT = { headers: { "content-type": "text/javascript" } };

/** Caches that refuse to keep `full`. */
class MemoryCaches implements Caches {
  readonly all = new Map<string, Map<string, Response>>();
  full: string | null = null;

  open(name: string): ReturnType<Caches["open"]> {
    const cache = this.all.get(name) ?? new Map<string, Response>();
    this.all.set(name, cache);
    const put = (url: string, response: Response): Promise<void> => {
      if (url === this.full) {
        return Promise.reject(new DOMException("full", "QuotaExceededError"));
      }
      cache.set(url, response);
      return Promise.resolve();
    };
    return Promise.resolve({ put });
  }

  match(url: string, { cacheName }: MultiCacheQueryOptions): Promise<Response | undefined> {
    const names = cacheName === undefined ? [...this.all.keys()] : [cacheName];
    const found = names.map((name) => this.all.get(name)?.get(url)).find((kept) => kept !== undefined);
    return Promise.resolve(found?.clone());
  }

  has(name: string): Promise<boolean> {
    return Promise.resolve(this.all.has(name));
  }

  delete(name: string): Promise<boolean> {
    return Promise.resolve(this.all.delete(name));
  }

  keys(): Promise<string[]> {
    return Promise.resolve([...this.all.keys()]);
  }

  /** The paths that are kept, by cache. */
  get paths(): Record<string, readonly string[]> {
    const paths = ([name, cache]: [string, Map<string, Response>]): [string, readonly string[]] => [
      name,
      [...cache.keys()].map((url) => url.replace(ORIGIN, "")).sort(),
    ];
    return Object.fromEntries([...this.all].map(paths));
  }
}

function build(id: string, files: Readonly<Record<string, string>>): Build {
  const digest = (text: string): string => createHash("sha256").update(text).digest("base64");
  const digests = Object.entries(files).map(([path, text]): [string, string] => [path, digest(text)]);
  return { id, page: PAGE, files: Object.fromEntries(digests) };
}

let caches: MemoryCaches;
/** What the server has; nothing at all while it is away. */
let served: Map<string, () => Response> | null;

function shell(files: Readonly<Record<string, string>> = { "/assets/a.js": "a", "/assets/b.css": "b" }): Shell {
  const fetch = (request: string | Request): Promise<Response> => {
    const url = new URL(typeof request === "string" ? request : request.url);
    if (served === null) {
      return Promise.reject(new TypeError("Failed to fetch"));
    }
    return Promise.resolve(served.get(url.pathname)?.() ?? new Response("", { status: 404 }));
  };
  return new Shell({ build: build("2", files), origin: ORIGIN, caches, fetch });
}

beforeEach(() => {
  caches = new MemoryCaches();
  served = new Map([
    ["/", () => new Response(FILLED)],
    ["/sw.js", () => new Response("", SCRIPT)],
    ["/assets/a.js", () => new Response("a")],
    ["/assets/b.css", () => new Response("b")],
  ]);
});

describe("installing", () => {
  test("keeps the page and its files, and nothing else", async () => {
    await shell().install();
    expect(caches.paths).toEqual({ "reachback-app-2": ["/", "/assets/a.js", "/assets/b.css"] });
  });

  test.each([
    ["a page of another build", "/", () => new Response(FILLED.replace("a.js", "z.js"))],
    ["a page that ends early", "/", () => new Response(FILLED.slice(0, -1))],
    ["a file that is another one", "/assets/a.js", () => new Response("z")],
    ["a page in the place of a file", "/assets/a.js", () => new Response(FILLED)],
    ["a part of a file", "/assets/a.js", () => new Response("a", { status: 206 })],
    ["a file that is gone", "/assets/b.css", () => new Response("b", { status: 404 })],
    ["a server that is busy", "/", () => new Response(FILLED, { status: 503 })],
  ])("keeps nothing with %s", async (_, path, answer) => {
    served?.set(path, answer);
    await expect(shell().install()).rejects.toThrow(ShellError);
    expect(caches.paths).toEqual({});
  });

  test("keeps nothing where there is no room for all", async () => {
    caches.full = `${ORIGIN}/assets/b.css`;
    await expect(shell().install()).rejects.toThrow("full");
    expect(caches.paths).toEqual({});
  });

  test("takes nothing away from an earlier worker, least of all from one of the same build", async () => {
    await (await caches.open("reachback-app-1")).put(`${ORIGIN}/`, new Response(FILLED));
    await shell().install();
    const before = caches.paths;
    caches.full = `${ORIGIN}/assets/b.css`;
    await expect(shell().install()).rejects.toThrow("full");
    expect(caches.paths).toEqual(before);
    expect(Object.keys(before)).toEqual(["reachback-app-1", "reachback-app-2"]);
  });

  test("is followed by removing what earlier builds kept, and nothing of others", async () => {
    for (const name of ["reachback-app-1", "somebody-elses"]) {
      await caches.open(name);
    }
    await shell().install();
    await shell().tidy();
    expect(Object.keys(caches.paths)).toEqual(["somebody-elses", "reachback-app-2"]);
  });
});

describe("a request", () => {
  test.each([
    ["GET", "navigate", "/", "/"],
    ["GET", "navigate", "/#AAAA-a-pairing-code", "/"],
    ["GET", "navigate", "/?source=pwa#/settings", "/"],
    ["GET", "navigate", "/healthz", null],
    ["GET", "navigate", "/assets/a.js", null],
    ["POST", "navigate", "/", null],
    ["GET", "cors", "/assets/a.js", "/assets/a.js"],
    ["GET", "no-cors", "/assets/b.css#part", "/assets/b.css"],
    ["GET", "cors", "/assets/a.js?x", null],
    ["HEAD", "cors", "/assets/a.js", null],
    ["GET", "cors", "/assets/z.js", "/assets/z.js"],
    ["GET", "cors", "/", null],
    ["GET", "cors", "/sw.js", null],
    ["GET", "cors", "/v1/device", null],
    ["GET", "cors", "/constructor", null],
    ["GET", "cors", "https://other.example/assets/a.js", null],
  ] as const)("%s %s %s is answered as %s", (method, mode, url, path) => {
    expect(shell().pathOf({ method, mode, url: new URL(url, ORIGIN).href })).toBe(path);
  });

  test("is answered by what is kept, without the server; by the server where the browser has lost it", async () => {
    const app = shell();
    const asked = new Request(`${ORIGIN}/assets/a.js`);
    await app.install();
    served = null;
    expect(await (await app.answer("/assets/a.js", asked)).text()).toBe("a");
    caches.all.clear();
    served = new Map([["/assets/a.js", () => new Response("from the server")]]);
    expect(await (await app.answer("/assets/a.js", asked)).text()).toBe("from the server");
    expect(caches.paths).toEqual({});
  });
});

test("a page of the build before has its files, until that is removed; its successor is never that page", async () => {
  const [app, before] = [shell(), await caches.open("reachback-app-1")];
  await before.put(`${ORIGIN}/`, new Response("the page before"));
  await before.put(`${ORIGIN}/assets/z.js`, new Response("z"));
  await app.install();
  const asked = new Request(`${ORIGIN}/assets/z.js`);
  expect(await (await app.answer("/assets/z.js", asked)).text()).toBe("z");
  expect(await (await app.answer("/", new Request(ORIGIN))).text()).toBe(FILLED);
  await app.tidy();
  expect((await app.answer("/assets/z.js", asked)).status).toBe(404);
});

describe("looking at the server", () => {
  async function page(): Promise<string | undefined> {
    return (await caches.match(`${ORIGIN}/`, { cacheName: "reachback-app-2" }))?.text();
  }

  test("keeps the page of a relay that has another name by now", async () => {
    const app = shell();
    await app.install();
    const renamed = FILLED.replace(ORIGIN, "https://new.example");
    served?.set("/", () => new Response(renamed));
    expect(await app.look()).toBe(true);
    expect(await page()).toBe(renamed);
  });

  test("leaves another build to its own worker", async () => {
    const app = shell();
    await app.install();
    served?.set("/", () => new Response(FILLED.replace("a.js", "z.js")));
    expect(await app.look()).toBe(true);
    expect(await page()).toBe(FILLED);
  });

  test("finds out that there is no worker any more, and then keeps nothing", async () => {
    const app = shell();
    await app.install();
    served?.delete("/sw.js");
    expect(await app.look(), "the page is this build's").toBe(true);
    served?.set("/", () => new Response("an older page"));
    expect(await app.look()).toBe(false);
    await app.leave();
    expect(caches.paths).toEqual({});
  });

  test("learns nothing from a server that is away or in trouble", async () => {
    const app = shell();
    await app.install();
    const before = caches.paths;
    for (const status of [500, 502, 503, 429]) {
      served = new Map(["/", "/sw.js"].map((path) => [path, () => new Response("", { status })]));
      expect(await app.look(), String(status)).toBe(true);
    }
    served = null;
    expect(await app.look()).toBe(true);
    expect(caches.paths).toEqual(before);
    expect(await page()).toBe(FILLED);
  });

  test("keeps nothing after the caches were removed", async () => {
    expect(await shell().look()).toBe(true);
    expect(caches.paths).toEqual({});
  });
});

test("a page is that of a build with anything in its blanks but other elements", () => {
  const { page } = build("2", {});
  for (const text of [PAGE, FILLED, PAGE.replace("{{origin}}", "")]) {
    expect(isPageOf({ page }, text), text).toBe(true);
  }
  const more = FILLED.replace("r4nd0m", 'r4nd0m" /><script src="/assets/z.js"></script><meta content="');
  for (const text of ["", "x" + FILLED, FILLED + "x", FILLED.replace("a.js", "z.js"), more]) {
    expect(isPageOf({ page }, text), text).toBe(false);
  }
  expect(isPageOf({ page: "no blanks" }, "no blanks")).toBe(true);
});

test("a script is gone where the server says so, sends elsewhere, or has a page in its place", () => {
  const answer = (status: number, kind: string | null = null): Parameters<typeof isGone>[0] => {
    const headers = new Headers(kind === null ? {} : { "content-type": kind });
    return { type: status === 0 ? "opaqueredirect" : "basic", status, headers };
  };
  for (const gone of [answer(404), answer(410), answer(403), answer(421), answer(0), answer(200, "text/html")]) {
    expect(isGone(gone), String(gone.status)).toBe(true);
  }
  for (const there of [answer(200, "text/javascript; charset=utf-8"), answer(200, "application/javascript")]) {
    expect(isGone(there)).toBe(false);
  }
  for (const status of [408, 429, 500, 502, 503, 504]) {
    expect(isGone(answer(status)), String(status)).toBe(false);
  }
});
