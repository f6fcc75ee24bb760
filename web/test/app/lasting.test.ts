/**
 * What is accepted for longer than once. No host lets a device do that yet, so the sheet is there in none: here the app is
 * built with one line changed, so that it takes each host for one that lets it. All else is as ever: the real Codex asks,
 * what is said goes to a real host, and that makes less of it and says so.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type Json, json, list, text } from "../../src/json";
import type { Up } from "../real/up";
import { asksAlways } from "./asks";
import { auditsCode } from "./audit";
import type { Desk } from "./desk";
import type { Phone } from "./phone";
import { BUILT, rebuild } from "./site";
import { Stage } from "./stage";

type Locator = ReturnType<Phone["page"]["locator"]>;

/** The app that takes what a device is not offered for offered, and keeps what it answers where a test finds it. */
const CHANGES = {
  "src/state/asking.ts": [
    "#put(info: RequestInfo): void {",
    '#put(told: RequestInfo): void { const info: RequestInfo = { ...told, answers: [...told.answers, "acceptForLonger"] };',
  ],
  "src/api/client.ts": [
    "const result = await this.#ask(method, params, signal);",
    'if (method === "answer/send") { Reflect.set(window, "answers", [...(Reflect.get(window, "answers") ?? []), params]); } const result = await this.#ask(method, params, signal);',
  ],
} as const;
const KINDS: Readonly<Record<string, string>> = {
  ".css": "text/css",
  ".js": "text/javascript",
  ".svg": "image/svg+xml",
};
/** How long the end of what is asked has to be on the screen, in milliseconds. */
const LONG_ENOUGH = 400;

let build: string;
let up: Up;
let desk: Desk;
let phone: Phone;
let thread: string;
const folder = mkdtempSync(join(tmpdir(), "reachback-lasting-"));
const stage = Stage.ofFile();

beforeAll(async () => {
  build = await rebuild(folder, CHANGES);
});

afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

/** The page's first script, as a page names it. */
const FIRST = /<script type="module"[^>]* src="([^"]+)"/;

/**
 * Has the phone run that build in the place of the relay's own. The page itself is the relay's: one that came from nowhere
 * may open no WebSocket to this computer.
 */
async function serves(): Promise<void> {
  const first = (directory: string): string =>
    FIRST.exec(readFileSync(join(directory, "index.html"), "utf8"))?.[1] ?? "";
  const [own, other] = [first(BUILT), first(build)];
  expect(own).not.toBe(other);
  await phone.page.route("**/assets/**", async (route) => {
    const { pathname } = new URL(route.request().url());
    const file = join(build, pathname);
    if (pathname === own) {
      // Under its own name: what it loads has that of it, and it is to be there once.
      await route.fulfill({ body: `import ${JSON.stringify(other)};`, contentType: KINDS[".js"] ?? "" });
    } else if (existsSync(file)) {
      await route.fulfill({ body: readFileSync(file), contentType: KINDS[extname(file)] ?? "text/plain" });
    } else {
      await route.continue();
    }
  });
}

async function begins(): Promise<void> {
  up = await stage.pairs(phone, asksAlways);
  desk = await stage.desk(up);
  thread = await desk.finishes(up.project, "mend the shop");
  await phone.taps(/^Open/);
  await phone.page.locator("li.thread").first().waitFor();
  const id = await phone.deviceId();
  expect(await up.command("devices", "scope", id, "admin").exited()).toBe(0);
  await phone.page.locator("li.thread").first().tap();
  await phone.sees("You are talking to the real Codex");
}

/** What leads to the sheet, and is closed as accepting is. */
function more(): Locator {
  return phone.page.getByRole("button", { name: "Don't ask again…" });
}

function sheet(): Locator {
  return phone.page.getByRole("dialog", { name: "Accept, and don't ask again" });
}

function yes(): Locator {
  return sheet().getByRole("button", { name: "Accept and remember" });
}

/** Waits until it may be accepted, and opens the sheet. */
async function opens(): Promise<void> {
  await phone.page.locator(".gate", { hasText: "You have seen all of it" }).waitFor();
  await more().tap();
  await sheet().waitFor();
  // Nothing is chosen before a person does.
  expect(await sheet().getByRole("radio", { checked: true }).count()).toBe(0);
  expect(await yes().isDisabled()).toBe(true);
}

/** What the phone has answered. */
async function answers(): Promise<readonly Json[]> {
  return list(await phone.page.evaluate((): unknown => Reflect.get(window, "answers"))).map(json);
}

/** What is asked, as the screen shows it: the host's digest of it. */
async function digest(): Promise<string> {
  return (await phone.page.locator(".ask__end .mono").textContent()) ?? "";
}

/** Looks that the only answer was this, of what was shown, and that the host says that it made less of it. */
async function hasSaid(result: Json, shown: string): Promise<void> {
  const [answer, ...others] = await answers();
  expect(others).toEqual([]);
  expect(answer?.result).toEqual(result);
  const [begins, ends] = shown.split("…");
  const told = text(answer?.digest);
  expect([told.startsWith(begins ?? "?"), told.endsWith(ends ?? "?"), told.length]).toEqual([true, true, 64]);
  await sheet().waitFor({ state: "detached" });
}

/** The texts of the hidden characters on the sheet, as they stand there. */
function chips(): Promise<readonly string[]> {
  return sheet().locator(".ghost").allInnerTexts();
}

describe("where a host would let it", () => {
  beforeEach(async () => {
    phone = await stage.unbox();
    await serves();
    await begins();
  });

  test("a command stands on the sheet in full, and that command in that thread is what is granted", async () => {
    const made = join(up.project, "made.txt");
    await desk.prompts(thread, `@esc touch '${made}' # \u202Etxt.exe\u202C \u200Bs\u0443do`);
    await opens();
    expect(await sheet().getByRole("radio").count()).toBe(1);
    await sheet().getByText("Exactly this command, in this thread").waitFor();
    const all = await phone.page.locator(".ask ol.cmd").innerText();
    expect(await sheet().locator("ol.cmd").innerText()).toBe(all);
    expect(all).toContain(made);
    expect(await chips()).toEqual([
      "U+202E right-to-left override",
      "U+202C end of direction",
      "U+200B zero width space",
      expect.stringMatching(/^U\+0443/),
    ]);
    await phone.shoots("lasting-command");
    await phone.fits();
    await auditsCode(phone, "lasting-command");
    const shown = await digest();
    await sheet().getByRole("radio").check();
    await phone.shoots("lasting-command-chosen");
    expect(existsSync(made)).toBe(false);
    await yes().tap();
    await phone.sees("You accepted once: a command. Accepted once: this device may not accept for longer.");
    await hasSaid({ decision: "acceptForSession" }, shown);
    await phone.page.locator(".turnbar", { hasText: "Idle" }).waitFor();
    expect(existsSync(made)).toBe(true);
    // The host let it last for this once: the same is asked again.
    await desk.prompts(thread, `@esc touch '${made}' # \u202Etxt.exe\u202C \u200Bs\u0443do`);
    await phone.sees("Run this command?");
    expect(await digest()).toBe(shown);
  });

  test("a change to files stands on the sheet by their names, and that is what is granted", async () => {
    await desk.prompts(thread, "@patch one\u200B.txt");
    await opens();
    expect(await sheet().getByRole("radio").count()).toBe(1);
    await sheet().getByText("This file, in this thread").waitFor();
    const files = await sheet().getByRole("list", { name: "The files" }).getByRole("listitem").allInnerTexts();
    expect(files).toEqual([expect.stringMatching(/oneU\+200B zero width space\.txt$/)]);
    expect(await chips()).toEqual(["U+200B zero width space"]);
    await phone.shoots("lasting-files");
    await phone.fits();
    await auditsCode(phone, "lasting-files");
    const shown = await digest();
    await sheet().getByRole("radio").check();
    expect(existsSync(join(up.project, "one\u200B.txt"))).toBe(false);
    await yes().tap();
    await phone.sees("You accepted once: a change to files. Accepted once: this device may not accept for longer.");
    await hasSaid({ decision: "acceptForSession" }, shown);
    await phone.page.locator(".turnbar", { hasText: "Idle" }).waitFor();
    expect(existsSync(join(up.project, "one\u200B.txt"))).toBe(true);
  });

  test.each([
    ["This turn", "turn"],
    ["This thread", "session"],
  ] as const)("more reach stands on the sheet as it was asked for: %s", async (title, scope) => {
    const permissions = { network: { enabled: true } };
    await desk.prompts(thread, `@call request_permissions ${JSON.stringify({ reason: "to look it up", permissions })}`);
    await opens();
    expect(await sheet().getByRole("radio").count()).toBe(2);
    const stands = json(JSON.parse(await sheet().locator("pre.cmd").innerText()));
    expect(stands).toMatchObject(permissions);
    await phone.shoots(`lasting-permissions-${scope}`);
    await phone.fits();
    await auditsCode(phone, `lasting-permissions-${scope}`);
    const shown = await digest();
    await sheet()
      .getByRole("radio", { name: new RegExp(`^${title}`) })
      .check();
    await yes().tap();
    await phone.sees("Nothing granted: this device may not grant permissions that last.");
    await hasSaid({ permissions: stands, scope }, shown);
  });

  test("whoever goes back, closes the sheet or loses the link grants nothing", async () => {
    const made = join(up.project, "made.txt");
    await desk.prompts(thread, `@esc touch '${made}'`);
    const leaves = [
      () => sheet().getByRole("button", { name: "Back" }).tap(),
      () => sheet().getByRole("button", { name: "Close" }).tap(),
      () => phone.page.keyboard.press("Escape"),
    ];
    for (const leave of leaves) {
      await opens();
      await sheet().getByRole("radio").check();
      expect(await yes().isEnabled()).toBe(true);
      await leave();
      await sheet().waitFor({ state: "detached" });
    }
    await opens();
    await sheet().getByRole("radio").check();
    await phone.page.context().setOffline(true);
    await expect.poll(() => yes().isDisabled(), { timeout: 30_000 }).toBe(true);
    await yes().dispatchEvent("click");
    await phone.shoots("lasting-offline");
    await sheet().getByRole("button", { name: "Back" }).tap();
    expect(await more().getAttribute("aria-disabled")).toBe("true");
    await phone.page.context().setOffline(false);
    await phone.page.locator(".gate", { hasText: "You have seen all of it" }).waitFor();
    expect([await answers(), existsSync(made)]).toEqual([[], false]);
    await phone.taps("Decline");
    await phone.sees("You declined: a command.");
    expect(existsSync(made)).toBe(false);
  });

  test("the sheet opens only once the end of what is asked was on the screen for a while", async () => {
    await desk.prompts(thread, `@esc ${"true; ".repeat(1_500)}true`);
    await phone.page.getByRole("button", { name: /then you can accept/ }).waitFor();
    expect(await more().getAttribute("aria-disabled")).toBe("true");
    await more().dispatchEvent("click");
    expect(await sheet().count()).toBe(0);
    /** How long the end was there until the way to the sheet opened, in milliseconds. */
    const waited = await phone.page.evaluate(async () => {
      const isOpen = (): boolean =>
        [...document.querySelectorAll(".apart .btn")].at(-1)?.getAttribute("aria-disabled") === "false";
      const body = document.querySelector("main");
      let there = performance.now();
      while (!isOpen()) {
        // All ends of it, one after the other; the last one is what counts.
        body?.scrollBy({ top: body.clientHeight - 40, behavior: "instant" });
        if (body !== null && body.scrollTop + body.clientHeight < body.scrollHeight - 1) {
          there = performance.now();
        }
        await new Promise(requestAnimationFrame);
      }
      return performance.now() - there;
    });
    expect(waited).toBeGreaterThan(LONG_ENOUGH - 20);
    await opens();
    await phone.shoots("lasting-long");
    await phone.fits();
    expect(await answers()).toEqual([]);
  });
});

test("as hosts are, a device with admin is offered nothing that lasts, and is not told that it may", async () => {
  phone = await stage.unbox();
  await begins();
  await desk.prompts(thread, "@esc true");
  await phone.page.locator(".gate", { hasText: "You have seen all of it" }).waitFor();
  expect(await more().count()).toBe(0);
  await phone.taps("Decline");
  await phone.sees("You declined: a command.");
  await phone.taps("Back to threads");
  await phone.taps("About this host");
  const fact = (term: string): Locator => phone.page.locator(`dt:text-is("${term}") + dd`);
  expect(await fact("May").innerText()).toBe("prompt, answer, approve once, manage devices");
  expect(await fact("May not").innerText()).toBe("grant lasting permissions");
});
