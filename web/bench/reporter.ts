/** Prints what was measured, and on which machine, to standard output; what goes on meanwhile, to standard error. */
import { cpus, loadavg, release, type } from "node:os";
import type { Reporter, TestModule, Vitest } from "vitest/node";
import { type Figure, isMet, linesOf, tableOf } from "./figures";

declare module "vitest" {
  interface TaskMeta {
    /** What was measured. */
    figures?: readonly Figure[];
    /** Which browser it was measured in. */
    browser?: string;
  }
}

export default class FiguresReporter implements Reporter {
  readonly #json = process.env.BENCH_JSON !== undefined;
  readonly #begun = new Date();
  readonly #load = loadavg();
  #vitest: Vitest | null = null;

  onInit(vitest: Vitest): void {
    this.#vitest = vitest;
  }

  onUserConsoleLog({ content }: { readonly content: string }): void {
    say(content.trimEnd());
  }

  onTestRunEnd(modules: readonly TestModule[], faults: readonly { readonly message: string }[]): void {
    const cases = modules.flatMap((module) => [...module.children.allTests()]);
    const figures = cases.flatMap((one) => one.meta().figures ?? []);
    const browser = cases.map((one) => one.meta().browser).find((name) => name !== undefined) ?? "no browser";
    for (const line of this.#json ? [this.#machineLine(browser), ...linesOf(figures)] : tableOf(figures)) {
      process.stdout.write(`${line}\n`);
    }
    if (!this.#json) {
      process.stdout.write(`\n${this.#machineWords(browser)}\n`);
    }
    const missed = figures.filter((figure) => isMet(figure) === false);
    const verdict = missed.map(({ figure }) => figure).join("; ");
    say(missed.length > 0 ? `Not met: ${verdict}.` : "Each goal of what was measured is met.");
    for (const fault of [...faults, ...modules.flatMap(faultsOf)]) {
      this.#vitest?.logger.printError(fault);
    }
  }

  #machineLine(browser: string): string {
    const [cpu] = cpus();
    const machine = { processor: cpu?.model, processors: cpus().length, system: `${type()} ${release()}`, browser };
    return JSON.stringify({ machine, at: this.#begun, load: { before: this.#load, after: loadavg() } });
  }

  #machineWords(browser: string): string {
    const [cpu] = cpus();
    const date = this.#begun.toISOString().slice(0, 16).replace("T", " ");
    const machine = `${cpus().length} processors (${cpu?.model ?? "unknown"}), ${type()} ${release()}, ${browser}`;
    return `Measured from ${date} UTC on ${machine}; load ${loadWords(this.#load)} before, ${loadWords(loadavg())} after.`;
  }
}

function loadWords([minute = 0]: readonly number[]): string {
  return minute.toFixed(1);
}

/** What went wrong in it. */
function faultsOf(module: TestModule): readonly { readonly message: string }[] {
  return [module.errors(), ...[...module.children.allTests()].map((one) => one.result().errors ?? [])].flat();
}

function say(line: string): void {
  process.stderr.write(`${line}\n`);
}
