/** A host whose computer is kept awake, on a phone. logind is a stand-in on a bus of its own; nothing here sleeps. */
import { expect, test, vi } from "vitest";
import { Program } from "../real/program";
import { resolve } from "node:path";
import type { Up } from "../real/up";
import { audits } from "./audit";
import type { Phone } from "./phone";
import { Stage } from "./stage";

/** Built with all the other programs; seen from `web/`. */
const LOGIND = "../target/debug/logind-stand-in";

const stage = Stage.ofFile();

/** A logind that allows this; gives the address of its bus. */
async function logind(rules: "everything" | "idle-only"): Promise<string> {
  const program = new Program(resolve(LOGIND), [rules], process.env);
  stage.leftovers.add(async () => {
    expect(await program.stop("SIGTERM")).toBe(0);
  });
  return program.says("bus", "address");
}

/** A phone with scope `admin` at the devices of a host, whose system's bus is at `bus`. */
async function atDevices(bus: string | null): Promise<{ readonly phone: Phone; readonly up: Up }> {
  const phone = await stage.unbox();
  const up = await stage.pairs(phone, (env) => {
    if (bus !== null) {
      env.DBUS_SYSTEM_BUS_ADDRESS = bus;
    }
    return undefined;
  });
  await phone.goesOn();
  expect(await up.command("devices", "scope", await phone.deviceId(), "admin").exited()).toBe(0);
  await phone.taps("About this host");
  await phone.taps(/^Devices/);
  await phone.page.getByRole("switch", { name: /^Allow other devices/ }).waitFor();
  return { phone, up };
}

function toggleOf(phone: Phone): ReturnType<Phone["page"]["locator"]> {
  return phone.page.getByRole("switch", { name: /^Keep awake while plugged in/ });
}

test("the switch keeps the host awake and lets it sleep, and shows what its owner turns", async () => {
  const { phone, up } = await atDevices(await logind("everything"));
  const toggle = toggleOf(phone);
  await phone.sees("It may sleep, and is out of reach then");
  expect(await toggle.isChecked()).toBe(false);
  await toggle.tap();
  // Or the machine that this runs on is on its battery.
  await phone.sees(/^Now: staying awake$|^Not now: it runs on its battery$/);
  expect(await toggle.isChecked()).toBe(true);
  await phone.shoots("devices-awake");
  await audits(phone, "devices-awake");

  expect(await up.command("awake", "off").exited()).toBe(0);
  await phone.sees("It may sleep, and is out of reach then");
  expect(await toggle.isChecked()).toBe(false);
  expect(await up.command("awake", "on").exited()).toBe(0);
  await vi.waitUntil(() => toggle.isChecked());
  await toggle.tap();
  await phone.sees("It may sleep, and is out of reach then");
  expect(await toggle.isChecked()).toBe(false);

  await phone.page.context().setOffline(true);
  await phone.sees("Changes need the link to the host");
  expect(await toggle.isDisabled()).toBe(true);
  await phone.page.context().setOffline(false);
  await phone.page.getByText("Changes need the link to the host").waitFor({ state: "detached" });
  expect(await toggle.isEnabled()).toBe(true);
});

test("why the host is kept awake in part only stands beside the switch, with what helps there", async () => {
  const { phone } = await atDevices(await logind("idle-only"));
  await toggleOf(phone).tap();
  await phone.sees(/^Now: staying awake in part$|^Not now: it runs on its battery$/);
  if (await phone.page.getByText("Now: staying awake in part").isVisible()) {
    await phone.sees(/^systemd-logind lets this user keep it only from .*\. At .*: docs\/operations\.md, "Keep awake"/);
  }
  expect(await toggleOf(phone).isChecked()).toBe(true);
  await phone.shoots("devices-awake-partly");
  await audits(phone, "devices-awake-partly");
});

test("there is no such switch where nothing keeps the host awake", async () => {
  const { phone } = await atDevices(null);
  expect(await phone.page.getByRole("switch").count()).toBe(1);
});
