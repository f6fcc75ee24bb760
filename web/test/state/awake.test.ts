/** A host that is kept awake or not and answers by hand, and what the screens say of it. */
import { beforeEach, expect, test, vi } from "vitest";
import { ApiClient } from "../../src/api/client";
import type { KeepAwakeInfo } from "../../src/api/types";
import { type Bytes, utf8 } from "../../src/bytes";
import { type Json, json, text } from "../../src/json";
import { SendError } from "../../src/session/error";
import { KeepAwake } from "../../src/state/awake";
import { awakeFaultWords, awakeReason, awakeWords } from "../../src/views/awakewords";

const OFF: KeepAwakeInfo = { on: false, state: "off" };
const HELD: KeepAwakeInfo = { on: true, state: "held" };

/** What is asked of it waits until the test answers it. */
class Host {
  readonly asked: { readonly what: string; readonly answer: (answer: Json) => void }[] = [];
  readonly api: ApiClient;
  readonly awake: KeepAwake;
  /** Nothing can be sent to it. */
  mute = false;

  constructor() {
    this.api = new ApiClient(
      (bytes) => {
        this.#take(bytes);
      },
      {
        notified: (notification) => {
          this.awake.notified(notification);
        },
        missed: () => {
          this.awake.missed();
        },
      },
    );
    this.awake = new KeepAwake(this.api);
  }

  #take(bytes: Bytes): void {
    if (this.mute) {
      throw new SendError({ kind: "closed" });
    }
    const { id, method, params } = json(JSON.parse(new TextDecoder().decode(bytes)));
    const what = [text(method), ...Object.values(json(params)).map(String)].join(" ");
    this.asked.push({
      what,
      answer: (answer) => {
        this.#say({ id, ...answer });
      },
    });
  }

  #say(message: Json): void {
    this.api.message(utf8(JSON.stringify(message)), () => undefined);
  }

  tells(now: KeepAwakeInfo): void {
    this.#say({ method: "keepAwake/changed", params: now });
  }

  misses(): void {
    this.#say({ method: "notices/missed", params: {} });
  }

  get waiting(): readonly string[] {
    return this.asked.map(({ what }) => what);
  }

  /** Answers what was asked first of these words. */
  async answers(what: string, answer: Json): Promise<void> {
    const found = await vi.waitUntil(() => this.asked.find((asked) => asked.what === what));
    this.asked.splice(this.asked.indexOf(found), 1);
    found.answer(answer);
    for (let turns = 0; turns < 10; turns++) {
      await Promise.resolve();
    }
  }

  /** Answers whoever asked how it is, given up or not. */
  async reads(now: KeepAwakeInfo): Promise<void> {
    await vi.waitUntil(() => this.waiting.includes(READ));
    while (this.waiting.includes(READ)) {
      await this.says(READ, now);
    }
  }

  says(what: string, now: KeepAwakeInfo): Promise<void> {
    return this.answers(what, { result: now });
  }

  refuses(what: string, reason: string): Promise<void> {
    return this.answers(what, { error: { code: -32010, message: `no: ${reason}`, data: { reason, params: {} } } });
  }

  get fault(): string | null {
    return this.awake.view.value.fault?.reason ?? null;
  }

  get now(): KeepAwakeInfo | null {
    return this.awake.view.value.now;
  }
}

const READ = "host/keepAwake";
let host: Host;

beforeEach(async () => {
  host = new Host();
  void host.awake.read();
  await host.says(READ, OFF);
});

test("it goes on and off by the host's word, and a second touch asks nothing while the first one waits", async () => {
  const on = host.awake.turn(true);
  expect([host.waiting, host.now, host.awake.view.value.turning]).toEqual([["host/keepAwake true"], OFF, true]);
  expect(await host.awake.turn(false)).toBe(false);
  await host.says("host/keepAwake true", HELD);
  expect([await on, host.now, host.awake.view.value.turning]).toEqual([true, HELD, null]);
  const off = host.awake.turn(false);
  await host.says("host/keepAwake false", OFF);
  expect([await off, host.now, host.waiting]).toEqual([true, OFF, []]);
});

test("what is turned elsewhere shows as the host tells it, and what was missed is asked anew", async () => {
  host.tells(HELD);
  expect(host.now).toEqual(HELD);
  host.misses();
  await host.says(READ, OFF);
  expect(host.now).toEqual(OFF);
  // What is told while an answer is on its way is newer than the answer.
  void host.awake.read();
  host.tells(HELD);
  await host.says(READ, OFF);
  expect(host.now).toEqual(HELD);
});

test("what was refused is said, and how it is now is asked anew", async () => {
  const on = host.awake.turn(true);
  await host.refuses("host/keepAwake true", "disk");
  await host.says(READ, OFF);
  expect([await on, host.fault, host.now]).toEqual([false, "disk", OFF]);
  expect(awakeFaultWords({ on: true, reason: "disk", message: "no" })).toContain("it was not turned on");
  host.tells(HELD);
  const off = host.awake.turn(false);
  expect(host.fault).toBeNull();
  await host.refuses("host/keepAwake false", "disk");
  await host.says(READ, OFF);
  expect([await off, host.fault, host.now]).toEqual([false, "disk", OFF]);
  expect(awakeFaultWords({ on: false, reason: "disk", message: "no" })).toContain("It is off, but");
});

test("no answer is no fault where it was done all the same, and without a link nothing is sent", async () => {
  const done = host.awake.turn(true);
  host.api.lost();
  await host.reads(HELD);
  expect([await done, host.fault]).toEqual([true, null]);
  const undone = host.awake.turn(false);
  host.api.lost();
  await host.reads(HELD);
  expect([await undone, host.fault]).toEqual([false, "lost"]);
  host.mute = true;
  expect(await host.awake.turn(false)).toBe(false);
  expect(host.fault).toBe("unsent");
});

test("why it is not kept awake is said in the app's words, and in the host's where those say more", () => {
  const states = ["off", "held", "partly", "onBattery", "noAccess", "notOffered", "failed"] as const;
  const words = states.map((state) => awakeWords({ state }));
  expect(new Set(words).size).toBe(states.length);
  for (const state of ["off", "held", "onBattery"] as const) {
    expect(awakeReason({ on: true, state, reason: "why", fix: "what" }, "tower")).toBeNull();
  }
  const told = { on: true, reason: "systemd-logind does not let this user", fix: 'docs, "Keep awake"' };
  for (const state of ["partly", "noAccess", "notOffered", "failed"] as const) {
    expect(awakeReason({ ...told, state }, "tower")).toBe(
      'systemd-logind does not let this user. At tower: docs, "Keep awake"',
    );
    expect(awakeReason({ on: true, state, reason: "it is so" }, "tower")).toBe("It is so.");
    expect(awakeReason({ on: true, state }, "tower")).toBeNull();
  }
  for (const reason of ["lost", "unsent", "scope", "disk", "busy", "newer"]) {
    expect(awakeFaultWords({ on: true, reason, message: "it is so" })).toMatch(/\S/);
  }
  expect(awakeFaultWords({ on: true, reason: "newer", message: "it is so" })).toContain("It is so. Nothing was done");
});
