/** What a code in front of the camera is to the page that looks. */
import { expect, test, vi } from "vitest";
import vectors from "../../../proto/vectors/pairing.json";
import { equal, utf8 } from "../../src/bytes";
import { Origin } from "../../src/pairing/origin";
import { PairingUrl } from "../../src/pairing/url";
import { type Here, judge } from "../../src/scan/judge";
import { unhex } from "../support";

const OTHER = Origin.parse("https://other.example");

function at(page: string, relay: string = page): Here {
  return { page: Origin.parse(page), relay: Origin.parse(relay) };
}

test.each(vectors.urls)("$url is good at its own address, and at its relay's page", (vector) => {
  const pages = [at(vector.web ?? vector.origin, OTHER.toString()), at(OTHER.toString(), vector.origin)];
  for (const here of pages) {
    const url = judge(vector.url, here);
    expect(url).toBeInstanceOf(PairingUrl);
    expect(url instanceof PairingUrl && equal(url.secret.expose(), unhex(vector.secret))).toBe(true);
  }
});

test.each(vectors.urls)("$url is no other page's, whoever is near in spelling", (vector) => {
  const { secure, host, port } = Origin.parse(vector.web ?? vector.origin);
  const near = [
    OTHER.toString(),
    `${secure ? "http" : "https"}://${host}:${String(port)}`,
    `${secure ? "https" : "http"}://${host}:${String(port === 1 ? 2 : port - 1)}`,
  ];
  for (const page of near) {
    expect(judge(vector.url, at(page)), page).toBe("elsewhere");
  }
});

test("a page that comes from no relay pairs by the codes that lead to it, and by no others", () => {
  for (const { url, web, origin } of vectors.urls) {
    const here = { page: Origin.parse(web ?? OTHER.toString()), relay: null };
    const judged = judge(url, here);
    expect(judged instanceof PairingUrl ? judged.relay.toString() : judged).toBe(web === null ? "elsewhere" : origin);
  }
});

test("a code for elsewhere is forgotten", () => {
  const parse = vi.spyOn(PairingUrl, "parse");
  try {
    judge(vectors.urls[0]?.url ?? "", at(OTHER.toString()));
    const [parsed] = parse.mock.results;
    expect(parsed?.type === "return" && parsed.value.secret.expose()).toEqual(new Uint8Array(32));
  } finally {
    parse.mockRestore();
  }
});

test("what is no pairing code is none, whatever else it is", () => {
  const here = at("https://relay.example.com");
  const [first] = vectors.urls;
  const url = first?.url ?? "";
  for (const text of [
    "",
    "hello",
    "https://relay.example.com",
    "https://relay.example.com/#/settings",
    "https://relay.example.com/#AEAQ",
    "WIFI:S:home;T:WPA;P:secret;;",
    "javascript:alert(1)//#AEAQ",
    url.slice(0, -1),
    `${url}A`,
    url.replace("HTTP", "XTTP"),
    "#".repeat(7_000),
    "\0\ufffd".repeat(1_000),
  ]) {
    expect(judge(text, here), text.slice(0, 40)).toBe("noCode");
  }
  expect(utf8(url).length).toBeLessThan(200);
});

test("a code of a later version is told from one that is none", () => {
  // The version is in the first five bits and the three after them.
  const url = `https://relay.example.com/#${"AM".padEnd(85, "A")}`;
  expect(judge(url, at("https://relay.example.com"))).toBe("newer");
});
