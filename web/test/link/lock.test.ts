/** Tabs of one browser, and which of them has the links. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { type Hold, LinkLock, type Locks } from "../../src/link/lock";
import { TestLocks } from "./locks";
import { TestPage } from "./page";

/** One tab. */
class Tab {
  readonly page = new TestPage();
  readonly lock: LinkLock;
  /** What it was told, in order. */
  readonly told: Hold[] = [];

  constructor(locks: Locks | null, visible = true) {
    this.page.visible = visible;
    this.lock = new LinkLock(locks, this.page);
    this.lock.hold.subscribe((hold) => {
      if (this.told.at(-1) !== hold) {
        this.told.push(hold);
      }
    });
    this.lock.start();
  }

  get hold(): Hold {
    return this.lock.hold.value;
  }
}

let locks: TestLocks;

beforeEach(() => {
  vi.useFakeTimers();
  locks = new TestLocks();
});

afterEach(() => {
  vi.useRealTimers();
});

async function settled(): Promise<void> {
  await vi.advanceTimersByTimeAsync(10);
}

async function opened(visible = true): Promise<Tab> {
  const tab = new Tab(locks, visible);
  await settled();
  return tab;
}

test("the only tab has it; the browser gives it in a moment", async () => {
  const tab = await opened();
  expect(tab.told).toEqual(["awaited", "ours"]);
  tab.page.hide();
  tab.page.show();
  await settled();
  expect(tab.told).toEqual(["awaited", "ours"]);
});

test("a tab that a person opens takes it, and one that they say so in takes it back", async () => {
  const [first, second] = [await opened(), await opened()];
  expect([first.hold, second.hold]).toEqual(["elsewhere", "ours"]);
  first.lock.take();
  // Twice is once.
  first.lock.take();
  expect(first.hold).toBe("awaited");
  await settled();
  expect([first.hold, second.hold]).toEqual(["ours", "elsewhere"]);
  expect(locks.waiting).toBe(1);
});

test("a tab that nobody sees takes it from none, and has it once somebody does", async () => {
  const first = await opened();
  const second = await opened(false);
  expect([first.hold, second.hold]).toEqual(["ours", "awaited"]);
  first.page.hide();
  second.page.show();
  await settled();
  expect([first.hold, second.hold]).toEqual(["awaited", "ours"]);
  second.page.hide();
  first.page.show();
  await settled();
  expect([first.hold, second.hold]).toEqual(["ours", "awaited"]);
  // Nobody was told anything that they would have seen.
  expect([...first.told, ...second.told]).not.toContain("elsewhere");
  expect(locks.waiting).toBe(0);
});

test("a tab that slept as it lost it has it again when somebody sees it, however late it hears of that", async () => {
  const late = <T>(asked: Promise<T>): Promise<T> =>
    asked.catch(async (error: unknown) => {
      await new Promise((resolve) => setTimeout(resolve, 1_000));
      throw error;
    });
  const first = new Tab({ request: (...asked) => late(locks.request(...asked)) });
  await settled();
  first.page.hide();
  const second = await opened();
  expect([first.hold, second.hold]).toEqual(["ours", "ours"]);
  second.page.hide();
  let again = 0;
  first.lock.hold.subscribe(() => (again += 1));
  first.page.show();
  await vi.advanceTimersByTimeAsync(5_000);
  expect([first.told, second.hold]).toEqual([["awaited", "ours"], "awaited"]);
  // Whoever has to read anew what was done meanwhile is told.
  expect(again).toBe(2);
});

test("the first tab has it, seen or not, where no other one does", async () => {
  const tab = await opened(false);
  expect(tab.hold).toBe("ours");
});

test("one that lost it under a person's eyes has it when they come back, or when the other one is closed", async () => {
  const first = await opened();
  await opened();
  first.page.hide();
  first.page.show();
  expect(first.hold).toBe("awaited");
  await settled();
  expect(first.hold).toBe("ours");
  await opened();
  expect(first.hold).toBe("elsewhere");
  locks.close();
  await settled();
  // The one before it waited first.
  locks.close();
  await settled();
  expect(first.hold).toBe("ours");
});

test("whatever tabs do, one has it in the end, and each of the others knows that it has not", async () => {
  const tabs = [await opened(), await opened(), await opened()];
  for (let turn = 0; turn < 300; turn += 1) {
    const tab = tabs[(turn * 7) % 3];
    const does = [
      () => tab?.page.show(),
      () => tab?.page.hide(),
      () => tab?.lock.take(),
      () => tab?.page.tell("shown"),
    ];
    does[(turn * turn + turn) % 4]?.();
    if (turn % 3 === 0) {
      await settled();
      expect(tabs.filter(({ hold }) => hold === "ours")).toHaveLength(1);
    }
  }
  expect(locks.waiting).toBeLessThan(tabs.length);
});

test("without locks, or where a page gets none, each tab has links", async () => {
  const none = new Tab(null);
  expect(none.told).toEqual(["ours"]);
  const barred = new Tab({ request: () => Promise.reject(new DOMException("not here", "SecurityError")) });
  await settled();
  expect(barred.told).toEqual(["awaited", "ours"]);
  barred.page.hide();
  barred.page.show();
  expect(barred.hold).toBe("ours");
});
