/** Where there is room, the list of threads stands beside one of them, and a keyboard goes through both. */
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, expect, test, vi } from "vitest";
import type { Up } from "../real/up";
import { auditsWide } from "./audit";
import type { Desk } from "./desk";
import type { Phone } from "./phone";
import { Stage } from "./stage";

type Locator = ReturnType<Phone["page"]["locator"]>;

const SCREEN = { width: 1_280, height: 800 };

let up: Up;
let desk: Desk;
let phone: Phone;
const stage = Stage.ofFile();

beforeEach(async () => {
  phone = await stage.unbox();
  up = await stage.pairs(phone);
  desk = await stage.desk(up);
  await desk.finishes(up.project, "@say the first answer");
  await desk.finishes(up.project, "@say the second answer");
  await phone.page.setViewportSize(SCREEN);
  await phone.taps(/^Open/);
  await row("first").waitFor();
  await row("second").waitFor();
});

function row(title: string): Locator {
  return phone.page.locator("a.row").filter({ hasText: title });
}

function said(text: string): Locator {
  return phone.page.locator("main .say").getByText(text);
}

function field(): Locator {
  return phone.page.getByLabel("Message to Codex");
}

function search(): Locator {
  return phone.page.getByRole("searchbox", { name: "Search threads" });
}

/** Waits until this has the focus. */
async function has(focused: Locator): Promise<void> {
  await vi.waitUntil(() => focused.evaluate((element) => element === document.activeElement), { timeout: 10_000 });
}

async function presses(...keys: readonly string[]): Promise<void> {
  for (const key of keys) {
    await phone.page.keyboard.press(key);
  }
}

test("a thread opens beside the list, which stays, and is the page's own", async () => {
  await phone.sees("No thread is open");
  await auditsWide(phone, "wide-none");
  await row("first").click();
  await said("the first answer").waitFor();
  expect(await row("first").getAttribute("aria-current")).toBe("page");
  expect(await row("second").getAttribute("aria-current")).toBeNull();
  expect(await phone.page.locator("main, h1").count()).toBe(2);
  expect(await phone.page.title()).toContain("first answer");
  await auditsWide(phone, "wide-thread");
  const [list, thread] = await Promise.all([
    phone.page.getByRole("complementary", { name: "Threads" }).boundingBox(),
    phone.page.locator("main").boundingBox(),
  ]);
  expect(list !== null && thread !== null && list.x + list.width <= thread.x && list.width < 360).toBe(true);
  // What happens in another thread is in the list.
  const other = phone.page.locator("li.thread").filter({ hasText: "@hang" });
  await desk.begins(up.project, "@hang");
  await other.getByText("Running").waitFor();
  // A window that becomes narrow has the thread alone, as it was, and one that becomes wide again both.
  await field().fill("not sent yet");
  await phone.page.setViewportSize({ width: 600, height: 800 });
  await row("first").waitFor({ state: "detached" });
  expect(await field().inputValue()).toBe("not sent yet");
  await phone.taps("Back to threads");
  await row("first").waitFor();
  expect(await phone.page.locator("main").count()).toBe(1);
  await phone.page.setViewportSize(SCREEN);
  await phone.sees("No thread is open");
  // Beginning one is beside the list, too.
  await phone.taps("New");
  await phone.page.getByRole("button", { name: /^Folder/ }).waitFor();
  await row("first").waitFor();
  await auditsWide(phone, "wide-new");
});

test("a keyboard goes through the list, into a thread and back, and letters are letters where somebody writes", async () => {
  await presses("Control+k");
  await has(search());
  const rows = phone.page.locator("a.row");
  await presses("ArrowDown");
  await has(rows.nth(0));
  await presses("ArrowDown", "ArrowDown", "ArrowDown");
  await has(rows.nth(1));
  await presses("ArrowUp", "Enter");
  await has(phone.page.locator("main"));
  const titles = await rows.locator(".row__title").allInnerTexts();
  const answers = titles.map((title) => title.replace("@say ", ""));
  await said(answers[0] ?? "").waitFor();
  await presses("Escape");
  await has(rows.nth(0));
  await presses("j");
  await said(answers[1] ?? "").waitFor();
  await has(rows.nth(1));
  await presses("k");
  await said(answers[0] ?? "").waitFor();
  // Of one letter they are heard in the list alone.
  await field().focus();
  await phone.page.keyboard.type("jkc/");
  expect(await field().inputValue()).toBe("jkc/");
  await said(answers[0] ?? "").waitFor();
  await phone.page.locator("main").focus();
  await presses("j", "c", "/");
  await has(phone.page.locator("main"));
  await presses("Escape", "/");
  await has(search());
  await phone.page.keyboard.type("second");
  await row("first").waitFor({ state: "detached" });
  // Once it empties the search, and then it leads to the list.
  await presses("Escape");
  await row("first").waitFor();
  expect(await search().inputValue()).toBe("");
  await presses("Escape", "c");
  await phone.page.getByRole("button", { name: /^Folder/ }).waitFor();
  // On a phone with a keyboard they are nothing.
  await phone.page.setViewportSize({ width: 600, height: 800 });
  await phone.taps("Close");
  await row("first").focus();
  await presses("c", "j");
  await has(row("first"));
});

/** What becomes of a file of three lines. */
const PATCH = `apply_patch <<'EOF'
*** Begin Patch
*** Update File: shop.ts
@@
 one
-two
+2
+two and a half
 three
*** End Patch
EOF`;

test("a file is before and after beside each other where there is room", async () => {
  writeFileSync(join(up.project, "shop.ts"), "one\ntwo\nthree\n");
  await desk.begins(up.project, `@shell ${PATCH}`);
  await row("apply_patch").click();
  const change = phone.page.locator("details.item").filter({ hasText: "Changed" });
  await change.locator("summary").first().click();
  const rows = (): Promise<readonly string[]> =>
    change
      .locator("tr:not(.hunk)")
      .evaluateAll((all) =>
        all.map((row) => [...row.querySelectorAll("td")].map(({ textContent }) => textContent).join("|")),
      );
  await change.locator(".diff--split").waitFor();
  expect(await rows()).toEqual(["1||one|1||one", "2|−|two|2|+|2", "|||3|+|two and a half", "3||three|4||three"]);
  await auditsWide(phone, "wide-changes");
  await phone.page.setViewportSize({ width: 600, height: 800 });
  await change.locator(".diff--aside").waitFor();
  expect(await rows()).toEqual(["1||one", "2|−|two", "2|+|2", "3|+|two and a half", "4||three"]);
});

/** The screen in the list's place. */
function aside(name: string): Locator {
  return phone.page.getByRole("complementary", { name, exact: true });
}

test("G and a letter lead to inbox, threads and hosts, and hosts and settings open beside the thread", async () => {
  await row("first").click();
  await said("the first answer").waitFor();
  await field().fill("not sent yet");
  const kept = await field().elementHandle();
  await phone.page.locator("main").focus();
  await presses("g", "h");
  await has(aside("Hosts"));
  await said("the first answer").waitFor();
  expect(await phone.page.locator("main, h1").count()).toBe(2);
  expect(await phone.page.title()).toContain("first answer");
  await auditsWide(phone, "wide-hosts");
  await phone.page.setViewportSize(SCREEN);
  // The thread is the same one all the while.
  expect(await kept.evaluate((element) => element.isConnected)).toBe(true);
  await phone.page.getByRole("link", { name: "Settings" }).click();
  await aside("Settings").waitFor();
  await said("the first answer").waitFor();
  await auditsWide(phone, "wide-settings");
  await phone.page.setViewportSize(SCREEN);
  // A choice of the theme's takes no letters.
  await phone.page.getByRole("radio", { name: "Dark" }).focus();
  await presses("g", "t");
  await has(aside("Threads"));
  expect(await row("first").getAttribute("aria-current")).toBe("page");
  expect(await kept.evaluate((element) => element.isConnected)).toBe(true);
  await presses("G", "I");
  await has(phone.page.locator("main"));
  await phone.sees("Nothing waits on 1 host");
  await presses("g", "t");
  await said("the first answer").waitFor();
  expect(await field().inputValue()).toBe("not sent yet");
  // A window that becomes narrow has what was opened last alone.
  await presses("g", "h");
  await has(aside("Hosts"));
  await phone.page.setViewportSize({ width: 600, height: 800 });
  await phone.page.getByRole("heading", { name: "Hosts" }).waitFor();
  expect(await phone.page.locator("main").count()).toBe(1);
  await phone.page.locator("main").focus();
  await presses("g", "i");
  expect(phone.page.url()).toMatch(/#\/$/);
});

test("letters lead nowhere where somebody writes, or while something lies over the screen, and accept nothing", async () => {
  await row("first").click();
  await said("the first answer").waitFor();
  const at = phone.page.url();
  await field().focus();
  await presses("g", "i", "[", "]");
  expect(await field().inputValue()).toBe("gi[]");
  // One that began before somebody wrote.
  await phone.page.locator("main").focus();
  await presses("g");
  await field().focus();
  await presses("x");
  await phone.page.locator("main").focus();
  await presses("i");
  await phone.page.getByRole("button", { name: "Thread menu" }).click();
  await phone.page.locator("dialog[open]").waitFor();
  await presses("g", "h");
  expect(await phone.page.locator("dialog[open]").count()).toBe(1);
  await presses("Escape");
  await phone.page.locator("dialog[open]").waitFor({ state: "detached" });
  expect(phone.page.url()).toBe(at);
  // A request that was read is accepted by its button alone.
  await desk.begins(up.project, "@esc touch yes.txt");
  await row("touch yes.txt").click();
  await phone.page.locator(".gate", { hasText: "You have seen all of it" }).waitFor();
  await phone.page.locator("main").focus();
  const open = phone.page.url();
  const letters = "abcdefhijklmnopqrstuvwxyz0123456789[]".split("");
  await presses(...letters, ...letters.map((letter) => letter.toUpperCase()), "Enter", "Control+Enter", "Space");
  expect(phone.page.url()).toBe(open);
  await phone.page.locator(".gate", { hasText: "You have seen all of it" }).waitFor();
  expect(existsSync(join(up.project, "yes.txt"))).toBe(false);
  await phone.page.getByRole("button", { name: "Accept once" }).focus();
  await presses("Control+Enter");
  await phone.sees("You accepted once");
  await vi.waitUntil(() => existsSync(join(up.project, "yes.txt")), { timeout: 30_000, interval: 50 });
});

/** A file with this in it, to a patch. */
function adds(...names: readonly string[]): string {
  const files = names.map((name) => `*** Add File: ${name}\n+${name}`);
  return `@shell apply_patch <<'EOF'\n*** Begin Patch\n${files.join("\n")}\n*** End Patch\nEOF`;
}

test("brackets lead from file to file, through rows that are closed, and open each", async () => {
  const thread = await desk.finishes(up.project, adds("one.txt", "two.txt"));
  await desk.prompts(thread, adds("three.txt"));
  await row("apply_patch").click();
  await phone.page.locator(".item--files").nth(1).waitFor();
  await phone.sees(/^Idle/);
  const head = (name: string): Locator => phone.page.locator(".file > .fhead").filter({ hasText: name });
  await phone.page.locator("main").focus();
  await phone.page.locator("main").evaluate((main) => (main.scrollTop = 0));
  for (const name of ["one.txt", "two.txt", "three.txt", "three.txt"]) {
    await presses("]");
    await has(head(name));
    await phone.page.locator(".file[open] > .fhead").filter({ hasText: name }).waitFor();
  }
  for (const name of ["two.txt", "one.txt", "one.txt"]) {
    await presses("[");
    await has(head(name));
  }
  // Of the list they are nothing.
  await row("first").focus();
  await presses("]");
  await has(row("first"));
});

test("brackets lead to files that are too far to be in the page", async () => {
  const thread = await desk.finishes(up.project, adds("one.txt"));
  // Of four letters each; all of it is in the first page that is read.
  for (const pieces of [2_100, 2_900]) {
    await desk.prompts(thread, `@text N=${pieces} ms=0`);
    await vi.waitUntil(async () => (await desk.said(thread)).length > 3.9 * pieces, { timeout: 30_000, interval: 50 });
  }
  await desk.prompts(thread, adds("two.txt"));
  await row("apply_patch").click();
  await phone.page.locator(".item--files").last().waitFor();
  await phone.sees(/^Idle/);
  const away = phone.page.locator("[data-away=files]");
  const head = (name: string): Locator => phone.page.locator(".file > .fhead").filter({ hasText: name });
  await away.waitFor();
  expect(await phone.page.locator(".item--files").count()).toBe(1);
  await phone.page.locator("main").focus();
  await presses("[");
  await has(head("one.txt"));
  await presses("]");
  await has(head("two.txt"));
});
