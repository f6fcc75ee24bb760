/**
 * How the app feels on a phone, with the real relay, the real host agent, the real Codex and a scripted model: whether
 * it keeps up with a turn that streams, what that leaves in its memory and costs on its link, and how soon a long thread
 * is there. All of it runs on one machine, the browser among it.
 */
import { join } from "node:path";
import { type TestContext, expect, test } from "vitest";
import { Desk } from "../test/app/desk";
import type { Phone } from "../test/app/phone";
import { writeLongThread } from "../test/app/recordings";
import { Stage } from "../test/app/stage";
import { Up } from "../test/real/up";
import { type Figure, type Frames, droppedOf, framesOf, median, slope } from "./figures";
import { type FirstLook, NETWORK, SLOWER, firstLook } from "./slow";
import { Blank, type Memory, Watch } from "./watch";

const isQuick = process.env.BENCH_QUICK !== undefined;
/** Pieces of a turn, and what stands for their number in a figure's name. */
const PIECES = isQuick ? 500 : 5_000;
const TURN = `a turn of ${PIECES.toLocaleString("en")} pieces`;
/** Turns with a piece each other millisecond, faster than models write, and turns as fast as Codex gives them on. */
const PACED = isQuick ? 2 : 10;
const RUSHED = isQuick ? 1 : 3;
/** Turns of the first kind before memory counts: what a browser compiles as it is used is there then. */
const WARM = isQuick ? 1 : 4;
/** Items of a long thread, and how many such threads are opened. */
const ITEMS = isQuick ? 2_000 : 20_000;
const THREADS = isQuick ? 2 : 5;

/** First looks at the app, each by a browser that has nothing of it. */
const LOOKS = isQuick ? 2 : 9;

/** What is meant to be: a share, a share of what was there, kB, milliseconds, milliseconds, kB. */
const GOAL = { dropped: 1 / 50, heap: 0.1, link: 60, open: 1_000, first: 1_500, app: 120 } as const;

/** How often a screen shows something new, in milliseconds: Chromium without one has 60 frames a second. */
const INTERVAL = 1_000 / 60;

/** One turn that was looked at. */
interface Turn {
  readonly frames: Frames;
  /** Of a page that showed nothing meanwhile. */
  readonly blank: Frames;
  /** What its page's thread worked from when it was written until it was over, in milliseconds of a processor. */
  readonly work: number;
  /** On the link, in bytes. */
  readonly carried: number;
  /** After it. */
  readonly memory: Memory;
}

const stage = Stage.ofFile();

/** Hands on what was measured. */
function gives({ task }: TestContext, ...figures: readonly Figure[]): void {
  task.meta.figures = figures;
  task.meta.browser = `Chromium ${stage.browser.version()}`;
}

function times(count: number): readonly number[] {
  return Array.from({ length: count }, (_, index) => index);
}

/** Has a person prompt this in the thread that is open, and looks until the answer is there. */
async function turns(phone: Phone, watch: Watch, blank: Blank, prompt: string): Promise<Turn> {
  const [carriedBefore, workedBefore] = [watch.carried, await watch.worked()];
  await phone.page.getByLabel("Message to Codex").fill(prompt);
  const written = watch.written();
  await blank.begins();
  await phone.page.getByRole("button", { name: "Send", exact: true }).tap();
  const frames = framesOf(await written, INTERVAL);
  const beside = framesOf(await blank.ends(), INTERVAL);
  await phone.page.locator(".turnbar", { hasText: "Idle" }).waitFor();
  const carried = watch.carried - carriedBefore;
  const work = (await watch.worked()) - workedBefore;
  const memory = await watch.memory();
  console.error(
    `  ${frames.dropped} of ${frames.expected} frames dropped, ${frames.longest.toFixed(0)} ms the longest ` +
      `(an empty page: ${beside.dropped} of ${beside.expected}), ${work.toFixed(0)} ms of a processor, ` +
      `${(carried / 1e3).toFixed(1)} kB; heap ${(memory.heap / 1e6).toFixed(2)} MB, ${memory.nodes} nodes`,
  );
  return { frames, blank: beside, work, carried, memory };
}

/** What a series of turns was like: their frames, and their bytes. */
function figuresOf(how: string, all: readonly Turn[]): readonly Figure[] {
  const frames = all.map((turn) => turn.frames);
  const carried = all.map((turn) => turn.carried / 1e3);
  const longest = frames.map((one) => one.longest);
  const work = all.map((turn) => turn.work);
  const blank = all.map((turn) => turn.blank);
  const shares = (each: readonly Frames[]): readonly number[] => each.map((one) => droppedOf([one]));
  const name = `${TURN}, ${how}`;
  return [
    {
      figure: `frames dropped: ${name}`,
      unit: "share",
      value: droppedOf(frames),
      goal: GOAL.dropped,
      rounds: shares(frames),
    },
    {
      figure: `frames dropped by an empty page meanwhile: ${name}`,
      unit: "share",
      value: droppedOf(blank),
      goal: null,
      rounds: shares(blank),
    },
    { figure: `longest frame: ${name}`, unit: "ms", value: median(longest), goal: null, rounds: longest },
    { figure: `processor time of the page: ${name}`, unit: "ms", value: median(work), goal: null, rounds: work },
    { figure: `bytes on the link: ${name}`, unit: "kB", value: median(carried), goal: GOAL.link, rounds: carried },
  ];
}

/** What a series of turns left behind: after each of them, and in the list of threads before and after all of them. */
function memoryFigures(all: readonly Memory[], before: Memory, after: Memory): readonly Figure[] {
  const [heap, made] = [all.map((memory) => memory.heap / 1e6), all.map((memory) => memory.made / 1e3)];
  const nodes = all.map((memory) => memory.nodes);
  const last = (values: readonly number[]): number => values.at(-1) ?? NaN;
  const grown = (values: readonly number[]): number => last(values) / (values[0] ?? NaN) - 1;
  const one = { goal: null, rounds: [] };
  return [
    {
      figure: `heap over ${all.length} such turns in one thread`,
      unit: "MB",
      value: last(heap),
      goal: null,
      rounds: heap,
    },
    {
      figure: "heap grown from the first to the last turn",
      unit: "share",
      value: grown(heap),
      ...one,
      goal: GOAL.heap,
    },
    { figure: "heap grown with each turn, but for compiled code", unit: "kB", value: slope(made), ...one },
    {
      figure: "heap grown once the thread is left",
      unit: "share",
      value: grown([before.heap, after.heap]),
      ...one,
      goal: GOAL.heap,
    },
    {
      figure: "heap grown once the thread is left, but for compiled code",
      unit: "share",
      value: grown([before.made, after.made]),
      ...one,
    },
    { figure: `nodes over ${all.length} such turns`, unit: "nodes", value: last(nodes), goal: null, rounds: nodes },
    { figure: "nodes grown with each turn", unit: "nodes", value: slope(nodes), ...one },
    { figure: "nodes grown once the thread is left", unit: "nodes", value: after.nodes - before.nodes, ...one },
  ];
}

test("first looks, on a slow phone far away", async (context) => {
  console.error("First looks:");
  const up = await Up.start();
  stage.leftovers.add(() => up.stop().then(() => undefined));
  // The browser has started all that it starts once, and the relay has given each file once.
  await firstLook(stage.browser, up.relayUrl);
  const looks: FirstLook[] = [];
  while (looks.length < LOOKS) {
    const look = await firstLook(stage.browser, up.relayUrl);
    console.error(`  ${look.time.toFixed(0)} ms, ${(look.bytes / 1e3).toFixed(1)} kB`);
    looks.push(look);
  }
  const [times, bytes] = [looks.map(({ time }) => time), looks.map((look) => look.bytes / 1e3)];
  const name = `at ${NETWORK.bits / 1e6} Mbit/s, ${NETWORK.roundTrip} ms, with a processor ${SLOWER} times slower`;
  gives(
    context,
    { figure: `first usable view ${name}`, unit: "ms", value: median(times), goal: GOAL.first, rounds: times },
    { figure: "page, style and scripts for it", unit: "kB", value: median(bytes), goal: GOAL.app, rounds: bytes },
  );
});

test("turns that stream, in a thread that is open", async (context) => {
  console.error("Turns that stream:");
  const phone = await stage.unbox();
  const watch = await Watch.of(phone);
  const up = await stage.pairs(phone);
  // Somebody else begins it, and hears nothing of what is measured.
  const desk = await Desk.at(up);
  await desk.finishes(up.project, "mend the shop");
  await desk.leaves();
  await phone.taps(/^Open/);
  const row = phone.page.locator("li.thread").first();
  const opens = async (): Promise<void> => {
    await row.tap();
    await phone.page.locator(".say").first().waitFor();
  };
  const leaves = async (): Promise<Memory> => {
    await phone.taps("Back to threads");
    await row.waitFor();
    return watch.settled();
  };
  await opens();

  const blank = await Blank.open(stage.browser);
  const series = async (count: number, pause: number): Promise<readonly Turn[]> => {
    const all: Turn[] = [];
    while (all.length < count) {
      all.push(await turns(phone, watch, blank, `@text N=${PIECES} ms=${pause}`));
    }
    return all;
  };
  // Turns at once first, for the same reason.
  const rushed = await series(RUSHED, 0);
  await series(WARM, 2);
  const before = await leaves();
  await opens();
  const paced = await series(PACED, 2);
  const after = await leaves();
  await blank.close();
  const memories = paced.map(({ memory }) => memory);
  gives(
    context,
    ...figuresOf("2 ms apart", paced),
    ...figuresOf("at once", rushed),
    ...memoryFigures(memories, before, after),
  );
});

test("long threads that are opened", async (context) => {
  console.error("Long threads, opened for the first time and again:");
  const phone = await stage.unbox();
  const watch = await Watch.of(phone);
  let threads: readonly ReturnType<typeof writeLongThread>[] = [];
  const up = await stage.pairs(phone, (env) => {
    const home = env.REACHBACK_HOME ?? "";
    threads = times(THREADS).map((number) =>
      writeLongThread(join(home, "demo", "codex-home"), `${home}-project`, { number, items: ITEMS }),
    );
    return undefined;
  });
  const desk = await Desk.at(up);
  // Codex keeps a list of a thread's items from when it first had it.
  for (const { id } of threads) {
    await desk.asks("thread/resume", { threadId: id, excludeTurns: true });
  }
  await desk.leaves();
  await phone.taps(/^Open/);
  const opens = async (all: typeof threads): Promise<readonly number[]> => {
    const took: number[] = [];
    for (const { title, last } of all) {
      const row = phone.page.locator("li.thread").filter({ hasText: title });
      await row.waitFor();
      const appears = watch.appears(last);
      await row.tap();
      took.push(await appears);
      await phone.taps("Back to threads");
    }
    console.error(`  ${took.map((time) => time.toFixed(0)).join(", ")} ms`);
    return took;
  };
  const first = await opens(threads);
  const again = await opens(threads);
  expect(again).toHaveLength(THREADS);
  const name = `from the touch to the last of ${ITEMS.toLocaleString("en")} items`;
  gives(
    context,
    { figure: `${name}, for the first time`, unit: "ms", value: median(first), goal: GOAL.open, rounds: first },
    { figure: `${name}, again`, unit: "ms", value: median(again), goal: GOAL.open, rounds: again },
  );
});
