/** What waits for a person is in the inbox, from all threads; what fits its row is answered there, by the rules of a thread. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, expect, test, vi } from "vitest";
import { json, list, text } from "../../src/json";
import type { Up } from "../real/up";
import { audits } from "./audit";
import type { Desk } from "./desk";
import type { Phone } from "./phone";
import { Stage } from "./stage";

type Locator = ReturnType<Phone["page"]["locator"]>;

let up: Up;
let desk: Desk;
let phone: Phone;
const stage = Stage.ofFile();

beforeEach(async () => {
  phone = await stage.unbox();
  up = await stage.pairs(phone);
  desk = await stage.desk(up);
  await phone.page.goto(`${up.relayUrl}/#/inbox`);
  await phone.sees("Nobody needs you");
});

/** The row in which this stands. */
function row(words: string): Locator {
  return phone.page.locator("main .list > li").filter({ hasText: words });
}

function accept(within: Locator): Locator {
  return within.getByRole("button", { name: /^Accept once/ });
}

/** How many wait, by the tab. */
async function counts(count: number): Promise<void> {
  const name = count === 0 ? /^Inbox$/ : new RegExp(`^Inbox ?, ?${count} ?waiting$`);
  await phone.page.getByRole("link", { name }).waitFor();
}

/** A path in the project. */
function file(name: string): string {
  return join(up.project, name);
}

/** Ends the turn of a thread, which is waiting. */
async function ends(thread: string): Promise<void> {
  const newest = { threadId: thread, limit: 1, sortDirection: "desc", itemsView: "notLoaded" };
  const { data } = await desk.asks("thread/turns/list", newest);
  await desk.asks("turn/interrupt", { threadId: thread, turnId: text(json(list(data)[0]).id) });
}

test("a short command is answered in its row, and the row stays where it is", async () => {
  await audits(phone, "inbox-empty");
  await desk.begins(up.project, "@esc touch yes.txt");
  await accept(row("touch yes.txt")).waitFor();
  await desk.begins(up.project, "@esc touch no.txt");
  await accept(row("touch no.txt")).waitFor();
  await counts(2);
  await phone.sees("2 waiting on 1 host");
  await row("touch yes.txt").locator(".gate", { hasText: "You have seen all of it" }).waitFor();
  await audits(phone, "inbox");
  await phone.shoots("inbox");
  expect(existsSync(file("yes.txt"))).toBe(false);
  await accept(row("touch yes.txt")).tap();
  await phone.page.locator("main .list > li").first().getByText("You accepted once: a command.").waitFor();
  await row("touch no.txt")
    .getByRole("button", { name: /^Decline/ })
    .tap();
  await phone.page.locator("main .list > li").nth(1).getByText("You declined: a command.").waitFor();
  await counts(0);
  await vi.waitUntil(() => existsSync(file("yes.txt")), { timeout: 30_000, interval: 50 });
  expect(existsSync(file("no.txt"))).toBe(false);
  await audits(phone, "inbox-answered");
  await phone.shoots("inbox-answered");
  // Whoever comes back has nothing before them.
  await phone.taps("Hosts");
  await phone.taps("Inbox");
  await phone.sees("Nothing waits on 1 host");
  await phone.page.getByRole("list", { name: "Finished, not read yet" }).waitFor();
  expect(await phone.page.getByRole("list", { name: "Waiting for you" }).count()).toBe(0);
});

test("nothing of it is granted for longer, or stopped, in a row", async () => {
  await desk.begins(up.project, "@esc touch yes.txt");
  await row("touch yes.txt").locator(".gate", { hasText: "You have seen all of it" }).waitFor();
  expect(await phone.page.locator("main").getByRole("button").allInnerTexts()).toEqual([
    expect.stringContaining("Decline"),
    expect.stringContaining("Accept once"),
  ]);
});

test("what does not fit a row is answered in its thread, to which the row leads", async () => {
  const long = await desk.begins(up.project, `@esc ${"true; ".repeat(100)}touch long.txt`);
  await row("true; true").or(row("run a command")).first().waitFor();
  await desk.begins(up.project, "@esc touch hid\u200bden.txt");
  await phone.sees("1 hidden or misleading character");
  await desk.begins(up.project, "@esc touch short.txt");
  await accept(row("touch short.txt")).waitFor();
  expect(await accept(phone.page.locator("main")).count()).toBe(1);
  // axe-core takes the dock for the ground of what is half behind it.
  await accept(phone.page.locator("main")).scrollIntoViewIfNeeded();
  await row("touch short.txt").locator(".gate", { hasText: "You have seen all of it" }).waitFor();
  await audits(phone, "inbox-long");
  await phone.shoots("inbox-long");
  await phone.page.locator("main a.row").first().tap();
  await phone.sees("Run this command?");
  expect(phone.page.url()).toContain(long);
  await phone.page.getByRole("link", { name: "Inbox, 2 others waiting" }).waitFor();
  await phone.page.locator(".gate", { hasText: "You have seen all of it" }).waitFor();
  await audits(phone, "inbox-from-thread");
  await phone.shoots("inbox-from-thread");
  await phone.page.getByRole("link", { name: "Inbox, 2 others waiting" }).tap();
  await counts(3);
});

test("a command that takes more lines than a row has is answered where it takes fewer", async () => {
  await desk.begins(up.project, `@esc touch ${"a".repeat(170)}.txt`);
  await phone.page.locator("main a.row").waitFor();
  await desk.begins(up.project, "@esc touch short.txt");
  await accept(row("touch short.txt")).waitFor();
  const buttons = accept(phone.page.locator("main"));
  expect(await buttons.count()).toBe(1);
  await phone.page.setViewportSize({ width: 844, height: 390 });
  await vi.waitFor(async () => {
    expect(await buttons.count()).toBe(2);
  });
  await phone.page.setViewportSize({ width: 390, height: 844 });
  await vi.waitFor(async () => {
    expect(await buttons.count()).toBe(1);
  });
});

test("a row that was not on the screen can't be accepted", async () => {
  for (const name of ["one", "two", "three", "four"]) {
    await desk.begins(up.project, `@esc touch ${name}.txt`);
    await accept(row(`touch ${name}.txt`)).waitFor({ state: "attached" });
  }
  const last = row("touch four.txt");
  await row("touch one.txt").locator(".gate", { hasText: "You have seen all of it" }).waitFor();
  expect(await accept(last).getAttribute("aria-disabled")).toBe("true");
  await accept(last).dispatchEvent("click");
  await last.scrollIntoViewIfNeeded();
  await last.locator(".gate", { hasText: "You have seen all of it" }).waitFor();
  expect(existsSync(file("four.txt"))).toBe(false);
  await accept(last).tap();
  await vi.waitUntil(() => existsSync(file("four.txt")), { timeout: 30_000, interval: 50 });
});

test("what ends elsewhere says so in its row; what waits is known again after the network was lost", async () => {
  const thread = await desk.begins(up.project, "@esc touch gone.txt");
  await accept(row("touch gone.txt")).waitFor();
  await ends(thread);
  await phone.sees(/^No longer asked: a command\./);
  await counts(0);
  await phone.page.context().setOffline(true);
  await phone.sees("What waits there may be something else by now.");
  await audits(phone, "inbox-offline");
  await phone.shoots("inbox-offline");
  await desk.begins(up.project, "@esc touch late.txt");
  await phone.page.context().setOffline(false);
  await accept(row("touch late.txt")).waitFor();
  await counts(1);
});

test("a device that only watches sees what waits, and answers nothing", async () => {
  await phone.taps("Hosts");
  await phone.page.locator("main a.row").tap();
  const id = await phone.deviceId();
  expect(await up.command("devices", "scope", id, "view").exited()).toBe(0);
  await phone.taps("Back to hosts");
  await phone.page.locator(".tag", { hasText: "view" }).waitFor();
  await desk.begins(up.project, "@esc touch looked-at.txt");
  await counts(1);
  await phone.taps(/^Inbox/);
  await phone.sees("Codex asks to run a command, 1 line");
  expect(await phone.page.locator("main").getByRole("button").count()).toBe(0);
});

/** The row of a thread that has ended. */
function ended(words: string): Locator {
  return phone.page.getByRole("list", { name: "Finished, not read yet" }).locator("li").filter({ hasText: words });
}

test("what has ended is there until it was read, the newest first, and nothing of it moves", async () => {
  await desk.finishes(up.project, "@say the first answer");
  await ended("first answer").getByText("unread").waitFor();
  await desk.finishes(up.project, "@say the second answer");
  await ended("second answer").waitFor();
  await desk.begins(up.project, "@wait");
  await phone.sees("1 thread is running.");
  await phone.sees("Nothing waits on 1 host");
  const titles = (): Promise<readonly string[]> => phone.page.locator("main .row__title").allInnerTexts();
  expect(await titles()).toEqual(["@say the first answer", "@say the second answer"]);
  await audits(phone, "inbox-finished");
  await phone.shoots("inbox-finished");
  await phone.taps("Hosts");
  await phone.taps("Inbox");
  await ended("first answer").waitFor();
  expect(await titles()).toEqual(["@say the second answer", "@say the first answer"]);
  // Read to its end it is read, for each device; what was not opened is not.
  await ended("first answer").locator("a").tap();
  await phone.page.locator(".say", { hasText: "the first answer" }).waitFor();
  await vi.waitUntil(async () => !(await unread()).includes("@say the first answer"), {
    timeout: 30_000,
    interval: 50,
  });
  await phone.taps("Back to threads");
  await phone.taps("Back to hosts");
  await phone.taps("Inbox");
  await ended("second answer").waitFor();
  expect(await titles()).toEqual(["@say the second answer"]);
  expect(await unread()).toContain("@say the second answer");
  await desk.lets(up.project);
});

/** What Codex has as unread. */
async function unread(): Promise<readonly string[]> {
  const { data, readStates } = await desk.asks("thread/list", { limit: 50 });
  return list(data)
    .map(json)
    .filter(({ id }) => json(json(readStates)[text(id)]).firstUnread != null)
    .map(({ preview }) => text(preview));
}

test("requests of two hosts are in one list, and of one that is out of reach it is said", async () => {
  const atlas = await stage.pairsToo(phone, up, "atlas");
  const other = await stage.desk(atlas);
  await phone.page.goto(`${up.relayUrl}/#/inbox`);
  await phone.sees("Nothing waits on 2 hosts");
  await desk.begins(up.project, "@esc touch here.txt");
  await accept(row("touch here.txt")).waitFor();
  await other.begins(atlas.project, "@esc touch there.txt");
  await accept(row("touch there.txt")).waitFor();
  await phone.sees("2 waiting on 2 hosts");
  await row("touch there.txt").getByText("atlas").first().waitFor();
  await audits(phone, "inbox-two");
  await phone.shoots("inbox-two");
  await other.leaves();
  await atlas.vanishes();
  await phone.sees(/atlas unreachable since \d\d:\d\d/);
  // What waits there stays to be read, and is not accepted; the other host is as before.
  await row("touch there.txt").getByText("Accept needs the link to the host.").waitFor();
  await accept(row("touch there.txt")).dispatchEvent("click");
  await audits(phone, "inbox-unreachable");
  await phone.shoots("inbox-unreachable");
  const here = row("touch here.txt");
  await here.locator(".gate", { hasText: "You have seen all of it" }).waitFor();
  await accept(here).tap();
  await vi.waitUntil(() => existsSync(file("here.txt")), { timeout: 30_000, interval: 50 });
  // Its Codex ended with it: what waited there does not any more.
  await atlas.comesBack();
  await row("touch there.txt").getByText("No longer asked").waitFor();
  await counts(0);
  await phone.sees("Nothing waits on 2 hosts");
  expect(existsSync(join(atlas.project, "there.txt"))).toBe(false);
});
