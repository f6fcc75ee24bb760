/** A phone that is taken off while a turn of its own runs, at the host or from another phone: what that ends has ended. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, expect, test, vi } from "vitest";
import { json, list, text } from "../../src/json";
import type { Up } from "../real/up";
import { audits } from "./audit";
import type { Desk } from "./desk";
import type { Phone } from "./phone";
import { Stage } from "./stage";

const DRAFT = "and then the door";
const QUEUED = "paint the fence";

type Locator = ReturnType<Phone["page"]["locator"]>;

let up: Up;
let desk: Desk;
/** The one that is taken off; {@link other} stays. */
let phone: Phone;
let other: Phone;
let thread: string;
const stage = Stage.ofFile();

beforeEach(async () => {
  [other, phone] = [await stage.unbox(), await stage.unbox()];
  up = await stage.pairs(other);
  const pairing = up.command("pair", "--yes");
  await phone.page.goto(await pairing.says("pairing", "url"));
  await phone.page.getByLabel("Name of this device").fill("tablet");
  await phone.taps(/^Pair$/);
  await phone.sees("Paired with");
  await pairing.stop("SIGTERM");
  desk = await stage.desk(up);
  thread = await desk.finishes(up.project, "mend the shop");
  for (const each of [phone, other]) {
    await each.taps(/^Open/);
    await each.page.locator("li.thread").first().waitFor();
  }
});

/** The host's owner does this with devices, in a terminal. */
async function owner(...args: readonly string[]): Promise<void> {
  expect(await up.command("devices", ...args).exited()).toBe(0);
}

function field(on: Phone): Locator {
  return on.page.getByLabel("Message to Codex");
}

/** The first line of the thread's dock. */
function bar(on: Phone, words: string): Locator {
  return on.page.locator(".turnbar > .clip").getByText(words, { exact: true });
}

/** What waits for the end of the turn. */
function queue(on: Phone): Locator {
  return on.page.getByRole("list", { name: "Queued for after this turn" });
}

/** Opens the thread from the list of threads. */
async function looks(on: Phone): Promise<void> {
  await on.page.locator("li.thread").first().tap();
  await field(on).waitFor();
}

/** Writes this on the phone that is taken off, and touches that. */
async function says(what: string, how: string): Promise<void> {
  await field(phone).fill(what);
  await phone.page.getByRole("button", { name: how, exact: true }).tap();
}

/** Has the phone begin a turn that does not end, queue a message after it and write another: all looked at by the other one. */
async function works(prompt = "@wait"): Promise<void> {
  await looks(phone);
  await says(prompt, "Send");
  await phone.page.getByRole("button", { name: "Stop" }).waitFor();
  await says(QUEUED, "After this turn");
  await queue(phone).getByText(QUEUED).waitFor();
  await field(phone).fill(DRAFT);
  await looks(other);
  await bar(other, "Running").waitFor();
  await queue(other).getByText(QUEUED).waitFor();
}

/** What Codex has of the thread's turns, the oldest first. */
async function turns(): Promise<readonly string[]> {
  const { thread: read } = await desk.asks("thread/read", { threadId: thread, includeTurns: true });
  return list(json(read).turns).map((turn) => text(json(turn).status));
}

/** Looks that the phone says that it was taken off, and has what was written: at once, and to who comes later. */
async function saysSo(name: string): Promise<void> {
  for (const isLater of [false, true]) {
    await phone.sees(/took this device off$/);
    await phone.sees(/itself said so, sealed end to end/);
    await phone.sees("What you wrote to a thread is kept on this device:");
    expect(await phone.page.getByText(DRAFT, { exact: true }).count()).toBe(1);
    expect(await phone.page.getByRole("button", { name: /^(Try|Stop|Send)/ }).count()).toBe(0);
    expect(await phone.page.locator(".cmdline code").textContent()).toBe("reachback pair");
    if (!isLater) {
      await phone.shoots(name);
      await phone.fits();
      await audits(phone, name);
      await phone.page.reload();
    }
  }
}

/** Looks that what the phone began has ended, at Codex and for who looks on, and that the thread goes on without it. */
async function hasEnded(name: string): Promise<void> {
  await bar(other, "Idle").waitFor();
  await queue(other).waitFor({ state: "detached" });
  await vi.waitUntil(async () => (await turns()).at(-1) === "interrupted", { timeout: 30_000, interval: 50 });
  expect(await turns()).toEqual(["completed", "interrupted"]);
  await other.shoots(name);
  await audits(other, name);
  // What was queued does not come after it, and whoever stays begins the next turn.
  await desk.prompts(thread, "and the roof");
  await vi.waitUntil(async () => (await turns()).at(-1) !== "inProgress" && (await turns()).length > 2, {
    timeout: 30_000,
    interval: 50,
  });
  expect(await turns()).toEqual(["completed", "interrupted", "completed"]);
  await bar(other, "Idle").waitFor();
  expect(await other.page.locator(".me", { hasText: QUEUED }).count()).toBe(0);
}

test("the owner takes a phone off in mid-turn: its turn and its queue end, and its draft stays on it", async () => {
  await works();
  await owner("revoke", "tablet");
  await saysSo("revoked-in-turn");
  await hasEnded("revoked-in-turn-other");
});

test("a phone with admin takes another one off in mid-turn: all that its page says of it ends", async () => {
  await other.page
    .getByRole("button", { name: "New" })
    .or(other.page.getByRole("link", { name: "New" }))
    .waitFor();
  const id = await other.deviceId();
  await owner("scope", id, "admin");
  await works();
  await other.taps("Back to threads");
  await other.taps("About this host");
  await other.taps(/^Devices/);
  const title = other.page.locator("b", { hasText: "tablet" });
  const row = other.page.getByRole("list", { name: "Devices" }).getByRole("button").filter({ has: title });
  await row.getByText("Here now").waitFor();
  await row.tap();
  const sheet = other.page.getByRole("dialog");
  await sheet.getByRole("button", { name: "Take it off…" }).tap();
  await sheet.getByText("cut it off at once, and its sessions end").waitFor();
  await sheet.getByText("its prompts leave the queues, and its turns are stopped").waitFor();
  await sheet.getByText("What it did is not undone").waitFor();
  // Nothing of it before that is said.
  expect(await turns()).toEqual(["completed", "inProgress"]);
  await sheet.getByRole("button", { name: "Take it off", exact: true }).tap();
  await other.sees("tablet was taken off.");
  await row.waitFor({ state: "detached" });
  await saysSo("revoked-in-turn-by-phone");
  await other.taps("Back to the host");
  await other.taps("Back to threads");
  await looks(other);
  await hasEnded("revoked-in-turn-by-phone-other");
});

test("a turn in which somebody else has said something goes on without the phone that began it", async () => {
  const go = join(up.project, "go");
  await works(`@shell until test -e '${go}'; do sleep 0.1; done`);
  await field(other).fill("@wait");
  await other.page.getByRole("button", { name: "Steer now", exact: true }).tap();
  await other.page.locator(".me", { hasText: "@wait" }).getByText("Steered the turn").waitFor();
  // Codex takes what was said in between with what comes next to its model, and has it in the turn from then on.
  writeFileSync(go, "");
  await other.sees("Waiting for the word");
  await owner("revoke", "tablet");
  await saysSo("revoked-in-turn-steered");
  await queue(other).waitFor({ state: "detached" });
  await bar(other, "Running").waitFor();
  expect(await turns()).toEqual(["completed", "inProgress"]);
  await desk.lets(up.project);
  await bar(other, "Idle").waitFor();
  expect(await turns()).toEqual(["completed", "completed"]);
});
