/** A thread is begun from a phone: the real Codex runs it, once. */
import { mkdirSync, rmdirSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, expect, test, vi } from "vitest";
import { json, list, text } from "../../src/json";
import type { Up } from "../real/up";
import { auditsCode } from "./audit";
import type { Desk } from "./desk";
import type { Phone } from "./phone";
import { Stage } from "./stage";

let up: Up;
let desk: Desk;
let phone: Phone;
/** Whether what the phone sends is lost on the way. */
let mute = false;
const stage = Stage.ofFile();

beforeEach(async () => {
  phone = await stage.unbox();
  mute = false;
  await phone.page.routeWebSocket(/.*/, (socket) => {
    const relay = socket.connectToServer();
    socket.onMessage((message) => {
      if (!mute) {
        relay.send(message);
      }
    });
  });
  up = await stage.pairs(phone);
  desk = await stage.desk(up);
  await phone.goesOn();
});

/** The id of the thread on the screen. */
function threadShown(): string {
  return new URL(phone.page.url()).hash.split("/").at(-1) ?? "";
}

/** What the page says of how far Codex goes: when it asks, and what it may write. */
async function policy(): Promise<readonly string[]> {
  const title = (sub: string): Promise<string> =>
    phone.page.locator(".row").filter({ hasText: sub }).locator(".row__title").innerText();
  const said = (): Promise<readonly string[]> => Promise.all([title("Codex asks"), title("It may write")]);
  await vi.waitUntil(async () => !(await said()).includes("…"), { timeout: 30_000, interval: 50 });
  return said();
}

/** How far Codex goes in the thread on the screen, as it says itself. */
async function given(): Promise<readonly string[]> {
  const { approvalPolicy, sandbox } = await desk.asks("thread/resume", { threadId: threadShown() });
  return [text(approvalPolicy), text(json(sandbox).type)];
}

/** How many turns the only thread has that Codex knows. */
async function turns(): Promise<number> {
  expect(await desk.titles()).toHaveLength(1);
  const { thread } = await desk.asks("thread/read", { threadId: threadShown(), includeTurns: true });
  return list(json(thread).turns).length;
}

test("a new thread in a workspace streams its answer", async () => {
  await phone.drafts("@wait");
  await phone.sees(up.project);
  expect(await policy()).toEqual(["when it must", "this folder"]);
  await phone.page.getByLabel("Model").locator("option").nth(1).waitFor({ state: "attached" });
  await phone.page.getByLabel("Model").selectOption({ index: 1 });
  await phone.shoots("new-thread");
  await phone.taps("Start");
  await phone.page.waitForURL(/\/t\//);
  await phone.page.locator(".say[aria-busy=true]").waitFor();
  expect(await turns()).toBe(1);
  await desk.lets(up.project);
  await phone.page.locator(".say[aria-busy=false]").waitFor();
  expect(await given()).toEqual(["on-request", "workspaceWrite"]);
  await phone.page.goBack();
  await phone.page.locator("li.thread").first().waitFor();
  await phone.taps("New");
  expect(await phone.page.getByRole("textbox", { name: "First message" }).inputValue()).toBe("");
});

test("a prompt that did not get through is held, and sent once after a reload", async () => {
  await phone.drafts("mend the shop");
  mute = true;
  await phone.taps("Start");
  await phone.sees(/Sending|Held on this device/);
  await phone.shoots("new-thread-held");
  await phone.keeps(false);
  expect(await desk.titles()).toEqual([]);
  mute = false;
  await phone.page.reload();
  await phone.page.waitForURL(/\/t\//);
  await phone.sees("You are talking to the real Codex");
  expect(await turns()).toBe(1);
});

test.each([false, true])("a reload while it is being sent sends it once; handed to the link: %s", async (handed) => {
  await phone.drafts("mend the shop");
  await phone.taps("Start");
  await phone.keeps(handed);
  await phone.page.reload();
  await phone.page.waitForURL(/\/t\//);
  await phone.sees("You are talking to the real Codex");
  expect(await turns()).toBe(1);
});

test("a draft survives a reload and leaving the page; Enter is a new line, Ctrl and Enter sends", async () => {
  await phone.drafts("mend");
  const field = phone.page.getByRole("textbox", { name: "First message" });
  await field.press("End");
  await field.press("Enter");
  await field.pressSequentially("the shop");
  await phone.sees("Draft kept on this device");
  await phone.page.reload();
  await phone.page.getByRole("button", { name: /^Folder/ }).waitFor();
  expect(await field.inputValue()).toBe("mend\nthe shop");
  await phone.taps("Close, keeps the draft");
  await phone.sees("No threads on");
  await phone.taps("New");
  await phone.page.getByRole("button", { name: /^Folder/ }).waitFor();
  expect(await field.inputValue()).toBe("mend\nthe shop");
  await field.press("Control+Enter");
  await phone.page.waitForURL(/\/t\//);
  await phone.sees("You are talking to the real Codex");
});

test("a folder that is opened shows up, and one that is open no more is said at once", async () => {
  const site = join(up.env.HOME ?? "", "site");
  mkdirSync(site);
  await phone.drafts("mend the shop");
  await phone.taps(/^Folder/);
  expect(await up.command("workspace", "add", site).exited()).toBe(0);
  await phone.shoots("new-thread-folder");
  await phone.taps(site);
  await phone.sees("Draft kept on this device");
  await isThere(site);
  expect(await up.command("workspace", "remove", site).exited()).toBe(0);
  await phone.sees("It is no workspace any more");
  expect(await phone.page.getByRole("button", { name: "Start" }).isDisabled()).toBe(true);
});

test("a device that may only look has no way there", async () => {
  await lowers("view");
  await phone.sees("No threads on");
  expect(await phone.page.getByRole("link", { name: "New" }).count()).toBe(0);
  await phone.page.reload();
  await phone.sees("No threads on");
  expect(phone.page.url()).toMatch(/\/new$/);
});

/** Waits until the page is there again, with this folder chosen. */
async function isThere(folder: string): Promise<void> {
  await phone.page.locator("dialog.sheet").waitFor({ state: "hidden" });
  await phone.page.getByRole("button", { name: `Folder ${folder}`, exact: false }).waitFor();
}

/** Has the owner let this device do less, once its page for a new thread is there. */
async function lowers(scope: "view" | "steer"): Promise<void> {
  const id = await phone.deviceId();
  await phone.taps("New");
  await phone.page.getByRole("button", { name: /^Folder/ }).waitFor();
  expect(await up.command("devices", "scope", id, scope).exited()).toBe(0);
}

/** Goes from the draft into the home folder of the host's owner; gives its path. */
async function browses(): Promise<string> {
  const home = up.env.HOME ?? "";
  await phone.taps(/^Folder/);
  await phone.taps(/^Another folder/);
  await phone.taps(new RegExp(`^home ${home}`));
  await phone.sees("No thread works in this folder itself");
  return home;
}

/** What has the focus. */
async function focused(): Promise<string> {
  return phone.page.evaluate(() => document.activeElement?.textContent.trim() ?? "");
}

test("a thread begins in a folder that is no workspace, untrusted, after a look into folders", async () => {
  const below = join(up.env.HOME ?? "", "lab", "pdf");
  mkdirSync(join(below, "bench"), { recursive: true });
  mkdirSync(join(up.env.HOME ?? "", "\u202Egnp"));
  mkdirSync(join(up.env.HOME ?? "", ".dots"));
  await phone.drafts("mend the shop");
  await browses();
  expect(await phone.page.getByRole("button", { name: /^Use it/ }).count()).toBe(0);
  await phone.sees("U+202E right-to-left override");
  expect(await phone.page.getByText(".dots").count()).toBe(0);
  await phone.taps("Show them");
  await phone.sees(".dots");
  expect(await phone.page.getByRole("list", { name: "Folders in it" }).getByRole("listitem").count()).toBe(3);
  await phone.shoots("new-thread-home");
  await phone.taps(/^lab/);
  await phone.taps(/^pdf/);
  await phone.sees(`reachback workspace add ${below}`);
  await phone.sees("bench");
  await phone.shoots("new-thread-browse");
  await phone.fits();
  await phone.taps("Use it, untrusted");
  await isThere(below);
  await phone.sees("Untrusted: its own Codex settings and tools stay off");
  expect(await policy()).toEqual(["when it must", "nothing"]);
  await phone.shoots("new-thread-untrusted");
  await phone.page.reload();
  await isThere(below);
  await phone.taps("Start");
  await phone.page.waitForURL(/\/t\//);
  await phone.sees("You are talking to the real Codex");
  const { thread } = await desk.asks("thread/read", { threadId: threadShown(), includeTurns: false });
  expect(json(thread).cwd).toBe(below);
  expect(await given()).toEqual(["on-request", "readOnly"]);
  // No entry is left in the history of what lay over the page.
  await phone.page.goBack();
  await phone.page.locator("li.thread").waitFor();
});

test("back leads up a folder, and then to the draft; so do a keyboard and a reload", async () => {
  mkdirSync(join(up.env.HOME ?? "", "lab", "pdf"), { recursive: true });
  await phone.drafts("mend the shop");
  const home = await browses();
  await phone.taps(/^lab/);
  await phone.sees(join(home, "lab"));
  await vi.waitUntil(async () => (await focused()) === "lab");
  await phone.page.goBack();
  await phone.sees("No thread works in this folder itself");
  await vi.waitUntil(async () => (await focused()) === "lab");
  await phone.page.goForward();
  await phone.sees("reachback workspace add");
  await phone.taps(/^Back$/);
  await phone.sees("No thread works in this folder itself");
  await phone.page.goBack();
  await phone.page.goBack();
  await phone.page.getByRole("heading", { name: "Workspaces" }).waitFor();
  await vi.waitUntil(async () => (await focused()).startsWith("Another folder"));
  await phone.page.goBack();
  await isThere(up.project);
  expect(await focused()).toMatch(/^Folder/);
  await phone.page.keyboard.press("Enter");
  await phone.page.getByRole("heading", { name: "Workspaces" }).waitFor();
  await browsesOn();
  await phone.page.keyboard.press("Escape");
  await isThere(up.project);
  expect(await focused()).toMatch(/^Folder/);
  await browses();
  await phone.page.reload();
  await isThere(up.project);
  expect(await phone.page.getByRole("textbox", { name: "First message" }).inputValue()).toBe("mend the shop");
  await phone.page.goBack();
  await phone.sees("No threads on");
});

test("a sheet that is opened again while it closes stays open, and back closes it once", async () => {
  await phone.drafts("mend the shop");
  await phone.taps(/^Folder/);
  await phone.page.getByRole("heading", { name: "Workspaces" }).waitFor();
  // As a fast finger or a slow machine has it: between the moment it closes and the browser's word that it did.
  await phone.page.evaluate(
    () =>
      new Promise<void>((resolve) => {
        const sheet = document.querySelector("dialog[open]");
        const folder = [...document.querySelectorAll("button")].find(({ innerText }) => innerText.startsWith("Folder"));
        sheet?.addEventListener("close", () => {
          resolve();
        });
        const closing = new MutationObserver(() => {
          closing.disconnect();
          folder?.click();
        });
        closing.observe(sheet ?? document, { attributeFilter: ["open"] });
        history.back();
      }),
  );
  await phone.page.getByRole("heading", { name: "Workspaces" }).waitFor();
  await phone.page.goBack();
  await isThere(up.project);
  expect(await phone.page.getByRole("textbox", { name: "First message" }).inputValue()).toBe("mend the shop");
});

/** Goes on to the places where one begins, by keyboard. */
async function browsesOn(): Promise<void> {
  for (let key = 0; key < 9 && !(await focused()).startsWith("Another folder"); key += 1) {
    await phone.page.keyboard.press("Tab");
  }
  await phone.page.keyboard.press("Enter");
  await phone.page.getByRole("list", { name: "Folders in it" }).waitFor();
}

test("a folder that vanished says so, while it is looked for and once it was chosen", async () => {
  const lab = join(up.env.HOME ?? "", "lab");
  mkdirSync(lab);
  await phone.drafts("mend the shop");
  await browses();
  await phone.page.getByRole("button", { name: /^lab/ }).waitFor();
  rmdirSync(lab);
  await phone.taps(/^lab/);
  await phone.sees("There is no such folder on this host, or it can't be read. Go back, and choose another one.");
  expect(await phone.page.getByRole("button", { name: /^Use it/ }).count()).toBe(0);
  await phone.shoots("new-thread-vanished");
  mkdirSync(lab);
  await phone.taps("Try again");
  await phone.taps("Use it, untrusted");
  await isThere(lab);
  rmdirSync(lab);
  await phone.taps("Start");
  await phone.sees("Not started.");
  await phone.sees(/Choose another folder/);
  await phone.shoots("new-thread-refused");
  expect(await phone.page.getByRole("textbox", { name: "First message" }).inputValue()).toBe("mend the shop");
});

test("a device that may not approve chooses among workspaces alone", async () => {
  mkdirSync(join(up.env.HOME ?? "", "lab"));
  await phone.drafts("mend the shop");
  await browses();
  await phone.taps(/^lab/);
  await phone.taps("Use it, untrusted");
  await phone.sees("Untrusted: its own");
  await phone.taps("Close, keeps the draft");
  await lowers("steer");
  await phone.sees("It is not open to this device: choose a workspace");
  expect(await phone.page.getByRole("button", { name: "Start" }).isDisabled()).toBe(true);
  await phone.taps(/^Folder/);
  await phone.page.getByRole("heading", { name: "Workspaces" }).waitFor();
  expect(await phone.page.getByRole("button", { name: /^Another folder/ }).count()).toBe(0);
  await phone.taps(up.project);
  await isThere(up.project);
  expect(await phone.page.getByRole("button", { name: "Start" }).isEnabled()).toBe(true);
});

test("a device that may approve no more is back at the workspaces", async () => {
  const id = await phone.deviceId();
  await phone.drafts("mend the shop");
  await browses();
  expect(await up.command("devices", "scope", id, "steer").exited()).toBe(0);
  await phone.page.getByRole("heading", { name: "Workspaces" }).waitFor();
  expect(await phone.page.getByRole("button", { name: /^Another folder/ }).count()).toBe(0);
});

test("a thread is begun with a goal, which is kept with the draft and set once", async () => {
  const goal = phone.page.getByLabel("Goal, optional: Codex goes on until it holds");
  await phone.drafts("@hang");
  await goal.fill("the shop is mended");
  await phone.sees("Draft kept on this device");
  await phone.shoots("new-thread-goal");
  await phone.fits();
  await auditsCode(phone, "new-thread-goal");
  await phone.page.reload();
  await expect.poll(() => goal.inputValue()).toBe("the shop is mended");
  await phone.taps("Start");
  await phone.page.waitForURL(/\/t\//);
  await phone.page.locator(".turnbar", { hasText: "Running · goal: the shop is mended" }).waitFor();
  const { objective, status } = json((await desk.asks("thread/goal/get", { threadId: threadShown() })).goal);
  expect([objective, status]).toEqual(["the shop is mended", "active"]);
  expect(await turns()).toBe(1);
  await phone.page.goBack();
  await phone.page.locator("li.thread").waitFor();
  await phone.taps("New");
  await expect.poll(() => goal.inputValue()).toBe("");
  await phone.page.getByRole("button", { name: /^Folder/ }).tap();
  await phone.sees(/^1 thread/);
  await phone.shoots("folder-threads");
  await phone.fits();
  await auditsCode(phone, "folder-threads");
});
