/** What becomes of a code between being in hand and being used. */
import "fake-indexeddb/auto";
import { expect, test } from "vitest";
import vectors from "../../../proto/vectors/pairing.json";
import { Later } from "../../src/later";
import { JoinError } from "../../src/pairing/error";
import { PairingUrl } from "../../src/pairing/url";
import { Pairing } from "../../src/state/pairing";
import { Database } from "../../src/store/database";
import { HostStore } from "../../src/store/hosts";

/** The sockets that were asked for. */
function pairing(): { readonly pairing: Pairing; readonly dialled: string[] } {
  const dialled: string[] = [];
  const create = (url: string): WebSocket => {
    dialled.push(url);
    throw new Error("no network here");
  };
  const store = new HostStore(new Database());
  const paired = (): Promise<void> => Promise.resolve();
  const joining = new Later(async () => ({ JoinError, ...(await import("../../src/pairing/join")) }));
  return { pairing: new Pairing({ platform: "test", store, storage: undefined, create, joining, paired }), dialled };
}

function code(): PairingUrl {
  return PairingUrl.parse(vectors.urls[0]?.url ?? "");
}

function isWiped({ secret }: PairingUrl): boolean {
  return secret.expose().every((byte) => byte === 0);
}

test("a code that is offered is not used before a person goes on", async () => {
  const { pairing: own, dialled } = pairing();
  own.offer(code());
  expect(own.state.value).toEqual({ at: "offered" });
  await new Promise((resolve) => setTimeout(resolve));
  expect(dialled).toEqual([]);
  own.accept("Ada's phone");
  expect(own.state.value).toEqual({ at: "meeting" });
});

test("a code that is left is forgotten, and nothing goes on with it", () => {
  const { pairing: own } = pairing();
  const url = code();
  own.offer(url);
  own.cancel();
  expect([isWiped(url), own.state.value]).toEqual([true, { at: "none" }]);
  own.accept("Ada's phone");
  expect(own.state.value).toEqual({ at: "none" });
});

test("another code takes the place of the one before", () => {
  const { pairing: own } = pairing();
  const [first, second] = [code(), code()];
  own.offer(first);
  own.offer(second);
  expect([isWiped(first), isWiped(second)]).toEqual([true, false]);
  own.noCode("it is torn");
  expect([isWiped(second), own.state.value]).toEqual([true, { at: "noCode", why: "it is torn" }]);
});
