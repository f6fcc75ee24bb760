/** From a pairing code to a host that is online, in a browser. */
import { beforeEach, expect, test } from "vitest";
import type { Apart } from "../real/apart";
import type { Phone } from "./phone";
import { Stage } from "./stage";
import type { Terminal } from "./terminal";

/** At a relay on loopback, which is all of these, it says whose browser it is for. */
const URL_SHOWN = /In a browser of this computer, open the link in quotes[^]*reachback join '(\S+)'/;
const CODE_SHOWN = /and type:\s+([0-9A-Z-]{19})/;
const ASKED = /(wants to pair)/;

const stage = Stage.ofFile({ apart: true });
let apart: Apart;
let phone: Phone;

beforeEach(async () => {
  ({ apart } = stage);
  phone = await stage.unbox();
});

/** `reachback pair` in a terminal; gives what it shows. */
async function pairCommand(shown: RegExp, ...args: readonly string[]): Promise<{ terminal: Terminal; shown: string }> {
  const terminal = stage.terminal("pair", ...args);
  return { terminal, shown: await terminal.shows(shown) };
}

/** A phone that has opened what a pairing code leads to, and shows digits. */
async function opened(): Promise<{ terminal: Terminal; code: string }> {
  const { terminal, shown } = await pairCommand(URL_SHOWN);
  await phone.opens(shown);
  await phone.sees("Type these six digits");
  await terminal.shows(ASKED);
  return { terminal, code: shown.split("#")[1] ?? "" };
}

/** A phone that is paired, and shows that it is. */
async function paired(): Promise<{ code: string }> {
  const { terminal, code } = await opened();
  terminal.types(await phone.digits());
  await phone.sees("Paired with");
  return { code };
}

test("a code leads to digits, digits to a host that is online, and a reload keeps it", async () => {
  const { code } = await paired();
  await phone.sees("prompt, answer, approve once");
  await phone.shoots("paired");
  await phone.taps(/^Open/);
  await phone.sees("Online");
  await phone.shoots("host");
  expect(phone.page.url()).toMatch(/#\/h\/[a-z2-7]+$/);
  await phone.page.reload();
  await phone.sees("Online");
  await phone.taps("About this host");
  await phone.sees("This device");
  await phone.shoots("about");
  await phone.taps("Back to threads");
  await phone.taps("Back to hosts");
  await phone.sees("Add a host");
  await phone.sees("Online");
  await phone.shoots("hosts");
  // Back through everything that was here: the code is nowhere.
  const visited: string[] = [];
  while (phone.page.url() !== "about:blank") {
    visited.push(phone.page.url());
    await phone.page.goBack();
  }
  expect(visited.join().toUpperCase()).not.toContain(code.toUpperCase());
});

test("the code has left the address before the app is there", async () => {
  const { shown } = await pairCommand(URL_SHOWN);
  // The app never comes.
  await phone.page.route(/\/assets\/app-.*\.js$/, () => undefined);
  await phone.page.goto(shown, { waitUntil: "domcontentloaded" });
  expect(await phone.page.evaluate(() => [location.hash, history.length])).toEqual(["", 2]);
});

test("a code that is typed pairs too, with less, and one that is wrong does not", async () => {
  const { terminal, shown } = await pairCommand(CODE_SHOWN);
  await phone.page.goto(apart.relayUrl);
  await phone.sees("Your Codex, from here");
  await phone.shoots("welcome");
  await phone.taps("Type a code instead");
  const code = phone.page.getByLabel("Code shown by");
  await code.fill("7KQD-M2XT-9RW4-");
  await phone.sees("4 to go");
  await phone.shoots("code");
  await code.fill("7KQD-M2XT-9RW4-HA0C");
  await phone.page.getByLabel("Name of this device").fill("Ada's phone");
  await phone.taps("Pair");
  await phone.sees("No pairing with that code is open");
  await phone.shoots("no-such-code");
  await phone.taps("Type the code again");
  await code.fill(shown.toLowerCase());
  expect(await phone.page.getByLabel("Name of this device").inputValue()).toBe("Ada's phone");
  await phone.taps("Pair");
  await phone.sees("Type these six digits");
  await phone.shoots("digits");
  await terminal.shows(/(“Ada's phone” .*wants to pair)/);
  terminal.types(await phone.digits());
  await phone.sees("Paired with");
  await phone.sees("approve commands, manage devices");
});

test("a scope that is typed behind the digits is the one that the phone gets", async () => {
  const { terminal } = await opened();
  await terminal.shows(/(with scope approve\.)/);
  terminal.types(`${await phone.digits()} view`);
  await phone.sees("Paired with");
  await phone.sees("prompt, answer, approve, manage devices");
  await terminal.shows(/(scope view\.)/);
});

test("a browser that asks a person whether it may keep the data holds nothing up", async () => {
  await phone.page.addInitScript(() => {
    // As Firefox does while its question stands.
    navigator.storage.persist = () => new Promise<boolean>(() => undefined);
  });
  await paired();
  await phone.sees("If the browser asks whether this page may keep its data, allow it");
});

test("other digits at the host end it", async () => {
  const { terminal } = await opened();
  const digits = await phone.digits();
  terminal.types(digits === "000000" ? "000001" : "000000");
  await phone.sees("Other digits were typed at the computer");
});

test("who cancels at the phone is not paired, whatever is typed at the host, and the code still works", async () => {
  const { terminal, shown } = await pairCommand(URL_SHOWN);
  await phone.opens(shown);
  const digits = await phone.digits();
  await terminal.shows(ASKED);
  await phone.taps("It isn't asking: cancel");
  await phone.sees("Your Codex, from here");
  // The question ends with the device that was asked about.
  await terminal.shows(/(pairing was|gave up)/);
  terminal.types(digits);
  await phone.opens(shown);
  await terminal.shows(/(wants to pair)[^]*wants to pair/);
  terminal.types(await phone.digits());
  await phone.sees("Paired with");
});

test("a person at the host who says no is obeyed", async () => {
  const { terminal } = await opened();
  terminal.types("");
  await phone.sees("The computer declined");
});

test("a host that is stopped is offline, and says when this device was taken off", async () => {
  await paired();
  await phone.taps(/^Open/);
  await phone.sees("Online");
  await apart.stopAgent("SIGTERM");
  await phone.sees("Offline since");
  await phone.page.reload();
  await phone.sees(/ is away$/);
  await phone.shoots("host-away");
  await apart.startAgent();
  await phone.sees("Online");
  await phone.taps("About this host");
  const id = await phone.page.locator("dd code").nth(1).textContent();
  expect(await apart.command("devices", "revoke", id ?? "").exited()).toBe(0);
  await phone.sees("Taken off by the host");
  await phone.taps("Remove from this device");
  await phone.taps("Remove for good");
  await phone.sees("Your Codex, from here");
});

test("a browser without the cryptography is told what would do", async () => {
  await phone.page.addInitScript(() => {
    const value = (): Promise<never> => Promise.reject(new DOMException("no", "NotSupportedError"));
    Object.defineProperty(crypto.subtle, "generateKey", { value });
  });
  await phone.page.goto(`${apart.relayUrl}/#AEAQ`);
  await phone.sees("This browser is too old to keep a secret");
  await phone.sees("Your pairing code is still good");
  await phone.shoots("old-browser");
});

test("what is no code says so", async () => {
  await phone.page.goto(`${apart.relayUrl}/#AEAQ`);
  await phone.sees("That is no pairing code");
  await phone.shoots("no-code");
});
