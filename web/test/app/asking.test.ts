/** What Codex asks is shown and answered on a phone: the real Codex does what was said, and nothing before. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, expect, test, vi } from "vitest";
import { json, list, text } from "../../src/json";
import { COMMAND } from "../hostile";
import type { Up } from "../real/up";
import { asksAlways } from "./asks";
import { auditsCode } from "./audit";
import type { Desk } from "./desk";
import type { Phone } from "./phone";
import { Stage } from "./stage";

let up: Up;
let desk: Desk;
let phone: Phone;
let thread: string;
const stage = Stage.ofFile();

beforeEach(async () => {
  phone = await stage.unbox();
  up = await stage.pairs(phone, asksAlways);
  desk = await stage.desk(up);
  thread = await desk.finishes(up.project, "mend the shop");
  await opens(phone);
});

/** Opens the thread from the list of hosts, or what a pairing led to. */
async function opens(which: Phone): Promise<void> {
  await which.taps(/^Open/);
  await which.page.locator("li.thread").first().tap();
  await which.sees("You are talking to the real Codex");
}

function button(name: string | RegExp, which = phone): ReturnType<Phone["page"]["locator"]> {
  return which.page.getByRole("button", { name });
}

/** Waits until it may be accepted. */
async function isOpen(which = phone): Promise<void> {
  await which.page.locator(".gate", { hasText: "You have seen all of it" }).waitFor();
}

/** Whether it may be accepted. */
async function accepts(which = phone): Promise<boolean> {
  return (await button("Accept once", which).getAttribute("aria-disabled")) !== "true";
}

/** How the newest turn ended, once it has, and what Codex said last. */
async function ends(): Promise<{ readonly status: string; readonly said: string }> {
  const newest = async (): Promise<{ status: string; said: string }> => {
    const { thread: read } = await desk.asks("thread/read", { threadId: thread, includeTurns: true });
    const turn = json(list(json(read).turns).at(-1));
    const said = list(turn.items)
      .map(json)
      .filter(({ type }) => type === "agentMessage");
    return { status: text(turn.status), said: text(said.at(-1)?.text) };
  };
  await vi.waitUntil(async () => (await newest()).status !== "inProgress", { timeout: 30_000, interval: 50 });
  return newest();
}

test("a command is declined, then one is accepted, after its end was seen", async () => {
  const [no, yes] = [join(up.project, "no.txt"), join(up.project, "yes.txt")];
  await desk.prompts(thread, `@esc touch '${no}'`);
  await phone.sees("Run this command?");
  await phone.sees("the script was told to ask");
  await isOpen();
  await auditsCode(phone, "asking-command");
  await phone.shoots("asking-command");
  await button("Decline").tap();
  await phone.sees("You declined: a command.");
  await ends();
  expect(existsSync(no)).toBe(false);
  await desk.prompts(thread, `@esc touch '${yes}'`);
  await isOpen();
  expect(existsSync(yes)).toBe(false);
  await button("Accept once").tap();
  await phone.sees("You accepted once: a command.");
  await ends();
  expect(existsSync(yes)).toBe(true);
  await phone.shoots("asking-command-done");
  await auditsCode(phone, "asking-done");
});

test("a change to files is shown with its diff, declined and accepted", async () => {
  await desk.prompts(thread, "@patch one.txt");
  await phone.sees("Make these changes?");
  await phone.page.locator(".diff .add", { hasText: "second line" }).waitFor();
  await isOpen();
  await auditsCode(phone, "asking-files");
  await phone.shoots("asking-files");
  await button("Decline").tap();
  await phone.sees("You declined: a change to files.");
  await ends();
  await phone.sees("Would have changed 1 file");
  await desk.prompts(thread, "@patch two.txt");
  await isOpen();
  await button("Accept once").tap();
  await phone.sees("You accepted once: a change to files.");
  await ends();
  expect([existsSync(join(up.project, "one.txt")), existsSync(join(up.project, "two.txt"))]).toEqual([false, true]);
});

test("a command that is longer than the screen can be accepted only after its end was seen", async () => {
  const made = join(up.project, "long.txt");
  await desk.prompts(thread, `@esc ${"true; ".repeat(1_500)}touch '${made}'`);
  await button(/then you can accept/).waitFor();
  await phone.shoots("asking-long");
  expect(await accepts()).toBe(false);
  await button("Accept once").dispatchEvent("click");
  let pages = 0;
  // In one look at the page: it may open at any time.
  const turns = (): Promise<"turned" | "read" | "open too early"> =>
    phone.page.evaluate(async () => {
      const [gate, accept] = [
        document.querySelector<HTMLElement>("button#gate"),
        document.querySelector(".btns--decide .btn--ink"),
      ];
      if (gate === null) {
        return "read";
      }
      const isShut = accept?.getAttribute("aria-disabled") === "true";
      gate.click();
      await new Promise(requestAnimationFrame);
      return isShut ? "turned" : "open too early";
    });
  for (let turned = await turns(); turned !== "read"; turned = await turns(), pages++) {
    expect(turned).toBe("turned");
    expect(pages).toBeLessThan(500);
  }
  expect(pages).toBeGreaterThan(3);
  await isOpen();
  await phone.shoots("asking-long-read");
  await button("Accept once").tap();
  await ends();
  expect(existsSync(made)).toBe(true);
});

test("a page that nobody looks at has seen nothing", async () => {
  await phone.becomes("hidden");
  await desk.prompts(thread, "@esc true");
  await phone.sees("Run this command?");
  await phone.page.evaluate(() => new Promise((resolve) => setTimeout(resolve, 1_000)));
  expect(await accepts()).toBe(false);
  await phone.becomes("visible");
  await isOpen();
});

test("the turn is stopped instead of an answer", async () => {
  await desk.prompts(thread, "@esc true");
  await phone.sees("Run this command?");
  await button("Stop the turn").tap();
  expect((await ends()).status).toBe("interrupted");
  await phone.sees("You declined, and stopped the turn: a command.");
});

test("two phones see it: one answers, the other is told who", async () => {
  const other = await stage.unbox();
  const command = up.command("pair", "--yes");
  await other.opens(await command.says("pairing", "url"));
  await other.sees("Paired with");
  await command.stop("SIGTERM");
  await opens(other);
  await desk.prompts(thread, "@esc true");
  await Promise.all([phone, other].map((which) => which.sees("Run this command?")));
  await phone.sees("The first answer counts.");
  await isOpen(other);
  await other.taps("Accept once");
  await other.sees("You accepted once: a command.");
  await phone.sees(/.+ accepted once: a command\./);
  expect(await button("Accept once").count()).toBe(0);
  await phone.shoots("asking-answered-elsewhere");
});

test("what is asked is withdrawn with its turn, and says so", async () => {
  await desk.prompts(thread, "@esc true");
  await phone.sees("Run this command?");
  const { data } = await desk.asks("thread/turns/list", { threadId: thread, limit: 1, sortDirection: "desc" });
  await desk.asks("turn/interrupt", { threadId: thread, turnId: text(json(list(data)[0]).id) });
  await phone.sees("No longer asked: a command.");
  await phone.shoots("asking-withdrawn");
});

test("a device that may only look sees all of it, can't answer, and is told what would let it", async () => {
  await phone.taps("Back to threads");
  const id = await phone.deviceId();
  expect(await up.command("devices", "scope", id, "view").exited()).toBe(0);
  await phone.page.locator("li.thread").first().tap();
  await desk.prompts(thread, "@esc true");
  await phone.sees("Run this command?");
  await phone.sees(`reachback devices scope ${id} approve`);
  for (const name of ["Accept once", "Decline", "Stop the turn"]) {
    expect(await button(name).count()).toBe(0);
  }
  await auditsCode(phone, "asking-view");
  await phone.shoots("asking-view");
});

test("a question is answered, with what is offered or in one's own words", async () => {
  const questions = [
    {
      id: "color",
      header: "Color",
      question: "Which color?",
      options: [
        { label: "Red", description: "warm" },
        { label: "Blue", description: "cold" },
      ],
    },
  ];
  const settings = { model: "reachback-demo", reasoning_effort: null, developer_instructions: null };
  const asks = async (): Promise<void> => {
    await desk.asks("turn/start", {
      threadId: thread,
      input: [{ type: "text", text: `@call request_user_input ${JSON.stringify({ questions })}` }],
      collaborationMode: { mode: "plan", settings },
    });
    await phone.sees("Which color?");
  };
  await asks();
  // Who does not look hears of it, and is not moved.
  await phone.page.getByRole("alert").getByText("Codex asks 1 question").waitFor({ state: "attached" });
  await auditsCode(phone, "asking-question");
  await phone.page.getByLabel("Blue").check();
  await phone.shoots("asking-question");
  await button("Send").tap();
  await phone.sees("You answered: what Codex asked.");
  expect((await ends()).said).toContain('{"color":{"answers":["Blue"]}}');
  await asks();
  await phone.page.getByLabel("Something else").check();
  await phone.page.getByLabel("Your answer").fill("green, of course");
  await button("Send").tap();
  expect((await ends()).said).toContain("green, of course");
  await asks();
  await button("Decline").tap();
  expect((await ends()).said).toContain('{"answers":{}}');
});

test("what an MCP server asks is filled in, accepted, or declined", async () => {
  await desk.prompts(thread, "@call mcp__asker/form {}");
  await phone.sees("Who are you?");
  expect(await button("Send").getAttribute("aria-disabled")).toBe("true");
  await phone.page.getByLabel("name").fill("Ada");
  await auditsCode(phone, "asking-form");
  await phone.shoots("asking-form");
  await button("Send").tap();
  expect((await ends()).said).toContain('{"action":"accept","content":{"name":"Ada"}}');
  await desk.prompts(thread, "@call mcp__asker/link {}");
  await phone.sees("https://example.com/sign-in");
  await phone.shoots("asking-link");
  await button("Decline").tap();
  expect((await ends()).said).toContain('{"action":"decline"}');
  await desk.prompts(thread, "@call mcp__asker/act {}");
  await phone.sees("A tool server asks for consent");
  await isOpen();
  await phone.shoots("asking-consent");
  await button("Accept once").tap();
  expect((await ends()).said).toContain("it was done");
});

test("permissions are shown, and what only the host grants can be declined", async () => {
  const permissions = { network: { enabled: true } };
  await desk.prompts(thread, `@call request_permissions ${JSON.stringify({ reason: "to look it up", permissions })}`);
  await phone.sees("Give Codex more reach?");
  await phone.sees("to look it up");
  expect(await button("Accept once").count()).toBe(0);
  await auditsCode(phone, "asking-permissions");
  await phone.shoots("asking-permissions");
  await button("Decline").tap();
  await phone.sees("You declined: more reach for Codex.");
  await ends();
});

test("hostile text fakes nothing and loads nothing", async () => {
  const loaded: string[] = [];
  phone.page.on("request", (request) => loaded.push(request.url()));
  await desk.prompts(thread, `@esc ${COMMAND}`);
  await phone.sees("Run this command?");
  await phone.sees(/hidden or misleading characters/);
  for (const name of ["U+202E right-to-left override", "U+200B zero width space", "U+001B escape", /^U\+0443/]) {
    await phone.page.locator(".ghost", { hasText: name }).first().waitFor();
  }
  expect(await phone.page.locator(".ask img, .ask script, .ask a, .log img, .log a").count()).toBe(0);
  await auditsCode(phone, "asking-hostile");
  await phone.shoots("asking-hostile");
  expect(loaded.filter((url) => url.includes("evil"))).toEqual([]);
  await button("Decline").tap();
  await phone.sees("You declined: a command.");
});

test("a link that is cut in mid-answer leads to one answer", async () => {
  const made = join(up.project, "cut.txt");
  await desk.prompts(thread, `@esc touch '${made}'`);
  await isOpen();
  await phone.page.context().setOffline(true);
  await phone.sees("Accept needs the link to the host.");
  expect(await accepts()).toBe(false);
  await phone.shoots("asking-offline");
  await phone.page.context().setOffline(false);
  await isOpen();
  await button("Accept once").tap();
  await phone.page.context().setOffline(true);
  await phone.page.context().setOffline(false);
  await phone.sees("You accepted once: a command.");
  await ends();
  expect(existsSync(made)).toBe(true);
});
