/** Machines that a host reaches over SSH, on a phone: one that is out of reach is in nobody's way. */
import { beforeEach, expect, test, vi } from "vitest";
import { named } from "../../src/views/named";
import type { Up } from "../real/up";
import { auditsCode } from "./audit";
import type { Desk } from "./desk";
import { Machine } from "./machine";
import type { Phone } from "./phone";
import { Stage } from "./stage";

let machine: Machine;
let up: Up;
let desk: Desk;
let phone: Phone;
const stage = Stage.ofFile();

/** A host with one thread of its own, whose configuration names a machine that takes connections and does not answer. */
beforeEach(async () => {
  phone = await stage.unbox();
  machine = await Machine.silent();
  up = await stage.pairs(phone, machine.named);
  machine.at(up);
  stage.leftovers.addLast(() => machine.stop());
  desk = await stage.desk(up);
  await desk.finishes(up.project, "mend the shop");
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
  await machine.joins();
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
  await auditsCode(phone, "environments-away");

  await phone.taps("New");
  await phone.taps(/^Folder/);
  const [here, there] = [/The host itself/, /^devbox/].map((name) => phone.page.getByRole("radio", { name }));
  expect([await here?.isChecked(), await there?.isDisabled()]).toEqual([true, true]);
  await phone.page
    .getByRole("dialog")
    .getByText(/“devbox”.*the host: /)
    .waitFor();
  await phone.shoots("environments-folder");
  await auditsCode(phone, "environments-folder");
  await phone.page.getByRole("dialog").getByRole("button", { name: up.project }).tap();
  await phone.page.locator("dialog.sheet").waitFor({ state: "hidden" });
  await phone.taps("Close, keeps the draft");

  await row("mend the shop").waitFor();
  await phone.taps("Back to hosts");
  await phone.sees("Also devbox (out of reach) over SSH");
  await phone.shoots("environments-hosts");
  await auditsCode(phone, "environments-hosts");
});

test("threads of a machine come when it answers, are only looked at, and go with it", async () => {
  await machine.joins();
  await phone.taps(/^Open/);
  await row("mend the shop").waitFor();
  await machine.goesOn();
  await row("thread 1 of many").waitFor();
  const group = phone.page.getByRole("region", { name: "infra" });
  expect(await group.locator(".tag").allTextContents()).toEqual(["devbox", "view only"]);
  await phone.page.getByRole("button", { name: `Menu of ${named("mend the shop")}` }).waitFor();
  expect(await phone.page.getByRole("button", { name: /^Menu of .thread/ }).count()).toBe(0);
  // Nobody is signed in there.
  await phone.sees("ssh -t devbox codex login");
  await phone.shoots("environments");
  await auditsCode(phone, "environments");

  await row("thread 1 of many").tap();
  await phone.page.getByRole("heading", { name: "thread 1 of many" }).waitFor();
  await phone.sees(/→ devbox · infra/);
  expect(await phone.page.getByRole("button", { name: "Thread menu" }).count()).toBe(0);
  await phone.shoots("environments-thread");
  await auditsCode(phone, "environments-thread");

  await phone.taps("Back to threads");
  await row("thread 1 of many").waitFor();
  await machine.leaves();
  await row("thread 1 of many").waitFor({ state: "detached" });
  await phone.page.getByText(/over SSH/).waitFor({ state: "detached" });
  await row("mend the shop").waitFor();
});

/** Has the host's owner say what this device may do, whose page of the host is shown. */
async function may(scope: "approve" | "admin"): Promise<void> {
  const device = (await phone.page.locator("dd code").nth(1).textContent()) ?? "";
  expect(await up.command("devices", "scope", device, scope).exited()).toBe(0);
}

/** Opens what says which machines devices see, on the page of the host. */
async function opensMachines(): Promise<void> {
  await phone.taps(/^SSH machines/);
  await phone.page.getByRole("dialog", { name: "SSH machines" }).waitFor();
}

/** The button of the sheet with this name. */
function button(name: string): ReturnType<Phone["page"]["locator"]> {
  return phone.page.getByRole("dialog").getByRole("button", { name, exact: true });
}

test("a device with admin adds a machine and takes it back, and is asked before", async () => {
  await machine.goesOn();
  await phone.taps(/^Open/);
  await phone.taps("About this host");
  await may("admin");
  await opensMachines();
  await phone.sees(machine.address);
  await phone.shoots("machines");
  await button(`Add ${named("devbox")}`).tap();
  await phone.sees("reachback ssh check devbox");
  await phone.shoots("machines-add");
  await auditsCode(phone, "machines-add");
  await button("Not now").tap();
  expect(await button(`Add ${named("devbox")}`).evaluate((own) => own === document.activeElement)).toBe(true);
  await button(`Add ${named("devbox")}`).tap();
  await button("Add it").tap();
  await button(`Take back ${named("devbox")}`).waitFor();
  await phone.shoots("machines-added");
  await auditsCode(phone, "machines-added");

  // Back leads out of the sheet, and not of the screen.
  await phone.page.goBack();
  await phone.sees("Added: devbox");
  await auditsCode(phone, "about-admin");
  await phone.taps("Back to threads");
  await row("thread 1 of many").waitFor();

  await phone.taps("About this host");
  await opensMachines();
  await button(`Take back ${named("devbox")}`).tap();
  await phone.sees("What runs there goes on");
  await phone.shoots("machines-remove");
  await auditsCode(phone, "machines-remove");
  await button("Keep it").tap();
  await button(`Take back ${named("devbox")}`).tap();
  await button("Take it back").tap();
  await button(`Add ${named("devbox")}`).waitFor();
  await button("Close").tap();
  await phone.sees("Add those that this host reaches");
  await phone.taps("Back to threads");
  await row("mend the shop").waitFor();
  await row("thread 1 of many").waitFor({ state: "detached" });
});

test("what the owner writes at the host is read again: no machine, one that is named no more, one that is unclear", async () => {
  await machine.joins();
  machine.hasConfiguration("Host *\n  User ada\n");
  await phone.taps(/^Open/);
  await phone.taps("About this host");
  await may("admin");
  await opensMachines();
  await phone.sees("does not name it any more");
  await machine.leaves();
  await phone.sees("names no machine");
  await phone.shoots("machines-none");
  await auditsCode(phone, "machines-none");

  machine.hasConfiguration("Host broken\n  Port none\n");
  await button("Read the configuration again").tap();
  await phone.sees("broken");
  expect(await button("Add broken").count()).toBe(0);
  await phone.shoots("machines-broken");
  await auditsCode(phone, "machines-broken");

  machine.hasNoConfiguration();
  await button("Read the configuration again").tap();
  await phone.sees(/can.t read/i);
  await phone.shoots("machines-unread");
  await auditsCode(phone, "machines-unread");
});

test("what was refused says so at its machine, and without a link nothing can be changed", async () => {
  await phone.taps(/^Open/);
  await phone.taps("About this host");
  await may("admin");
  await opensMachines();
  await button(`Add ${named("devbox")}`).waitFor();
  machine.hasConfiguration("Host *\n  User ada\n");
  await button(`Add ${named("devbox")}`).tap();
  await button("Add it").tap();
  const refused = phone.page.getByRole("dialog").getByRole("alert");
  await refused.getByText(/“devbox” is no machine that .* names; at the host: .*reachback ssh list/).waitFor();
  await phone.shoots("machines-refused");
  await auditsCode(phone, "machines-refused");

  await phone.page.context().setOffline(true);
  await phone.sees("Changes need the link to the host.");
  expect(await button(`Add ${named("devbox")}`).isDisabled()).toBe(true);
  expect(await button("Read the configuration again").isDisabled()).toBe(true);
  await phone.shoots("machines-offline");
  await auditsCode(phone, "machines-offline");
  await phone.page.context().setOffline(false);
  await phone.page.getByText("Changes need the link to the host.").waitFor({ state: "detached" });
  await button("Close").tap();
  await phone.page.context().setOffline(true);
  await opensMachines();
  await phone.sees("Changes need the link to the host.");
  await phone.page.context().setOffline(false);
  await phone.page.getByText("Changes need the link to the host.").waitFor({ state: "detached" });
});

test("a device below admin is not shown what it may not change, nor any more once it is one", async () => {
  await phone.taps(/^Open/);
  await phone.taps("About this host");
  await phone.sees(/manage devices/);
  expect(await phone.page.getByText("SSH machines").count()).toBe(0);
  await may("admin");
  await opensMachines();
  await button(`Add ${named("devbox")}`).waitFor();
  await may("approve");
  await phone.page.getByRole("dialog").waitFor({ state: "detached" });
  expect(await phone.page.getByText("SSH machines").count()).toBe(0);
  // Back leads to the threads, as if nothing had lain there.
  await phone.taps("Back to threads");
  await row("mend the shop").waitFor();
});
