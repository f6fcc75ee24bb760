/** Who may control a host, and how the way to it is, on a phone: a list that it may change or not, and a diagnosis. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, renameSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";
import { beforeEach, expect, test, vi } from "vitest";
import { json, text } from "../../src/json";
import { REACHBACK } from "../real/homes";
import type { Up } from "../real/up";
import { audits } from "./audit";
import type { Phone } from "./phone";
import { Stage } from "./stage";

let up: Up;
let phone: Phone;
/** This device's id at the host. */
let device: string;
const stage = Stage.ofFile();

beforeEach(async () => {
  phone = await stage.unbox();
  up = await stage.pairs(phone);
  await phone.goesOn();
  device = await phone.deviceId();
});

/** The host's owner does this with devices. */
async function owner(...args: readonly string[]): Promise<void> {
  expect(await up.command("devices", ...args).exited()).toBe(0);
}

/** What the host's owner sees: each device's name, scope, and whether it is kept out. */
function atHost(): readonly string[] {
  const lines = execFileSync(resolve(REACHBACK), ["devices", "--json"], { env: up.env, encoding: "utf8" });
  return lines
    .trim()
    .split("\n")
    .map((line) => json(JSON.parse(line)))
    .map(({ name, scope, paused }) => `${text(name)} ${text(scope)}${paused === true ? " paused" : ""}`);
}

/** Another phone with this name, which its host's owner lets in. */
async function another(name: string): Promise<{ readonly phone: Phone; readonly id: string }> {
  const other = await stage.unbox();
  const pairing = up.command("pair", "--yes");
  try {
    await other.page.goto(await pairing.says("pairing", "url"));
    await other.page.getByLabel("Name of this device").fill(name);
    await other.taps(/^Pair$/);
    await other.sees("Paired with");
  } finally {
    await pairing.stop("SIGTERM");
  }
  await other.goesOn();
  return { phone: other, id: await other.deviceId() };
}

/** Goes from the threads of the host to its devices, or to the way to it. */
async function opens(what: "Devices" | "Connection", on = phone): Promise<void> {
  await on.taps("About this host");
  await on.taps(new RegExp(`^${what}`));
  await on.page.getByRole("heading", { level: 1, name: what }).waitFor();
}

/** The row of the device with this name. */
function row(name: string, on = phone): ReturnType<Phone["page"]["locator"]> {
  const title = on.page.locator("b", { hasText: name });
  return on.page.getByRole("list", { name: "Devices" }).getByRole("button").filter({ has: title });
}

/** A button of the sheet. */
function button(name: string, on = phone): ReturnType<Phone["page"]["locator"]> {
  return on.page.getByRole("dialog").getByRole("button", { name, exact: true });
}

/** Waits until the sheet is gone. */
async function closed(on = phone): Promise<void> {
  await on.page.locator("dialog.sheet").waitFor({ state: "hidden" });
}

/** The command that the screen shows for the host. */
async function command(): Promise<readonly string[]> {
  return ((await phone.page.locator(".cmdline code").textContent()) ?? "").split(" ");
}

test("a device with admin changes what another one may do, keeps it out and lets it in, and is told what ends", async () => {
  const tablet = await another("tablet");
  await owner("scope", device, "admin");
  await opens("Devices");
  await row("Linux PC").getByText("this one").waitFor();
  await row("tablet").getByText("Here now").waitFor();
  await phone.shoots("devices");
  await audits(phone, "devices");

  await row("tablet").tap();
  await phone.page.getByRole("dialog", { name: "tablet" }).waitFor();
  await phone.shoots("devices-one");
  await audits(phone, "devices-one");
  await phone.page.getByRole("radio", { name: /^view/ }).check();
  await phone.sees(/its goals are paused, its prompts leave the queues, and its turns are stopped/);
  await phone.shoots("devices-scope");
  await audits(phone, "devices-scope");
  await button("Keep approve").tap();
  expect(await phone.page.getByRole("radio", { name: /^approve/ }).isChecked()).toBe(true);
  expect(atHost()).toEqual(["Linux PC admin", "tablet approve"]);
  await phone.page.getByRole("radio", { name: /^view/ }).check();
  await button("Change to view").tap();
  await vi.waitUntil(() => atHost()[1] === "tablet view");
  await tablet.phone.taps("About this host");
  await tablet.phone.sees("prompt, answer, approve, manage devices");

  await button("Keep it out…").tap();
  await phone.sees("Keep it out for now?");
  await phone.shoots("devices-pause");
  await audits(phone, "devices-pause");
  await button("Keep it out").tap();
  await tablet.phone.sees(/has paused this device$/);
  await button("Let it in again").waitFor();
  expect(atHost()[1]).toBe("tablet view paused");
  await phone.shoots("devices-paused");
  await audits(phone, "devices-paused");
  await button("Let it in again").tap();
  await button("Keep it out…").waitFor();
  expect(atHost()[1]).toBe("tablet view");
  await tablet.phone.taps("Try again");
  await tablet.phone.sees("Online");
});

test("a device with admin takes another one off, and is told what ends before", async () => {
  const tablet = await another("tablet");
  await owner("scope", device, "admin");
  await opens("Devices");
  await row("tablet").tap();
  await button("Take it off…").tap();
  await phone.sees("Take it off?");
  await phone.sees("cut it off at once, and its sessions end");
  await phone.sees(/comes back only by being paired again/);
  await phone.shoots("devices-revoke");
  await audits(phone, "devices-revoke");
  // Back leads to the device, and not out of the screen.
  await phone.page.goBack();
  await button("Take it off…").tap();
  await button("Keep it").tap();
  expect(atHost()).toHaveLength(2);
  await button("Take it off…").tap();
  await button("Take it off").tap();
  await closed();
  await phone.sees("tablet was taken off.");
  await row("tablet").waitFor({ state: "detached" });
  await tablet.phone.sees(/took this device off$/);
  expect(atHost()).toEqual(["Linux PC admin"]);
  await phone.taps("Back to the host");
  await phone.page.getByRole("button", { name: "Remove from this device" }).waitFor();
});

test("what the owner and another device change shows by itself, also where something is asked", async () => {
  await owner("scope", device, "admin");
  await opens("Devices");
  await row("Linux PC").waitFor();
  expect(await row("tablet").count()).toBe(0);
  const tablet = await another("tablet");
  await row("tablet").getByText("approve", { exact: true }).waitFor();
  await owner("scope", tablet.id, "admin");
  await row("tablet").getByText("admin", { exact: true }).waitFor();
  await owner("pause", tablet.id);
  await row("tablet").getByText("Paused").waitFor();
  await owner("resume", tablet.id);
  await row("tablet").getByText("Paused").waitFor({ state: "detached" });
  await tablet.phone.taps("Try again");
  await row("tablet").getByText("Here now").waitFor();

  // Another device changes this one, while this one asks about that.
  await opens("Devices", tablet.phone);
  await row("tablet").tap();
  await button("Take it off…").tap();
  await phone.sees("Take it off?");
  await row("Linux PC", tablet.phone).tap();
  await tablet.phone.page.getByRole("radio", { name: /^steer/ }).check();
  await button("Change to steer", tablet.phone).tap();
  await phone.sees(/Only a device with admin/);
  await closed();
  await owner("scope", device, "admin");
  await row("tablet").tap();
  await button("Take it off…").tap();
  await owner("revoke", tablet.id);
  await phone.sees("It is not on the list any more");
  await phone.shoots("devices-gone");
  await audits(phone, "devices-gone");
  await button("Close").tap();
  await closed();
  expect(await row("tablet").count()).toBe(0);
  await phone.taps("Back to the host");
  await phone.page.getByRole("button", { name: "Remove from this device" }).waitFor();
});

test("a device without admin sees why it can't, and what is typed at the host gives it the list", async () => {
  await opens("Devices");
  await phone.sees(/Only a device with admin/);
  await phone.sees("prompt, answer, approve once");
  expect(await phone.page.getByRole("list", { name: "Devices" }).count()).toBe(0);
  await phone.shoots("devices-not");
  await audits(phone, "devices-not");
  const [program, what, ...args] = await command();
  expect([program, what]).toEqual(["reachback", "devices"]);
  await owner(...args);
  await row("Linux PC").waitFor();
  expect(await command()).toEqual(["reachback", "pair"]);
  await row("Linux PC").tap();
  await owner("scope", device, "view");
  await phone.sees(/Only a device with admin/);
  await closed();
  // Back leads to the host, as if nothing had lain there.
  await phone.taps("Back to the host");
  await phone.page.getByRole("button", { name: "Remove from this device" }).waitFor();
});

test("what the host's disk does not take is said with its device: what gives was not done, what takes away holds", async () => {
  const tablet = await another("tablet");
  await owner("scope", tablet.id, "steer");
  await owner("scope", device, "admin");
  await opens("Devices");
  await row("tablet").tap();
  const list = join(up.env.REACHBACK_HOME ?? "", "host", "devices.json");
  expect(existsSync(list)).toBe(true);
  renameSync(list, `${list}.aside`);
  mkdirSync(join(list, "in the way"), { recursive: true });

  await phone.page.getByRole("radio", { name: /^admin/ }).check();
  await button("Change to admin").tap();
  await phone.sees(/disk did not take it, and nothing was done. Make room there/);
  expect(await phone.page.getByRole("radio", { name: /^steer/ }).isChecked()).toBe(true);
  await phone.shoots("devices-disk");
  await audits(phone, "devices-disk");
  await phone.page.getByRole("radio", { name: /^view/ }).check();
  await button("Change to view").tap();
  await phone.sees(/It holds, but the host.s disk did not take it/);
  expect(await phone.page.getByRole("radio", { name: /^view/ }).isChecked()).toBe(true);

  rmSync(list, { recursive: true });
  renameSync(`${list}.aside`, list);
  await phone.page.getByRole("radio", { name: /^approve/ }).check();
  await button("Change to approve").tap();
  await vi.waitUntil(() => atHost()[1] === "tablet approve");
  await phone.page.getByText(/disk did not take it/).waitFor({ state: "detached" });
});

test("a device that takes itself off is told that it has to be paired again, and ends where it can be", async () => {
  await owner("scope", device, "admin");
  await phone.drafts("mend the shop");
  await phone.taps("Close, keeps the draft");
  await opens("Devices");
  await row("Linux PC").tap();
  await button("Take it off…").tap();
  await phone.sees("This is the device in your hand");
  await phone.sees(/has to be paired again/);
  await phone.shoots("devices-revoke-own");
  await audits(phone, "devices-revoke-own");
  expect(atHost()).toHaveLength(1);
  await button("Take it off").tap();
  await phone.sees(/took this device off$/);
  await phone.sees("mend the shop");
  await closed();
  await vi.waitUntil(() => phone.page.url().endsWith("/devices"));
  await phone.page.reload();
  await phone.sees(/took this device off$/);
  await phone.taps("Pair again");
  await phone.page.getByRole("heading", { name: "Scan the code" }).waitFor();
  await phone.taps("Back");
  await phone.sees("Taken off by the host");
});

test("a device that lowers or pauses itself hears before that others have to raise it or let it in", async () => {
  await owner("scope", device, "admin");
  await opens("Devices");
  await row("Linux PC").tap();
  await button("Keep it out…").tap();
  await phone.sees(/Only another device with admin lets it in again/);
  await button("Keep it out").tap();
  await phone.sees(/has paused this device$/);
  const [, , ...resume] = await command();
  await owner(...resume);
  await phone.taps("Try again");
  await row("Linux PC").tap();
  await phone.page.getByRole("radio", { name: /^steer/ }).check();
  await phone.sees(/it can.t raise that again/);
  await phone.shoots("devices-lower-own");
  await audits(phone, "devices-lower-own");
  await button("Change to steer").tap();
  await phone.sees(/Only a device with admin/);
  await closed();
  expect(atHost()).toEqual(["Linux PC steer"]);
});

test("the switch keeps every device out, this one too, until the owner lets them in", async () => {
  const tablet = await another("tablet");
  await owner("scope", device, "admin");
  await opens("Devices");
  const toggle = phone.page.getByRole("switch", { name: /^Allow other devices/ });
  await toggle.tap();
  await phone.sees(/keeps every device out at once, this one too/);
  await phone.shoots("devices-close");
  await audits(phone, "devices-close");
  await button("Leave it on").tap();
  await closed();
  expect(await toggle.isChecked()).toBe(true);
  await toggle.tap();
  await button("Keep every device out").tap();
  await phone.sees(/has paused this device$/);
  await tablet.phone.sees(/has paused this device$/);
  await phone.sees("Where all devices are paused");
  await closed();
  await owner("resume");
  await phone.taps("Try again");
  await toggle.waitFor();
  expect(await toggle.isChecked()).toBe(true);
});

test("without a link the list stays, and nothing can be changed until there is one", async () => {
  await owner("scope", device, "admin");
  await opens("Devices");
  await row("Linux PC").waitFor();
  await phone.page.context().setOffline(true);
  await phone.sees("Changes need the link to the host");
  await row("Linux PC").tap();
  expect(await button("Take it off…").isDisabled()).toBe(true);
  expect(await phone.page.getByRole("radio", { name: /^view/ }).isDisabled()).toBe(true);
  await button("Close").tap();
  await closed();
  expect(await phone.page.getByRole("switch", { name: /^Allow other devices/ }).isDisabled()).toBe(true);
  await phone.shoots("devices-offline");
  await audits(phone, "devices-offline");
  await phone.page.context().setOffline(false);
  await phone.page.getByText("Changes need the link to the host").waitFor({ state: "detached" });
  expect(await phone.page.getByRole("switch", { name: /^Allow other devices/ }).isEnabled()).toBe(true);
});

test("the way to Codex is shown leg by leg, and a diagnosis of it is copied that holds nothing of anybody's", async () => {
  await phone.page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
  const desk = await stage.desk(up);
  await desk.finishes(up.project, "mend the shop");
  await opens("Connection");
  await phone.sees("All four legs are fine");
  await phone.shoots("connection");
  await audits(phone, "connection");
  await phone.taps("Copy the diagnosis");
  await phone.page.getByRole("button", { name: "Copied" }).waitFor();
  const copied = await phone.page.evaluate(() => navigator.clipboard.readText());
  const version = execFileSync(resolve(REACHBACK), ["--version"], { encoding: "utf8" }).trim().split(" ").at(-1) ?? "";
  expect(copied).toContain(`App: ${version}, Linux PC, Chrome\n`);
  expect(copied).toContain(`agent ${version}, API 1\n`);
  expect(copied).toMatch(/^Link: online since /m);
  expect(copied).toContain(`Relay: ${up.relayUrl}, WebSocket without TLS\n`);
  expect(copied).toMatch(/^Codex: ready, \d+\.\d+\.\d+, started, account notNeeded$/m);
  expect(copied).not.toMatch(/mend|shop|[/]tmp[/]/);
  expect([copied.includes(device), copied.includes(up.project)]).toEqual([false, false]);

  await phone.page.context().setOffline(true);
  await phone.sees("Broken: This device → relay");
  await phone.sees("This device has no network. Connect it to one");
  await phone.sees(/Link: no way to the relay since .*, network away/);
  await phone.shoots("connection-broken");
  await audits(phone, "connection-broken");
  await phone.page.context().setOffline(false);
  await phone.sees("All four legs are fine");
});

test("settings lead to both, for each host", async () => {
  await phone.taps("Settings");
  await phone.taps(/^Connection/);
  await phone.sees("All four legs are fine");
  await phone.taps("Back to the host");
  await phone.taps("Back to threads");
  await phone.taps("Settings");
  await phone.taps(/^Devices/);
  await phone.sees(/Only a device with admin/);
});
