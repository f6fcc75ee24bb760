/** A thread is begun from a phone: the real Codex runs it, once. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Browser } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { type Json, isJson, json, list } from "../../src/json";
import { Up } from "../real/up";
import { Desk } from "./desk";
import { Leftovers } from "./leftovers";
import { Phone, startChromium } from "./phone";

let browser: Browser;
let up: Up;
let desk: Desk;
let phone: Phone;
/** Whether what the phone sends is lost on the way. */
let mute = false;
const leftovers = new Leftovers();

beforeAll(async () => {
  browser = await startChromium();
});

afterAll(async () => {
  await browser.close();
});

beforeEach(async () => {
  up = await Up.start();
  leftovers.add(async () => {
    expect(await up.stop()).toBe(0);
  });
  phone = await Phone.unbox(browser);
  leftovers.add(async () => {
    expect(await phone.close()).toEqual([]);
  });
  mute = false;
  await phone.page.routeWebSocket(/.*/, (socket) => {
    const relay = socket.connectToServer();
    socket.onMessage((message) => {
      if (!mute) {
        relay.send(message);
      }
    });
  });
  await phone.opens(up.pairingUrl);
  await phone.sees("Paired with");
  desk = await Desk.at(up);
  leftovers.add(() => desk.leaves());
  await phone.taps(/^Open/);
  await phone.sees("No threads on");
});

afterEach(() => leftovers.putAway());

/** Opens the page, and writes. */
async function writes(prompt: string): Promise<void> {
  await phone.taps("New");
  await phone.page.getByLabel("Workspace").waitFor();
  await phone.page.getByRole("textbox").fill(prompt);
  await phone.sees("Draft kept on this device");
}

/** The id of the thread on the screen. */
function threadShown(): string {
  return new URL(phone.page.url()).hash.split("/").at(-1) ?? "";
}

/** How many turns the only thread has that Codex knows. */
async function turns(): Promise<number> {
  expect(await desk.titles()).toHaveLength(1);
  const { thread } = await desk.asks("thread/read", { threadId: threadShown(), includeTurns: true });
  return list(json(thread).turns).length;
}

/** What is kept in the phone's browser for the thread that is begun. */
async function kept(): Promise<Json> {
  const read = (): Promise<unknown> =>
    new Promise((resolve) => {
      const open = indexedDB.open("reachback");
      open.onsuccess = () => {
        const all = open.result.transaction("starts").objectStore("starts").getAll();
        all.onsuccess = () => {
          open.result.close();
          resolve(all.result);
        };
      };
    });
  return json(list(await phone.page.evaluate(read))[0]);
}

/** Waits until the prompt is written down, or is through already; `handed`: and may be on its way. */
async function isKept(handed: boolean): Promise<void> {
  const isThere = async (): Promise<boolean> => {
    const { text, sent } = await kept();
    return text === "" || (isJson(sent) && (!handed || sent.journal !== null));
  };
  await vi.waitUntil(isThere, { timeout: 30_000, interval: 5 });
}

test("a new thread in a workspace streams its answer", async () => {
  await writes("@text N=60 ms=50 size=4");
  const options = phone.page.getByLabel("Workspace").locator("option");
  expect(await options.count()).toBe(1);
  expect(await options.textContent()).toMatch(/^\/tmp\/reac….*\/reachback-project$/);
  await phone.sees(up.project);
  await phone.page.getByLabel("Model").locator("option").nth(1).waitFor({ state: "attached" });
  await phone.page.getByLabel("Model").selectOption({ index: 1 });
  await phone.shoots("new-thread");
  await phone.taps("Start");
  await phone.page.waitForURL(/\/t\//);
  await phone.page.locator(".say[aria-busy=true]").waitFor();
  await phone.page.locator(".say[aria-busy=false]").waitFor();
  expect(await turns()).toBe(1);
  await phone.page.goBack();
  await phone.page.locator("li.thread").waitFor();
  await phone.taps("New");
  expect(await phone.page.getByRole("textbox").inputValue()).toBe("");
});

test("a prompt that did not get through is held, and sent once after a reload", async () => {
  await writes("mend the shop");
  mute = true;
  await phone.taps("Start");
  await phone.sees(/Sending|Held on this device/);
  await phone.shoots("new-thread-held");
  await isKept(false);
  expect(await desk.titles()).toEqual([]);
  mute = false;
  await phone.page.reload();
  await phone.page.waitForURL(/\/t\//);
  await phone.sees("You are talking to the real Codex");
  expect(await turns()).toBe(1);
});

test.each([false, true])("a reload while it is being sent sends it once; handed to the link: %s", async (handed) => {
  await writes("mend the shop");
  await phone.taps("Start");
  await isKept(handed);
  await phone.page.reload();
  await phone.page.waitForURL(/\/t\//);
  await phone.sees("You are talking to the real Codex");
  expect(await turns()).toBe(1);
});

test("a draft survives a reload and leaving the page; Enter is a new line, Ctrl and Enter sends", async () => {
  await writes("mend");
  const field = phone.page.getByRole("textbox");
  await field.press("End");
  await field.press("Enter");
  await field.pressSequentially("the shop");
  await phone.sees("Draft kept on this device");
  await phone.page.reload();
  await phone.page.getByLabel("Workspace").waitFor();
  expect(await field.inputValue()).toBe("mend\nthe shop");
  await phone.taps("Close, keeps the draft");
  await phone.sees("No threads on");
  await phone.taps("New");
  await phone.page.getByLabel("Workspace").waitFor();
  expect(await field.inputValue()).toBe("mend\nthe shop");
  await field.press("Control+Enter");
  await phone.page.waitForURL(/\/t\//);
  await phone.sees("You are talking to the real Codex");
});

test("a folder that is opened shows up, and one that is open no more is said at once", async () => {
  const site = join(up.env.HOME ?? "", "site");
  mkdirSync(site);
  await writes("mend the shop");
  expect(await up.command("workspace", "add", site).exited()).toBe(0);
  const folder = phone.page.getByLabel("Workspace");
  const option = folder.getByTitle(site, { exact: true });
  await option.waitFor({ state: "attached" });
  await folder.selectOption(await option.getAttribute("value"));
  await phone.sees("Draft kept on this device");
  expect(await up.command("workspace", "remove", site).exited()).toBe(0);
  await phone.sees("is not open to devices any more");
  expect(await phone.page.getByRole("button", { name: "Start" }).isDisabled()).toBe(true);
});

test("a device that may only look has no way there", async () => {
  await phone.taps("About this host");
  const id = (await phone.page.locator("dd code").nth(1).textContent()) ?? "";
  await phone.taps("Back to threads");
  await phone.taps("New");
  await phone.page.getByLabel("Workspace").waitFor();
  expect(await up.command("devices", "scope", id, "view").exited()).toBe(0);
  await phone.sees("No threads on");
  expect(await phone.page.getByRole("link", { name: "New" }).count()).toBe(0);
  await phone.page.reload();
  await phone.sees("No threads on");
  expect(phone.page.url()).toMatch(/\/new$/);
});
