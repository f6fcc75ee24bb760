/** Requests and notifications, with the test for a host. */
import { expect, test } from "vitest";
import { type Bytes, utf8 } from "../../src/bytes";
import { ApiClient, MAX_UNANSWERED } from "../../src/api/client";
import { RequestError } from "../../src/api/error";
import type { Notification } from "../../src/api/types";
import { SendError } from "../../src/session/error";
import { rejection } from "../support";

/** A client, what it sent, and what it told its user. */
class Asked {
  readonly sent: unknown[] = [];
  readonly notified: Notification[] = [];
  missed = 0;
  handled = 0;
  /** Why nothing can be queued. */
  full: SendError | null = null;
  readonly client = new ApiClient(
    (bytes: Bytes) => {
      if (this.full !== null) {
        throw this.full;
      }
      this.sent.push(JSON.parse(new TextDecoder().decode(bytes)));
    },
    { notified: (notification) => this.notified.push(notification), missed: () => (this.missed += 1) },
  );

  /** The host says this. */
  hears(message: unknown): void {
    this.client.message(
      utf8(typeof message === "string" ? message : JSON.stringify(message)),
      () => (this.handled += 1),
    );
  }
}

const done = { data: [] };

test("answers find their requests, in whatever order they come", async () => {
  const asked = new Asked();
  const environments = asked.client.request("environment/list", {});
  const workspaces = asked.client.request("workspace/list", { environment: "local" });
  expect(asked.sent).toEqual([
    { id: 0, method: "environment/list", params: {} },
    { id: 1, method: "workspace/list", params: { environment: "local" } },
  ]);
  asked.hears({ id: 1, result: { data: [{ path: "/a", name: "a", source: "owner" }] } });
  asked.hears({ id: 0, result: done });
  expect((await workspaces).data[0]?.path).toBe("/a");
  expect((await environments).data).toEqual([]);
  expect(asked.handled).toBe(2);
});

test("a refusal is told with its reason, and an answer without what one has is none", async () => {
  const asked = new Asked();
  const error = {
    code: -32010,
    message: "needs scope `admin`",
    data: { reason: "scope", params: { needed: "admin" } },
  };
  const refused = rejection(asked.client.request("device/list", {}));
  asked.hears({ id: 0, error });
  expect(await refused).toMatchObject({ message: error.message, fault: { kind: "refused", error } });
  for (const answer of [{ error: { code: 1 } }, { result: 5 }, { result: [] }, {}]) {
    const failed = rejection(asked.client.request("device/list", {}));
    asked.hears({ id: asked.sent.length - 1, ...answer });
    expect(await failed).toEqual(new RequestError("device/list", { kind: "answer" }));
  }
});

test("notifications are told, missing ones too, and what is not known is left alone", () => {
  const asked = new Asked();
  const notification = { method: "device/changed", params: { deviceId: "a", device: null, allowed: true } };
  const unknown = ["no json", 5, null, [], { method: "new/kind", params: {} }, { id: 77, result: done }, { id: "x" }];
  for (const message of [notification, { method: "notices/missed", params: {} }, ...unknown]) {
    asked.hears(message);
  }
  expect([asked.notified, asked.missed]).toEqual([[notification], 1]);
  expect(asked.handled).toBe(2 + unknown.length);
});

test("what is unanswered when the host loses the session fails, and what waited goes to the next", async () => {
  const asked = new Asked();
  const all = Array.from({ length: MAX_UNANSWERED + 1 }, () => asked.client.request("host/read", {}));
  const failed = all.slice(0, MAX_UNANSWERED).map(rejection);
  expect(asked.sent).toHaveLength(MAX_UNANSWERED);
  asked.client.lost();
  for (const error of await Promise.all(failed)) {
    expect(error).toEqual(new RequestError("host/read", { kind: "gap" }));
  }
  expect([asked.sent.length, asked.missed]).toEqual([MAX_UNANSWERED + 1, 1]);
  // A late answer of the session before is nobody's.
  asked.hears({ id: 0, result: done });
  asked.hears({ id: MAX_UNANSWERED, result: done });
  expect(await all.at(-1)).toEqual(done);
});

test("an answer makes room for what waits, in order", async () => {
  const asked = new Asked();
  const all = Array.from({ length: MAX_UNANSWERED + 2 }, () => asked.client.request("host/read", {}));
  asked.hears({ id: 3, result: done });
  expect(asked.sent.at(-1)).toMatchObject({ id: MAX_UNANSWERED });
  expect(asked.sent).toHaveLength(MAX_UNANSWERED + 1);
  expect(await all[3]).toEqual(done);
});

test("who gives up hears so, and what was not sent is not sent any more", async () => {
  const asked = new Asked();
  const [first, late] = [new AbortController(), new AbortController()];
  const sent = rejection(asked.client.request("host/read", {}, first.signal));
  for (let n = 1; n < MAX_UNANSWERED; n += 1) {
    void asked.client.request("host/read", {});
  }
  const waiting = rejection(asked.client.request("device/list", {}, late.signal));
  late.abort();
  first.abort();
  const aborted = (method: string): RequestError => new RequestError(method, { kind: "aborted" });
  expect([await sent, await waiting]).toEqual([aborted("host/read"), aborted("device/list")]);
  asked.hears({ id: 0, result: done });
  asked.hears({ id: 1, result: done });
  expect(asked.sent).toHaveLength(MAX_UNANSWERED);
  expect(await rejection(asked.client.request("host/read", {}, late.signal))).toEqual(aborted("host/read"));
});

test("what can't be queued fails alone, and an end fails all", async () => {
  const asked = new Asked();
  const open = rejection(asked.client.request("host/read", {}));
  asked.full = new SendError({ kind: "overflow" });
  expect(await rejection(asked.client.request("device/list", {}))).toEqual(
    new RequestError("device/list", { kind: "unsent" }),
  );
  asked.client.closed();
  const ended = new RequestError("host/read", { kind: "ended" });
  expect(await open).toEqual(ended);
  expect(await rejection(asked.client.request("host/read", {}))).toEqual(ended);
});
