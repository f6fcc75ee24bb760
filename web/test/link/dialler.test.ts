/** The dialler with the test for a page, a network, a relay and a session; time is the test's. */
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { CloseCode } from "../../src/close";
import {
  DISTRUST_AFTER,
  type Dialled,
  Dialler,
  OTHER_RELAY_AFTER,
  PROBE_AFTER,
  UNREACHABLE_AFTER,
} from "../../src/link/dialler";
import { LinkError, type LinkFault } from "../../src/link/error";
import type { Link } from "../../src/link/link";
import type { Presence } from "../../src/link/relay";
import type { RelayEntry } from "../../src/pairing/message";
import { Origin } from "../../src/pairing/origin";
import type { SessionState } from "../../src/session/driver";
import { ByeReason } from "../../src/wire/reason";
import { dice } from "../support";
import { TestPage } from "./page";

/** One try at one relay. */
class Try {
  readonly relay: string;
  readonly at = Date.now();
  readonly signal: AbortSignal;
  readonly present: (presence: Presence) => void;
  readonly link: Promise<Link>;
  readonly closed = vi.fn();
  resolve: (link: Link) => void = () => undefined;
  reject: (error: Error) => void = () => undefined;

  constructor(relay: string, signal: AbortSignal, present: (presence: Presence) => void) {
    [this.relay, this.signal, this.present] = [relay, signal, present];
    this.link = new Promise((resolve, reject) => {
      [this.resolve, this.reject] = [resolve, reject];
    });
    signal.addEventListener("abort", () => {
      this.reject(new LinkError({ kind: "aborted" }));
    });
  }

  succeed(): void {
    const never = (): Promise<never> => new Promise(() => undefined);
    this.resolve({ send: never, receive: never, close: this.closed });
  }
}

const unreachable = new LinkError({ kind: "unreachable" });
const relay = (name: string): RelayEntry => ({ key: new Uint8Array(32), origin: Origin.parse(`https://${name}`) });

class Scene implements Dialled {
  readonly page = new TestPage();
  readonly tries: Try[] = [];
  /** Fails each try at once, as long as it is there. */
  fails: LinkError | null = null;
  relays = [relay("one")];
  readonly attached: Link[] = [];
  readonly dropped: LinkError[] = [];
  probes = 0;
  /** Whether the host answers probes, in milliseconds. */
  answersIn: number | null = 40;
  heardAt = performance.now();
  #up = false;
  readonly #roll = dice(7);
  readonly dialler = new Dialler({
    session: this,
    dial: ({ origin }, signal, present) => {
      const tried = new Try(origin.host, signal, present);
      this.tries.push(tried);
      if (this.fails !== null) {
        tried.reject(this.fails);
      }
      return tried.link;
    },
    relays: () => this.relays,
    page: this.page,
    random: () => this.#roll(1_000) / 1_000,
  });

  constructor() {
    this.dialler.start();
  }

  // --- the session, as the dialler has it ------------------------------

  attach(link: Link): void {
    this.attached.push(link);
  }

  drop(error: LinkError): void {
    this.dropped.push(error);
    if (this.#up) {
      this.down(error);
    }
  }

  probe(): void {
    this.probes += 1;
    const { answersIn } = this;
    if (answersIn !== null) {
      setTimeout(() => {
        this.heardAt = performance.now();
        this.dialler.roundTrip(answersIn);
      }, answersIn);
    }
  }

  // --- what happens ----------------------------------------------------

  get last(): Try {
    const last = this.tries.at(-1);
    if (last === undefined) {
      throw new Error("there was no try");
    }
    return last;
  }

  tell(state: SessionState): void {
    queueMicrotask(() => {
      this.dialler.sessionChanged(state);
    });
  }

  down(error: LinkError | null, reconnectInMs: number | null = null): void {
    this.#up = false;
    this.tell({ at: "down", error, carried: true, reconnectInMs });
  }

  /** The last try ends in a link, and that carries the session. */
  async up(): Promise<void> {
    this.last.succeed();
    await pass(0);
    this.#up = true;
    this.heardAt = performance.now();
    this.tell({ at: "attaching" });
    this.tell({ at: "up" });
    await pass(0);
  }
}

async function pass(ms: number): Promise<void> {
  await vi.advanceTimersByTimeAsync(ms);
}

beforeEach(() => {
  vi.useFakeTimers({ now: 1_795_675_594_000 });
});

afterEach(() => {
  vi.useRealTimers();
});

describe("tries", () => {
  test("begin at once, and stay within a second of each other while a person sees the page", async () => {
    const scene = new Scene();
    scene.fails = unreachable;
    scene.last.reject(unreachable);
    await pass(60_000);
    const times = scene.tries.map(({ at }) => at);
    const gaps = times.slice(1).map((at, n) => at - (times[n] ?? 0));
    expect(Math.max(...gaps)).toBeLessThanOrEqual(1_000);
    expect(times.length).toBeGreaterThan(60);
    // Nor in a tight loop, from the second on.
    expect(times.length).toBeLessThan(200);
  });

  test("go up to 30 s apart while nobody does, and come at once when somebody does again", async () => {
    const scene = new Scene();
    scene.page.hide();
    scene.fails = unreachable;
    scene.last.reject(unreachable);
    await pass(600_000);
    const times = scene.tries.map(({ at }) => at);
    const gaps = times.slice(1).map((at, n) => at - (times[n] ?? 0));
    expect(Math.max(...gaps)).toBeGreaterThan(5_000);
    expect(Math.max(...gaps)).toBeLessThanOrEqual(30_000);
    const before = scene.tries.length;
    scene.page.show();
    expect(scene.tries.length).toBe(before + 1);
  });

  test("begin again at once when the link of a while is lost", async () => {
    const scene = new Scene();
    await scene.up();
    await pass(5_000);
    scene.down(new LinkError({ kind: "closed", code: 1006, reconnectInMs: null }));
    await pass(0);
    expect(scene.tries).toHaveLength(2);
    expect(scene.dialler.reach.value).toMatchObject({ at: "reconnecting", since: Date.now(), next: null });
  });

  test("wait as long as one who restarts asks for, unless a person does not", async () => {
    const scene = new Scene();
    await scene.up();
    await pass(5_000);
    const lost = Date.now();
    scene.down(new LinkError({ kind: "closed", code: CloseCode.restarting, reconnectInMs: 4_000 }), 4_000);
    await pass(3_999);
    expect(scene.tries).toHaveLength(1);
    const reach = scene.dialler.reach.value;
    expect(reach).toMatchObject({ at: "reconnecting", since: lost });
    expect("next" in reach && reach.next !== null && reach.next >= lost + 4_000).toBe(true);
    await pass(102);
    expect(scene.tries).toHaveLength(2);
    scene.last.reject(
      new LinkError({ kind: "refused", code: CloseCode.limited, message: "later", retryAfterMs: 60_000 }),
    );
    await pass(29_000);
    expect(scene.tries).toHaveLength(2);
    scene.dialler.tryNow();
    expect(scene.tries).toHaveLength(3);
    expect(scene.dialler.reach.value).toMatchObject({ at: "reconnecting", next: null });
  });

  test.each(["online", "network", "visible", "shown"] as const)(
    "begin again on a new socket at `%s`",
    async (event) => {
      const scene = new Scene();
      await pass(2_000);
      const first = scene.last;
      scene.page.tell(event);
      // Several events tell of one return.
      scene.page.tell(event);
      expect(scene.tries).toHaveLength(2);
      expect(first.signal.aborted).toBe(true);
      // What the old one still came to is let go.
      first.succeed();
      await pass(0);
      expect(scene.attached).toEqual([]);
      await scene.up();
      expect(scene.attached).toHaveLength(1);
    },
  );

  test("a link that comes too late is closed", async () => {
    const scene = new Scene();
    const first = scene.last;
    first.succeed();
    scene.dialler.tryNow();
    await pass(0);
    expect(first.closed).toHaveBeenCalledTimes(1);
    expect(scene.attached).toEqual([]);
  });

  test("a link that was made outlives its try", async () => {
    const scene = new Scene();
    await scene.up();
    const { signal } = scene.last;
    scene.dialler.stop();
    expect(signal.aborted).toBe(false);
    scene.down(unreachable);
    await pass(60_000);
    expect(scene.tries).toHaveLength(1);
  });

  test("are none while it rests, and its link is dropped; begin at once when it goes on", async () => {
    const scene = new Scene();
    const { dialler, page } = scene;
    const first = scene.last;
    first.succeed();
    dialler.rest();
    expect(first.signal.aborted).toBe(true);
    await pass(0);
    expect([scene.attached, first.closed.mock.calls.length]).toEqual([[], 1]);
    dialler.start();
    dialler.start();
    expect(scene.tries).toHaveLength(2);
    await scene.up();
    dialler.rest();
    await pass(0);
    expect(scene.dropped.at(-1)?.fault).toEqual({ kind: "aborted" });
    for (const event of ["online", "network", "visible", "shown"] as const) {
      page.tell(event);
    }
    dialler.tryNow();
    await pass(60_000);
    expect(scene.tries).toHaveLength(2);
    dialler.start();
    expect(scene.tries).toHaveLength(3);
    // How long it rested says nothing of the way there.
    scene.last.reject(unreachable);
    await pass(0);
    expect(dialler.reach.value).toMatchObject({ at: "reconnecting", since: Date.now() });
  });

  test("are none for a session that is over, whether it rests or goes on", async () => {
    const scene = new Scene();
    scene.answersIn = null;
    await scene.up();
    scene.tell({ at: "ended", by: "host", reason: ByeReason.revoked, error: null });
    await pass(0);
    const told: string[] = [];
    scene.dialler.reach.subscribe(({ at }) => told.push(at));
    scene.dialler.rest();
    scene.dialler.start();
    await pass(60_000);
    expect([scene.tries.length, told]).toEqual([1, ["ended"]]);
  });

  test("go through the relays in order, and past one where the host is not", async () => {
    const scene = new Scene();
    scene.relays = [relay("one"), relay("two")];
    scene.last.reject(unreachable);
    await pass(0);
    await pass(500);
    scene.last.reject(unreachable);
    await pass(0);
    expect(scene.tries.map(({ relay }) => relay)).toEqual(["one", "one", "two"]);
    scene.last.present({ online: false, since: 7n });
    await pass(OTHER_RELAY_AFTER);
    await pass(1_000);
    expect(scene.tries.map(({ relay }) => relay)).toEqual(["one", "one", "two", "one"]);
    await scene.up();
    expect(scene.dialler.reach.value.at).toBe("online");
  });
});

describe("a link in front of a person", () => {
  test("is asked for a sign of life, shows how long it took, and stays", async () => {
    const scene = new Scene();
    await scene.up();
    await pass(60_000);
    expect(scene.dialler.reach.value).toMatchObject({ at: "online", rttMs: 40 });
    expect(scene.probes).toBeGreaterThan(60_000 / (PROBE_AFTER + 100) - 1);
    expect(scene.probes).toBeLessThan(60_000 / PROBE_AFTER + 2);
    expect(scene.tries).toHaveLength(1);
  });

  test("is distrusted after five seconds of silence, and another is made at once", async () => {
    const scene = new Scene();
    await scene.up();
    await pass(10_000);
    scene.answersIn = null;
    await pass(DISTRUST_AFTER + 100);
    expect(scene.dropped.at(-1)?.fault).toEqual({ kind: "silent" });
    expect(scene.tries).toHaveLength(2);
    expect(scene.dialler.reach.value).toMatchObject({ at: "reconnecting", next: null });
  });

  test("is given time where it has been slow", async () => {
    const scene = new Scene();
    scene.answersIn = 6_000;
    await scene.up();
    await pass(60_000);
    expect(scene.tries).toHaveLength(1);
  });

  test("is not asked while nobody sees the page; one that slept is distrusted five seconds after", async () => {
    const scene = new Scene();
    await scene.up();
    await pass(1_000);
    scene.page.hide();
    const { probes } = scene;
    await pass(16_000);
    expect(scene.probes).toBe(probes);
    scene.answersIn = null;
    scene.page.show();
    expect(scene.probes).toBe(probes + 1);
    await pass(DISTRUST_AFTER - 1);
    expect(scene.tries).toHaveLength(1);
    await pass(1);
    expect(scene.tries).toHaveLength(2);
  });

  test("that has missed its heartbeat while the page slept is not waited for", async () => {
    const scene = new Scene();
    await scene.up();
    scene.page.hide();
    await pass(30_000);
    scene.page.show();
    expect(scene.tries).toHaveLength(2);
  });

  test.each(["online", "network"] as const)("is left for a new one at `%s`", async (event) => {
    const scene = new Scene();
    await scene.up();
    await pass(5_000);
    scene.page.tell(event);
    expect(scene.tries).toHaveLength(2);
    await scene.up();
    expect(scene.dialler.reach.value.at).toBe("online");
  });
});

describe("what is said", () => {
  test("of a relay that can't be reached: first a moment, then since when", async () => {
    const scene = new Scene();
    scene.fails = unreachable;
    scene.last.reject(unreachable);
    const since = Date.now();
    await pass(UNREACHABLE_AFTER - 1_000);
    expect(scene.dialler.reach.value).toMatchObject({ at: "reconnecting", since, error: unreachable });
    await pass(2_000);
    const reach = scene.dialler.reach.value;
    expect(reach).toMatchObject({ at: "relayUnreachable", since, online: true, error: unreachable });
    expect("next" in reach && reach.next !== null && reach.next - Date.now() <= 1_000).toBe(true);
    scene.page.online = false;
    scene.page.tell("offline");
    expect(scene.dialler.reach.value).toMatchObject({ at: "relayUnreachable", online: false });
  });

  test("of a host that is offline, and whether it said so itself", async () => {
    const scene = new Scene();
    scene.last.present({ online: false, since: 0n });
    expect(scene.dialler.reach.value).toMatchObject({ at: "hostOffline", asleep: false, hostSince: null });
    scene.last.present({ online: true, since: 9n });
    expect(scene.dialler.reach.value).toMatchObject({ at: "reconnecting" });
    await scene.up();
    await pass(2_000);
    scene.dialler.hostSleeps();
    scene.down(unreachable);
    await pass(600);
    scene.last.present({ online: false, since: 1_795_675_600n });
    expect(scene.dialler.reach.value).toMatchObject({ at: "hostOffline", asleep: true, hostSince: 1_795_675_600_000 });
    // It waits there, however long.
    const tries = scene.tries.length;
    await pass(600_000);
    expect(scene.tries.length).toBe(tries);
    await scene.up();
    await pass(2_000);
    // One that shuts down is away: it may be for long.
    scene.down(null, 500);
    await pass(600);
    scene.last.present({ online: false, since: 9n });
    expect(scene.dialler.reach.value).toMatchObject({ asleep: false });
  });

  test.each<readonly [LinkFault, object]>([
    [
      { kind: "version", peer: "relay" },
      { at: "version", peer: "relay" },
    ],
    [
      { kind: "version", peer: "host" },
      { at: "version", peer: "host" },
    ],
    [
      { kind: "wrongRelay", id: new Uint8Array(32) },
      { at: "refused", code: null },
    ],
    [
      { kind: "refused", code: CloseCode.revoked, message: "revoked", retryAfterMs: null },
      { at: "refused", code: CloseCode.revoked },
    ],
    [
      { kind: "closed", code: CloseCode.revoked, reconnectInMs: null },
      { at: "refused", code: CloseCode.revoked },
    ],
    [{ kind: "closed", code: CloseCode.peerGone, reconnectInMs: null }, { at: "reconnecting" }],
    [{ kind: "timedOut", step: "host" }, { at: "reconnecting" }],
    [{ kind: "crypto" }, { at: "reconnecting" }],
    [{ kind: "timedOut", step: "relay" }, { at: "relayUnreachable" }],
  ])("of %o, which is no end", async (fault, reach) => {
    const scene = new Scene();
    await pass(UNREACHABLE_AFTER);
    scene.fails = new LinkError(fault);
    scene.last.reject(scene.fails);
    await pass(0);
    expect(scene.dialler.reach.value).toMatchObject(reach);
    scene.fails = null;
    await pass(31_000);
    await scene.up();
    expect(scene.dialler.reach.value.at).toBe("online");
  });

  test("of the end, by the host's own word alone: nothing is tried after it", async () => {
    const scene = new Scene();
    await scene.up();
    const since = Date.now();
    const end = { at: "ended", by: "host", reason: ByeReason.revoked, error: null } as const;
    scene.tell(end);
    await pass(60_000);
    scene.page.tell("online");
    scene.dialler.tryNow();
    expect(scene.tries).toHaveLength(1);
    expect(scene.dialler.reach.value).toEqual({ ...end, since });
  });
});
