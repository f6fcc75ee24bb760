/** A session with the real host over the real relay. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { type Bytes, utf8 } from "../../src/bytes";
import { LinkError } from "../../src/link/error";
import { SessionDriver, type SessionState } from "../../src/session/driver";
import { ByeReason } from "../../src/wire/frame";
import { dice } from "../support";
import { Cutter } from "./cutter";
import { Phone } from "./phone";
import { Up } from "./up";

/** Requests that may be unanswered: fewer than the host's 32. */
const IN_FLIGHT = 8;
const REQUESTS = 300;

let up: Up;
let cutter: Cutter;
const over = new AbortController();

beforeEach(async () => {
  up = await Up.start();
  cutter = await Cutter.to(new URL(up.relayUrl));
});

afterEach(async () => {
  over.abort();
  cutter.close();
  expect(await up.stop()).toBe(0);
});

test("each request is answered once, however often the connection is cut", async () => {
  const phone = await Phone.pair(up.pairingUrl, over.signal);
  const answers: unknown[] = [];
  const lost: number[] = [];
  const closed: string[] = [];
  const states: SessionState[] = [];
  const driver = new SessionDriver({
    state: (state) => {
      states.push(state);
      if (state.at === "down") {
        void dial();
      }
    },
    lost: (reason) => lost.push(reason),
    api: {
      message: (bytes: Bytes, handled) => {
        const answer: unknown = JSON.parse(new TextDecoder().decode(bytes));
        if (typeof answer === "object" && answer !== null && "id" in answer) {
          answers.push("result" in answer ? answer.id : answer);
        }
        handled();
      },
      closed: (_, text) => closed.push(text),
    },
  });
  const dial = async (): Promise<void> => {
    for (;;) {
      try {
        driver.attach(await phone.link(cutter.url));
        return;
      } catch (error) {
        // A link that is cut before it stands is tried again.
        expect(error).toBeInstanceOf(LinkError);
        if (over.signal.aborted) {
          return;
        }
      }
    }
  };
  await dial();
  await vi.waitUntil(() => driver.state.at === "up", { timeout: 10_000 });
  const roll = dice(43);
  // A link takes about 2 KB to stand.
  cutter.budget = () => 2_000 + roll(12_000);
  cutter.cut();
  for (let id = 0; id < REQUESTS; id += 1) {
    driver.api.send(utf8(JSON.stringify({ id, method: "host/read" })));
    await vi.waitUntil(() => answers.length > id - IN_FLIGHT, { interval: 2, timeout: 30_000 });
  }
  await vi.waitUntil(() => answers.length >= REQUESTS, { interval: 2, timeout: 30_000 });
  expect(answers.sort((a, b) => Number(a) - Number(b))).toEqual(Array.from({ length: REQUESTS }, (_, id) => id));
  expect(cutter.cuts).toBeGreaterThan(20);
  expect([lost, closed]).toEqual([[], []]);
  await driver.end(ByeReason.normal);
  expect(states.filter(({ at }) => at === "up").length).toBeGreaterThan(10);
});
