/** A goal begins the next turn by itself, so whoever stops a turn says what is to stop: with the real Codex. */
import { readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { beforeEach, expect, test } from "vitest";
import { json } from "../../src/json";
import { MOST_GOAL } from "../../src/state/goals";
import { CODEX } from "../real/homes";
import type { Up } from "../real/up";
import { audits } from "./audit";
import type { Desk } from "./desk";
import type { Phone } from "./phone";
import { Stage } from "./stage";

type Locator = ReturnType<Phone["page"]["locator"]>;

let up: Up;
let desk: Desk;
let phone: Phone;
let thread: string;
const stage = Stage.ofFile();

/** A program that writes down which process it is, and is Codex then. */
function known(env: NodeJS.ProcessEnv): string {
  const program = join(env.HOME ?? "", "codex-by-number");
  const lines = [
    "#!/bin/sh",
    'case "$*" in *app-server*) echo $$ > "$0.pid" ;; esac',
    `exec '${resolve(CODEX)}' "$@"`,
    "",
  ];
  writeFileSync(program, lines.join("\n"), { mode: 0o700 });
  return program;
}

beforeEach(async () => {
  phone = await stage.unbox();
  up = await stage.pairs(phone, known);
  desk = await stage.desk(up);
  thread = await desk.finishes(up.project, "mend the shop");
  await phone.taps(/^Open/);
  await phone.page.locator("li.thread").first().tap();
  await phone.sees("You are talking to the real Codex");
});

function button(name: string): Locator {
  return phone.page.getByRole("button", { name, exact: true });
}

function bar(words: string | RegExp): Locator {
  return phone.page.locator(".turnbar", { hasText: words });
}

function sheet(): Locator {
  return phone.page.getByRole("dialog", { name: "Stop what?" });
}

/** The goal. What the scripted model does in each of its turns is what a person said last. */
const GOAL = "the shop is mended";

/** Has a turn begin that does not end, and then a goal set, both at the desk. */
async function aims(prompt = "@hang"): Promise<void> {
  await desk.prompts(thread, prompt);
  await bar("Running").waitFor();
  await desk.asks("thread/goal/set", { threadId: thread, objective: GOAL });
  await bar(`Running · goal: ${GOAL}`).waitFor();
}

/** Touches one of what is offered. */
async function chooses(what: RegExp): Promise<void> {
  await sheet().getByRole("button", { name: what }).tap();
}

/** The goal as Codex has it. */
async function goal(): Promise<readonly [objective: unknown, status: unknown]> {
  const { objective, status } = json((await desk.asks("thread/goal/get", { threadId: thread })).goal);
  return [objective, status];
}

test("a goal is paused with its turn, and goes on when a person says so; dropped, it lets the turn run", async () => {
  await aims();
  await audits(phone, "goal-running");
  await phone.shoots("goal-running");
  await button("Stop…").tap();
  await sheet().getByText(GOAL).waitFor();
  await audits(phone, "goal-stop-what");
  await phone.shoots("goal-stop-what");
  await chooses(/pause the goal/);
  await bar(`Idle · goal paused: ${GOAL}`).waitFor();
  expect(await goal()).toEqual([GOAL, "paused"]);
  await audits(phone, "goal-paused");
  await phone.shoots("goal-paused");
  await button("Go on").tap();
  await bar(`Running · goal: ${GOAL}`).waitFor();
  expect(await goal()).toEqual([GOAL, "active"]);
  await button("Stop…").tap();
  await chooses(/Drop the goal/);
  // What runs is a turn like any other now: Stop asks nothing.
  await button("Stop").waitFor();
  expect(await goal()).toEqual([undefined, undefined]);
  await bar("Running").waitFor();
  await button("Stop").tap();
  await bar("Idle").waitFor();
});

test("a turn alone is stopped, and its goal stays: it goes on after the next turn, until it is paused", async () => {
  await aims();
  await button("Stop…").tap();
  await chooses(/Only this turn/);
  await bar(`Idle · goal: ${GOAL}`).waitFor();
  expect(await goal()).toEqual([GOAL, "active"]);
  await phone.page.getByLabel("Message to Codex").fill("@say so be it");
  await button("Send").tap();
  const said = phone.page.locator(".say", { hasText: "so be it" });
  // The turns of the goal are over in no time: what stops them stays where it is.
  await said.nth(2).waitFor();
  await button("Stop…").tap();
  await chooses(/pause the goal/);
  await bar(`Idle · goal paused: ${GOAL}`).waitFor();
  expect(await phone.page.locator(".dock .bad[role=alert]").count()).toBe(0);
  expect(await goal()).toEqual([GOAL, "paused"]);
});

test("a goal that ends elsewhere takes the question with it", async () => {
  await aims();
  await button("Stop…").tap();
  await sheet().waitFor();
  await desk.asks("thread/goal/set", { threadId: thread, status: "paused" });
  await sheet().waitFor({ state: "detached" });
  await desk.asks("thread/goal/set", { threadId: thread, status: "active" });
  await button("Stop…").waitFor();
  expect(await sheet().count()).toBe(0);
  await desk.asks("thread/goal/set", { threadId: thread, status: "paused" });
  await button("Stop").tap();
  await bar(`Idle · goal paused: ${GOAL}`).waitFor();
});

test("who stops the turn instead of an answer is asked too", async () => {
  await desk.prompts(thread, "@esc touch asked.txt");
  await phone.sees("Run this command?");
  await desk.asks("thread/goal/set", { threadId: thread, objective: GOAL });
  await button("Stop the turn…").tap();
  await chooses(/pause the goal/);
  await bar(`Idle · goal paused: ${GOAL}`).waitFor();
  expect(await goal()).toEqual([GOAL, "paused"]);
});

test("a goal that was paused before Codex was started anew goes on too", async () => {
  await aims();
  await button("Stop…").tap();
  await chooses(/pause the goal/);
  await bar(`Idle · goal paused: ${GOAL}`).waitFor();
  process.kill(Number(readFileSync(join(up.env.HOME ?? "", "codex-by-number.pid"), "utf8")));
  await phone.sees("Codex ended at the host");
  await phone.page.getByText("Codex ended at the host").waitFor({ state: "detached" });
  await bar(`Idle · goal paused: ${GOAL}`).waitFor();
  await button("Go on").tap();
  await bar(`Running · goal: ${GOAL}`).waitFor();
  await button("Stop…").tap();
  await chooses(/pause the goal/);
  await bar(`Idle · goal paused: ${GOAL}`).waitFor();
});

/** Opens the goal in the menu that is open. */
async function opensGoal(): Promise<Locator> {
  const dialog = phone.page.getByRole("dialog");
  await dialog.getByRole("button", { name: /^Goal/ }).tap();
  return dialog.getByLabel("Goal", { exact: true });
}

test("a goal is set, changed and dropped by the menu of a thread, and by that of its row", async () => {
  await desk.prompts(thread, "@hang");
  await bar("Running").waitFor();
  await button("Thread menu").tap();
  await phone.page.getByRole("button", { name: "Goal none" }).waitFor();
  await phone.shoots("goal-none");
  let field = await opensGoal();
  expect(await button("Set the goal").isDisabled()).toBe(true);
  await field.fill(GOAL);
  await phone.shoots("goal-set");
  await phone.fits();
  await audits(phone, "goal-set");
  await button("Set the goal").tap();
  await bar(`Running · goal: ${GOAL}`).waitFor();
  expect(await goal()).toEqual([GOAL, "active"]);
  await desk.asks("thread/goal/set", { threadId: thread, status: "paused" });
  await bar(`goal paused: ${GOAL}`).waitFor();
  await phone.taps(/^Back/);
  await phone.page
    .getByRole("button", { name: /^Menu of/ })
    .first()
    .tap();
  await phone.page.getByRole("button", { name: `goal paused: ${GOAL}` }).waitFor();
  await phone.shoots("goal-in-menu");
  await audits(phone, "goal-in-menu");
  field = await opensGoal();
  expect(await field.inputValue()).toBe(GOAL);
  await field.fill("another one");
  await button("Set the goal").tap();
  await phone.page.getByRole("dialog").waitFor({ state: "detached" });
  expect(await goal()).toEqual(["another one", "active"]);
  await phone.page.locator("li.thread").first().tap();
  await bar("Running · goal: another one").waitFor();
  await button("Thread menu").tap();
  await opensGoal();
  await button("Drop the goal").tap();
  await button("Stop").waitFor();
  expect(await goal()).toEqual([undefined, undefined]);
});

test("Codex takes as many letters of a goal as can be typed, and no more", async () => {
  await desk.prompts(thread, "@hang");
  await bar("Running").waitFor();
  const set = (count: number): Promise<unknown> =>
    desk.asks("thread/goal/set", { threadId: thread, objective: "g".repeat(count) });
  await expect(set(MOST_GOAL + 1)).rejects.toThrow();
  await set(MOST_GOAL);
  await button("Thread menu").tap();
  const field = await opensGoal();
  expect((await field.inputValue()).length).toBe(MOST_GOAL);
  await phone.fits();
  await audits(phone, "goal-long");
});
