/** A host whose computer has no `ssh`: whoever would add a machine is told so, with what helps. */
import { execFileSync } from "node:child_process";
import { mkdirSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { audits } from "./audit";
import { Stage } from "./stage";

const stage = Stage.ofFile();

/** A search path with what Codex needs, and nothing else. */
function sshless(env: NodeJS.ProcessEnv): undefined {
  const bin = join(env.HOME ?? "", "bin");
  mkdirSync(bin);
  for (const program of ["bash", "sh", "env"]) {
    symlinkSync(execFileSync("which", [program], { encoding: "utf8" }).trim(), join(bin, program));
  }
  symlinkSync(process.execPath, join(bin, "node"));
  env.PATH = bin;
}

test("the machines of a host without ssh can't be read, which is said in words", async () => {
  const phone = await stage.unbox();
  const up = await stage.pairs(phone, sshless);
  await phone.taps(/^Open/);
  await phone.sees("No threads on");
  await phone.taps("About this host");
  const device = (await phone.page.locator("dd code").nth(1).textContent()) ?? "";
  expect(await up.command("devices", "scope", device, "admin").exited()).toBe(0);
  await phone.taps(/^SSH machines/);
  const sheet = phone.page.getByRole("dialog", { name: "SSH machines" });
  await sheet
    .getByRole("alert")
    .getByText(/^There is no ssh on this computer's search path/)
    .waitFor();
  await phone.sees(/at the host: install the OpenSSH client, and start the agent again\./);
  expect(await sheet.locator(".bones").count()).toBe(0);
  expect(await sheet.getByRole("button", { name: /^Add / }).count()).toBe(0);
  await phone.shoots("machines-no-ssh");
  await audits(phone, "machines-no-ssh");

  // Asked again, it says the same; and nothing of it hides behind the sheet.
  await sheet.getByRole("button", { name: "Try again" }).tap();
  await sheet
    .getByRole("alert")
    .getByText(/no ssh/)
    .waitFor();
  await sheet.getByRole("button", { name: "Close" }).tap();
  await phone.page.getByRole("dialog").waitFor({ state: "detached" });
});
