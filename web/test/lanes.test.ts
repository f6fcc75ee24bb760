import { expect, test } from "vitest";
import { utf8 } from "../src/bytes";
import { TextLanes } from "../src/host/lanes";
import { type Json, json } from "../src/json";

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

const LETTERS = "Three files of ä🙂";
const completed = (itemId: string, text: string): Record<string, unknown> => ({
  method: "item/completed",
  params: { threadId: "t", turnId: "u", item: { type: "agentMessage", id: itemId, text, phase: null } },
  emittedAtMs: 5,
});
const begun = (itemId: string, delta: string, lane: number, method = "item/agentMessage/delta"): Json => ({
  method,
  params: { threadId: "t", turnId: "u", itemId, delta },
  lane,
});
const bytes = utf8(LETTERS).length;

test("a text that a lane has carried is in the item that is complete, once", () => {
  const lanes = new TextLanes();
  for (let round = 0; round < 2; round += 1) {
    lanes.whole(begun("a", "Three ", 0));
    lanes.whole(begun("b", "other", 1));
    lanes.whole({ lane: 0, delta: "files of ä\ud83d" });
    lanes.whole({ lane: 0, delta: "\ude42" });
    const omitted = { lane: 0, bytes };
    expect(lanes.whole({ ...completed("a", ""), omitted })).toEqual(completed("a", LETTERS));
    expect(lanes.whole({ ...completed("a", ""), omitted })).toBeNull();
  }
  lanes.whole(begun("c", LETTERS, 7, "item/commandExecution/outputDelta"));
  const item = { type: "commandExecution", id: "c", exitCode: 0 };
  const params = { threadId: "t", turnId: "u", item: { ...item, aggregatedOutput: "" } };
  expect(lanes.whole({ method: "item/completed", params, omitted: { lane: 7, bytes } })).toEqual({
    method: "item/completed",
    params: { threadId: "t", turnId: "u", item: { ...item, aggregatedOutput: LETTERS } },
  });
  expect(lanes.whole(completed("b", "other"))).toEqual(completed("b", "other"));
});

test("a text that is not here, or of another length, is none", () => {
  const omits: readonly unknown[] = [
    { lane: 0, bytes: bytes + 1 },
    { lane: 0, bytes: LETTERS.length },
    { lane: 0, bytes: 2 ** 53 },
    { lane: 0, bytes: String(bytes) },
    { lane: 0 },
    { lane: 1, bytes },
    { lane: 9, bytes },
    { lane: "0", bytes },
    null,
    bytes,
    "text",
  ];
  const carried = (method?: string): TextLanes => {
    const lanes = new TextLanes();
    lanes.whole(begun("a", LETTERS, 0, method));
    return lanes;
  };
  for (const omitted of omits) {
    expect(carried().whole({ ...completed("a", ""), omitted }), JSON.stringify(omitted)).toBeNull();
  }
  const omitted = { lane: 0, bytes };
  expect(carried().whole({ ...completed("b", ""), omitted }), "of another item").toBeNull();
  const { params } = completed("a", "");
  const elsewhere = { ...completed("a", ""), params: { ...json(params), threadId: "t2" }, omitted };
  expect(carried().whole(elsewhere), "of another thread").toBeNull();
  expect(carried("item/reasoning/textDelta").whole({ ...completed("a", ""), omitted }), "of a part").toBeNull();
  const lanes = carried();
  lanes.whole({ lane: 0, delta: 5 });
  expect(lanes.whole({ ...completed("a", ""), omitted }), "with a piece that is none").toBeNull();
  expect(carried().whole({ ...completed("a", ""), omitted })).not.toBeNull();
});

test("of a long text nothing is kept", () => {
  const most = "x".repeat(256 * 1024);
  const lanes = new TextLanes();
  lanes.whole(begun("a", "", 0));
  lanes.whole({ lane: 0, delta: most });
  const omitted = { lane: 0, bytes: most.length };
  expect(lanes.whole({ ...completed("a", ""), omitted })).toEqual(completed("a", most));
  lanes.whole({ lane: 0, delta: most });
  lanes.whole({ lane: 0, delta: "x" });
  expect(lanes.whole({ ...completed("a", ""), omitted: { lane: 0, bytes: most.length + 1 } })).toBeNull();
});
