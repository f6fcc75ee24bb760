/** A code that is read through the camera, the name that the device gets, and a camera that is let go. */
import { afterAll, beforeEach, expect, test } from "vitest";
import type { Apart } from "../real/apart";
import { Camera } from "./camera";
import { type Phone, startChromium } from "./phone";
import { Stage } from "./stage";
import type { Terminal } from "./terminal";

const LOOKING = "Point at the QR code in the terminal";

declare global {
  interface Window {
    /** What the cameras gave this page. */
    readonly streams: MediaStream[];
  }
}

const camera = new Camera();
// What is said first is done last: the browser is closed before.
afterAll(() => {
  camera.putAway();
});
const stage = Stage.ofFile({ apart: true, chromium: camera.args });
let apart: Apart;
let phone: Phone;

beforeEach(() => {
  ({ apart } = stage);
  camera.sees(null);
});

/** A phone whose page remembers what its cameras gave it. */
async function unbox(allows: boolean, browser = stage.browser): Promise<void> {
  phone = await stage.unbox({ browser });
  if (allows) {
    await phone.page.context().grantPermissions(["camera"]);
  }
  await phone.page.addInitScript(() => {
    const streams: MediaStream[] = [];
    Object.defineProperty(window, "streams", { value: streams });
    const { mediaDevices } = navigator;
    const open = mediaDevices.getUserMedia.bind(mediaDevices);
    mediaDevices.getUserMedia = async (wanted) => {
      const stream = await open(wanted);
      streams.push(stream);
      return stream;
    };
  });
  await phone.page.goto(apart.relayUrl);
  await phone.sees("Your Codex, from here");
}

/** Opens the scanner, and waits until it looks. */
async function scans(): Promise<void> {
  await phone.taps("Scan the code");
  await phone.sees(LOOKING);
  expect(await tracks()).toEqual(["live"]);
}

/** How the camera's tracks are that this page has had. */
async function tracks(): Promise<readonly string[]> {
  return phone.page.evaluate(() =>
    window.streams.flatMap((stream) => stream.getTracks()).map((track) => track.readyState),
  );
}

/** Hides the page, or shows it again. */
async function turns(visibility: "hidden" | "visible"): Promise<void> {
  await phone.page.evaluate((state) => {
    Object.defineProperty(document, "visibilityState", { value: state, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  }, visibility);
}

/** Looks at this, as a camera that has just started. */
async function looksAt(text: string): Promise<void> {
  camera.sees(text);
  await turns("hidden");
  await turns("visible");
}

/** `reachback pair` in a terminal; gives the URL of its code. */
async function pairing(): Promise<{ readonly terminal: Terminal; readonly url: string }> {
  const terminal = stage.terminal("pair");
  return { terminal, url: await terminal.shows(/reachback join '(\S+)'/) };
}

test("a code that is scanned pairs, under the name that was chosen; the camera is free before", async () => {
  const { terminal, url } = await pairing();
  await unbox(true);
  camera.sees(url);
  await phone.taps("Scan the code");
  await phone.sees("The code is still good");
  expect(await tracks()).toEqual(["ended"]);
  expect(await phone.page.locator("video").count()).toBe(0);
  expect(phone.page.url()).not.toContain(url.split("#")[1]);
  const name = phone.page.getByLabel("Name of this device");
  expect(await name.inputValue()).toBe("Linux PC");
  await phone.shoots("offered");
  await phone.fits();
  await name.fill("x".repeat(65));
  await phone.sees("That is too long for a name");
  await name.press("Enter");
  await phone.sees("That is too long for a name");
  await phone.shoots("offered-too-long");
  await name.fill("  Ada\u202es \u200bphone ");
  await phone.sees("It will be called Adas phone.");
  await phone.taps(/^Pair$/);
  await phone.sees("Type these six digits");
  await terminal.shows(/(“Adas phone” .*wants to pair)/);
  terminal.types(await phone.digits());
  await phone.sees("Paired with");
  await phone.taps(/^Open/);
  await phone.sees("Online");
  expect(await apart.command("devices").says("device", "name")).toBe("Adas phone");
  // The next host is told the same, unless a person says otherwise.
  await phone.page.goto(`${apart.relayUrl}/#/settings`);
  await phone.sees("Adas phone");
});

test("what is no pairing code, and what is another relay's, is said, and the next one is read", async () => {
  await unbox(true);
  await scans();
  await phone.shoots("scan");
  await phone.fits();
  await looksAt("WIFI:S:home;T:WPA;P:secret;;");
  await phone.sees("That is no pairing code");
  await phone.shoots("scan-no-code");
  await phone.fits();
  const { url } = await pairing();
  await looksAt(url.replace(/127\.0\.0\.1:\d+/, "RELAY.EXAMPLE:443"));
  await phone.sees("This code is from another relay");
  await phone.shoots("scan-elsewhere");
  await phone.fits();
  expect(phone.page.url()).toMatch(/#\/scan$/);
  await looksAt(url);
  await phone.sees("The code is still good");
  expect(await tracks()).toEqual(["ended", "ended", "ended", "ended"]);
});

test("the camera is free once the page is hidden or the scanner left, and asked for by nothing else", async () => {
  await unbox(true);
  await phone.taps("Type a code instead");
  await phone.page.goBack();
  expect(await tracks()).toEqual([]);
  await scans();
  await turns("hidden");
  expect(await tracks()).toEqual(["ended"]);
  await turns("visible");
  await phone.sees(LOOKING);
  expect(await tracks()).toEqual(["ended", "live"]);
  await phone.taps("Type a code instead");
  await phone.page.getByLabel("Code shown by").waitFor();
  expect(await tracks()).toEqual(["ended", "ended"]);
});

test("the decoder comes with the scanner, and not before", async () => {
  await unbox(true);
  const loaded = (): Promise<readonly string[]> =>
    phone.page.evaluate(() => performance.getEntriesByType("resource").map(({ name }) => new URL(name).pathname));
  expect((await loaded()).filter((path) => path.includes("decoder"))).toEqual([]);
  await scans();
  expect((await loaded()).filter((path) => path.includes("decoder"))).toHaveLength(1);
});

test("who does not let it have the camera is told how to, and types the code", async () => {
  await unbox(false);
  await phone.taps("Scan the code");
  await phone.sees("Camera is off for Reachback");
  await phone.shoots("scan-denied");
  await phone.fits();
  await phone.taps("Try again");
  await phone.sees("Camera is off for Reachback");
  await phone.page.context().grantPermissions(["camera"]);
  await phone.taps("Try again");
  await phone.sees(LOOKING);
  await phone.taps("Back");
  await phone.sees("Your Codex, from here");
  expect(await tracks()).toEqual(["ended"]);
});

test("a device without a camera is told so, and types the code", async () => {
  const bare = await startChromium("--use-fake-device-for-media-stream=device-count=0");
  stage.leftovers.add(() => bare.close());
  await unbox(true, bare);
  await phone.taps("Scan the code");
  await phone.sees("This device has no camera");
  await phone.shoots("scan-none");
  await phone.fits();
  await phone.taps("Type a code instead");
  await phone.page.getByLabel("Code shown by").waitFor();
});
