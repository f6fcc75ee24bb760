/** The audit of a screen looks at what is seen there, whatever font it is in. */
import { beforeEach, expect, test } from "vitest";
import { faultsOf } from "./audit";
import type { Phone } from "./phone";
import { Stage } from "./stage";

let phone: Phone;
const stage = Stage.ofFile();

beforeEach(async () => {
  phone = await stage.unbox();
});

/**
 * Whether the audit says that a file's name lies over its folder. It lies so many pixels below, where the box of a line has
 * more than 20 in every font, and so many of it are seen.
 */
async function isOver(gap: number, seen: number): Promise<boolean> {
  await phone.page.setContent(`<!doctype html>
    <html lang="en"><title>One screen</title>
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <style>
      body { margin: 0; }
      main { position: relative; height: ${String(200 + gap + seen)}px; overflow: auto; }
      div { height: 200px; }
      p { position: absolute; margin: 0; font: 20px/16px monospace; }
    </style>
    <main><div></div><p style="top: 200px">folder/</p><p style="top: ${String(200 + gap)}px">name</p></main>`);
  const faults = await faultsOf(phone, "one");
  return faults.some((fault) => fault.includes("lies over"));
}

test.each([
  ["lines whose boxes reach into each other a little are no fault", 16, 40, false],
  ["nor are they where the edge of what scrolls leaves little of the second", 16, 4, false],
  ["a line over another one is a fault", 6, 40, true],
  ["and so it is where the edge leaves little of it", 6, 12, true],
])("%s", async (_, gap, seen, faulty) => {
  expect(await isOver(gap, seen)).toBe(faulty);
});
