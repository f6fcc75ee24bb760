/** Several tabs of one browser: one of them at a time has the link, and what is written belongs to all of them. */
import { beforeEach, expect, test, vi } from "vitest";
import { json, list } from "../../src/json";
import type { Up } from "../real/up";
import { audits } from "./audit";
import type { Desk } from "./desk";
import type { Phone } from "./phone";
import { Stage } from "./stage";

const DRAFT = "mend the shop";
const ELSEWHERE = "Reachback is in use in another tab";

let up: Up;
let desk: Desk;
let first: Phone;
/** Whether what the first tab sends is lost on the way. */
let mute = false;
const stage = Stage.ofFile();

beforeEach(async () => {
  mute = false;
  first = await stage.unbox();
  up = await stage.pairs(first);
  await first.goesOn();
});

/** Opens what the first tab shows in another one. */
async function opened(): Promise<Phone> {
  const tab = await first.another();
  await tab.page.goto(first.page.url());
  return tab;
}

/** Waits until the one has the link, and none of the others. */
async function isWith(one: Phone, ...others: readonly Phone[]): Promise<void> {
  const isIt = (): boolean => one.links === 1 && others.every(({ links }) => links === 0);
  await vi.waitUntil(isIt, { timeout: 30_000, interval: 10 });
  await one.page.getByText(ELSEWHERE).waitFor({ state: "detached" });
  await one.sees("Online");
}

test("the tab that is opened has the link; the other one says so, keeps what was typed, and takes it back", async () => {
  await first.drafts(DRAFT);
  const field = first.page.getByRole("textbox", { name: "First message" });
  await field.focus();
  const second = await opened();
  await isWith(second, first);
  await first.sees(ELSEWHERE);
  await first.shoots("elsewhere");
  await audits(first, "elsewhere");
  for (const key of ["Escape", "Escape"]) {
    await first.page.keyboard.press(key);
  }
  expect(await first.page.getByText(ELSEWHERE).count()).toBe(1);
  expect(await second.page.getByRole("textbox", { name: "First message" }).inputValue()).toBe(DRAFT);
  await second.page.getByRole("textbox", { name: "First message" }).fill(`${DRAFT}, and the door`);
  await second.sees("Draft kept on this device");

  await first.taps("Use it here");
  await isWith(first, second);
  expect(await field.inputValue()).toBe(`${DRAFT}, and the door`);
  expect(await field.evaluate((element) => element === document.activeElement)).toBe(true);
  await second.sees(ELSEWHERE);

  // What lay over the screen lies there still.
  await first.taps(/^Folder/);
  const workspaces = first.page.getByRole("heading", { name: "Workspaces" });
  await workspaces.waitFor();
  await second.taps("Use it here");
  await isWith(second, first);
  await first.sees(ELSEWHERE);
  await first.taps("Use it here");
  await isWith(first, second);
  await workspaces.waitFor();
  await first.taps(/^Close$/);
  await second.sees(ELSEWHERE);

  // What is no host's is there all the same, and so is the link where the other tab is closed.
  await second.page.goto(`${up.relayUrl}/#/settings`);
  await second.sees(/kept in this browser/);
  expect(await second.page.getByText(ELSEWHERE).count()).toBe(0);
  await second.page.goto(first.page.url());
  await second.sees(ELSEWHERE);
  await first.page.close();
  await isWith(second);
});

test("of tabs that are looked at in turn, the one that is seen has the link, and nothing is said of it", async () => {
  const said = async (tab: Phone): Promise<void> => {
    await tab.page.evaluate((text) => {
      new MutationObserver(() => {
        if (document.body.textContent.includes(text)) {
          console.error(text);
        }
      }).observe(document.body, { childList: true, subtree: true });
    }, ELSEWHERE);
  };
  await said(first);
  await first.becomes("hidden");
  const second = await opened();
  await said(second);
  await isWith(second, first);
  for (const [hidden, seen] of [
    [second, first],
    [first, second],
    [second, first],
  ] as const) {
    await hidden.becomes("hidden");
    await seen.becomes("visible");
    await isWith(seen, hidden);
  }
  // Who comes back to the tab that has the link finds it as it was.
  let more = 0;
  first.page.on("websocket", () => (more += 1));
  await first.becomes("hidden");
  await first.becomes("visible");
  // What happens goes to that one, and what happened to the one after it.
  desk = await stage.desk(up);
  await desk.finishes(up.project, "@text N=2");
  await first.page.locator("li.thread").waitFor();
  const held = await first.page.evaluate(async () => (await navigator.locks.query()).held?.length);
  expect([held, more]).toEqual([1, 0]);
  await first.becomes("hidden");
  await second.becomes("visible");
  await second.page.locator("li.thread").waitFor();
});

test("where the browser has no locks, each tab has a link of its own", async () => {
  await first.page.context().addInitScript(() => {
    Reflect.deleteProperty(Navigator.prototype, "locks");
  });
  const tabs = [await opened(), await opened()];
  for (const tab of tabs) {
    await tab.sees("Online");
  }
  expect(tabs.map(({ links }) => links)).toEqual([1, 1]);
  expect(await tabs[0]?.page.getByText(ELSEWHERE).count()).toBe(0);
});

test.each([
  ["was lost on its way", true, false],
  ["is being written down", false, false],
  ["is handed to the link", false, true],
])("a prompt that %s is sent once, by the tab that comes", async (_, lost, handed) => {
  await first.page.routeWebSocket(/.*/, (socket) => {
    const relay = socket.connectToServer();
    socket.onMessage((message) => {
      if (!mute) {
        relay.send(message);
      }
    });
  });
  await first.page.reload();
  desk = await stage.desk(up);
  await first.drafts(DRAFT);
  mute = lost;
  await first.taps("Start");
  await first.keeps(handed);
  const second = await opened();
  await vi.waitUntil(async () => (await desk.titles()).length > 0, { timeout: 30_000, interval: 50 });
  await first.sees(ELSEWHERE);
  mute = false;
  await first.taps("Use it here");
  await second.sees(ELSEWHERE);
  await first.page.goto(`${up.relayUrl}/#/hosts`);
  await first.page.locator("a.row").first().tap();
  await first.page.locator("li.thread").tap();
  await first.sees("You are talking to the real Codex");
  // What the first tab had said before it lost its link has come by now.
  await first.taps("Back to threads");
  await first.taps("New");
  await first.page.getByRole("button", { name: /^Folder/ }).waitFor();
  expect(await first.page.getByRole("textbox", { name: "First message" }).inputValue()).toBe("");
  expect(await desk.titles()).toHaveLength(1);
  const { data } = await desk.asks("thread/list", {});
  const { thread } = await desk.asks("thread/read", { threadId: json(list(data)[0]).id, includeTurns: true });
  expect(list(json(thread).turns)).toHaveLength(1);
});
