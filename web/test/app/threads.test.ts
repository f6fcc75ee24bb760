/** The threads of a host on a phone, while somebody works at another device. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { named } from "../../src/views/named";
import { CODEX } from "../real/homes";
import type { Up } from "../real/up";
import type { Desk } from "./desk";
import type { Phone } from "./phone";
import { writeThreads } from "./recordings";
import { Stage } from "./stage";

let up: Up;
let desk: Desk;
let phone: Phone;
const stage = Stage.ofFile();

/** Has a phone paired with a host, and somebody at another device of it. */
async function sets(prepare?: Parameters<Stage["pairs"]>[1]): Promise<void> {
  phone = await stage.unbox();
  up = await stage.pairs(phone, prepare);
  desk = await stage.desk(up);
}

/** The row of the thread with this title. */
function row(title: string): ReturnType<Phone["page"]["locator"]> {
  return phone.page.locator("li.thread").filter({ hasText: title });
}

/** Touches this button of the menu. */
async function chooses(name: string): Promise<void> {
  await phone.page.getByRole("dialog").getByRole("button", { name, exact: true }).tap();
}

describe("a host with a few threads", () => {
  beforeEach(async () => {
    await sets();
  });

  test("shows them by folder, and one that runs is done without a reload", async () => {
    await phone.goesOn();
    await phone.shoots("threads-empty");
    const site = join(up.env.HOME ?? "", "site");
    mkdirSync(site);
    await desk.begins(up.project, "mend the shop");
    await row("mend the shop").waitFor();
    await desk.begins(site, "@hang");
    await row("@hang").getByText("Running").waitFor();
    await phone.sees(/^site$/);
    await desk.begins(up.project, "@wait");
    await row("@wait").getByText("Running").waitFor();
    await phone.shoots("threads");
    await desk.lets(up.project);
    await row("@wait").getByText("Done").waitFor();
    await row("mend the shop").getByText("Done").waitFor();
    await desk.begins(up.project, "@fail 400");
    await row("@fail").getByText("Failed").waitFor();
    await phone.taps(/^running/i);
    await row("@hang").waitFor();
    expect(await phone.page.locator("li.thread").count()).toBe(1);
  });

  test("a search shows what has it in its title, and nothing else", async () => {
    await desk.finishes(up.project, "mend the shop");
    await desk.finishes(up.project, "paint the fence");
    await phone.taps(/^Open/);
    await row("paint the fence").waitFor();
    await phone.page.getByRole("searchbox").fill("SHOP");
    await row("paint the fence").waitFor({ state: "detached" });
    await row("mend the shop").waitFor();
    await phone.sees("Searched on the host");
    await phone.shoots("threads-search");
    await phone.page.getByRole("searchbox").fill("nothing like it");
    await phone.sees("No thread has that in its title");
    await phone.page.getByRole("searchbox").fill("");
    await row("paint the fence").waitFor();
  });

  test("a thread is renamed, forked, archived, brought back and taken out of the archive", async () => {
    await desk.finishes(up.project, "mend the shop");
    await phone.taps(/^Open/);
    await row("mend the shop").getByText("Done").waitFor();
    await phone.taps(`Menu of ${named("mend the shop")}`);
    await phone.shoots("thread-menu");
    await chooses("Rename");
    await phone.page.getByRole("textbox", { name: "Name" }).fill("The <b>shop</b>");
    await chooses("Rename");
    await row("The <b>shop</b>").waitFor();
    expect(await desk.titles()).toEqual(["The <b>shop</b>"]);
    await phone.taps(/^Menu of .The/);
    await chooses("Archive");
    await row("Archived").waitFor();
    await phone.shoots("thread-undo");
    await phone.taps("Undo");
    await row("The <b>shop</b>").getByText("Done").waitFor();
    expect(await desk.titles()).toHaveLength(1);
    await phone.taps(/^Menu of .The/);
    await chooses("Archive");
    await phone.sees("No threads on");
    await phone.taps("Archived");
    await phone.taps(/^Menu of .The/);
    await chooses("Unarchive");
    await phone.sees("Nothing is archived on");
    await phone.page.getByRole("button", { name: "All", exact: true }).tap();
    await phone.taps(/^Menu of .The/);
    await chooses("Fork");
    await phone.sees("mend the shop");
    await phone.page.waitForURL(/\/t\//);
    await phone.taps("Back to threads");
    expect(await desk.titles()).toHaveLength(2);
  });

  test("a thread shows its text as it comes, and is whole after a reload", async () => {
    const thread = await desk.finishes(up.project, "mend the \u202Eshop");
    await phone.taps(/^Open/);
    await row("mend the").tap();
    await phone.sees("You are talking to the real Codex");
    await phone.sees("U+202E right-to-left override");
    expect(phone.page.url()).toMatch(new RegExp(`/t/${thread}$`));
    await phone.shoots("thread");
    const said = phone.page.locator(".say");
    await desk.prompts(thread, "@wait");
    await phone.sees("Running");
    await phone.page.locator(".say[aria-busy=true]").waitFor();
    expect(await said.count()).toBe(2);
    await phone.shoots("thread-live");
    await desk.lets(up.project);
    await phone.sees("Idle");
    const whole = await said.allTextContents();
    await phone.page.reload();
    await phone.sees("You are talking to the real Codex");
    expect(await said.allTextContents()).toEqual(whole);
    await desk.prompts(thread, "@esc echo <i>out</i>");
    await phone.page.locator("details.item code", { hasText: "echo <i>out</i>" }).waitFor();
  });

  test.each([
    ["comes without the text that was heard, and has it", 0],
    ["whose length is another one has the thread read again, and has its text", 1],
  ])("an item that is complete %s, also after a reload", async (_, more) => {
    // What the host says is no text before the page has read it.
    await phone.page.addInitScript((more: number) => {
      const { parse } = JSON;
      const omits: unknown[] = [];
      Reflect.set(globalThis, "omits", omits);
      JSON.parse = (text: string) => {
        const value: unknown = parse(text);
        const omitted: unknown = value instanceof Object ? Reflect.get(value, "omitted") : undefined;
        if (omitted instanceof Object) {
          const bytes = Number(Reflect.get(omitted, "bytes"));
          omits.push(bytes);
          Reflect.set(omitted, "bytes", bytes + more);
        }
        return value;
      };
    }, more);
    const thread = await desk.finishes(up.project, "mend the shop");
    await phone.taps(/^Open/);
    await row("mend the shop").tap();
    const said = phone.page.locator(".say");
    await said.waitFor();
    await phone.page.reload();
    await said.filter({ hasText: "You are talking to the real Codex" }).waitFor();
    await desk.prompts(thread, "@text N=300 ms=5");
    await phone.page.locator(".say[aria-busy=true]").waitFor();
    await phone.page.locator(".say[aria-busy=false]").nth(1).waitFor();
    await phone.sees("Idle");
    const whole = await desk.said(thread);
    expect(whole.length).toBeGreaterThan(1_000);
    await expect.poll(async () => (await said.nth(1).locator("p").allTextContents()).join("")).toBe(whole.trim());
    const omits = await phone.page.evaluate((): unknown => Reflect.get(globalThis, "omits"));
    expect(omits).toEqual([whole.length]);
    await phone.page.reload();
    await phone.sees("You are talking to the real Codex");
    expect((await said.nth(1).locator("p").allTextContents()).join("")).toBe(whole.trim());
  });

  test("who opens a thread in mid-turn has its text from the beginning, and each of its items once", async () => {
    const thread = await desk.begins(up.project, "@wait");
    await phone.taps(/^Open/);
    await row("@wait").getByText("Running").waitFor();
    await row("@wait").tap();
    await phone.page.locator(".say[aria-busy=true]", { hasText: "Waiting for the word." }).waitFor();
    await desk.lets(up.project);
    await phone.page.locator(".say[aria-busy=false]", { hasText: "There it is." }).waitFor();
    expect(await phone.page.locator(".me").count()).toBe(1);
    const [said = ""] = await phone.page.locator(".say p").allTextContents();
    await phone.page.reload();
    await phone.page.locator(".say[aria-busy=false]").waitFor();
    expect(await phone.page.locator(".say p").allTextContents()).toEqual([said]);
    expect(thread).not.toBe("");
  });

  test("a device that may only look has no menu, and follows all the same", async () => {
    const thread = await desk.finishes(up.project, "mend the shop");
    await phone.taps(/^Open/);
    await row("mend the shop").waitFor();
    expect(await up.command("devices", "scope", await phone.deviceId(), "view").exited()).toBe(0);
    await row("mend the shop").waitFor();
    await phone.page.getByRole("button", { name: /^Menu of/ }).waitFor({ state: "detached" });
    await row("mend the shop").tap();
    await phone.sees("You are talking to the real Codex");
    expect(await phone.page.getByRole("button", { name: "Thread menu" }).count()).toBe(0);
    await desk.prompts(thread, "@wait");
    await phone.page.locator(".say[aria-busy=true]").waitFor();
  });
});

test("five hundred threads come as one scrolls, each once and in order", async () => {
  await sets((env) => {
    const home = env.REACHBACK_HOME ?? "";
    writeThreads(join(home, "demo", "codex-home"), `${home}-project`, 500);
  });
  await phone.taps(/^Open/);
  await row("thread 499 of many").waitFor();
  expect(await phone.page.locator("li.thread").count()).toBe(10);
  await phone.taps("Show older");
  const last = phone.page.locator("li.thread").last();
  while ((await row("thread 0 of many").count()) === 0) {
    await last.scrollIntoViewIfNeeded();
    await phone.page.mouse.wheel(0, 2_000);
  }
  const titles = await phone.page.locator(".row__title").allTextContents();
  expect(titles).toEqual(Array.from({ length: 500 }, (_, index) => `thread ${499 - index} of many`));
});

test("a Codex that does not start is said with what helps, until it does", async () => {
  const broken = "the ghost is out";
  let flag = "";
  phone = await stage.unbox();
  up = await stage.pairs(phone, (env) => {
    flag = join(env.HOME ?? "", "mended");
    const program = join(env.HOME ?? "", "codex");
    const script = `#!/bin/sh\n[ -e '${flag}' ] || { echo '${broken}' >&2; exit 3; }\nexec '${resolve(CODEX)}' "$@"\n`;
    writeFileSync(program, script, { mode: 0o755 });
    return program;
  });
  await phone.taps(/^Open/);
  await phone.sees(/Codex does not run: .*the ghost is out.*At the host: see what it says/);
  // Nothing pretends to load, and nothing is said of threads that nobody could read.
  await phone.page.locator(".bones").first().waitFor({ state: "detached" });
  expect(await phone.page.locator(".empty").count()).toBe(0);
  await phone.shoots("threads-codex-failed");
  writeFileSync(flag, "");
  await phone.page.getByText(/Codex does not run/).waitFor({ state: "detached" });
  desk = await stage.desk(up);
  await desk.begins(up.project, "hello");
  await row("hello").getByText("Done").waitFor();
});
