/** A phone far from its relay, on a slow network and with a slow processor: how soon the app can be used there. */
import type { Browser, CDPSession } from "playwright-core";
import { Phone } from "../test/app/phone";

/** Of the network: bits a second each way, and how long an answer takes at least, in milliseconds. */
export const NETWORK = { bits: 1_600_000, roundTrip: 150 } as const;
/** So many times as long as here takes a processor for the same. */
export const SLOWER = 4;

/** The first look at the app, by a browser that has nothing of it. */
export interface FirstLook {
  /** From the going there until what one does first has been on the screen for a frame, in milliseconds. */
  readonly time: number;
  /** The page, its style and its scripts by then, as they came over the network, without the heads of answers, in bytes. */
  readonly bytes: number;
}

declare global {
  interface Window {
    /** When what one does first had been on the screen for a frame, in milliseconds from the going there. */
    usable?: number;
    /** Tells the bench that it has, so that nothing has to ask the page meanwhile, which would take its processor. */
    isUsable?: (nothing: string) => void;
  }
}

/** Opens the app at this relay in a browser that was never there, and puts it away again. */
export async function firstLook(browser: Browser, relay: string): Promise<FirstLook> {
  const phone = await Phone.unbox(browser);
  const { page } = phone;
  const session = await page.context().newCDPSession(page);
  await slows(session);
  await session.send("Runtime.enable");
  await session.send("Runtime.addBinding", { name: "isUsable" });
  const usable = new Promise((resolve) => session.once("Runtime.bindingCalled", resolve));
  await page.addInitScript(() => {
    const look = (): void => {
      if (document.querySelector('a[href="#/scan"]') === null) {
        requestAnimationFrame(look);
        return;
      }
      requestAnimationFrame(() => {
        window.usable = performance.now();
        window.isUsable?.("");
      });
    };
    requestAnimationFrame(look);
  });
  await page.goto(relay, { waitUntil: "commit" });
  await usable;
  const look = await page.evaluate(() => {
    const time = window.usable ?? NaN;
    const [document] = performance.getEntriesByType("navigation");
    const files = performance.getEntriesByType("resource").filter(({ name }) => /\.(js|css)$/.test(name));
    const loaded = [document, ...files].filter((entry) => entry instanceof PerformanceResourceTiming);
    const sizes = loaded.map(({ responseEnd, encodedBodySize }) => (responseEnd <= time ? encodedBodySize : 0));
    return { time, bytes: sizes.reduce((all, size) => all + size, 0) };
  });
  await phone.close();
  return look;
}

async function slows(session: CDPSession): Promise<void> {
  await session.send("Network.enable");
  const throughput = NETWORK.bits / 8;
  const network = { downloadThroughput: throughput, uploadThroughput: throughput, latency: NETWORK.roundTrip };
  await session.send("Network.emulateNetworkConditions", { offline: false, ...network });
  await session.send("Emulation.setCPUThrottlingRate", { rate: SLOWER });
}
