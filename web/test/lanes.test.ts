import { expect, test } from "vitest";
import { TextLanes } from "../src/host/lanes";

const begins = (item: string, lane: number): Record<string, unknown> => ({
  method: "item/agentMessage/delta",
  params: { threadId: "t", itemId: item, delta: "Three " },
  lane,
});
const whole = (item: string, delta: string): object => ({
  method: "item/agentMessage/delta",
  params: { threadId: "t", itemId: item, delta },
});

test("a lane stands for what is around its text", () => {
  const lanes = new TextLanes();
  expect(lanes.whole(begins("a", 0))).toEqual(whole("a", "Three "));
  expect(lanes.whole(begins("b", 1))).toEqual(whole("b", "Three "));
  expect(lanes.whole({ lane: 0, delta: "files" })).toEqual(whole("a", "files"));
  expect(lanes.whole({ lane: 1, delta: "" })).toEqual(whole("b", ""));
  expect(lanes.whole(begins("c", 0))).toEqual(whole("c", "Three "));
  expect(lanes.whole({ lane: 0, delta: " of" })).toEqual(whole("c", " of"));
  expect(lanes.whole({ lane: 1, delta: "." })).toEqual(whole("b", "."));
});

test("whatever else there is stays as it is, and a lane that has not begun says nothing", () => {
  const lanes = new TextLanes();
  for (const message of [
    { id: 1, result: {} },
    { method: "turn/completed", params: {} },
    { lane: "0", delta: "x" },
    {},
  ]) {
    expect(lanes.whole(message)).toEqual(message);
  }
  expect(lanes.whole({ lane: 3, delta: "x" })).toEqual({});
  // Nothing is kept of a lane beyond the eighth.
  lanes.whole(begins("a", 8));
  expect(lanes.whole({ lane: 8, delta: "x" })).toEqual({ lane: 8, delta: "x" });
});
