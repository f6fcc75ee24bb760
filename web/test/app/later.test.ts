/** How much of the app comes before a first look, and what comes later: on its way, and not at all. */
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import type { Route } from "playwright-core";
import { describe, expect, test } from "vitest";
import { audits, auditsCode } from "./audit";
import { BUILT } from "./site";
import { Stage } from "./stage";

/** What the first look may take, in bytes as the relay sends them to a browser of today: half of what it is to be at most. */
const MOST = 60_000;
/** The script of every place but the welcome. */
const PLACES = "**/assets/places-*.js";
/** The script of what opens from the list of threads. */
const OPENED = "**/assets/opened-*.js";
/** What the browser says of a file that is not given. */
const NOT_GIVEN = /^Failed to load resource: /;

const stage = Stage.ofFile({ apart: true });

/** The files of a text of the build that one of these patterns names. */
function named(text: string, pattern: RegExp): readonly string[] {
  return [...text.matchAll(pattern)].map(([, name = ""]) => name);
}

/** The script that this one has to have to run at all, with all that it takes in turn. */
function withImports(script: string, known = new Set<string>()): ReadonlySet<string> {
  if (!known.has(script)) {
    known.add(script);
    const text = readFileSync(join(BUILT, "assets", script), "utf8");
    for (const imported of named(text, /(?:from|import)\s*["'`]\.\/([\w-]+\.js)/g)) {
      withImports(imported, known);
    }
  }
  return known;
}

test("what a first look needs is at most 60 kB: the page, its style, and each script that runs by then", () => {
  const page = readFileSync(join(BUILT, "index.html"), "utf8");
  const [first = "", ...others] = named(page, /src="\/assets\/([\w-]+\.js)"/g);
  expect(others).toEqual([]);
  // It looks at the browser, and then loads the app and what this browser keeps; where somebody is led to a place, that.
  const loaded = named(readFileSync(join(BUILT, "assets", first), "utf8"), /import\(\s*["'`]\.\/([\w-]+\.js)/g);
  expect(loaded.map((file) => file.replace(/-.*/, "")).sort()).toEqual(["app", "kept", "places"]);
  const [places, ...seen] = [...loaded].sort().reverse();
  const scripts = new Set([first, ...seen].flatMap((script) => [...withImports(script)]));
  expect(scripts).not.toContain(places);
  // They are on their way meanwhile.
  const asked = named(page, /rel="modulepreload" crossorigin href="\/assets\/([\w-]+\.js)"/g);
  expect(new Set([first, ...asked])).toEqual(scripts);
  const styles = named(page, /href="\/assets\/([\w-]+\.css)"/g);
  expect(styles).not.toEqual([]);
  const sizes = [...scripts, ...styles].map(
    (file) => [file, statSync(join(BUILT, "assets", `${file}.br`)).size] as const,
  );
  const all = sizes.reduce((sum, [, size]) => sum + size, Buffer.byteLength(page));
  expect(all, `the page and ${sizes.map(([file, size]) => `${file}: ${size}`).join(", ")}`).toBeLessThanOrEqual(MOST);
});

test("an app that does not come is named, and a code that led there is still good", async () => {
  for (const [script, fragment] of [
    ["app", ""],
    ["kept", "#AEAQ"],
  ] as const) {
    const phone = await stage.unbox({
      bears: /^Failed to (load resource|fetch dynamically imported module): /,
      workers: false,
    });
    await phone.page.route(`**/assets/${script}-*.js`, (route) => route.abort());
    await phone.page.goto(`${stage.apart.relayUrl}/${fragment}`);
    await phone.sees("The app did not load");
    expect(await phone.page.getByText("scan the code or open its link again").count()).toBe(fragment === "" ? 0 : 1);
    await auditsCode(phone, `not-loaded-${script}`);
  }
});

describe("what somebody new needs after the first touch", () => {
  test("is named where it did not come, and comes with the app that is loaded again", async () => {
    const phone = await stage.unbox({ bears: NOT_GIVEN, workers: false });
    await phone.page.route(PLACES, (route) => route.abort());
    await phone.page.goto(stage.apart.relayUrl);
    await phone.taps("Scan the code");
    await phone.sees("This part of the app did not load");
    await audits(phone, "not-loaded-places");
    // It can be left, and is wanted again.
    await phone.page.goBack();
    await phone.taps("Type a code instead");
    await phone.sees("This part of the app did not load");
    await phone.page.unroute(PLACES);
    await phone.taps("Load the app again");
    await phone.page.getByRole("textbox", { name: /^Code/ }).waitFor();
  });

  test("is waited for where it is on its way", async () => {
    const phone = await stage.unbox({ workers: false });
    const held: Route[] = [];
    await phone.page.route(PLACES, (route) => {
      held.push(route);
    });
    await phone.page.goto(stage.apart.relayUrl);
    await phone.taps("Type a code instead");
    await phone.page.getByLabel("Loading the page").waitFor();
    await phone.shoots("places-on-their-way");
    await Promise.all(held.splice(0).map((route) => route.continue()));
    await phone.page.getByRole("textbox", { name: /^Code/ }).waitFor();
    await phone.page.unroute(PLACES);
  });

  test("is needed to reach a host that is kept, and said to be missing where it is", async () => {
    const phone = await stage.unbox({ bears: NOT_GIVEN, workers: false });
    await stage.pairs(phone);
    await phone.goesOn();
    await phone.page.route(PLACES, (route) => route.abort());
    const goes = (hash: string): Promise<void> =>
      phone.page.evaluate((place) => {
        location.hash = place;
      }, hash);
    await goes("#/");
    await phone.page.reload();
    await phone.sees("This part of the app did not load");
    await phone.page.unroute(PLACES);
    // It comes for a place that needs no host. Those that do have none to show still.
    await goes("#/settings");
    await phone.page.getByRole("heading", { name: "Settings" }).waitFor();
    await goes("#/");
    await phone.sees("This part of the app did not load");
    await phone.taps("Load the app again");
    await phone.page.getByRole("heading", { name: "Hosts" }).waitFor();
  });
});

describe("what opens from the list of threads", () => {
  test("is named where it did not come, and comes with the app that is loaded again", async () => {
    const phone = await stage.unbox({ bears: NOT_GIVEN, workers: false });
    await phone.page.route(OPENED, (route) => route.abort());
    const up = await stage.pairs(phone);
    await phone.goesOn();
    await phone.taps("New");
    await phone.sees("This part of the app did not load");
    await audits(phone, "not-loaded");
    await phone.taps("Close, keeps the draft");
    await phone.sees("No threads on");
    // It can be left, and is wanted again.
    for (const place of ["About this host", "New"]) {
      await phone.taps(place);
      await phone.sees("This part of the app did not load");
      await phone.taps(/^(Back to threads|Close, keeps the draft)$/);
      await phone.sees("No threads on");
    }
    await phone.page.goto(`${up.relayUrl}/#/inbox`);
    await phone.sees("This part of the app did not load");
    await audits(phone, "not-loaded-inbox");
    await phone.page.unroute(OPENED);
    await phone.taps("Load the app again");
    await phone.sees("Nothing waits on");
    await phone.page.goBack();
    await phone.taps("New");
    await phone.page.getByRole("textbox", { name: "First message" }).waitFor();
  });

  test("opens by its address, with the title of the page and room for it until that is there", async () => {
    const phone = await stage.unbox({ workers: false });
    const up = await stage.pairs(phone);
    const desk = await stage.desk(up);
    await desk.finishes(up.project, "mend the shop");
    await phone.taps(/^Open/);
    await phone.page.locator("li.thread").tap();
    await phone.sees("You are talking to the real Codex");
    const held: Route[] = [];
    await phone.page.route(OPENED, (route) => {
      held.push(route);
    });
    await phone.page.reload();
    await phone.page.getByLabel("Loading the thread").waitFor();
    expect(await phone.page.getByRole("heading", { level: 1 }).textContent()).toBe("Thread");
    await phone.shoots("thread-on-its-way");
    await Promise.all(held.map((route) => route.continue()));
    await phone.sees("You are talking to the real Codex");
  });
});
