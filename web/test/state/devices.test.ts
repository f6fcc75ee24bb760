/** The devices of a host that answers by hand, and what the screens say of them. */
import { beforeEach, expect, test, vi } from "vitest";
import { ApiClient } from "../../src/api/client";
import type { DeviceInfo } from "../../src/api/types";
import { type Bytes, utf8 } from "../../src/bytes";
import { type Json, json, text } from "../../src/json";
import { SCOPES } from "../../src/scope";
import { type DeviceChange, Devices, EVERYBODY } from "../../src/state/devices";
import { changeWords, faultWords, outWords, resumeWords, seenWords } from "../../src/views/devicewords";

function device(deviceId: string, more: Partial<DeviceInfo> = {}): DeviceInfo {
  const times = { addedAt: "2026-11-20T08:00:00Z", lastSeen: "2026-11-26T06:46:34Z" };
  const plain = { paused: false, expired: false, revokedAtRelay: false, connected: false } as const;
  return { deviceId, name: deviceId, platform: "test", scope: "approve", ...plain, ...times, ...more };
}

const [PHONE, TABLET] = [device("phone"), device("tablet", { scope: "admin", connected: true })];

/** A host with these devices. What is asked of it waits until the test answers it. */
class Host {
  readonly asked: { readonly what: string; readonly answer: (answer: Json) => void }[] = [];
  readonly api: ApiClient;
  readonly devices: Devices;

  constructor() {
    this.api = new ApiClient(
      (bytes) => {
        this.#take(bytes);
      },
      {
        notified: (notification) => {
          this.devices.notified(notification);
        },
        missed: () => {
          this.devices.missed();
        },
      },
    );
    this.devices = new Devices(this.api);
  }

  #take(bytes: Bytes): void {
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

  /** Tells of a device. */
  tells(deviceId: string, now: DeviceInfo | null, allowed = true): void {
    this.#say({ method: "device/changed", params: { deviceId, device: now, allowed } });
  }

  get waiting(): readonly string[] {
    return this.asked.map(({ what }) => what);
  }

  /** Answers what was asked first of these words. */
  async answers(what: string, answer: Json): Promise<void> {
    const found = await vi.waitUntil(() => this.asked.find((asked) => asked.what === what));
    this.asked.splice(this.asked.indexOf(found), 1);
    found.answer(answer);
    await settled();
  }

  /** Answers whoever asked for the list, given up or not. */
  async lists(...data: readonly DeviceInfo[]): Promise<void> {
    await vi.waitUntil(() => this.waiting.includes("device/list"));
    while (this.waiting.includes("device/list")) {
      await this.answers("device/list", { result: { data, allowed: true } });
    }
  }

  refuses(what: string, reason: string): Promise<void> {
    return this.answers(what, { error: { code: -32010, message: `no: ${reason}`, data: { reason, params: {} } } });
  }

  /** The devices as they are known, each with its scope and whether it is kept out. */
  get known(): readonly string[] | null {
    const words = ({ name, scope, paused }: DeviceInfo): string => `${name} ${scope}${paused ? " paused" : ""}`;
    return this.devices.view.value.devices?.map(words) ?? null;
  }

  /** What was not done, with its reason. */
  get faults(): readonly string[] {
    return [...this.devices.view.value.faults].map(([id, { reason, held }]) => `${id} ${reason}${held ? " held" : ""}`);
  }
}

/** Lets what follows an answer be done. */
async function settled(): Promise<void> {
  for (let turns = 0; turns < 10; turns++) {
    await Promise.resolve();
  }
}

let host: Host;

beforeEach(async () => {
  host = new Host();
  void host.devices.read();
  await host.lists(PHONE, TABLET);
});

test("each change is asked for in its own words, and shows by the host's answer alone", async () => {
  const changes: readonly (readonly [DeviceChange, string, DeviceInfo | null, readonly string[]])[] = [
    [{ to: "scope", scope: "view" }, "device/scope phone view", device("phone", { scope: "view" }), ["phone view"]],
    [{ to: "pause" }, "device/pause phone true", device("phone", { paused: true }), ["phone approve paused"]],
    [{ to: "resume" }, "device/pause phone false", PHONE, ["phone approve"]],
    [{ to: "revoke" }, "device/revoke phone", null, []],
  ];
  for (const [change, asked, now, shown] of changes) {
    const before = host.known;
    const done = host.devices.does("phone", change);
    expect([host.waiting, host.known]).toEqual([[asked], before]);
    expect(host.devices.view.value.changing.get("phone")).toEqual(change);
    await host.answers(asked, { result: { deviceId: "phone", device: now, allowed: true } });
    expect([await done, host.known, host.devices.view.value.changing.size]).toEqual([
      true,
      [...shown, "tablet admin"],
      0,
    ]);
  }
});

test("a second touch asks nothing while the first one waits, and another device has its turn", async () => {
  void host.devices.does("phone", { to: "revoke" });
  expect(await host.devices.does("phone", { to: "pause" })).toBe(false);
  void host.devices.does("tablet", { to: "pause" });
  expect(host.waiting).toEqual(["device/revoke phone", "device/pause tablet true"]);
});

test("what others do shows: changed, paired, taken off, also where the list that comes then is older", async () => {
  host.tells("phone", device("phone", { scope: "steer" }));
  host.tells("laptop", device("laptop", { scope: "view" }));
  expect(host.known).toEqual(["phone steer", "tablet admin", "laptop view"]);
  host.tells("laptop", null);
  expect(host.known).toEqual(["phone steer", "tablet admin"]);
  void host.devices.read();
  host.tells("phone", null);
  host.tells("laptop", device("laptop"), false);
  await host.lists(PHONE, TABLET);
  expect([host.known, host.devices.view.value.allowed]).toEqual([["tablet admin", "laptop approve"], false]);
});

test("a refusal has the list read anew, and stands with its device until somebody tries or looks again", async () => {
  for (const [reason, list, faults] of [
    ["device", [TABLET], ["phone device"]],
    ["disk", [PHONE, TABLET], ["phone disk"]],
    ["disk", [device("phone", { paused: true }), TABLET], ["phone disk held"]],
  ] as const) {
    const done = host.devices.does("phone", { to: "pause" });
    expect(host.faults).toEqual([]);
    await host.refuses("device/pause phone true", reason);
    await host.lists(...list);
    expect([await done, host.faults]).toEqual([false, faults]);
    expect(host.known?.length).toBe(list.length);
  }
  host.devices.forgets("phone");
  expect(host.faults).toEqual([]);
});

test("an answer that is lost has the list read anew, which says whether it was done", async () => {
  const changes: readonly (readonly [DeviceChange, DeviceInfo | null])[] = [
    [{ to: "scope", scope: "view" }, device("phone", { scope: "view" })],
    [{ to: "pause" }, device("phone", { paused: true })],
    [{ to: "resume" }, PHONE],
    [{ to: "revoke" }, null],
  ];
  for (const [change, wanted] of changes) {
    const other = change.to === "resume" ? device("phone", { paused: true }) : PHONE;
    for (const [now, isDone] of [
      [wanted, true],
      [other, false],
    ] as const) {
      const done = host.devices.does("phone", change);
      host.api.lost();
      host.asked.length = 0;
      void host.devices.read();
      await host.lists(...(now === null ? [] : [now]), TABLET);
      await settled();
      expect([change.to, await done, host.faults]).toEqual([change.to, isDone, isDone ? [] : ["phone lost"]]);
    }
  }
});

test("all devices are kept out by a request of its own, whose answer mostly does not come", async () => {
  const done = host.devices.does(EVERYBODY, { to: "close" });
  expect(host.waiting).toEqual(["host/allowDevices false"]);
  host.api.closed();
  expect(await done).toBe(false);
  expect(host.faults).toEqual([" lost"]);
});

test("a list that can't be read says why, keeps what was known, and goes on when it is read again", async () => {
  void host.devices.read();
  await host.refuses("device/list", "busy");
  expect([host.known, host.devices.view.value.fault]).toEqual([["phone approve", "tablet admin"], "no: busy"]);
  void host.devices.read();
  await host.lists(TABLET);
  expect([host.known, host.devices.view.value.fault]).toEqual([["tablet admin"], null]);
});

test("what is asked when the host loses the session is asked anew, and whoever left hears nothing", async () => {
  void host.devices.read();
  host.asked.length = 0;
  host.api.lost();
  await host.lists(TABLET);
  expect([host.known, host.devices.view.value.fault]).toEqual([["tablet admin"], null]);
  void host.devices.read();
  host.devices.close();
  await host.lists(PHONE);
  expect(host.known).toEqual(["tablet admin"]);
});

test("every refusal says what was done and what comes next", () => {
  const change = { to: "pause" } as const;
  for (const reason of ["lost", "unsent", "scope", "device", "disk", "busy", "method", "params"]) {
    for (const held of [false, true]) {
      const words = faultWords({ change, reason, held, message: "no" });
      expect(words).toMatch(/nothing was done|may not have been done|It holds|does not do that|not on the list/i);
      expect(words).toMatch(/try again|do it again|reachback devices|Make room|Nothing is left/i);
    }
  }
});

test("what is asked before says what ends, and of the own device how it comes back", () => {
  const at = { device: { deviceId: "eu3dmnzwg43dmnzwg43dmnzwg4", scope: "admin" as const }, host: "tower" };
  const asked = (change: DeviceChange, own: boolean): string => changeWords(change, { ...at, own }).join(" ");
  for (const change of [{ to: "pause" }, { to: "revoke" }, { to: "scope", scope: "view" }] as const) {
    expect(asked(change, false)).toMatch(/sessions.*its turns are stopped/);
    expect(asked(change, false)).not.toMatch(/in your hand/);
    expect(asked(change, true)).toMatch(/in your hand/);
  }
  expect(asked({ to: "revoke" }, true)).toMatch(/has to be paired again.*`reachback pair`/);
  expect(asked({ to: "pause" }, true)).toMatch(/`reachback devices resume eu3dmnzw`/);
  expect(asked({ to: "scope", scope: "steer" }, true)).toMatch(/`reachback devices scope eu3dmnzw admin`/);
  expect(asked({ to: "scope", scope: "steer" }, false)).not.toMatch(/turns/);
  expect(asked({ to: "close" }, false)).toMatch(/this one too.*turns are stopped.*`reachback devices resume`/);
  const raised = SCOPES.map((scope) =>
    changeWords({ to: "scope", scope }, { ...at, device: { ...at.device, scope: "view" }, own: false }).join(" "),
  );
  expect(raised.slice(1).every((words) => !words.includes("ends"))).toBe(true);
  expect(raised[2]).toMatch(/a shell as you/);
});

test("a row says whether the device is there, and why it is kept out", () => {
  const now = Date.parse("2026-11-26T07:00:00Z");
  expect(seenWords(TABLET, now)).toBe("Here now");
  expect(seenWords(PHONE, now)).toMatch(/^Last here \d\d:46$/);
  expect(seenWords(PHONE, now + 3 * 86_400_000)).toMatch(/^Last here .*26/);
  expect(outWords(PHONE, true)).toBeNull();
  const paused = { paused: true } as const;
  expect(outWords(device("phone", paused), true)).toBe("Paused");
  expect(outWords(device("phone", { ...paused, expired: true }), true)).toMatch(/90 days/);
  expect(outWords(device("phone", { ...paused, revokedAtRelay: true }), true)).toMatch(/relay/);
  expect(outWords(device("phone", paused), false)).toMatch(/all devices/);
  expect([resumeWords(PHONE), resumeWords(device("phone", { revokedAtRelay: true }))?.length === 0]).toEqual([
    null,
    false,
  ]);
});
