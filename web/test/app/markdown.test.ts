/** What Codex says in Markdown, on a phone, while it is said. */
import { beforeEach, expect, test } from "vitest";
import { LURES } from "../hostile";
import type { Up } from "../real/up";
import { audits } from "./audit";
import type { Desk } from "./desk";
import type { Phone } from "./phone";
import { Stage } from "./stage";

declare global {
  interface Window {
    /** Blocks that were followed by another one, as they were then. */
    done?: Map<HTMLElement, { readonly text: string; readonly height: number }>;
  }
}

/** Has each shape that there is. */
const MESSAGE = [
  "# Fixed, and proved\n\nThe handler charges *first* and records the delivery **afterwards**: nothing ties the ~~three~~ two",
  " attempts together. See `charge()` in [webhook.ts](src/billing/webhook.ts:41), [Stripe's page](https://docs.stripe.com/webhooks)",
  " and https://example.com/retries.\n\n",
  "## What changed\n- A delivery is claimed before the charge\n  1. the claim\n  2. the charge\n- A retry gets the first result\n",
  "- [x] a test that failed before\n- [ ] the runbook\n\n",
  "```ts src/billing/claim.ts\nexport async function claimDelivery(eventId: string): Promise<boolean> {\n",
  '  // Once for each event.\n  const { rowCount } = await db.query("insert into deliveries (event_id) values ($1)", [eventId, 42]);\n',
  "  return rowCount === 1;\n}\n```\n\n> Run the migration *before* the deploy.\n>\n> ```sh\n> pnpm migrate --env staging\n> ```\n\n",
  "| Run | Charges | Time | What it was started with | Where |\n|---|--:|:-:|---|---|\n| before | 2 | 1.4 s |",
  " `pnpm vitest run test/webhook.test.ts` | a laptop |\n| after | 1 | 1.3 s | | the pipeline of the branch |\n\n",
  "```diff\n-await charge(event);\n+await charge(event, { idempotencyKey: event.id });\n```\n\n---\n\n",
  "![the receipt page](https://pictures.example/receipt.png) is <b>not</b> loaded.\n\n",
  "```nobodyknows\nno <colours> here\n```\n\nThe index takes about 4 s.",
].join("");

let up: Up;
let desk: Desk;
let phone: Phone;
let thread: string;
const asked: string[] = [];
const stage = Stage.ofFile();

beforeEach(async () => {
  phone = await stage.unbox();
  asked.length = 0;
  phone.page.context().on("request", (request) => {
    asked.push(request.url());
  });
  up = await stage.pairs(phone);
  desk = await stage.desk(up);
  thread = await desk.finishes(up.project, "mend the shop");
  await phone.taps(/^Open/);
  await phone.page.locator("li.thread").first().tap();
  await phone.sees("You are talking to the real Codex");
  // The tour that it gives has a list.
  expect(await phone.page.locator(".say ul > li").count()).toBe(3);
});

function said(): ReturnType<Phone["page"]["locator"]> {
  return phone.page.locator(".say").nth(1);
}

/** Has Codex say this, and waits for its end. */
async function says(text: string): Promise<void> {
  await desk.prompts(thread, `@say ${text}`);
  await said().and(phone.page.locator("[aria-busy=true]")).waitFor();
  await said().and(phone.page.locator("[aria-busy=false]")).waitFor({ timeout: 55_000 });
}

/** Files of the page's that colour code, loaded so far. */
function highlighters(): Promise<number> {
  return phone.page.evaluate(
    () => performance.getEntriesByType("resource").filter(({ name }) => /\/highlight-[^/]*\.js$/.test(name)).length,
  );
}

/** Looks at each block of the message from when another one follows it. */
function watches(): Promise<void> {
  return phone.page.evaluate(() => {
    const done = new Map<HTMLElement, { readonly text: string; readonly height: number }>();
    window.done = done;
    const look = (): void => {
      const [, message] = document.querySelectorAll(".say");
      for (const block of message?.children ?? []) {
        if (block instanceof HTMLElement && block !== message?.lastElementChild && !done.has(block)) {
          done.set(block, { text: block.innerText, height: block.offsetHeight });
        }
      }
    };
    new MutationObserver(look).observe(document.body, { childList: true, subtree: true, characterData: true });
  });
}

test("a message of all shapes is shown as it comes, and each of its blocks stays as it is once another follows", async () => {
  expect(await highlighters()).toBe(0);
  await watches();
  await says(MESSAGE);
  await said().locator("pre .sk").first().waitFor();
  expect(await highlighters()).toBe(1);
  const changed = await phone.page.evaluate(() => {
    const [, message] = document.querySelectorAll(".say");
    const all = [...(window.done ?? [])];
    const others = all.filter(
      ([block, { text, height }]) =>
        block.parentElement !== message || block.innerText !== text || block.offsetHeight !== height,
    );
    return { count: all.length, others: others.map(([block, was]) => [was, block.outerHTML.slice(0, 200)]) };
  });
  expect(changed).toEqual({ count: 12, others: [] });
  const shapes = { h3: 1, h4: 1, em: 2, strong: 1, del: 1, ul: 1, ol: 1, ".task": 2, pre: 4, table: 1, td: 10, hr: 1 };
  for (const [shape, count] of Object.entries(shapes)) {
    expect(await said().locator(shape).count(), shape).toBe(count);
  }
  expect(await said().locator("img, b, picture, video, script, style").count()).toBe(0);
  expect(await said().innerText()).toContain("is <b>not</b> loaded");
  await said().getByText("ts · src/billing/claim.ts").waitFor();
  const whole = await said().innerText();
  await phone.page.reload();
  await said().locator("pre .sk").first().waitFor();
  expect(await said().innerText()).toBe(whole);
  expect(asked.filter((url) => /pictures|stripe|example/.test(url))).toEqual([]);
});

test("it is there for everybody; code is copied, a link opens another tab, and what is wide is moved in its own box", async () => {
  await says(MESSAGE);
  await said().locator("pre .sk").first().waitFor();
  for (const [index, block] of (await said().locator("h3, .block, .aside, hr").all()).entries()) {
    await block.scrollIntoViewIfNeeded();
    await phone.shoots(`markdown-${index}`);
  }
  await audits(phone, "markdown");
  await phone.fits();
  await phone.page.setViewportSize({ width: 320, height: 568 });
  const wide = await said()
    .locator(".aside")
    .evaluate(({ scrollWidth, clientWidth }) => scrollWidth > clientWidth);
  expect(wide).toBe(true);
  await said().locator("blockquote .block").scrollIntoViewIfNeeded();
  await phone.shoots("markdown-320");
  await phone.page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
  await said().locator("blockquote").getByRole("button", { name: "Copy code" }).tap();
  await phone.sees("Copied");
  expect(await phone.page.evaluate(() => navigator.clipboard.readText())).toBe("pnpm migrate --env staging");
  const link = said().getByRole("link", { name: "Stripe's page" });
  expect(await link.getAttribute("rel")).toBe("noopener noreferrer");
  await said().getByText("(docs.stripe.com)").waitFor();
  await phone.page.context().route(/stripe/, (route) => route.fulfill({ body: "their page" }));
  const [tab] = await Promise.all([phone.page.context().waitForEvent("page"), link.tap()]);
  await tab.getByText("their page").waitFor();
  expect(await tab.evaluate(() => [document.referrer, window.opener === null])).toEqual(["", true]);
});

test("nothing of hostile text runs, loads, or is more than text", async () => {
  const { fence = "", unclosed = "", ...others } = LURES;
  await says([...Object.values(others), fence].join("\n\n"));
  const message = said();
  const names = await message.evaluate((say) => [
    ...new Set([...say.querySelectorAll("*")].map(({ localName }) => localName)),
  ]);
  const known =
    "h2 h3 h4 h5 h6 p em strong del code bdi span a ul ol li blockquote hr div pre table thead tbody tr th td button svg use";
  expect(names.filter((name) => !known.split(" ").includes(name))).toEqual([]);
  const addresses = await message.evaluate((say) => [...say.querySelectorAll("a")].map(({ href }) => href));
  expect(addresses.length).toBeGreaterThan(0);
  expect(addresses.filter((address) => !address.startsWith("https://"))).toEqual([]);
  await message.getByText("U+202E right-to-left override").first().waitFor();
  await phone.shoots("markdown-hostile");
  await phone.fits();
  await desk.prompts(thread, `@say ${unclosed}`);
  await phone.page.locator(".say[aria-busy=false]").nth(2).waitFor();
  expect(asked.filter((url) => /evil|example/.test(url))).toEqual([]);
});
