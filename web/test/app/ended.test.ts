/** A phone whose host lets it go: for good, or for now. */
import { beforeEach, expect, test } from "vitest";
import type { Up } from "../real/up";
import type { Phone } from "./phone";
import { Stage } from "./stage";

const DRAFT = "mend the shop, and say what was wrong";

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

async function owner(...args: readonly string[]): Promise<void> {
  expect(await up.command("devices", ...args).exited()).toBe(0);
}

/** The command that the screen shows for the host. */
async function command(): Promise<readonly string[]> {
  return ((await phone.page.locator(".cmdline code").textContent()) ?? "").split(" ");
}

test("a revocation is said in full, also after a reload; the draft is there until all of it is removed", async () => {
  await phone.drafts(DRAFT);
  await owner("revoke", device);
  await phone.sees(/took this device off$/);
  await phone.sees(/itself said so, sealed end to end/);
  expect(await phone.page.getByText(DRAFT).count()).toBe(1);
  expect(await phone.page.getByRole("button", { name: /^Try/ }).count()).toBe(0);
  expect(await command()).toEqual(["reachback", "pair"]);
  await phone.shoots("revoked");
  await phone.fits();
  await phone.page.reload();
  await phone.sees(/took this device off$/);
  await phone.sees(DRAFT);
  await phone.taps("Back to hosts");
  await phone.sees("Taken off by the host");
  await phone.page.goBack();
  await phone.taps("Remove from this device");
  await phone.sees(/and the draft with them/);
  await phone.shoots("revoked-remove");
  await phone.taps("Keep");
  expect(await phone.rows("hosts")).toBe(1);
  await phone.taps("Remove from this device");
  await phone.taps("Remove for good");
  await phone.sees("Your Codex, from here");
  expect([await phone.rows("hosts"), await phone.rows("starts")]).toEqual([0, 0]);
});

test("a revoked device is paired again, and has its draft", async () => {
  await phone.drafts(DRAFT);
  await owner("revoke", device);
  await phone.sees(/took this device off$/);
  const pairing = up.command(...(await command()).slice(1), "--yes");
  stage.leftovers.add(async () => {
    await pairing.stop("SIGTERM");
  });
  await phone.opens(await pairing.says("pairing", "url"));
  await phone.sees("Paired with");
  await phone.goesOn();
  await phone.taps("New");
  await phone.page.getByRole("button", { name: /^Folder/ }).waitFor();
  expect(await phone.page.getByRole("textbox", { name: "First message" }).inputValue()).toBe(DRAFT);
});

test("a pause is said in full; once the host's owner did what it says, a new try goes on with the draft", async () => {
  await phone.drafts(DRAFT);
  await phone.page.getByLabel(/^Goal/).fill("the door is painted");
  await phone.sees("Draft kept on this device");
  await owner("pause", device);
  await phone.sees(/has paused this device$/);
  await phone.sees(DRAFT);
  await phone.sees("Goal: the door is painted");
  await phone.shoots("paused");
  await phone.fits();
  await phone.taps("Try again");
  await phone.page.getByRole("button", { name: "Try again" }).waitFor();
  await phone.sees(/has paused this device$/);
  const [program, what, ...args] = await command();
  expect([program, what]).toEqual(["reachback", "devices"]);
  await owner(...args);
  await phone.taps("Try again");
  await phone.page.getByRole("button", { name: /^Folder/ }).waitFor();
  expect(phone.page.url()).toMatch(/\/new$/);
  expect(await phone.page.getByRole("textbox", { name: "First message" }).inputValue()).toBe(DRAFT);
  await phone.taps("Start");
  await phone.page.waitForURL(/\/t\//);
  await phone.sees("You are talking to the real Codex");
});

test("what only the relay says of a revocation is the relay's word, and nothing is gone", async () => {
  const url = phone.page.url();
  await phone.page.goto("about:blank");
  await owner("revoke", device);
  await phone.page.goto(url);
  await phone.sees("The relay says that this device is not on the host's list");
  await phone.sees("only its word counts");
  await phone.shoots("relay-says-revoked");
  await phone.fits();
  expect(await phone.rows("hosts")).toBe(1);
});
