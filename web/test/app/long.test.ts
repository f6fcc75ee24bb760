/** A thread of 20,000 items: what is far from what one reads is not in the page, and nothing moves for that. */
import { join } from "node:path";
import { beforeEach, expect, test, vi } from "vitest";
import type { Phone } from "./phone";
import { writeLongThread } from "./recordings";
import { Stage } from "./stage";

const ITEMS = 20_000;
/** How often older ones are read, and how many of them there are in a page at least: 32 KiB of some 900 bytes each. */
const PAGES = 30;
const LEAST = 20;

const stage = Stage.ofFile();
let phone: Phone;

beforeEach(async () => {
  phone = await stage.unbox();
  let thread: ReturnType<typeof writeLongThread> | undefined;
  const up = await stage.pairs(phone, (env) => {
    const home = env.REACHBACK_HOME ?? "";
    thread = writeLongThread(join(home, "demo", "codex-home"), `${home}-project`, { number: 1, items: ITEMS });
    return undefined;
  });
  const desk = await stage.desk(up);
  await desk.asks("thread/resume", { threadId: thread?.id, excludeTurns: true });
  await phone.taps(/^Open/);
  await phone.page
    .locator("li.thread")
    .filter({ hasText: thread?.title ?? "" })
    .tap();
  await phone.page.locator(".say", { hasText: thread?.last ?? "" }).waitFor();
});

/** What is in the page: nodes, messages, stretches that are not laid out, and how high all of it is. */
interface Laid {
  readonly nodes: number;
  readonly said: number;
  readonly away: number;
  readonly height: number;
}

function laid(): Promise<Laid> {
  return phone.page.evaluate(() => ({
    nodes: document.querySelectorAll("*").length,
    said: document.querySelectorAll(".say").length,
    away: document.querySelectorAll("[data-away]").length,
    height: document.querySelector("main")?.scrollHeight ?? 0,
  }));
}

/** A message, and where it stands from the upper edge of what one sees. */
interface Stands {
  readonly words: string;
  readonly top: number;
}

/** Scrolls, and gives what is then at the upper edge, before anything else happens. */
function reads(how: { readonly to: number } | { readonly by: number }): Promise<Stands | null> {
  return phone.page.evaluate((how) => {
    const main = document.querySelector("main");
    if (main === null) {
      return null;
    }
    main.scrollTop = "to" in how ? how.to : main.scrollTop + how.by;
    const edge = main.getBoundingClientRect().top;
    const said = [...document.querySelectorAll(".say")].find((one) => one.getBoundingClientRect().bottom > edge);
    return said === undefined
      ? null
      : { words: said.textContent.slice(0, 120), top: said.getBoundingClientRect().top - edge };
  }, how);
}

/** Where this message stands now. */
function stands(words: string): Promise<number | null> {
  return phone.page.evaluate((words) => {
    const edge = document.querySelector("main")?.getBoundingClientRect().top ?? 0;
    const said = [...document.querySelectorAll(".say")].find((one) => one.textContent.startsWith(words));
    return said === undefined ? null : said.getBoundingClientRect().top - edge;
  }, words);
}

/** Waits until three frames were drawn: what comes near is laid out with the second. */
async function frames(): Promise<void> {
  await phone.page.evaluate(async () => {
    for (let frame = 0; frame < 3; frame += 1) {
      await new Promise(requestAnimationFrame);
    }
  });
}

/** Goes up to the beginning of what is there, and waits for what was before it; gives by how much what is read moved. */
async function older(): Promise<number> {
  await reads({ to: 200 });
  await frames();
  const { height } = await laid();
  const read = await reads({ to: 0 });
  expect(read).not.toBe(null);
  await vi.waitUntil(async () => (await laid()).height > height + 1_000, { timeout: 30_000 });
  await frames();
  const now = await stands(read?.words ?? "");
  return Math.abs((now ?? NaN) - (read?.top ?? NaN));
}

test("what is far is not in the page, and what is read stays where it is", async () => {
  const moved: number[] = [];
  while (moved.length < PAGES) {
    moved.push(await older());
  }
  expect(Math.max(...moved)).toBeLessThan(2);
  const { nodes, said, away, height } = await laid();
  expect(away).toBeGreaterThan((PAGES * LEAST) / 16 / 2);
  expect(said).toBeLessThan(150);
  expect(nodes).toBeLessThan(2_500);

  // Down again by a screen at a time: there is something to read everywhere, and all of it is as high as it was.
  const screens = 40;
  for (let screen = 0; screen < screens; screen += 1) {
    const read = await reads({ by: 700 });
    await frames();
    expect(Math.abs(((await stands(read?.words ?? "")) ?? NaN) - (read?.top ?? NaN))).toBeLessThan(2);
    expect(Math.abs((await laid()).height - height)).toBeLessThan(2);
  }
  // In one go to the end: what is there is laid out, and followed.
  await reads({ to: height });
  await vi.waitUntil(async () => (await reads({ by: 0 })) !== null, { timeout: 10_000 });
  expect((await laid()).said).toBeLessThan(150);
});

test("what somebody has marked stays, and what is above takes another width without moving what is read", async () => {
  for (let page = 0; page < 6; page += 1) {
    await older();
  }
  const { height } = await laid();
  await reads({ to: height / 2 });
  await vi.waitUntil(async () => (await reads({ by: 0 })) !== null, { timeout: 10_000 });
  const marked = await phone.page.evaluate(() => {
    const said = document.querySelectorAll(".say")[3];
    if (said !== undefined) {
      getSelection()?.selectAllChildren(said);
    }
    return getSelection()?.toString() ?? "";
  });
  expect(marked).toContain("Step");
  await reads({ to: height });
  await frames();
  expect(await phone.page.evaluate(() => getSelection()?.toString())).toBe(marked);
  await phone.page.evaluate(() => getSelection()?.empty());

  const size = phone.page.viewportSize() ?? { width: 0, height: 0 };
  await phone.page.setViewportSize({ ...size, width: size.width - 60 });
  await frames();
  expect((await laid()).away).toBeGreaterThan(2);
  for (let screen = 0; screen < 20; screen += 1) {
    const read = await reads({ by: -500 });
    await frames();
    expect(Math.abs(((await stands(read?.words ?? "")) ?? NaN) - (read?.top ?? NaN))).toBeLessThan(2);
  }
});
