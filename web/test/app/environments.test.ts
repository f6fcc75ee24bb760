/** Machines that a host reaches over SSH, on a phone: one that is out of reach is in nobody's way. */
import { beforeEach, expect, test, vi } from "vitest";
import type { Up } from "../real/up";
import { audits } from "./audit";
import type { Desk } from "./desk";
import { Machine } from "./machine";
import type { Phone } from "./phone";
import { Stage } from "./stage";

let machine: Machine;
let up: Up;
let desk: Desk;
let phone: Phone;
const stage = Stage.ofFile();

/** A host with one thread of its own, and with a machine that takes connections and does not answer. */
beforeEach(async () => {
  phone = await stage.unbox();
  machine = await Machine.silent();
  up = await stage.pairs(phone, machine.named);
  stage.leftovers.addLast(() => machine.stop());
  desk = await stage.desk(up);
  await desk.finishes(up.project, "mend the shop");
  await machine.joins(up);
});

/** The row of the thread with this title. */
function row(title: string): ReturnType<Phone["page"]["locator"]> {
  return phone.page.locator("li.thread").filter({ hasText: title });
}

/** How often the screen says that. */
async function times(text: RegExp): Promise<number> {
  return ((await phone.page.locator("main").innerText()).match(text) ?? []).length;
}

test("a machine out of reach holds up no list, is told once, and takes no new thread", async () => {
  await phone.taps(/^Open/);
  await row("mend the shop").waitFor();
  await phone.sees("Also devbox (connecting) over SSH");
  await vi.waitUntil(() => machine.tries > 0);
  await phone.shoots("environments-connecting");

  await machine.goesOff();
  await phone.page.getByRole("alert").getByText("devbox, over SSH:").waitFor();
  await phone.sees(/“devbox”.*(At|Seen from) the host: /);
  expect(await times(/“devbox”/g)).toBe(1);
  expect(await row("mend the shop").count()).toBe(1);
  await phone.shoots("environments-away");
  await audits(phone, "environments-away");

  await phone.taps("New");
  await phone.taps(/^Folder/);
  const [here, there] = [/The host itself/, /^devbox/].map((name) => phone.page.getByRole("radio", { name }));
  expect([await here?.isChecked(), await there?.isDisabled()]).toEqual([true, true]);
  await phone.page
    .getByRole("dialog")
    .getByText(/“devbox”.*the host: /)
    .waitFor();
  await phone.shoots("environments-folder");
  await audits(phone, "environments-folder");
  await phone.page.getByRole("dialog").getByRole("button", { name: up.project }).tap();
  await phone.page.locator("dialog.sheet").waitFor({ state: "hidden" });
  await phone.taps("Close, keeps the draft");

  await row("mend the shop").waitFor();
  await phone.taps("Back to hosts");
  await phone.sees("Also devbox (out of reach) over SSH");
  await phone.shoots("environments-hosts");
  await audits(phone, "environments-hosts");
});

test("threads of a machine come when it answers, are only looked at, and go with it", async () => {
  await phone.taps(/^Open/);
  await row("mend the shop").waitFor();
  await machine.goesOn();
  await row("thread 1 of many").waitFor();
  const group = phone.page.getByRole("region", { name: "infra" });
  expect(await group.locator(".tag").allTextContents()).toEqual(["devbox", "view only"]);
  await phone.page.getByRole("button", { name: "Menu of mend the shop" }).waitFor();
  expect(await phone.page.getByRole("button", { name: /^Menu of thread/ }).count()).toBe(0);
  // Nobody is signed in there.
  await phone.sees("ssh -t devbox codex login");
  await phone.shoots("environments");
  await audits(phone, "environments");

  await row("thread 1 of many").tap();
  await phone.page.getByRole("heading", { name: "thread 1 of many" }).waitFor();
  await phone.sees(/→ devbox · infra/);
  expect(await phone.page.getByRole("button", { name: "Thread menu" }).count()).toBe(0);
  await phone.shoots("environments-thread");
  await audits(phone, "environments-thread");

  await phone.taps("Back to threads");
  await row("thread 1 of many").waitFor();
  await machine.leaves();
  await row("thread 1 of many").waitFor({ state: "detached" });
  await phone.page.getByText(/over SSH/).waitFor({ state: "detached" });
  await row("mend the shop").waitFor();
});
