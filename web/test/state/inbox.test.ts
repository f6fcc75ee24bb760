/** What waits at all hosts, in one list in which nothing moves. */
import { expect, test } from "vitest";
import type { RequestInfo } from "../../src/api/types";
import type { End } from "../../src/link/reach";
import { Observable } from "../../src/observable";
import type { Ask, AskingView } from "../../src/state/asking";
import { Inbox, type Kept, type Waiting, keptFrom } from "../../src/state/inbox";

function ask(key: string, openedAt: number): Ask {
  const info: RequestInfo = {
    environment: "local",
    instance: "one",
    requestId: key,
    threadId: "thread",
    method: "item/commandExecution/requestApproval",
    openedAt,
    digest: "",
    answers: [],
    shownTo: [],
  };
  return { key, info, shown: null, seen: false, changed: false, fate: { at: "open" } };
}

interface FakeHost {
  readonly stored: { readonly id: string };
  readonly asking: { readonly view: Observable<AskingView> };
  readonly over: End | null;
}

function host(id: string): FakeHost {
  const view = new Observable<AskingView>({ asks: [], outcomes: [], fault: null, known: false });
  return { stored: { id }, asking: { view }, over: null };
}

function asks(of: FakeHost, ...list: readonly Ask[]): void {
  const { view } = of.asking;
  view.set({ ...view.value, asks: list, known: true });
}

function keys(inbox: Inbox<FakeHost>): readonly string[] {
  return inbox.view.value.waiting.map(({ host, ask }) => `${host.stored.id} ${ask.key}`);
}

test("what waits at all hosts is there, the oldest first, and is known once each has said it", () => {
  const [one, two] = [host("one"), host("two")];
  const inbox = new Inbox(new Observable<readonly FakeHost[] | null>([one, two]));
  expect(inbox.view.value).toEqual({ waiting: [], known: false });
  asks(one, ask("a", 3), ask("b", 5));
  expect(inbox.view.value.known).toBe(false);
  asks(two, ask("a", 4));
  expect(inbox.view.value.known).toBe(true);
  expect(keys(inbox)).toEqual(["one a", "two a", "one b"]);
  asks(one, ask("b", 5));
  expect(keys(inbox)).toEqual(["two a", "one b"]);
});

test("a host that is forgotten, or lets this device in no more, is heard no more", () => {
  const [one, two] = [host("one"), host("two")];
  const hosts = new Observable<readonly FakeHost[] | null>([one, two]);
  const inbox = new Inbox(hosts);
  asks(one, ask("a", 1));
  asks(two, ask("a", 2));
  hosts.set([one]);
  expect(keys(inbox)).toEqual(["one a"]);
  asks(two, ask("b", 3));
  expect(keys(inbox)).toEqual(["one a"]);
  const over = { at: "ended", by: "host", reason: 1, error: null, since: 0 } as const;
  hosts.set([{ ...one, over }]);
  expect(inbox.view.value).toEqual({ waiting: [], known: true });
  asks(one, ask("c", 4));
  expect(keys(inbox)).toEqual([]);
});

test("what is looked at keeps its place when it is over, and what comes comes at the end, however old it is", () => {
  const one = host("one");
  const list = (kept: readonly Kept<FakeHost>[]): readonly string[] => kept.map(({ key, waits }) => `${key} ${waits}`);
  const waiting = (...all: readonly Ask[]): readonly Waiting<FakeHost>[] => all.map((ask) => ({ host: one, ask }));
  const first = keptFrom([], waiting(ask("a", 2), ask("b", 3)));
  expect(list(first)).toEqual(["one a true", "one b true"]);
  const then = keptFrom(first, waiting(ask("z", 1), ask("b", 3)));
  expect(list(then)).toEqual(["one a false", "one b true", "one z true"]);
  expect(list(keptFrom(then, waiting()))).toEqual(["one a false", "one b false", "one z false"]);
  // What it asks by now is what is shown.
  const changed = { ...ask("b", 3), seen: true };
  expect(keptFrom(then, waiting(changed))[1]?.ask).toBe(changed);
});
