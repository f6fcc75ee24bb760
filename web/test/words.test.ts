/** What the screens say of a host that is not there, or let this device go. */
import { expect, test } from "vitest";
import { CloseCode } from "../src/close";
import { LinkError } from "../src/link/error";
import type { End } from "../src/link/reach";
import { SessionError } from "../src/session/error";
import { draftWords, endWords } from "../src/views/endwords";
import { awayWords, refusalWords, statusOf } from "../src/views/words";
import { ByeReason } from "../src/wire/reason";

const NOON = new Date(2026, 10, 27, 12).getTime();
const AT = { name: "tower", deviceId: "abcdefghijklmnop", now: NOON };

function end(reason: number): End {
  return { at: "ended", by: "host", reason, error: null, since: NOON };
}

test.each<[number, string, string | null]>([
  [ByeReason.revoked, "tower took this device off", "reachback pair"],
  [ByeReason.paused, "tower has paused this device", "reachback devices resume abcdefgh"],
  [ByeReason.limit, "tower takes no more sessions of this device", null],
  [ByeReason.normal, "tower ended the session", null],
])("the host's last word %i is the host's, and says what to do there", (reason, title, command) => {
  const words = endWords(end(reason), AT);
  expect(words).toMatchObject({ title, command });
  expect(words.says).toMatch(/^tower itself said so, sealed end to end, 12:00\./);
  expect(statusOf(end(reason), NOON).text).not.toMatch(/reload/);
});

test("an end of this device's own is not put in the host's mouth", () => {
  const error = new SessionError({ kind: "decode" });
  for (const reason of [ByeReason.protocolError, ByeReason.revoked, ByeReason.paused]) {
    const own: End = { ...end(reason), by: "us", error };
    expect(endWords(own, AT)).toMatchObject({ title: "The session with tower broke off", command: null });
    expect(endWords(own, AT).says).not.toMatch(/itself said so/);
    expect(statusOf(own, NOON).text).toBe("The session ended");
  }
});

test("a host that can't be reached is said to be away only where the relay is there to know it", () => {
  const at = { since: NOON, next: null };
  const offline = { at: "hostOffline", hostSince: null, ...at } as const;
  expect(awayWords({ ...offline, asleep: false }, "tower")?.title).toBe("tower is away");
  expect(awayWords({ ...offline, asleep: true }, "tower")?.title).toBe("tower is asleep");
  const relay = { at: "relayUnreachable", error: null, ...at } as const;
  expect(awayWords({ ...relay, online: true }, "tower")?.title).toBe("There is no way to the relay");
  expect(awayWords({ ...relay, online: false }, "tower")?.title).toBe("This device has no network");
  expect(awayWords({ at: "reconnecting", error: null, ...at }, "tower")).toBe(null);
  expect(awayWords({ at: "online", since: NOON, rttMs: null }, "tower")).toBe(null);
});

test("a relay's word on a revocation is the relay's", () => {
  const error = new LinkError({ kind: "closed", code: CloseCode.revoked, reconnectInMs: null });
  const refused = { at: "refused", since: NOON, next: null, error } as const;
  expect(statusOf({ ...refused, code: CloseCode.revoked }, NOON).text).toBe("The relay does not let this device in");
  for (const code of [CloseCode.revoked, CloseCode.unauthorized, CloseCode.malformed, 4_999]) {
    expect(refusalWords(code)).toMatch(/^The relay /);
  }
});

test("what was written says whether it is kept, and whether the host may have it", () => {
  const sent = { id: "x", deviceId: "phone", at: 1, journal: null };
  const row = { host: "tower", text: "x", environment: null, folder: null, model: null, effort: null, sent: null };
  const view = { row, progress: { at: "draft" }, kept: true, fault: null } as const;
  const words = [view, { ...view, kept: false }, { ...view, row: { ...row, sent } }].map(draftWords);
  words.push(draftWords({ ...view, row: { ...row, sent: { ...sent, journal: "first" } } }));
  expect(words.map((text) => /is kept|Copy it|never got it|has not said/.exec(text)?.[0])).toEqual([
    "is kept",
    "Copy it",
    "never got it",
    "has not said",
  ]);
});
