/** A thread that is begun on a machine which a host reaches over SSH, in a folder that its owner has opened there. */
import { expect, test } from "vitest";
import { auditsCode } from "./audit";
import { Machine } from "./machine";
import { Stage } from "./stage";

const stage = Stage.ofFile();

test("a machine whose files can be looked at takes a new thread, and runs it", async () => {
  const phone = await stage.unbox();
  const machine = await Machine.silent({ files: true });
  const up = await stage.pairs(phone, machine.named);
  machine.at(up);
  stage.leftovers.addLast(() => machine.stop());
  machine.takesModel();
  await machine.goesOn();
  await machine.joins();
  await machine.opens();

  await phone.taps(/^Open/);
  const row = (title: string) => phone.page.locator("li.thread").filter({ hasText: title });
  await row("thread 1 of many").waitFor();
  expect(await phone.page.getByRole("region", { name: "infra" }).locator(".tag").allTextContents()).toEqual(["devbox"]);
  await phone.drafts("mend the shop");
  await phone.taps(/^Folder/);
  await phone.page.getByRole("radio", { name: /^devbox/ }).check();
  await phone.shoots("machine-folder");
  await phone.page.getByRole("dialog").getByRole("button", { name: machine.project }).tap();
  await phone.page.locator("dialog.sheet").waitFor({ state: "hidden" });
  await phone.sees(machine.project);
  await phone.shoots("machine-new");
  await auditsCode(phone, "machine-new");
  await phone.taps("Start");
  await phone.sees("You are talking to the real Codex");
  await phone.sees(/→ devbox · infra/);
  await phone.page.getByRole("button", { name: "Thread menu" }).waitFor();
  await phone.shoots("machine-thread");

  await phone.taps("Back to threads");
  await row("mend the shop").getByText("Done").waitFor();
  expect(await phone.page.getByRole("region", { name: "infra" }).locator("li.thread").count()).toBe(3);
});
