/**
 * A look at a screen for everybody: axe-core in both themes; and on the narrowest of phones, and with text of twice the
 * size, whether all of it is there to be read and touched.
 */
import axe from "axe-core";
import { expect } from "vitest";
import type { Phone } from "./phone";

declare global {
  interface Window {
    /** There once it was put into the page. */
    readonly axe?: typeof axe;
  }
}

const PHONE = { width: 390, height: 844 };

/** A computer's, the narrowest first. */
const WIDE = [
  { look: "56rem", size: { width: 896, height: 600 } },
  { look: "1280", size: { width: 1_280, height: 800 } },
] as const;

/** What is looked at besides the phone as it is: a width, and the size of text in per cent. */
const SIZES = [
  { name: "320", size: { width: 320, height: 568 }, text: "100" },
  { name: "text200", size: PHONE, text: "200" },
] as const;
/** Besides, for what shows code: the narrowest of phones in large text, and such letters as other systems have. */
const CODE = { name: "code", size: { width: 320, height: 844 }, text: "200" } as const;

/** Letters of code that are larger by a tenth. */
const LARGER = `
  @font-face { font-family: larger; src: local("DejaVu Sans Mono"), local("Liberation Mono"); size-adjust: 110%; }
  @font-face { font-family: larger; font-weight: bold; src: local("DejaVu Sans Mono Bold"), local("Liberation Mono Bold"); size-adjust: 110%; }
  :root { --mono: larger, monospace; }`;

/**
 * What is wrong with the screen that the phone shows, as sentences. `name`: what its pictures are called; `code`: whether
 * it shows code, or paths, which have to fit in each system's letters.
 */
export async function faultsOf(phone: Phone, name: string, code = false): Promise<readonly string[]> {
  const { page } = phone;
  const faults: string[] = [];
  for (const colorScheme of ["dark", "light"] as const) {
    await page.emulateMedia({ colorScheme });
    await settles(phone);
    faults.push(...(await axeFaults(phone)).map((fault) => `${name}, ${colorScheme}: ${fault}`));
  }
  for (const { name: look, size, text } of code ? [...SIZES, CODE] : SIZES) {
    await page.setViewportSize(size);
    await page.evaluate((size) => (document.documentElement.dataset.text = size), text);
    if (look === CODE.name) {
      await page.evaluate(async (rules) => {
        const sheet = new CSSStyleSheet();
        sheet.replaceSync(rules);
        document.adoptedStyleSheets.push(sheet);
        await Promise.all(["16px larger", "bold 16px larger"].map((font) => document.fonts.load(font)));
      }, LARGER);
    }
    await settles(phone);
    faults.push(...(await page.evaluate(misfits)).map((fault) => `${name}, ${look}: ${fault}`));
    await phone.shoots(`everybody-${name}-${look}`);
  }
  await page.evaluate(() => {
    delete document.documentElement.dataset.text;
    document.adoptedStyleSheets = [];
  });
  await page.setViewportSize(PHONE);
  await page.emulateMedia({ colorScheme: "light" });
  return faults;
}

/** Looks that nothing is wrong with the screen of a computer: as wide as that, and where list and thread have just room. */
export async function auditsWide(phone: Phone, name: string): Promise<void> {
  const { page } = phone;
  const faults: string[] = [];
  for (const { look, size } of WIDE) {
    await page.setViewportSize(size);
    for (const colorScheme of ["dark", "light"] as const) {
      await page.emulateMedia({ colorScheme });
      await settles(phone);
      faults.push(...(await axeFaults(phone)).map((fault) => `${name}, ${look}, ${colorScheme}: ${fault}`));
    }
    faults.push(...(await page.evaluate(misfits)).map((fault) => `${name}, ${look}: ${fault}`));
    await phone.shoots(`everybody-${name}-${look}`);
    await page.emulateMedia({ colorScheme: "light" });
  }
  expect.soft(faults).toEqual([]);
}

/** Waits until nothing moves or changes its colour any more. */
async function settles({ page }: Phone): Promise<void> {
  await page.evaluate(async () => {
    const passing = document
      .getAnimations()
      .filter(({ effect }) => effect?.getComputedTiming().iterations !== Infinity);
    await Promise.allSettled(passing.map(({ finished }) => finished));
  });
}

/** Looks that nothing is wrong with the screen. */
export async function audits(phone: Phone, name: string): Promise<void> {
  expect.soft(await faultsOf(phone, name)).toEqual([]);
}

/** The same for a screen that shows code, or paths. */
export async function auditsCode(phone: Phone, name: string): Promise<void> {
  expect.soft(await faultsOf(phone, name, true)).toEqual([]);
}

/** What axe-core calls serious or critical. The debugger puts it into the page, so no policy has to be bent. */
async function axeFaults({ page }: Phone): Promise<readonly string[]> {
  if (await page.evaluate(() => window.axe === undefined)) {
    await page.evaluate(axe.source);
  }
  return page.evaluate(async () => {
    // Without its own copy of the style sheets, which it would load in a way that the policy refuses.
    const found = await window.axe?.run(document, { resultTypes: ["violations"], preload: false });
    return (found?.violations ?? [{ id: "axe-core did not run", impact: "critical" as const, nodes: [] }])
      .filter(({ impact }) => impact === "serious" || impact === "critical")
      .map(({ id, nodes }) =>
        [id, ...nodes.map(({ html, failureSummary }) => `${html} ${failureSummary ?? ""}`)].join(" "),
      );
  });
}

/** Runs in the page: what does not fit there. What lies over all else is looked at alone. */
function misfits(): readonly string[] {
  const faults: string[] = [];
  const say = (what: string, element: Element): void => {
    faults.push(`${what}: ${element.outerHTML.slice(0, 160)}`);
  };
  const root = document.querySelector("dialog[open]") ?? document.body;
  const isShown = (element: Element): boolean => {
    const { width, height } = element.getBoundingClientRect();
    return width > 1 && height > 1 && element.checkVisibility({ visibilityProperty: true });
  };
  /** Every element around this one, the nearest first. */
  const around = (element: Element): readonly Element[] => {
    const all: Element[] = [];
    for (let above = element.parentElement; above !== null; above = above.parentElement) {
      all.push(above);
    }
    return all;
  };
  const scrollsAside = (element: Element): boolean =>
    ["auto", "scroll"].includes(getComputedStyle(element).overflowX) && element.scrollWidth > element.clientWidth;

  for (const element of document.querySelectorAll("html, body, main, .dock, dialog[open], dialog[open] *")) {
    if (isShown(element) && element.matches("html, body, main, .dock, dialog, .sheet__body") && scrollsWide(element)) {
      say("scrolls sideways", element);
    }
  }
  function scrollsWide({ scrollWidth, clientWidth }: Element): boolean {
    return scrollWidth > clientWidth;
  }

  const main = document.querySelector("main");
  if (main !== null && main.clientHeight < 96) {
    say("has no room left", main);
  }

  const controls = [...root.querySelectorAll("a, button, input, select, textarea, summary")].filter(isShown);
  for (const control of controls) {
    const { left, right } = control.getBoundingClientRect();
    // A row of filters is moved under the finger, and by the keyboard.
    const aside = around(control).some((above) => above.matches(".chips") && scrollsAside(above));
    if (!aside && (left < 0 || right > document.documentElement.clientWidth)) {
      say("lies beside the screen", control);
    }
    if (getComputedStyle(control).display !== "inline" && scrollsWide(control) && !control.matches("input, select")) {
      say("is too narrow for what it says", control);
    }
  }

  // Lines of text as they are seen, as far as nothing around cuts them off, and whole.
  const lines: { readonly box: DOMRect; readonly whole: DOMRect; readonly element: Element }[] = [];
  const texts = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  for (let node = texts.nextNode(); node !== null; node = texts.nextNode()) {
    const element = node.parentElement;
    if (element === null || node.textContent?.trim() === "" || !isShown(element) || element.closest(".vh") !== null) {
      continue;
    }
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const whole of range.getClientRects()) {
      let { left, top, right, bottom } = whole;
      for (const above of [element, ...around(element)]) {
        const { overflowX, overflowY, display, webkitLineClamp } = getComputedStyle(above);
        if (display === "inline" || (overflowX === "visible" && overflowY === "visible")) {
          continue;
        }
        const edge = above.getBoundingClientRect();
        // A title may end in dots, and the path of a folder whose name stands before it.
        const isShortened = webkitLineClamp !== "none" || above.matches(".top__title > span, .group > .meta, .clip");
        if (overflowY === "hidden" && !isShortened && !above.matches(".app")) {
          if (above.scrollHeight > above.clientHeight + 2) {
            say("is cut off below", above);
          }
          if (scrollsWide(above)) {
            say("is cut off beside", above);
          }
        }
        left = Math.max(left, edge.left);
        right = Math.min(right, edge.right);
        top = Math.max(top, edge.top);
        bottom = Math.min(bottom, edge.bottom);
      }
      if (right - left > 2 && bottom - top > 2) {
        lines.push({ box: new DOMRect(left, top, right - left, bottom - top), whole, element });
      }
    }
  }
  const high = (a: DOMRect, b: DOMRect): number => Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
  lines.forEach(({ box, whole, element }, index) => {
    // Lines of one element lie as the browser sets them.
    for (const other of lines.slice(index + 1).filter((other) => other.element !== element)) {
      const wide = Math.min(box.right, other.box.right) - Math.max(box.left, other.box.left);
      // The boxes of a tall font reach into each other, which is nothing; where little of a line is seen, it may be all of that.
      const isOver = high(whole, other.whole) > Math.min(whole.height, other.whole.height) / 2;
      if (wide > 2 && high(box, other.box) > 0 && isOver) {
        say(`lies over ${other.element.outerHTML.slice(0, 120)}`, element);
      }
    }
    if (box.right > document.documentElement.clientWidth + 1 && element.closest(".chips") === null) {
      say("goes on beside the screen", element);
    }
  });
  return [...new Set(faults)];
}
