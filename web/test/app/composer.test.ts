/** A person writes to a thread from a phone: the real Codex has it, once. */
import { beforeEach, expect, test, vi } from "vitest";
import { json, list, text } from "../../src/json";
import { named } from "../../src/views/named";
import type { Up } from "../real/up";
import { audits } from "./audit";
import type { Desk } from "./desk";
import type { Phone } from "./phone";
import { Stage } from "./stage";

let up: Up;
let desk: Desk;
let phone: Phone;
let thread: string;
/** Whether what the phone sends, and what it is sent, is lost on the way. */
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
    relay.onMessage((message) => {
      if (!mute) {
        socket.send(message);
      }
    });
  });
  up = await stage.pairs(phone);
  desk = await stage.desk(up);
  thread = await desk.finishes(up.project, "mend the shop");
  await phone.taps(/^Open/);
  await phone.page.locator("li.thread").first().tap();
  await field().waitFor();
  await phone.sees("You are talking to the real Codex");
});

function field(): ReturnType<Phone["page"]["locator"]> {
  return phone.page.getByLabel("Message to Codex");
}

/** Writes this, and touches that. */
async function says(what: string, how = "Send"): Promise<void> {
  await field().fill(what);
  await phone.page.getByRole("button", { name: how, exact: true }).tap();
}

/** Writes this while a turn runs, and waits until it can be sent: the message before it goes first. */
async function writes(what: string): Promise<void> {
  await field().fill(what);
  await phone.page.getByRole("button", { name: "Steer now", disabled: false }).waitFor();
}

/** Has the page write nothing down any more, as if it were too slow for that, until it is another one. */
async function writesNothing(): Promise<void> {
  await phone.page.evaluate(
    () =>
      new Promise<void>((resolve) => {
        const open = indexedDB.open("reachback");
        open.addEventListener("success", () => {
          const messages = open.result.transaction("messages", "readwrite").objectStore("messages");
          const holds = (): void => {
            messages.count().addEventListener("success", holds);
          };
          holds();
          resolve();
        });
      }),
  );
}

/** A message of a person's in the log. */
function mine(what: string): ReturnType<Phone["page"]["locator"]> {
  return phone.page.locator(".me").filter({ hasText: what });
}

/** What Codex has of a person's messages in the thread, the oldest first, by turn. */
async function said(): Promise<readonly (readonly string[])[]> {
  const { thread: read } = await desk.asks("thread/read", { threadId: thread, includeTurns: true });
  return list(json(read).turns).map((turn) =>
    list(json(turn).items)
      .map(json)
      .filter(({ type }) => type === "userMessage")
      .map(({ content }) => text(json(list(content)[0]).text)),
  );
}

/** Waits until that is all that Codex has. */
async function hasSaid(...turns: readonly (readonly string[])[]): Promise<void> {
  await vi.waitFor(async () => {
    expect(await said()).toEqual([["mend the shop"], ...turns]);
  }, 30_000);
}

/** Waits until no turn runs. */
async function rests(): Promise<void> {
  await phone.page.locator(".turnbar", { hasText: "Idle" }).waitFor();
}

test("a message begins a turn, and has its receipt, also after a reload", async () => {
  await audits(phone, "composer");
  await says("@text N=3 ms=1 size=4");
  await mine("@text").getByText("Turn started").waitFor();
  // The receipt may be there before the turn is.
  await phone.page.locator(".say[aria-busy=false]").nth(1).waitFor();
  await rests();
  expect(await field().inputValue()).toBe("");
  await phone.shoots("composer-started");
  await phone.page.reload();
  await mine("@text").getByText("Turn started").waitFor();
  await hasSaid(["@text N=3 ms=1 size=4"]);
});

test("a message that is long is folded until somebody wants all of it", async () => {
  const lines = (count: number): string => Array.from({ length: count }, (_, at) => `step ${at + 1}`).join("\n");
  await says(lines(12));
  await mine("step 12").getByText("Turn started").waitFor();
  await rests();
  await says(`first\n${lines(40)}`);
  const message = mine("first");
  await message.getByText("Turn started").waitFor();
  await rests();
  expect(await mine("step 12").first().getByRole("button").count()).toBe(0);
  const shown = async (): Promise<number> =>
    message
      .locator(".me__words")
      .evaluate((words) => words.clientHeight / parseFloat(getComputedStyle(words).lineHeight));
  const isWhole = async (count: number): Promise<void> => {
    await vi.waitFor(async () => {
      expect(Math.round(await shown())).toBe(count);
    });
  };
  await isWhole(8);
  await audits(phone, "composer-folded");
  // It is long on a screen that is turned, too, and still so when that is turned back.
  await phone.page.setViewportSize({ width: 844, height: 390 });
  await isWhole(8);
  await phone.page.setViewportSize({ width: 390, height: 844 });
  await isWhole(8);
  await phone.page.reload();
  await message.getByRole("button", { name: "Show all" }).tap();
  await isWhole(41);
  await message.getByRole("button", { name: "Show less" }).tap();
  await isWhole(8);
});

test("what is written while a turn runs waits for its end, can be moved, edited and taken back, and is sent after a stop", async () => {
  await says("@hang");
  await phone.page.getByRole("button", { name: "Stop" }).waitFor();
  await field().fill("paint the fence");
  await audits(phone, "composer-running");
  // What goes on is said to its end, in the largest letters too.
  await phone.page.evaluate(() => (document.documentElement.dataset.text = "200"));
  const bar = phone.page.locator(".turnbar > .clip");
  expect(await bar.evaluate(({ scrollWidth, clientWidth }) => scrollWidth - clientWidth)).toBeLessThan(2);
  await phone.page.evaluate(() => delete document.documentElement.dataset.text);
  await phone.shoots("composer-modes");
  await phone.taps("After this turn");
  const queue = phone.page.getByRole("list", { name: "Queued for after this turn" });
  await queue.getByText("paint the fence").waitFor();
  await says("sell the car", "After this turn");
  await queue.getByText("sell the car").waitFor();
  await phone.page.getByRole("button", { name: `Move up: ${named("sell the car")}` }).waitFor();
  await audits(phone, "composer-queue");
  await phone.shoots("composer-queue");
  await phone.taps(`Move up: ${named("sell the car")}`);
  await vi.waitFor(async () => {
    expect(await queue.locator(".clip").allInnerTexts()).toEqual(["sell the car", "paint the fence"]);
  }, 30_000);
  await phone.taps(`Withdraw queued message: ${named("sell the car")}`);
  await queue.getByText("sell the car").waitFor({ state: "detached" });
  await phone.taps(`Edit queued message: ${named("paint the fence")}`);
  await queue.waitFor({ state: "detached" });
  // The queue is told by the host, and the text comes with the answer.
  await vi.waitFor(async () => {
    expect(await field().inputValue()).toBe("paint the fence");
  }, 30_000);
  await phone.taps("After this turn");
  await queue.getByText("paint the fence").waitFor();
  await phone.taps("Stop");
  await rests();
  await queue.getByText("waits to be sent").waitFor();
  await phone.shoots("composer-queue-stopped");
  await phone.taps(`Send now: ${named("paint the fence")}`);
  await mine("paint the fence").getByText("Turn started").waitFor();
  await rests();
  await hasSaid(["@hang"], ["paint the fence"]);
});

test("a message that waits begins the next turn by itself", async () => {
  await says("@wait");
  await phone.page.getByRole("button", { name: "Stop" }).waitFor();
  await says("paint the fence", "After this turn");
  await phone.page.getByRole("list", { name: "Queued for after this turn" }).getByText(", next").waitFor();
  await desk.lets(up.project);
  await mine("paint the fence").getByText("Turn started").waitFor();
  await rests();
  await hasSaid(["@wait"], ["paint the fence"]);
});

test("a message steers the turn that runs", async () => {
  await says("@wait");
  await phone.page.getByRole("button", { name: "Stop" }).waitFor();
  await says("leave the tests alone", "Steer now");
  await mine("leave the tests alone").getByText("Steered the turn").waitFor();
  await phone.shoots("composer-steered");
  await desk.lets(up.project);
  await rests();
  await hasSaid(["@wait", "leave the tests alone"]);
});

test("Stop ends the turn, and is never where Send is", async () => {
  const send = await phone.page.locator(".send").boundingBox();
  await says("@hang");
  const stop = phone.page.getByRole("button", { name: "Stop" });
  await stop.waitFor();
  const box = await stop.boundingBox();
  expect((box?.y ?? 0) + (box?.height ?? 0)).toBeLessThanOrEqual(send?.y ?? 0);
  await stop.tap();
  await rests();
  await hasSaid(["@hang"]);
  const { data } = await desk.asks("thread/turns/list", { threadId: thread, limit: 1 });
  expect(json(list(data)[0]).status).toBe("interrupted");
});

test("a reload in mid-turn shows the turn and its receipt, and keeps the draft of each thread", async () => {
  await says("@hang");
  await mine("@hang").getByText("Turn started").waitFor();
  await field().fill("and then the door");
  await phone.page.reload();
  await phone.page.getByRole("button", { name: "Stop" }).waitFor();
  await mine("@hang").getByText("Turn started").waitFor();
  expect(await field().inputValue()).toBe("and then the door");
  await phone.taps("Back to threads");
  await desk.finishes(up.project, "another one");
  await phone.page.locator("li.thread").filter({ hasText: "another one" }).tap();
  await field().waitFor();
  expect(await field().inputValue()).toBe("");
  await phone.page.goBack();
  await phone.page.locator("li.thread").filter({ hasText: "mend the shop" }).tap();
  await phone.page.getByRole("button", { name: "Stop" }).waitFor();
  expect(await field().inputValue()).toBe("and then the door");
});

test("what is typed or sent in the moment of a reload is there after it, and sent once", async () => {
  await writesNothing();
  await field().fill("paint the fence");
  await phone.page.reload();
  await field().waitFor();
  expect(await field().inputValue()).toBe("paint the fence");
  await writesNothing();
  await phone.page.getByRole("button", { name: "Send", exact: true }).tap();
  await mine("paint the fence").getByText("Being kept on this device").waitFor();
  await phone.page.reload();
  await mine("paint the fence").getByText("Turn started").waitFor();
  expect(await field().inputValue()).toBe("");
  await hasSaid(["paint the fence"]);
});

test("what is sent while the network is lost is in the thread once", async () => {
  mute = true;
  await says("@text N=2 ms=1 size=4");
  await mine("@text")
    .getByText(/Sending|Held on this device/)
    .waitFor();
  await field().fill("a draft beside it");
  mute = false;
  await phone.page.context().setOffline(true);
  await phone.sees("1 message held here");
  await audits(phone, "composer-held");
  await phone.shoots("composer-held");
  await phone.page.context().setOffline(false);
  await mine("@text").getByText("Turn started").waitFor();
  await rests();
  expect(await field().inputValue()).toBe("a draft beside it");
  await hasSaid(["@text N=2 ms=1 size=4"]);
});

test("what is handed on as the network is lost, or the page is left, is in the thread once", async () => {
  const spoken = ["@text N=2 ms=1 size=4", "@text N=3 ms=1 size=4"];
  for (const what of spoken) {
    await says(what);
    await handsOn();
    if (what === spoken[0]) {
      await phone.page.context().setOffline(true);
      await phone.sees("this device has no network");
      await phone.page.context().setOffline(false);
    } else {
      await phone.page.reload();
    }
    await mine(what).getByText("Turn started").waitFor();
    await rests();
  }
  await hasSaid(...spoken.map((what) => [what]));
});

/** Waits until the message may be on its way, or is through already. */
async function handsOn(): Promise<void> {
  const read = (): Promise<unknown> =>
    new Promise((resolve) => {
      const open = indexedDB.open("reachback");
      open.onsuccess = () => {
        const all = open.result.transaction("messages").objectStore("messages").getAll();
        all.onsuccess = () => {
          open.result.close();
          resolve(all.result);
        };
      };
    });
  const isOn = async (): Promise<boolean> => {
    const [row] = list(await phone.page.evaluate(read)).map(json);
    return (await field().inputValue()) === "" && (row === undefined || json(row.sent).journal !== null);
  };
  await vi.waitUntil(isOn, { timeout: 30_000, interval: 5 });
}

test("a message that is held survives a reload, and is withdrawn into the composer", async () => {
  mute = true;
  await says("paint the fence");
  await mine("paint")
    .getByText(/Sending|Held on this device/)
    .waitFor();
  await phone.page.reload();
  await mine("paint").getByRole("button", { name: "Withdraw" }).tap();
  await mine("paint").waitFor({ state: "detached" });
  expect(await field().inputValue()).toBe("paint the fence");
  mute = false;
  await hasSaid();
});

test("Return begins a line, Ctrl and Return sends; with a turn that runs it steers, and with Shift goes after it", async () => {
  await field().fill("@wait");
  await field().press("Enter");
  await field().press("Control+Enter");
  await phone.page.getByRole("button", { name: "Stop" }).waitFor();
  await writes("leave the tests alone");
  await field().press("Control+Enter");
  await mine("leave the tests alone").getByText("Steered the turn").waitFor();
  await writes("paint the fence");
  await field().press("Control+Shift+Enter");
  await desk.lets(up.project);
  await mine("paint the fence").getByText("Turn started").waitFor();
  await rests();
  await hasSaid(["@wait\n", "leave the tests alone"], ["paint the fence"]);
});

test("a turn that failed says why, also to who comes later", async () => {
  await says("@fail 400");
  await phone.sees("Failed.");
  await rests();
  await phone.shoots("composer-failed");
  await phone.page.reload();
  await phone.sees("Failed.");
});

test("a device that may only look has no composer, and is told", async () => {
  const id = await deviceId();
  expect(await up.command("devices", "scope", id, "view").exited()).toBe(0);
  await phone.sees("This device only watches");
  expect(await field().count()).toBe(0);
  await desk.prompts(thread, "@hang");
  await phone.page.locator(".turnbar", { hasText: "Running" }).waitFor();
  expect(await phone.page.getByRole("button", { name: "Stop" }).count()).toBe(0);
  await phone.shoots("composer-view");
});

/** This device's id, from the page of the thread and back to it. */
async function deviceId(): Promise<string> {
  await phone.taps("Back to threads");
  const id = await phone.deviceId();
  await phone.page.locator("li.thread").first().tap();
  await field().waitFor();
  return id;
}

test("one that is sent while another is on its way goes after it, by a key as by a touch, unless it is changed meanwhile", async () => {
  mute = true;
  await says("the first one");
  await mine("the first one").waitFor();
  await field().fill("the second one");
  await phone.sees("The message above goes first.");
  await field().press("Control+Enter");
  await phone.sees("The message above goes first, then this one as it stands.");
  await audits(phone, "composer-waits");
  await phone.shoots("composer-waits");
  // Whoever writes on has not finished it; and who touches is heard as who presses.
  await field().pressSequentially("!");
  await phone.page.getByText("then this one").waitFor({ state: "detached" });
  await phone.page.locator("button.send").tap();
  await phone.sees("then this one as it stands.");
  await phone.taps("Keep it as a draft");
  await phone.page.getByText("then this one").waitFor({ state: "detached" });
  await field().press("Control+Enter");
  await phone.sees("then this one as it stands.");
  expect(await field().inputValue()).toBe("the second one!");
  mute = false;
  await phone.page.context().setOffline(true);
  await phone.sees("this device has no network");
  await phone.page.context().setOffline(false);
  await hasSaid(["the first one"], ["the second one!"]);
  expect(await field().inputValue()).toBe("");
});

test("a keyboard goes through what one writes with as it looks", async () => {
  const order = (): Promise<readonly string[]> =>
    phone.page
      .locator(".composer")
      .locator("textarea, button")
      .evaluateAll((all) => all.map((each) => each.getAttribute("aria-label") ?? each.textContent.trim()));
  expect(await order()).toEqual(["Attach photo or file", "Message to Codex", "Send: write something first"]);
  const file = { name: "notes.txt", mimeType: "text/plain", buffer: Buffer.from("look at this") };
  await phone.page.getByRole("button", { name: "Attach photo or file" }).focus();
  await phone.page.locator("input[type=file]").setInputFiles(file);
  await phone.page.getByRole("button", { name: /^Remove .notes.txt/ }).waitFor();
  expect(await order()).toEqual([
    expect.stringMatching(/^Remove .notes.txt/),
    "Message to Codex",
    "Attach photo or file",
    "Send",
  ]);
  // Whoever was there is there still.
  const plus = phone.page.getByRole("button", { name: "Attach photo or file" });
  await vi.waitUntil(() => plus.evaluate((element) => element === document.activeElement), { timeout: 10_000 });
});
