/** What Codex does, on a phone: what its commands write, in its colours, and what it changes in files. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, expect, test, vi } from "vitest";
import { LOOKS } from "../../src/terminal";
import type { Up } from "../real/up";
import { auditsCode } from "./audit";
import type { Desk } from "./desk";
import type { Phone } from "./phone";
import { Stage } from "./stage";

type Locator = ReturnType<Phone["page"]["locator"]>;

let up: Up;
let desk: Desk;
let phone: Phone;
let thread: string;
const stage = Stage.ofFile();

beforeEach(async () => {
  phone = await stage.unbox();
  up = await stage.pairs(phone);
  desk = await stage.desk(up);
  thread = await desk.finishes(up.project, "mend the shop");
  await phone.taps(/^Open/);
  await phone.page.locator("li.thread").first().tap();
  await phone.sees("You are talking to the real Codex");
});

/** The newest piece of work. */
function work(): Locator {
  return phone.page.locator("details.item").last();
}

function output(): Locator {
  return work().locator(".out__window");
}

/** The screen that has all of an output. */
function screen(): Locator {
  return phone.page.getByRole("dialog");
}

/** The lines of it that are in the page. */
function lines(): Promise<readonly string[]> {
  return screen().locator(".whole__line").allTextContents();
}

/** Goes to all of the newest output, and waits until this is there. */
async function opensAll(line: string): Promise<void> {
  await work().getByRole("link", { name: "All output" }).tap();
  await screen().getByText(line, { exact: true }).waitFor();
}

/** All that is in the window on the output. */
async function written(): Promise<string> {
  return (await output().locator("pre").allTextContents()).join("");
}

/** Has a command go on that waits for this. */
function lets(go: string): void {
  writeFileSync(join(up.project, go), "");
}

/** Waits in a shell until a test lets it go on. */
const until = (go: string): string => `until [ -e ${go} ]; do sleep 0.05; done`;

/** Has Codex run this, from when the phone knows of it: Codex tells nobody of what is written before that. */
async function runs(script: string): Promise<void> {
  // As long as Codex waits for a command: it tells nobody of what is written after that either.
  const call = { cmd: `${until("begin")}; ${script}`, yield_time_ms: 30_000 };
  await desk.prompts(thread, `@call exec_command ${JSON.stringify(call)}`);
  await work().getByText("running").waitFor();
  lets("begin");
}

/** How far the window is from its end, in pixels. */
function left(): Promise<number> {
  return output().evaluate(({ scrollHeight, scrollTop, clientHeight }) => scrollHeight - scrollTop - clientHeight);
}

/** Leaves pictures of the newest work on the narrowest of phones, and in large text, where somebody asked for pictures. */
async function shootsWork(name: string): Promise<void> {
  const sizes = [
    ["320", 320, "100"],
    ["text200", 390, "200"],
    ["wide", 1_000, "100"],
    ["", 390, "100"],
  ] as const;
  for (const [look, width, text] of process.env.SCREENS === undefined ? [] : sizes) {
    await phone.page.setViewportSize({ width, height: 844 });
    await phone.page.evaluate((text) => (document.documentElement.dataset.text = text), text);
    await work().evaluate((item) => {
      item.closest("main")?.scrollBy(0, item.getBoundingClientRect().top - 120);
    });
    await phone.shoots([name, look].filter((part) => part !== "").join("-"));
  }
}

test("a command's output is shown as it comes, in its colours, and a bar as it is", async () => {
  const colours = [31, 32, 33, 34, 35, 36, 90, 93, 41, 42, 43, 44, 45, 46, 47, 100, 7, 1, 2, 3, 4, 9];
  const script = [
    ...colours.map((code) => `printf 'as \\033[${code}m${code}\\033[0m is\\n'`),
    "printf '\\033[38;5;208morange\\033[0m \\033[38;2;20;90;240mtrue\\033[0m\\n'",
    "for n in 10 40 100; do printf '\\r\\033[Kfetched %s %%' $n; done",
    until("more"),
    "printf '\\nline %s' $(seq 40)",
    until("end"),
    "printf '\\nnot found\\n' >&2; exit 3",
  ].join("; ");
  await runs(script);
  await output().getByText("fetched 100 %").waitFor();
  expect(await written()).not.toContain("fetched 10 %");
  for (const look of LOOKS.filter((look) => !["t-on-grey", "t-grey"].includes(look))) {
    expect(await output().locator(`.${look}`).count(), look).toBeGreaterThan(0);
  }
  const height = await output().evaluate(({ clientHeight }) => clientHeight);
  // No longer look at it: after ten seconds Codex lets the turn go on without the command.
  await shootsWork("work-live");
  expect(await left()).toBeLessThan(2);
  // More than the window holds: who looks at its end stays there, at the same height.
  lets("more");
  await output().getByText("line 40").waitFor();
  expect(await left()).toBeLessThan(2);
  expect(await output().evaluate(({ clientHeight }) => clientHeight)).toBe(height);
  // Who reads further up is not moved.
  await output().evaluate((window) => {
    window.scrollTop = 40;
  });
  await phone.page.evaluate(() => new Promise(requestAnimationFrame));
  lets("end");
  await work().getByText("exit 3").waitFor();
  await output().getByText("not found").waitFor();
  expect(await output().evaluate(({ scrollTop }) => scrollTop)).toBe(40);
  await shootsWork("work-failed");
  await auditsCode(phone, "work-failed");
  await opensAll("not found");
  const whole = await lines();
  expect(whole.slice(0, 2)).toEqual(["as 31 is", "as 32 is"]);
  expect(whole).toContain("fetched 100 %");
  for (const look of LOOKS.filter((look) => !["t-on-grey", "t-grey"].includes(look))) {
    expect(await screen().locator(`.${look}`).count(), look).toBeGreaterThan(0);
  }
  await screen().getByText("exit 3 ·").waitFor();
  await shootsWork("work-all");
  await auditsCode(phone, "work-all");
  // What failed is there, and open, for who comes later.
  await phone.page.reload();
  await screen().getByText("not found", { exact: true }).waitFor();
  expect(await lines()).toEqual(whole);
  await phone.taps("Back to the thread");
  await output().getByText("not found").waitFor();
  await opensAll("not found");
  expect(await lines()).toEqual(whole);
});

test("a command that goes well is a line that opens, and is closed after it ran", async () => {
  await runs(`echo begun; ${until("end")}; echo done`);
  await output().getByText("begun").waitFor();
  lets("end");
  await phone.sees("The tool said");
  expect(await work().getAttribute("open")).toBeNull();
  await work().locator("summary").tap();
  await output().getByText("done").waitFor();
  await work().getByText("2 lines").waitFor();
  await shootsWork("work-well");
  await auditsCode(phone, "work-well");
  await phone.page.reload();
  await phone.sees("The tool said");
  expect(await work().getAttribute("open")).toBeNull();
  // Its output did not come along with the thread.
  await work().locator("summary").tap();
  await work().getByText("Its output is on the host.").waitFor();
  await auditsCode(phone, "work-deferred");
  await opensAll("done");
  expect(await lines()).toEqual(["begun", "done"]);
  await screen().getByText("exit 0 · 2 lines").waitFor();
  await auditsCode(phone, "work-whole");
});

test("all that a command wrote is on a screen of its own, in few lines at a time, and one is back where one was", async () => {
  await phone.page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
  await desk.prompts(thread, "@shell seq 9000; printf 'a %2000s\\n' z; echo \u202etxt.exe");
  await work().locator("summary").waitFor();
  await phone.sees("The tool said");
  await phone.page.reload();
  await phone.sees("The tool said");
  await work().locator("summary").tap();
  const link = work().getByRole("link", { name: "All output" });
  await link.scrollIntoViewIfNeeded();
  // Not at the end, where one would be anyway.
  await phone.page.locator("main").evaluate((main) => {
    main.scrollTop -= 30;
  });
  const place = (): Promise<number> => phone.page.locator("main").evaluate(({ scrollTop }) => scrollTop);
  const before = await place();
  const { href } = await phone.page.evaluate(() => location);
  await link.evaluate((element) => {
    element.focus();
  });
  await link.tap();
  await screen().getByText("9,002 lines").waitFor();
  // They come a moment after their number.
  await vi.waitFor(async () => {
    expect((await lines()).slice(0, 3)).toEqual(["1", "2", "3"]);
  }, 10_000);
  const isFew = async (): Promise<void> => {
    expect(await screen().locator(".whole__line").count()).toBeLessThan(1_000);
  };
  await isFew();
  const field = screen().getByLabel("Find in the output");
  const found = screen().locator(".whole__line--found");
  const isSeen = (text: string): Promise<unknown> =>
    vi.waitFor(async () => {
      expect(await found.textContent()).toBe(text);
      const [line, body] = await Promise.all([found.boundingBox(), screen().locator(".body").boundingBox()]);
      expect(line !== null && body !== null && line.y >= body.y && line.y + line.height <= body.y + body.height).toBe(
        true,
      );
    }, 10_000);
  await field.fill("877");
  await screen().getByText("1 of 19").waitFor();
  await isSeen("877");
  await phone.taps("Next line with that");
  await isSeen("1877");
  await phone.taps("Previous line with that");
  await phone.taps("Previous line with that");
  await isSeen("8877");
  await isFew();
  await phone.page.evaluate(() => new Promise(requestAnimationFrame));
  await isSeen("8877");
  await field.fill("no such line");
  await screen().getByText("None").waitFor();
  await auditsCode(phone, "work-find");
  // What is long goes on below, or beside, and what is hidden is seen.
  await field.fill("txt.exe");
  await isSeen("U+202E right-to-left overridetxt.exe");
  const isWide = (): Promise<boolean> =>
    screen()
      .locator(".body")
      .evaluate(({ scrollWidth, clientWidth }) => scrollWidth > clientWidth);
  expect(await isWide()).toBe(false);
  await phone.taps("Wrap long lines");
  expect(await isWide()).toBe(true);
  await isSeen("U+202E right-to-left overridetxt.exe");
  await phone.shoots("work-aside");
  await phone.taps("Copy the output");
  await screen().getByText("Copied").waitFor({ state: "attached" });
  const copied = await phone.page.evaluate(() => navigator.clipboard.readText());
  expect(copied.trimEnd().split("\n").length).toBe(9_002);
  expect(copied).toContain("\u202etxt.exe");
  // The browser's own way back is the same as the button.
  for (const goes of [() => phone.page.goBack(), () => phone.taps("Back to the thread")]) {
    await goes();
    await screen().waitFor({ state: "detached" });
    expect(await place()).toBe(before);
    expect(phone.page.url()).toBe(href);
    expect(await link.evaluate((element) => document.activeElement === element)).toBe(true);
    await phone.page.goForward();
    await screen().getByText("9,002 lines").waitFor();
  }
  await phone.page.keyboard.press("Escape");
  await screen().waitFor({ state: "detached" });
  expect(await place()).toBe(before);
});

test("all output of a command that runs is followed, and what Codex asks then is said", async () => {
  await runs(`seq 100; ${until("more")}; seq 101 200; ${until("end")}; echo over`);
  await output().getByText("100", { exact: false }).waitFor();
  await opensAll("100");
  const far = (): Promise<number> =>
    screen()
      .locator(".body")
      .evaluate(({ scrollHeight, scrollTop, clientHeight }) => scrollHeight - scrollTop - clientHeight);
  const follows = (): Promise<unknown> => vi.waitUntil(async () => (await far()) < 2, { timeout: 10_000 });
  await screen().getByText("running · 100 lines").waitFor();
  await follows();
  lets("more");
  await screen().getByText("running · 200 lines").waitFor();
  await follows();
  // Who reads further up is not moved.
  await screen()
    .locator(".body")
    .evaluate((body) => {
      body.scrollTop = 100;
    });
  await phone.page.evaluate(() => new Promise(requestAnimationFrame));
  lets("end");
  await screen().getByText("exit 0 · 201 lines").waitFor();
  expect(
    await screen()
      .locator(".body")
      .evaluate(({ scrollTop }) => scrollTop),
  ).toBe(100);
  await phone.page.locator(".turnbar", { hasText: "Idle" }).waitFor();
  await desk.prompts(thread, "@esc true");
  await phone.taps("Codex asks something");
  await screen().waitFor({ state: "detached" });
  await phone.sees("Run this command?");
  await phone.taps("Decline");
  await phone.sees("You declined: a command.");
});

test("of output without an end only its beginning and its end are kept", async () => {
  await runs(`echo first; seq 90000; echo last; ${until("end")}; exit 4`);
  await output().getByText("last", { exact: false }).waitFor();
  await work().getByText("characters that are not kept here").waitFor();
  await opensAll("last");
  const isFew = async (): Promise<void> => {
    expect((await lines()).length).toBeLessThan(1_000);
  };
  await isFew();
  expect((await lines()).slice(-2)).toEqual(["90000", "last"]);
  await screen()
    .locator(".body")
    .evaluate((body) => {
      body.scrollTop = 0;
    });
  await screen().getByText("first", { exact: true }).waitFor();
  expect((await lines()).slice(0, 3)).toEqual(["first", "1", "2"]);
  await screen()
    .getByText(/\d characters of it are not kept here/)
    .waitFor({ state: "attached" });
  await isFew();
  lets("end");
  // All that Codex has kept.
  await screen()
    .getByText(/exit 4 · [\d,]+ lines$/)
    .waitFor();
  await screen().getByText("first", { exact: true }).waitFor();
  await isFew();
});

test("nothing of hostile output runs, loads, or hides", async () => {
  const asked: string[] = [];
  phone.page.on("request", (request) => asked.push(request.url()));
  const script = [
    "printf '\\033]8;;https://evil.example/x\\033\\\\link\\033]8;;\\033\\\\ \\033]0;title\\007'",
    "printf '<img src=https://evil.example/y><script>alert(1)</script>\\n'",
    "printf '\\342\\200\\256txt.exe \\033[8mconcealed\\033[0m \\033[31;url(evil)mx\\033[2J\\033[H\\n'",
    "exit 5",
  ].join("; ");
  await desk.prompts(thread, `@shell ${script}`);
  await output().getByText("concealed").waitFor();
  const text = await written();
  expect(text).toContain("link <img src=https://evil.example/y><script>alert(1)</script>");
  expect(text).toContain("U+202E right-to-left override");
  expect(text).not.toContain("title");
  expect(await output().locator("a, img, script, [style]").count()).toBe(0);
  await phone.shoots("work-hostile");
  await phone.fits();
  expect(asked.filter((url) => url.includes("evil"))).toEqual([]);
});

/** Files that are changed, and the patch that does it. */
const PATCH = `apply_patch <<'EOF'
*** Begin Patch
*** Update File: src/billing/webhook.ts
@@
 export async function onWebhook(req) {
-  const res = await charge(event.data);
+  const claim = await claimDelivery(event.id);
+  const res = await charge(event.data, { idempotencyKey: event.id, and: "a line that is much longer than a phone is wide" });
   return ok(res);
*** Add File: migrations/0042_claim_deliveries.sql
+ALTER TABLE webhook_deliveries
+  ADD COLUMN claimed_at timestamptz NOT NULL DEFAULT now();
*** Delete File: old.txt
*** Update File: README
*** Move to: docs/readme.md
@@
-# Shop
+# The shop
*** End Patch
EOF`;

test("changed files are there as differences, one by one", async () => {
  mkdirSync(join(up.project, "src", "billing"), { recursive: true });
  const before = ["import x;", "", "export async function onWebhook(req) {", "  const res = await charge(event.data);"];
  writeFileSync(join(up.project, "src/billing/webhook.ts"), [...before, "  return ok(res);", "}", ""].join("\n"));
  writeFileSync(join(up.project, "old.txt"), "line\n".repeat(70));
  writeFileSync(join(up.project, "README"), "# Shop\n");
  await desk.prompts(thread, `@shell ${PATCH}`);
  await phone.sees("Changed 4 files");
  expect(existsSync(join(up.project, "old.txt"))).toBe(false);
  expect(readFileSync(join(up.project, "docs/readme.md"), "utf8")).toBe("# The shop\n");
  const looks = async (): Promise<void> => {
    await work().locator("summary").first().tap();
    const file = (name: string): Locator => work().locator("details.file").filter({ hasText: name });
    const rows = (name: string): Promise<readonly string[]> =>
      file(name)
        .locator("tr:not(.hunk)")
        .evaluateAll((all) =>
          all.map((row) => [...row.querySelectorAll("td")].map(({ textContent }) => textContent).join("|")),
        );
    for (const name of ["webhook.ts", "0042_claim_deliveries.sql", "old.txt", "README"]) {
      if ((await file(name).getAttribute("open")) === null) {
        await file(name).locator("summary").tap();
      }
    }
    expect((await rows("webhook.ts")).filter((row) => /\|[+−]\|/.test(row))).toEqual([
      "4|−|  const res = await charge(event.data);",
      "4|+|  const claim = await claimDelivery(event.id);",
      expect.stringMatching(/^5\|\+\| {2}const res = await charge.*wide" }\);$/),
    ]);
    expect(await rows("0042")).toEqual([
      "1|+|ALTER TABLE webhook_deliveries",
      "2|+|  ADD COLUMN claimed_at timestamptz NOT NULL DEFAULT now();",
    ]);
    expect((await rows("README")).filter((row) => /\|[+−]\|/.test(row))).toEqual(["1|−|# Shop", "1|+|# The shop"]);
    expect(await file("webhook.ts").locator(".count").innerText()).toMatch(/changed\s+\+2\s+−1/);
    expect(await file("0042").locator(".count").innerText()).toMatch(/new\s+\+2\s+−0/);
    expect(await file("README").locator(".count").innerText()).toMatch(/moved and changed\s+\+1\s+−1/);
    expect(await file("README").locator("h3").innerText()).toContain("docs/readme.md");
    expect(await file("old.txt").locator(".count").innerText()).toMatch(/deleted\s+\+0\s+−70/);
    // What is long is folded.
    expect((await rows("old.txt")).length).toBe(60);
    await file("old.txt").getByRole("button", { name: "Show all" }).tap();
    expect((await rows("old.txt")).length).toBe(70);
    await file("old.txt").getByRole("button", { name: "Show less" }).tap();
    // What is wide is moved in its own box.
    const isWide = await file("webhook.ts")
      .locator(".diffbox")
      .evaluate(({ scrollWidth, clientWidth }) => scrollWidth > clientWidth);
    expect(isWide).toBe(true);
  };
  await looks();
  await shootsWork("work-changes");
  await auditsCode(phone, "work-changes");
  await phone.fits();
  await phone.page.reload();
  await phone.sees("Changed 4 files");
  await looks();
});
