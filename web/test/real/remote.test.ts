/** A host that is reached through what becomes of its relay and its agent. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { RequestError } from "../../src/api/error";
import { RemoteHost } from "../../src/host/remote";
import { TypedCode } from "../../src/pairing/code";
import { JoinError } from "../../src/pairing/error";
import type { Invitation } from "../../src/pairing/join";
import { Origin } from "../../src/pairing/origin";
import { PairingUrl } from "../../src/pairing/url";
import type { StoredHost } from "../../src/store/hosts";
import { ByeReason } from "../../src/wire/reason";
import { TestPage } from "../link/page";
import { rejection } from "../support";
import { Apart } from "./apart";
import { pair } from "./phone";

let apart: Apart;

beforeEach(async () => {
  apart = await Apart.start();
});

afterEach(async () => {
  await apart.stop();
});

async function until(condition: () => boolean): Promise<void> {
  await vi.waitUntil(condition, { interval: 5, timeout: 30_000 });
}

/** Pairs by what the host's command shows; gives the invitation too, which is used up. */
async function paired(member: "url" | "code"): Promise<{ host: StoredHost; invitation: () => Invitation }> {
  const command = apart.command("pair", "--yes");
  const text = await command.says("pairing", member);
  const invitation = (): Invitation =>
    member === "url"
      ? { type: "url", url: PairingUrl.parse(text) }
      : { type: "code", relay: Origin.parse(apart.relayUrl), code: TypedCode.parse(text) };
  const shown: string[] = [];
  const host = await pair(invitation(), shown);
  expect(shown.join()).toMatch(/^\d{6}$/);
  await command.says("paired", "device_id");
  await command.stop("SIGTERM");
  return { host, invitation };
}

/** Its page, and what it was told. */
function reach(host: StoredHost): { remote: RemoteHost; missed: () => number } {
  let count = 0;
  const remote = new RemoteHost(host, {
    page: new TestPage(),
    read: {},
    notified: () => undefined,
    missed: () => (count += 1),
    learned: () => undefined,
  });
  return { remote, missed: () => count };
}

test("a code is good once, typed or not", async () => {
  for (const member of ["url", "code"] as const) {
    const { host, invitation } = await paired(member);
    expect(host.scope).toBe(member === "url" ? "approve" : "steer");
    expect(await rejection(pair(invitation()))).toEqual(new JoinError({ kind: "noSuchCode" }));
  }
});

test("a relay that is killed and started again costs nothing but time", async () => {
  const { host } = await paired("url");
  const { remote, missed } = reach(host);
  await until(() => remote.info.value !== null);
  await apart.stopRelay("SIGKILL");
  const waiting = remote.api.request("environment/list", {});
  await until(() => remote.reach.value.at === "relayUnreachable");
  await apart.startRelay();
  expect((await waiting).data.length).toBeGreaterThan(0);
  expect(remote.reach.value.at).toBe("online");
  // One that restarts says when to come back.
  await apart.stopRelay("SIGTERM");
  await apart.startRelay();
  expect((await remote.api.request("environment/list", {})).data.length).toBeGreaterThan(0);
  expect(missed()).toBe(0);
  await remote.end();
});

test("an agent that is killed has lost the session: what was asked says so, and a new one goes on", async () => {
  const { host } = await paired("url");
  const { remote, missed } = reach(host);
  await until(() => remote.info.value !== null);
  await apart.stopAgent("SIGKILL");
  const lost = rejection(remote.api.request("environment/list", {}));
  await until(() => remote.reach.value.at === "hostOffline");
  expect(remote.reach.value).toMatchObject({ asleep: false });
  await apart.startAgent();
  expect(await lost).toEqual(new RequestError("environment/list", { kind: "gap" }));
  expect(missed()).toBe(1);
  expect((await remote.api.request("host/read", {})).hostId).toBe(host.id);
  // One that is stopped says goodbye; only one that goes to sleep is asleep.
  await apart.stopAgent("SIGTERM");
  await until(() => remote.reach.value.at === "hostOffline");
  expect(remote.reach.value).toMatchObject({ asleep: false });
  await apart.startAgent();
  await until(() => remote.reach.value.at === "online");
  await remote.end();
});

test("a device that is taken off the list hears it from the host", async () => {
  const { host } = await paired("url");
  const { remote } = reach(host);
  await until(() => remote.info.value !== null);
  expect(await apart.command("devices", "revoke", host.deviceId).exited()).toBe(0);
  await until(() => remote.reach.value.at === "ended");
  expect(remote.reach.value).toMatchObject({ by: "host", reason: ByeReason.revoked });
  // Who asks again, as after a reload, hears only the relay's word, which is no end.
  const again = reach(host).remote;
  await until(() => again.reach.value.at === "refused");
  await again.end();
});
