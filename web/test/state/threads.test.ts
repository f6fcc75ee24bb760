/** The list of threads, of a host that answers by hand. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { ApiClient } from "../../src/api/client";
import type { AttentionInfo, EnvironmentInfo, ThreadInfo } from "../../src/api/types";
import { type Bytes, utf8 } from "../../src/bytes";
import { type Json, json, list, text } from "../../src/json";
import { SessionDriver } from "../../src/session/driver";
import { Threads } from "../../src/state/threads";

const HERE: EnvironmentInfo = { name: "local", state: "ready" };
const DEVBOX: EnvironmentInfo = { name: "ssh:devbox", maxScope: "view", state: "idle" };
const GONE = {
  code: -32010,
  message: "this host has no such environment",
  data: { reason: "environment", params: {} },
};
const UNREACHED = "codex is not running: “devbox” can't be reached";

function thread(id: string, changedAt = 1): ThreadInfo {
  const folder = `/src/${id}`;
  const times = { createdAt: 1, changedAt };
  return { id, title: id, isNamed: false, folder, status: "idle", source: "cli", archived: false, ...times };
}

/** A host with these environments. What is asked of their lists waits until the test answers it. */
class Host {
  environments: readonly EnvironmentInfo[] = [HERE, DEVBOX];
  attention: readonly AttentionInfo[] = [];
  /** The lists that were asked for and have no answer, by their environments. */
  readonly asked: { readonly environment: string; readonly params: Json; readonly answer: (answer: Json) => void }[] =
    [];
  readonly api: ApiClient;
  readonly threads: Threads;

  constructor() {
    this.api = new ApiClient(
      (bytes) => {
        this.#take(bytes);
      },
      {
        notified: (notification) => {
          this.threads.notified(notification);
        },
        missed: () => {
          this.threads.missed();
        },
      },
    );
    const nobody = { message: () => undefined, closed: () => undefined };
    const session = new SessionDriver({ state: () => undefined, lost: () => undefined, api: nobody });
    this.threads = new Threads({ api: this.api, session });
  }

  #take(bytes: Bytes): void {
    const { id, method, params } = json(JSON.parse(new TextDecoder().decode(bytes)));
    const answer = (answer: Json): void => {
      this.#say({ id, ...answer });
    };
    if (method === "thread/list") {
      this.asked.push({ environment: text(json(params).environment), params: json(params), answer });
    } else {
      const data = method === "environment/list" ? this.environments : this.attention;
      queueMicrotask(() => {
        answer({ result: { data } });
      });
    }
  }

  #say(message: Json): void {
    this.api.message(utf8(JSON.stringify(message)), () => undefined);
  }

  notify(method: string, params: Json): void {
    this.#say({ method, params });
  }

  /** Waits until the list of this environment is asked for, and answers it. */
  async answers(environment: string, answer: Json): Promise<void> {
    const find = () => this.asked.find((asked) => asked.environment === environment);
    const found = await vi.waitUntil(find, { timeout: 5_000 });
    this.asked.splice(this.asked.indexOf(found), 1);
    found.answer(answer);
    await Promise.resolve();
  }

  has(environment: string, data: readonly ThreadInfo[], nextCursor?: string): Promise<void> {
    return this.answers(environment, { result: { data, ...(nextCursor !== undefined && { nextCursor }) } });
  }

  fails(environment: string): Promise<void> {
    const error = { code: -32013, message: UNREACHED, data: { reason: "codex", params: {} } };
    return this.answers(environment, { error });
  }

  /** The titles that are shown, in whatever order; `null` while nothing is. */
  get titles(): readonly string[] | null {
    const { rows } = this.threads.view.value;
    return rows && [...rows.values()].map(({ info }) => info.title);
  }

  /** The environments of the groups, in their order. */
  get order(): readonly string[] {
    return this.threads.view.value.order.map((key) => text(list(JSON.parse(key))[0]));
  }

  get awaited(): readonly string[] {
    return [...this.threads.view.value.awaited];
  }
}

let host: Host;

beforeEach(() => {
  host = new Host();
});

afterEach(() => {
  vi.useRealTimers();
});

/** What the host says of a thread. */
function attending(id: string, state: AttentionInfo["state"]): AttentionInfo {
  return { environment: "local", threadId: id, folder: `/src/${id}`, state, since: 1 };
}

/** Waits until these are shown. */
async function shows(...titles: readonly string[]): Promise<void> {
  await vi.waitFor(() => {
    expect(host.titles).toEqual(titles);
  });
}

test("an environment that does not answer holds up no other one", async () => {
  host.threads.open();
  await host.has("local", [thread("shop")], "more");
  await shows("shop");
  expect(host.awaited).toEqual(["ssh:devbox"]);
  const { busy, more, faults } = host.threads.view.value;
  expect([busy, more, [...faults]]).toEqual([false, true, []]);

  // What is there can be read on meanwhile.
  void host.threads.older();
  await host.has("local", [thread("site")]);
  await shows("shop", "site");

  await host.fails("ssh:devbox");
  await vi.waitFor(() => {
    expect([...host.threads.view.value.faults]).toEqual([["ssh:devbox", UNREACHED]]);
  });
  expect([host.titles, host.awaited]).toEqual([["shop", "site"], []]);
});

test("one that answers late comes below what is there, however new it is", async () => {
  host.threads.open();
  await host.has("local", [thread("shop", 5)]);
  await shows("shop");
  await host.has("ssh:devbox", [thread("box", 9)]);
  await shows("shop", "box");
  expect(host.order).toEqual(["local", "ssh:devbox"]);

  // Who opens it again has it settled anew, with what is known of all.
  host.threads.close();
  host.threads.open();
  await host.has("local", [thread("shop", 5)]);
  await vi.waitFor(() => {
    expect(host.order).toEqual(["ssh:devbox", "local"]);
  });
  expect(host.titles).toContain("box");
});

test("a search does not try a machine that is out of reach, and who tries again does", async () => {
  host.environments = [HERE, { ...DEVBOX, state: "failed", reason: "“devbox” can't be reached" }];
  host.threads.ask({ archived: false, search: "shop" });
  await host.has("local", [thread("shop")]);
  await shows("shop");
  expect([...host.threads.view.value.faults]).toEqual([["ssh:devbox", "“devbox” can't be reached"]]);
  expect([host.asked, host.awaited]).toEqual([[], []]);

  host.threads.again({ archived: false, search: "shop" });
  await host.has("ssh:devbox", [thread("shop on the box")]);
  await host.has("local", [thread("shop")]);
  await vi.waitFor(() => {
    expect(new Set(host.titles)).toEqual(new Set(["shop", "shop on the box"]));
  });
  expect([...host.threads.view.value.faults]).toEqual([]);
});

test("what happens in one environment has that one read again, and no other", async () => {
  host.threads.open();
  await host.has("local", [thread("shop")]);
  await host.has("ssh:devbox", []);
  await shows("shop");
  host.notify("attention/changed", attending("shop", "running"));
  await host.has("local", [thread("shop"), thread("site")]);
  await shows("shop", "site");
  expect(host.asked).toEqual([]);
});

test("one that comes back after it was out of reach comes below what is there", async () => {
  host.threads.open();
  await host.has("local", [thread("shop", 5)]);
  await host.fails("ssh:devbox");
  await vi.waitUntil(() => host.threads.view.value.faults.size > 0);
  host.notify("environment/changed", { ...DEVBOX, state: "ready" });
  await host.has("ssh:devbox", [thread("box", 9)]);
  await shows("shop", "box");
  expect(host.order).toEqual(["local", "ssh:devbox"]);
  expect(host.threads.view.value.faults.size).toBe(0);
});

test("one that is taken back while its list is awaited leaves nothing, whatever comes of that", async () => {
  for (const answer of [{ result: { data: [thread("box")] } }, { error: GONE }]) {
    host = new Host();
    host.threads.open();
    await host.has("local", [thread("shop")]);
    await shows("shop");
    host.notify("environment/removed", { name: DEVBOX.name });
    await host.answers("ssh:devbox", answer);
    await new Promise((resolve) => setTimeout(resolve, 0));
    expect([host.titles, host.awaited, [...host.threads.view.value.faults]]).toEqual([["shop"], [], []]);
  }
});

test("one that is taken back goes with its threads, and one that is new is read", async () => {
  host.threads.open();
  await host.has("local", [thread("shop")]);
  await host.has("ssh:devbox", [thread("box")]);
  await shows("shop", "box");
  host.environments = [HERE];
  host.notify("environment/removed", { name: DEVBOX.name });
  await shows("shop");

  host.environments = [HERE, DEVBOX];
  host.notify("environment/changed", { ...DEVBOX });
  await host.has("ssh:devbox", [thread("box")]);
  await shows("shop", "box");
  expect(host.asked).toEqual([]);
});

test("a session that is lost while a list is awaited has it read in the next one", async () => {
  host.threads.open();
  await host.has("local", [thread("shop")]);
  await shows("shop");
  await vi.waitUntil(() => host.asked.length > 0);
  host.asked.length = 0;
  host.api.lost();
  await host.has("local", [thread("shop")]);
  await host.has("ssh:devbox", [thread("box")]);
  await shows("shop", "box");
  await vi.waitFor(() => {
    expect(host.awaited).toEqual([]);
  });
  expect([...host.threads.view.value.faults]).toEqual([]);
});

test("a thread that works and is not in the list yet has it read again until it is there", async () => {
  host.environments = [HERE];
  host.attention = [attending("shop", "running")];
  host.threads.open();
  await host.has("local", [thread("site")]);
  await shows("site");
  await host.has("local", [thread("site")]);
  await host.has("local", [thread("shop"), thread("site")]);
  await shows("site", "shop");
  const [row] = [...(host.threads.view.value.rows?.values() ?? [])].filter(({ info }) => info.id === "shop");
  expect(row?.attention?.state).toBe("running");
});

test("one that is in no list has it read again five times, one that is done not at all, nor a search", async () => {
  vi.useFakeTimers();
  host.environments = [HERE];
  host.attention = [attending("agent", "running"), attending("old", "done")];
  host.threads.open();
  for (let look = 0; look <= 5; look += 1) {
    await host.has("local", [thread("shop")]);
  }
  await vi.advanceTimersByTimeAsync(60_000);
  expect(host.asked).toEqual([]);

  host.threads.close();
  host.threads.open();
  await host.has("local", [thread("shop")]);
  host.threads.ask({ archived: false, search: "shop" });
  await host.has("local", [thread("shop")]);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(host.asked).toEqual([]);
});

test("what happens while the first list is on its way has it read again", async () => {
  vi.useFakeTimers();
  host.environments = [HERE];
  host.threads.open();
  await vi.waitUntil(() => host.asked.length === 1);
  host.notify("attention/changed", attending("shop", "done"));
  await vi.advanceTimersByTimeAsync(1_000);
  await host.has("local", []);
  await host.has("local", [thread("shop")]);
  await shows("shop");
});
