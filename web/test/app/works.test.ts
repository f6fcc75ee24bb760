/** What Codex does besides speaking, running commands and changing files, as rows of a thread on a phone. */
import { beforeEach, expect, test } from "vitest";
import type { Up } from "../real/up";
import { asksAlways } from "./asks";
import { auditsCode } from "./audit";
import type { Desk } from "./desk";
import type { Phone } from "./phone";
import { Stage } from "./stage";

let up: Up;
let desk: Desk;
let phone: Phone;
let thread: string;
const stage = Stage.ofFile();

beforeEach(async () => {
  phone = await stage.unbox();
  up = await stage.pairs(phone, asksAlways);
  desk = await stage.desk(up);
  thread = await desk.finishes(up.project, "mend the shop");
  await phone.taps(/^Open/);
  await phone.page.locator("li.thread").first().tap();
  await phone.sees("You are talking to the real Codex");
});

/** The row of a work. */
function row(what: string | RegExp): ReturnType<Phone["page"]["locator"]> {
  return phone.page.locator("details.item", { hasText: what });
}

test("a tool of an MCP server is a row that opens to what it was given and what came of it, also after a reload", async () => {
  await desk.prompts(thread, "@call mcp__asker/form {}");
  await phone.page.getByLabel("name").fill("Ada");
  await phone.taps("Send");
  for (const isLater of [false, true]) {
    const call = row("Called asker: form");
    await call.getByText("running").waitFor({ state: "detached" });
    await call.locator("summary").tap();
    await call.getByText("Ada").first().waitFor();
    if (!isLater) {
      await phone.shoots("works-tool");
      await phone.fits();
      await auditsCode(phone, "works-tool");
      await phone.page.reload();
    }
  }
  expect(await row("does not know").count()).toBe(0);
});

test("a sub-agent is told of in words", async () => {
  await desk.prompts(thread, "@spawn look around");
  await phone.page
    .locator("details.item", { hasText: /sub-agent/ })
    .first()
    .waitFor();
  await phone.page.locator(".turnbar", { hasText: "Idle" }).waitFor();
  await phone.shoots("works-agent");
  await phone.fits();
  await auditsCode(phone, "works-agent");
  expect(await row("does not know").count()).toBe(0);
});
