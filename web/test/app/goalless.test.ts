/** A thread that is begun with a goal, where Codex has none: the owner has switched them off. */
import { writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { expect, test } from "vitest";
import { CODEX } from "../real/homes";
import { audits } from "./audit";
import { Stage } from "./stage";

const stage = Stage.ofFile();

/** A program that is Codex without goals. */
function goalless(env: NodeJS.ProcessEnv): string {
  const program = join(env.HOME ?? "", "codex-without-goals");
  writeFileSync(program, `#!/bin/sh\nexec '${resolve(CODEX)}' -c features.goals=false "$@"\n`, { mode: 0o700 });
  return program;
}

test("the thread begins, and says that its goal was not set and where it is set again", async () => {
  const phone = await stage.unbox();
  await stage.pairs(phone, goalless);
  await phone.goesOn();
  await phone.drafts("mend the shop");
  await phone.page.getByLabel(/^Goal/).fill("the shop is mended");
  await phone.taps("Start");
  await phone.sees("Its goal was not set");
  await phone.sees("You are talking to the real Codex");
  await phone.shoots("goal-unset");
  await phone.fits();
  await audits(phone, "goal-unset");
  await phone.taps("Thread menu");
  await phone.page.getByRole("button", { name: /^Goal/ }).tap();
  expect(await phone.page.getByRole("textbox", { name: "Goal", exact: true }).inputValue()).toBe("the shop is mended");
});
