/** What is told to whoever helps: how all of it is, and nothing that is anybody's own. */
import { expect, test } from "vitest";
import type { EnvironmentInfo, HostInfo } from "../../src/api/types";
import { LinkError } from "../../src/link/error";
import type { Reach } from "../../src/link/reach";
import { Origin } from "../../src/pairing/origin";
import { type Known, diagnosisOf } from "../../src/state/diagnosis";
import { type Verdict, legsOf, troublesOf, wayWords } from "../../src/views/connectionwords";

const SINCE = Date.parse("2026-11-26T06:46:34Z");
const KEY = Uint8Array.from({ length: 32 }, () => 7);

const INFO: HostInfo = {
  apiVersion: 1,
  features: ["devices", "manageDevices"],
  limits: { messageToHost: 1, messageToDevice: 1, request: 1, prompt: 1, channels: 1, sessions: 1, detachedSeconds: 1 },
  now: SINCE,
  hostId: "aqcambyibmbaibaiaqcambyibm",
  hostName: "tower",
  relays: [{ url: "https://relay.example:443", key: "secretkey" }],
  agentVersion: "0.1.0",
  deviceId: "eu3dmnzwg43dmnzwg43dmnzwg4",
  scope: "admin",
  codex: { state: "ready" },
  journal: "mfrggzdfmztwq2lknnwg23tpoa",
};

const CODEX: EnvironmentInfo = {
  name: "local",
  state: "ready",
  version: "0.169.0",
  adapter: "started",
  account: { state: "signedIn", type: "chatgpt", plan: "pro" },
};

const ONLINE: Reach = { at: "online", since: SINCE, rttMs: 37.6 };

function known(more: Partial<Known> = {}): Known {
  return {
    at: SINCE,
    version: "0.1.0",
    platform: "iPhone, Safari",
    usage: { bytes: 4_096, firm: true },
    stored: {
      id: INFO.hostId,
      deviceId: INFO.deviceId,
      scope: "admin",
      relays: [{ key: KEY, origin: Origin.parse("https://relay.example") }],
    },
    reach: ONLINE,
    info: INFO,
    environments: [CODEX],
    ...more,
  };
}

test("it says app, host, device, link, relay, transport, Codex and what the host can do", () => {
  expect(diagnosisOf(known())).toBe(
    [
      "Reachback diagnosis: 2026-11-26T06:46:34Z",
      "App: 0.1.0, iPhone, Safari",
      "Kept in the browser: 4096 bytes, until it is removed",
      "Host: aqcambyi, agent 0.1.0, API 1",
      "This device: eu3dmnzw, scope admin",
      "Link: online since 2026-11-26T06:46:34Z, 38 ms",
      "Relay: https://relay.example:443, WebSocket over TLS",
      "Codex: ready, 0.169.0, started, account signedIn, chatgpt",
      "Features: devices manageDevices",
      "",
    ].join("\n"),
  );
});

test("of a host that says paths, names and more where words belong, nothing gets in", () => {
  const evil = "/home/ada/secret shop\nApp: fine";
  const text = diagnosisOf(
    known({
      info: { ...INFO, agentVersion: evil, features: [evil, "devices"], hostName: evil },
      environments: [
        {
          ...CODEX,
          version: evil,
          reason: evil,
          fix: evil,
          account: { state: "signedIn", type: evil, plan: evil },
          troubles: [{ code: "diskFull", message: evil, fix: evil }],
        },
        { name: "ssh:ada-secret", state: "failed", reason: evil, fix: evil, code: "login" },
      ],
    }),
  );
  expect(text).not.toMatch(/secret|ada|home|fine|tower/);
  expect(text).toContain("Codex: ready, ?, started, account signedIn, ?, trouble diskFull\n");
  expect(text).toContain("SSH machine: failed, code login\n");
  expect(text.split("\n")).toHaveLength(11);
});

test("no key and no whole id is in it, whatever the link is", () => {
  const error = new LinkError({ kind: "wrongRelay", id: KEY });
  const reaches: readonly (readonly [Reach, RegExp])[] = [
    [{ at: "online", since: SINCE, rttMs: null }, /online since \S+\n/],
    [{ at: "reconnecting", since: SINCE, next: null, error }, /reconnecting since \S+, last: wrongRelay/],
    [{ at: "hostOffline", asleep: true, hostSince: SINCE, since: SINCE, next: null }, /host asleep, gone since/],
    [{ at: "hostOffline", asleep: false, hostSince: null, since: SINCE, next: null }, /host offline, never seen/],
    [{ at: "relayUnreachable", since: SINCE, next: null, online: false, error: null }, /no way .* network away/],
    [{ at: "refused", code: 4403, since: SINCE, next: null, error }, /refused by the relay .* code 4403/],
    [{ at: "version", peer: "host", since: SINCE, next: null }, /no version in common with the host/],
    [{ at: "ended", by: "host", reason: 6, error: null, since: SINCE }, /ended by the host .* reason 6/],
  ];
  for (const [reach, says] of reaches) {
    const text = diagnosisOf(known({ reach, info: null, environments: [], usage: null }));
    expect(text).toMatch(says);
    for (const own of [INFO.hostId, INFO.deviceId, "7,7,7", "secretkey", INFO.journal]) {
      expect(text).not.toContain(own);
    }
  }
});

test("each leg is fine, broken, tried or not known, and a broken one says what comes next", () => {
  const away = { since: SINCE, next: null } as const;
  const failed = { name: "local", state: "failed", reason: "codex is not installed", fix: "`npm install`" } as const;
  const out: EnvironmentInfo = { ...CODEX, account: { state: "signedOut" } };
  const ways: readonly (readonly [Reach, EnvironmentInfo | undefined, readonly Verdict[], RegExp | null])[] = [
    [ONLINE, CODEX, ["fine", "fine", "fine", "fine"], null],
    [ONLINE, { ...CODEX, account: { state: "notNeeded" } }, ["fine", "fine", "fine", "fine"], null],
    [ONLINE, undefined, ["fine", "fine", "unknown", "unknown"], null],
    [ONLINE, { name: "local", state: "starting" }, ["fine", "fine", "tried", "unknown"], null],
    [ONLINE, failed, ["fine", "fine", "broken", "unknown"], /npm install/],
    [ONLINE, out, ["fine", "fine", "fine", "broken"], /codex login/],
    [{ at: "reconnecting", error: null, ...away }, CODEX, ["tried", "unknown", "unknown", "unknown"], null],
    [
      { at: "hostOffline", asleep: true, hostSince: null, ...away },
      CODEX,
      ["fine", "broken", "unknown", "unknown"],
      /Wake it up/,
    ],
    [
      { at: "hostOffline", asleep: false, hostSince: null, ...away },
      CODEX,
      ["fine", "broken", "unknown", "unknown"],
      /reachback status/,
    ],
    [
      { at: "relayUnreachable", online: true, error: null, ...away },
      CODEX,
      ["broken", "unknown", "unknown", "unknown"],
      /Whoever runs it/,
    ],
    [
      { at: "relayUnreachable", online: false, error: null, ...away },
      CODEX,
      ["broken", "unknown", "unknown", "unknown"],
      /Connect it/,
    ],
    [
      { at: "refused", code: 4403, error: new LinkError({ kind: "silent" }), ...away },
      CODEX,
      ["broken", "unknown", "unknown", "unknown"],
      /reachback devices/,
    ],
    [{ at: "version", peer: "relay", ...away }, CODEX, ["broken", "unknown", "unknown", "unknown"], /reload this app/],
    [{ at: "version", peer: "host", ...away }, CODEX, ["fine", "broken", "unknown", "unknown"], /Update the host/],
  ];
  for (const [reach, codex, verdicts, next] of ways) {
    const legs = legsOf({ reach, host: "tower", transport: "WebSocket", barred: null, codex, now: SINCE });
    expect(legs.map(({ verdict }) => verdict)).toEqual(verdicts);
    const broken = legs.find(({ verdict }) => verdict === "broken");
    expect(broken === undefined ? null : next?.test(broken.text)).toBe(next === null ? null : true);
    expect(wayWords(legs)).toMatch(broken ? /^Broken: / : verdicts.includes("unknown") ? /^Not all/ : /^All four/);
  }
});

test("what is wrong with a Codex that answers stands below its legs", () => {
  const troubles = [{ code: "upgraded", message: "another version is installed", fix: "restart it" } as const];
  expect(troublesOf({ ...CODEX, troubles })).toEqual(["another version is installed. At the host: restart it"]);
  expect([troublesOf(CODEX), troublesOf(undefined)]).toEqual([[], []]);
});
