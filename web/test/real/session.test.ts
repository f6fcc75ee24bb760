/** From a code to a session with the real host over the real relay, over connections that are cut. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { HostInfo } from "../../src/api/types";
import { RemoteHost } from "../../src/host/remote";
import type { Reach } from "../../src/link/reach";
import { PairingUrl } from "../../src/pairing/url";
import { dice } from "../support";
import { TestPage } from "../link/page";
import { Cutter } from "./cutter";
import { pair } from "./phone";
import { Up } from "./up";

/** Requests that are unanswered at a time. */
const IN_FLIGHT = 8;
const REQUESTS = 300;

let up: Up;
let cutter: Cutter;

beforeEach(async () => {
  up = await Up.start();
  cutter = await Cutter.to(new URL(up.relayUrl));
});

afterEach(async () => {
  cutter.close();
  expect(await up.stop()).toBe(0);
});

test("each request is answered, however often the connection is cut", async () => {
  const host = await pair({ type: "url", url: PairingUrl.parse(up.pairingUrl) });
  let missed = 0;
  const remote = new RemoteHost(host, {
    page: new TestPage(),
    read: {},
    notified: () => undefined,
    missed: () => (missed += 1),
    learned: () => undefined,
    create: (url) => new WebSocket(cutter.through(url)),
  });
  const reached: Reach["at"][] = [];
  remote.reach.subscribe(({ at }) => reached.push(at));
  await vi.waitUntil(() => remote.info.value !== null, { timeout: 10_000 });
  const roll = dice(43);
  // A link takes about 2 KB to stand.
  cutter.budget = () => 2_000 + roll(12_000);
  cutter.cut();
  const answers: Promise<HostInfo>[] = [];
  for (let n = 0; n < REQUESTS; n += 1) {
    answers.push(remote.api.request("host/read", {}));
    await answers.at(-IN_FLIGHT);
  }
  for (const { hostId } of await Promise.all(answers)) {
    expect(hostId).toBe(host.id);
  }
  expect(cutter.cuts).toBeGreaterThan(20);
  expect(missed).toBe(0);
  await remote.end();
  expect(new Set(reached)).toEqual(new Set(["reconnecting", "online", "ended"]));
});
