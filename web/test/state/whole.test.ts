/** All that a command wrote: what is known while it runs, and what Codex has of it then. */
import { expect, test, vi } from "vitest";
import { CodexError } from "../../src/host/codex";
import { Observable } from "../../src/observable";
import { type Item, type WholeCommand, itemOf, namesOf } from "../../src/state/items";
import { type Output, outputOf } from "../../src/state/output";
import type { ThreadView } from "../../src/state/thread";
import { WholeOutput, boundedOutput } from "../../src/state/whole";
import { textOf } from "../../src/terminal";

const ID = "turn call";

const NOTHING: ThreadView = {
  title: null,
  folder: null,
  items: null,
  more: false,
  busy: false,
  running: true,
  stopping: false,
  queue: [],
  goal: null,
  unread: false,
  fault: null,
};

/** A thread with one command, of which a test says how it stands. */
class Scene {
  readonly view = new Observable(NOTHING);
  readonly asked: string[] = [];
  readonly whole: WholeOutput;
  #answers: ((answer: WholeCommand | null | CodexError) => void)[] = [];

  constructor(...items: readonly Item[]) {
    this.has(...items);
    this.whole = new WholeOutput(
      {
        view: this.view,
        command: (id) => {
          this.asked.push(id);
          return new Promise((resolve, reject) => {
            this.#answers.push((answer) => {
              if (answer instanceof CodexError) {
                reject(answer);
              } else {
                resolve(answer);
              }
            });
          });
        },
      },
      ID,
    );
  }

  has(...items: readonly Item[]): void {
    this.view.set({ ...NOTHING, items });
  }

  answer(answer: Partial<WholeCommand> | null | CodexError): void {
    const whole = { command: "make", output: "", end: "", live: false };
    this.#answers.shift()?.(answer === null || answer instanceof CodexError ? answer : { ...whole, ...answer });
  }

  get lines(): readonly string[] {
    const { first, last } = this.whole.view.value;
    return [...first, ...last].map(textOf);
  }
}

function command(output: string, live: boolean, end: Record<string, unknown> = { exitCode: 0 }): Item {
  const raw = { id: "call", type: "commandExecution", command: "make", aggregatedOutput: output, ...(!live && end) };
  return itemOf("turn", raw, live);
}

test("what was heard grows while it runs, and needs no host once it has ended", async () => {
  const scene = new Scene(command("one\n", true));
  const { view } = scene.whole;
  expect([scene.lines, view.value.live, view.value.reading]).toEqual([["one"], true, false]);
  scene.has(command("one\ntwo\n", true));
  expect([scene.lines, scene.asked]).toEqual([["one", "two"], []]);
  scene.has(command("one\ntwo\nthree", false, { exitCode: 3 }));
  await vi.waitUntil(() => scene.lines.length === 3);
  expect([scene.asked, view.value.end, view.value.live, view.value.reading]).toEqual([[], "exit 3", false, false]);
});

test("what did not come along with the thread is read, once", async () => {
  const scene = new Scene(command("one\n", true));
  const { view } = scene.whole;
  // The thread is read again, such as after a lost link.
  scene.has();
  scene.has({ ...command("", false, { exitCode: 3 }), cut: true });
  expect([scene.asked, view.value.end, view.value.reading]).toEqual([[ID], "exit 3", true]);
  // What was shown stays until then.
  expect(scene.lines).toEqual(["one"]);
  scene.answer({ output: "zero\none\ntwo", end: "exit 3" });
  await vi.waitUntil(() => !view.value.reading);
  expect(scene.lines).toEqual(["zero", "one", "two"]);
  scene.has({ ...command("", false, { exitCode: 3 }), cut: true });
  expect([scene.asked, scene.lines.length]).toEqual([[ID], 3]);
});

test("one that is among no items that were read is read once", async () => {
  const scene = new Scene();
  expect(scene.asked).toEqual([ID]);
  scene.has({ ...command("", false), cut: true });
  expect([scene.asked, scene.whole.view.value.command]).toEqual([[ID], "make"]);
  scene.answer({ output: "done" });
  await vi.waitUntil(() => !scene.whole.view.value.reading);
  expect(scene.lines).toEqual(["done"]);
});

test("what can't be read is said, with what came along with the thread, and is tried again", async () => {
  const scene = new Scene({ ...command("the end", false), cut: true });
  const { view } = scene.whole;
  scene.answer(new CodexError("unsupported"));
  await vi.waitUntil(() => scene.lines.length > 0);
  expect([view.value.fault, scene.lines]).toEqual(["unsupported", ["the end"]]);
  scene.whole.again();
  expect([scene.asked, view.value.fault]).toEqual([[ID, ID], null]);
  scene.answer(null);
  await vi.waitUntil(() => view.value.fault !== null);
  expect(view.value.fault).toContain("no such command");
  scene.whole.again();
  scene.answer({ output: "all\nof it" });
  await vi.waitUntil(() => scene.lines.length === 2);
  expect([view.value.fault, view.value.reading]).toEqual([null, false]);
});

test("nothing comes after it was closed", async () => {
  const scene = new Scene({ ...command("", false), cut: true });
  scene.whole.close();
  scene.answer({ output: "late" });
  await new Promise((resolve) => setTimeout(resolve));
  scene.has(command("later", true));
  expect(scene.lines).toEqual([]);
});

test("an item's name is its turn's and its own", () => {
  expect(namesOf(ID)).toEqual({ turn: "turn", item: "call" });
  expect(namesOf("turn a b")).toEqual({ turn: "turn", item: "a b" });
});

test("what is short is shown whole, and of what is long the beginning, the end, and how much that leaves out", () => {
  const whole = ({ start, end, left }: Output): readonly [string, number] => [start + end, left];
  for (const text of ["", "\n", "a\nb", "a\n".repeat(199_999), "x".repeat(1 << 22)]) {
    expect(whole(boundedOutput(text)), text.slice(0, 5)).toEqual([text, 0]);
  }
  const lines = Array.from({ length: 300_000 }, (_, line) => `${line}\n`).join("");
  const few = boundedOutput(lines);
  expect([few.start.split("\n").length - 1, few.end.split("\n").length - 1]).toEqual([50_000, 150_000]);
  expect(few.start.length + few.left + few.end.length).toBe(lines.length);
  expect([lines.startsWith(few.start), lines.endsWith(few.end), few.end.startsWith("150000\n")]).toEqual([
    true,
    true,
    true,
  ]);
  const long = "\u{1F600}".repeat(3 << 20);
  const { start, end, left } = boundedOutput(`x${long}`);
  expect([start.length, end.length, start.length + end.length + left]).toEqual([
    1 + (1 << 20) - 2,
    3 << 20,
    1 + long.length,
  ]);
  expect(/^[\uDC00-\uDFFF]|[\uD800-\uDBFF]$/.test(start + end)).toBe(false);
  expect(outputOf("").left).toBe(0);
});
