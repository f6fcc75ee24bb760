/** Goals of threads that are begun here, with a Codex that answers by hand. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { CodexError, CodexRefusal } from "../../src/host/codex";
import type { Json } from "../../src/json";
import { FirstGoals } from "../../src/state/goals";

const AT = { environment: "local", thread: "t" };
const GOAL = "all tests pass";

/** What was asked, and what is answered, or thrown. */
let asked: [method: string, params: Json][];
let answers: (method: string) => Json;

function goals(): FirstGoals {
  return new FirstGoals(async (_, method, params) => {
    await Promise.resolve();
    asked.push([method, params]);
    return answers(method);
  });
}

function methods(): readonly string[] {
  return asked.map(([method]) => method);
}

beforeEach(() => {
  vi.useFakeTimers();
  asked = [];
  answers = () => ({ goal: null });
});

afterEach(() => {
  vi.useRealTimers();
});

test("one is set once, in a person's name, however often the host says that the thread is there", async () => {
  const first = goals();
  await Promise.all([first.set("p", AT, GOAL), first.set("p", AT, GOAL)]);
  await first.set("p", AT, GOAL);
  const set = { threadId: "t", objective: GOAL, status: "active", origin: "user" };
  expect(asked).toEqual([
    ["thread/goal/get", { threadId: "t" }],
    ["thread/goal/set", set],
  ]);
  expect(first.unset.value).toBe(null);
});

test("one that is there already stays as it is: it may be reached, or another one by now", async () => {
  answers = () => ({ goal: { objective: "another", status: "complete" } });
  await goals().set("p", AT, GOAL);
  expect(methods()).toEqual(["thread/goal/get"]);
});

test("what Codex refuses is not asked again, and said", async () => {
  answers = () => {
    throw new CodexRefusal("goals are off");
  };
  const first = goals();
  await first.set("p", AT, GOAL);
  expect(first.unset.value).toEqual({ ...AT, goal: GOAL, why: "goals are off" });
  expect(methods()).toEqual(["thread/goal/get"]);
});

test("without a way to Codex it is asked again, later and later, and what it comes to is said", async () => {
  let left = 2;
  answers = () => {
    if (left > 0) {
      left -= 1;
      throw new CodexError("gone");
    }
    return { goal: null };
  };
  const first = goals();
  const going = first.set("p", AT, GOAL);
  await vi.advanceTimersByTimeAsync(2_999);
  expect(methods()).toEqual(["thread/goal/get", "thread/goal/get"]);
  await vi.advanceTimersByTimeAsync(1);
  await going;
  expect(methods().at(-1)).toBe("thread/goal/set");
  left = Infinity;
  const given = first.set("q", AT, GOAL);
  await vi.advanceTimersByTimeAsync(60_000);
  await given;
  expect(first.unset.value).toMatchObject({ goal: GOAL, why: "gone" });
});
