/** What a phone is, keeps and may, on one page; and a host that it forgets. */
import { execFileSync } from "node:child_process";
import { resolve } from "node:path";
import { beforeEach, expect, test } from "vitest";
import { REACHBACK } from "../real/homes";
import type { Up } from "../real/up";
import { audits } from "./audit";
import type { Phone } from "./phone";
import { Stage } from "./stage";

let up: Up;
let phone: Phone;
/** This device's id at the host. */
let device: string;
const stage = Stage.ofFile();

beforeEach(async () => {
  phone = await stage.unbox();
  up = await stage.pairs(phone);
  await phone.goesOn();
  device = await phone.deviceId();
  await phone.taps("Settings");
});

/** What is behind everything, and what the browser paints around the page. */
async function colours(): Promise<readonly (string | null)[]> {
  return phone.page.evaluate(() => {
    const around = [...document.querySelectorAll("meta[name=theme-color]")].find(
      (meta) => matchMedia(meta.getAttribute("media") ?? "all").matches,
    );
    return [getComputedStyle(document.body).backgroundColor, around?.getAttribute("content") ?? null];
  });
}

const LIGHT = ["rgb(250, 250, 248)", "#fafaf8"];
const DARK = ["rgb(15, 16, 18)", "#0f1012"];

test("a theme that is chosen is there at once, whatever the system has, and after a reload", async () => {
  expect(await colours()).toEqual(LIGHT);
  await phone.page.getByRole("radio", { name: "dark" }).check();
  expect(await colours()).toEqual(DARK);
  await phone.page.reload();
  await phone.page.getByRole("radio", { name: "dark" }).waitFor();
  expect(await phone.page.getByRole("radio", { name: "dark" }).isChecked()).toBe(true);
  expect(await colours()).toEqual(DARK);
  await phone.page.emulateMedia({ colorScheme: "dark" });
  await phone.page.getByRole("radio", { name: "light" }).check();
  expect(await colours()).toEqual(LIGHT);
  await phone.page.getByRole("radio", { name: "system" }).check();
  expect(await colours()).toEqual(DARK);
  await phone.page.emulateMedia({ colorScheme: "light" });
  expect(await colours()).toEqual(LIGHT);
});

/** The size of a rem, and of the letters in an input. */
async function sizes(): Promise<readonly string[]> {
  return phone.page.evaluate(() => {
    const style = getComputedStyle(document.documentElement);
    const input = document.createElement("input");
    input.className = "input";
    document.body.append(input);
    const { fontSize } = getComputedStyle(input);
    input.remove();
    return [style.fontSize, fontSize];
  });
}

test("text is as large as its reader has it, which on an iPhone is the size chosen there", async () => {
  const sheets = await phone.page.evaluate(async () => {
    const links = [...document.querySelectorAll<HTMLLinkElement>("link[rel=stylesheet]")];
    return (await Promise.all(links.map(async ({ href }) => (await fetch(href)).text()))).join("");
  });
  const rule = /@supports ?\(font: ?-apple-system-body\) ?and ?\(-webkit-touch-callout: ?none\) ?{:root{([^}]*)}}/.exec(
    sheets.replace(/\s+/g, " "),
  );
  expect(rule?.[1]).toMatch(/^font:-apple-system-body;--t-input:max\(16px, ?1rem\);?$/);
  // Nothing of that is for this browser.
  expect(await sizes()).toEqual(["16px", "16px"]);
  await phone.page.evaluate(() => (document.documentElement.dataset.text = "200"));
  expect(await sizes()).toEqual(["32px", "32px"]);
  await phone.page.evaluate(() => delete document.documentElement.dataset.text);
  // The same at the sizes that an iPhone has by itself, and at its largest one that is not for accessibility.
  for (const size of [17, 23]) {
    await phone.page.evaluate((size) => (document.documentElement.style.fontSize = `${size}px`), size);
    expect(await sizes()).toEqual([`${size}px`, `${size}px`]);
    await audits(phone, `settings-${size}px`);
  }
});

test("a theme that is chosen in one tab is there in the others", async () => {
  const other = await phone.page.context().newPage();
  await other.goto(phone.page.url());
  await other.getByRole("radio", { name: "dark" }).check();
  await phone.page.waitForFunction(() => document.documentElement.dataset.theme === "dark");
  expect(await colours()).toEqual(DARK);
  expect(await phone.page.getByRole("radio", { name: "dark" }).isChecked()).toBe(true);
  await other.close();
});

test("it says what this device is, keeps and may, as that changes, on any width", async () => {
  await phone.sees(/kept in this browser/);
  await phone.sees("Linux PC, Chrome");
  await phone.sees("grant lasting permissions");
  const version = execFileSync(resolve(REACHBACK), ["--version"], { encoding: "utf8" }).trim().split(" ").at(-1);
  await phone.sees(`Reachback ${version ?? ""} ·`);
  await phone.shoots("settings");
  await phone.fits();
  await phone.page.setViewportSize({ width: 320, height: 568 });
  await phone.shoots("settings-320");
  await phone.page.setViewportSize({ width: 1280, height: 800 });
  await phone.shoots("settings-wide");
  await phone.page.getByRole("link", { name: "Hosts", exact: true }).click();
  await phone.page.getByRole("link", { name: "Settings", exact: true }).click();
  expect(await up.command("devices", "scope", device, "view").exited()).toBe(0);
  await phone.sees("This device may watch");
  await phone.sees("Not: prompt, answer, approve, manage devices");
});

test("the licenses of what others wrote of the app are a tap away", async () => {
  const opened = phone.page.waitForEvent("popup");
  await phone.taps("Licenses of what is in it");
  const licenses = await opened;
  await licenses.waitForURL(/\/licenses\.txt$/);
  expect(await licenses.evaluate(() => [document.contentType, document.characterSet])).toEqual(["text/plain", "UTF-8"]);
  const text = await licenses.evaluate(() => document.body.textContent);
  for (const name of ["@lezer/markdown", "highlight.js", "idb", "lowlight", "qr", "svelte"]) {
    expect(text).toContain(`\n## ${name} - `);
  }
  expect(text).toContain("Permission is hereby granted, free of charge");
  await licenses.close();
});

test("a host is forgotten with its keys and its draft, and not before a person said so twice", async () => {
  await phone.taps("Hosts");
  await phone.sees("Keys are per host");
  await phone.shoots("hosts");
  await phone.page.locator("a.row").first().tap();
  await phone.sees("No threads on");
  await phone.shoots("threads-tabs");
  await phone.fits();
  await phone.drafts("mend the shop");
  await phone.taps("Close, keeps the draft");
  await phone.taps("Settings");
  await phone.taps(/^Forget/);
  await phone.sees(/and the draft with them/);
  await phone.shoots("settings-forget");
  await phone.fits();
  await phone.taps("Keep");
  expect([await phone.rows("hosts"), await phone.rows("starts")]).toEqual([1, 1]);
  await phone.taps(/^Forget/);
  await phone.taps("Remove for good");
  await phone.sees("No host is paired with this device");
  expect([await phone.rows("hosts"), await phone.rows("starts")]).toEqual([0, 0]);
  await phone.shoots("settings-none");
  await phone.page.reload();
  await phone.sees("No host is paired with this device");
  await phone.taps("Add a host");
  await phone.page.getByRole("heading", { name: "Scan the code" }).waitFor();
  await phone.taps("Back");
  await phone.sees("Your Codex, from here");
});
