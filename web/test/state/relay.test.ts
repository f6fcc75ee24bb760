import { expect, test } from "vitest";
import { Origin } from "../../src/pairing/origin";
import { barOf, here, relayOf } from "../../src/state/relay";

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

test("a relay's own page may not reach another, and a page of another server none that does not let it", () => {
  const other = Origin.parse("https://relay.example:8443");
  expect(barOf({ origin: relay }, Origin.parse("https://RELAY.example:443"))).toBe(null);
  expect(barOf({ origin: relay }, other)).toBe("relay");
  expect([relay, other].map((wanted) => barOf({ origin: null }, wanted))).toEqual(["page", "page"]);
});

test("a relay is typed with or without its scheme, and what is no address is none", () => {
  for (const typed of ["relay.example", " https://relay.example/ ", "RELAY.example:443"]) {
    expect(relayOf(typed)?.toString(), typed).toBe("https://relay.example:443");
  }
  expect(relayOf("http://127.0.0.1:7420")?.toString()).toBe("http://127.0.0.1:7420");
  for (const typed of ["", " ", "relay example", "relay.example/path", "ftp://relay.example", "a@relay.example"]) {
    expect(relayOf(typed), typed).toBe(null);
  }
});
