/** A model whose effort can be chosen: the real Codex, with a catalog in which the scripted model has some. */
import { writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { expect, test } from "vitest";
import { CODEX } from "../real/homes";
import { Stage } from "./stage";

const stage = Stage.ofFile();

/** A program that puts efforts into the catalog, which the demo writes at its start, and is Codex then. */
function codexWithEfforts(env: NodeJS.ProcessEnv): string {
  const level = (effort: string): object => ({ effort, description: effort });
  const efforts = JSON.stringify({
    default_reasoning_level: "low",
    supported_reasoning_levels: ["low", "high"].map(level),
  }).slice(1, -1);
  const program = join(env.HOME ?? "", "codex-with-efforts");
  const edit = `sed -i 's/"supported_reasoning_levels":\\[\\]/${efforts}/' "$CODEX_HOME/models.json"`;
  const lines = ["#!/bin/sh", `[ ! -f "$CODEX_HOME/models.json" ] || ${edit}`, `exec '${resolve(CODEX)}' "$@"`, ""];
  writeFileSync(program, lines.join("\n"), { mode: 0o700 });
  return program;
}

test("the effort of a model is chosen, and the thread has it", async () => {
  const phone = await stage.unbox();
  const up = await stage.pairs(phone, codexWithEfforts);
  const desk = await stage.desk(up);
  await phone.goesOn();
  await phone.taps("New");
  const [model, effort] = [phone.page.getByLabel("Model"), phone.page.getByLabel("Effort")];
  await model.locator("option").nth(1).waitFor({ state: "attached" });
  expect(await effort.count()).toBe(0);
  await model.selectOption({ index: 1 });
  await effort.waitFor();
  expect(await effort.inputValue()).toBe("low");
  expect(await effort.locator("option").allTextContents()).toEqual(["low", "high"]);
  await effort.selectOption("high");
  await phone.page.getByRole("textbox", { name: "First message" }).fill("mend the shop");
  await phone.sees("Draft kept on this device");
  await phone.shoots("new-thread-effort");
  const chosen = await model.inputValue();
  await phone.taps("Start");
  await phone.page.waitForURL(/\/t\//);
  await phone.sees("You are talking to the real Codex");
  const threadId = new URL(phone.page.url()).hash.split("/").at(-1) ?? "";
  const resumed = await desk.asks("thread/resume", { threadId });
  expect(resumed).toMatchObject({ model: chosen, reasoningEffort: "high" });
});
