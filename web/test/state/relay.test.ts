import { expect, test } from "vitest";
import { Origin } from "../../src/pairing/origin";
import { here } from "../../src/state/relay";

const relay = Origin.parse("https://relay.example");

test("a socket to the page's relay goes to where the page came from", () => {
  const page = { protocol: "http:", host: "localhost:5173" };
  expect(here("wss://relay.example/v1/device", relay, page)).toBe("ws://localhost:5173/v1/device");
  expect(here("wss://relay.example:443/v1/device", relay, page)).toBe("ws://localhost:5173/v1/device");
});

test("one to another relay goes there", () => {
  const page = { protocol: "https:", host: "relay.example" };
  for (const url of [
    "wss://other.example/v1/device",
    "ws://relay.example/v1/device",
    "wss://relay.example:8/v1/device",
  ]) {
    expect(here(url, relay, page)).toBe(url);
  }
});
