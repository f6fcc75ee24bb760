import { expect, test } from "vitest";
import { encode } from "../../src/base32";
import type { HostInfo } from "../../src/api/types";
import { generateIdentity } from "../../src/crypto/keys";
import { factsOf } from "../../src/host/facts";

const key = encode((await generateIdentity()).publicKey);

function info(relays: HostInfo["relays"], hostName = "tower"): HostInfo {
  const limits = {
    messageToHost: 1,
    messageToDevice: 1,
    request: 1,
    prompt: 1,
    channels: 1,
    sessions: 1,
    detachedSeconds: 1,
  };
  const known = { apiVersion: 1, features: [], limits, now: 1, agentVersion: "", codex: { state: "ready" } } as const;
  return { ...known, features: [], hostId: "", hostName, relays, deviceId: "", scope: "steer", journal: "" };
}

test("what a host says of itself is taken as it is", () => {
  const urls = ["https://relay.example:443", "http://127.0.0.1:7420", "http://[::1]:7420", "http://localhost:7420"];
  const facts = factsOf(info(urls.map((url) => ({ url, key }))));
  expect(facts?.relays.map(({ origin }) => origin.toString())).toEqual(urls);
  expect(facts).toMatchObject({ name: "tower", scope: "steer" });
});

test.each([
  ["no relay", info([])],
  ["too many", info(Array.from({ length: 5 }, () => ({ url: "https://relay.example", key })))],
  ["a relay in the clear", info([{ url: "http://relay.example", key }])],
  ["no address", info([{ url: "relay.example", key }])],
  ["a key that is none", info([{ url: "https://relay.example", key: "aaaa" }])],
  [
    "one of several",
    info([
      { url: "https://relay.example", key },
      { url: "https://relay.example", key: "!" },
    ]),
  ],
  ["a name that hides something", info([{ url: "https://relay.example", key }], "to\u202ewer")],
])("%s is not taken", (_, said) => {
  expect(factsOf(said)).toBeNull();
});
