/** That the app can be put on a Home Screen, as the relay serves it, and says so where a person has to do it. */
import { beforeEach, expect, test } from "vitest";
import type { Phone } from "./phone";
import { Stage } from "./stage";

const SAFARI =
  "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1";

/** The manifest's icons. */
const ICONS = [
  { src: "/icon-192.png", sizes: "192x192", type: "image/png", purpose: "any" },
  { src: "/icon-512.png", sizes: "512x512", type: "image/png", purpose: "any" },
  { src: "/icon-512.png", sizes: "512x512", type: "image/png", purpose: "maskable" },
] as const;

const stage = Stage.ofFile({ apart: true });
let phone: Phone;

beforeEach(async () => {
  phone = await stage.unbox();
});

/** Makes the phone one whose Safari shows the page in a tab, or from the Home Screen. */
async function isIphone(standalone: boolean): Promise<void> {
  await phone.page.addInitScript(
    ([userAgent, standalone]) => {
      Object.defineProperty(navigator, "userAgent", { value: userAgent });
      Object.defineProperty(navigator, "standalone", { value: standalone });
    },
    [SAFARI, standalone] as const,
  );
}

test("the browser finds nothing wrong with the manifest, and its icons are what it says", async () => {
  await phone.page.goto(stage.apart.relayUrl);
  await phone.sees("Your Codex, from here");
  const browserOfPage = await phone.page.context().newCDPSession(phone.page);
  const { url, errors, data } = await browserOfPage.send("Page.getAppManifest");
  expect(errors).toEqual([]);
  expect(url).toBe(new URL("/manifest.webmanifest", stage.apart.relayUrl).href);
  const answer = await phone.page.request.get(url);
  expect(answer.headers()["content-type"]).toBe("application/manifest+json");
  const manifest: unknown = JSON.parse(data ?? "");
  const kept = { id: "/", name: "Reachback", start_url: "/", scope: "/", display: "standalone", icons: ICONS };
  expect(manifest).toMatchObject(kept);
  const touch = (await phone.page.locator("link[rel=apple-touch-icon]").getAttribute("href")) ?? "";
  for (const { src, sizes, type } of [...ICONS, { src: touch, sizes: "180x180", type: "image/png" }]) {
    const icon = await phone.page.request.get(new URL(src, stage.apart.relayUrl).href);
    expect([icon.status(), icon.headers()["content-type"]], src).toEqual([200, type]);
    // Width and height follow the signature and the first chunk's head.
    const body = await icon.body();
    expect(`${String(body.readUInt32BE(16))}x${String(body.readUInt32BE(20))}`, src).toBe(sizes);
  }
});

test("a tab of an iPhone's Safari is told to use the Home Screen first, and can pair all the same", async () => {
  await isIphone(false);
  await phone.page.goto(stage.apart.relayUrl);
  await phone.sees("First, add Reachback to your Home Screen");
  await phone.shoots("homescreen");
  await phone.taps("Pair this tab anyway");
  await phone.taps("Type a code instead");
  await phone.page.getByLabel("Code shown by").waitFor();
});

test("the app on an iPhone's Home Screen does not advise what was done", async () => {
  await isIphone(true);
  await phone.page.goto(stage.apart.relayUrl);
  await phone.sees("Your Codex, from here");
  expect(await phone.page.getByText("Home Screen").count()).toBe(0);
});

/** What the first page offers, the first thing first, and whether it shows the terminal's command at once. */
async function offers(page: Phone["page"]): Promise<{ buttons: string[]; terminal: boolean }> {
  await page.goto(stage.apart.relayUrl);
  await page.getByText("Your Codex, from here").waitFor();
  const terminal = await page.getByText("reachback join").isVisible();
  const buttons = await page.locator("a.btn.wide").allInnerTexts();
  return { buttons: buttons.map((text) => text.trim()), terminal };
}

test("the first page speaks to who sees it: a phone has a camera, a computer a terminal", async () => {
  const onPhone = { buttons: ["Scan the code", "Type a code instead"], terminal: false };
  expect(await offers(phone.page)).toEqual(onPhone);
  const context = await phone.page
    .context()
    .browser()
    ?.newContext({ viewport: { width: 1_280, height: 800 } });
  const page = await context?.newPage();
  if (context === undefined || page === undefined) {
    throw new Error("the phone's browser opens no second window");
  }
  try {
    const onComputer = { buttons: ["Type a code", "Scan the code instead"], terminal: true };
    expect(await offers(page)).toEqual(onComputer);
  } finally {
    await context.close();
  }
});
