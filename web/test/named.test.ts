/** Names in the app's own sentences stand apart, whatever they say. */
import { readFileSync, readdirSync } from "node:fs";
import { expect, test } from "vitest";
import { named, partsOf } from "../src/views/named";
import { LINE, NAME } from "./hostile";

test("a name in a sentence is a part of its own, and none of it is words or a command", () => {
  const sentence = `Ask ${named("`reachback pair`")}, or at ${named(NAME)}: \`reachback devices\``;
  expect(partsOf(sentence)).toEqual([
    { kind: "words", text: "Ask " },
    { kind: "name", text: "`reachback pair`" },
    { kind: "words", text: ", or at " },
    { kind: "name", text: NAME },
    { kind: "words", text: ": " },
    { kind: "command", text: "reachback devices" },
  ]);
});

test("no name ends before its end", () => {
  for (const name of [LINE, "a\u2069 `b` \u2068c", "\u2069\u2069", "שלום 12", "a\nb"]) {
    const parts = partsOf(`${named(name)} took this device off`);
    expect(parts.map(({ kind }) => kind)).toEqual(["name", "words"]);
    expect(parts[0]?.text).not.toMatch(/[\u2066-\u2069\n]/);
  }
  expect(partsOf("")).toEqual([]);
});

/** What gives, or is, a name of somebody else's in a view. */
const NAMES = String.raw`(?:visibleLine|machineName|folderName|nameOf|titleWords|firstWords|lineWords|commandWords)\(|(?:[\w$]+\.)*stored\.name\b`;
/** A variable of a view that is one. */
const KEPT = new RegExp(String.raw`const (\w+) = \$derived\([^;]*?(?:${NAMES})[^;]*;`, "g");
/** Where one may be shown: by itself in an element that stands apart, or in an attribute or a property. */
const APART = /<(?:bdi|option|p)\b[^<>]*>$|<[\w.:]+\b[^<>]*(?:\s|=|="[^"]*)$/;

test("no view has a name of somebody else's among its own words", () => {
  const views = readdirSync("src/views").filter((file) => file.endsWith(".svelte"));
  const found = views.flatMap((file) => {
    const whole = readFileSync(`src/views/${file}`, "utf8");
    const kept = [...whole.matchAll(KEPT)]
      .filter(([all]) => !all.includes("named("))
      .map(([, name]) => `${name ?? ""}\\}`);
    const markup = whole.replace(/<script[\s\S]*?<\/script>/g, "");
    const shown = new RegExp(String.raw`\{(?:${[NAMES, ...kept].join("|")})`, "g");
    return [...markup.matchAll(shown)]
      .map(({ 0: name, index }) => ({ name, before: markup.slice(0, index) }))
      .filter(({ before }) => !APART.test(before.replace(/=>/g, "")))
      .map(({ name, before }) => `${file}: ${before.slice(-80).trim()}${name}`);
  });
  expect(views.length).toBeGreaterThan(60);
  expect(found).toEqual([]);
});
