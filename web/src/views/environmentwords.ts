/** What the screens call the places where a host's threads are: the host itself, and machines that it reaches over SSH. */
import type { EnvironmentInfo } from "../api/types";
import { aliasOf } from "../state/codexes";
import { LOCAL } from "../state/route";
import { visibleLine } from "../visible";
import { shellWord } from "./folderwords";
import { named } from "./named";

/** What a machine is called; an environment that is none by its own name. */
export function machineName(environment: string): string {
  return visibleLine(aliasOf(environment) ?? environment);
}

/** A command on a machine, as it is typed at its host; `null` where the environment is no machine. */
export function commandThere(environment: string, command: string): string | null {
  const alias = aliasOf(environment);
  return alias === null ? null : `ssh -t ${shellWord(alias, "NAME")} ${command}`;
}

/** The machines besides the host, with what is not as ever; as a sentence with names; `null` where there is none. `awaited`: those being asked. */
export function alsoWords(infos: Iterable<EnvironmentInfo>, awaited: ReadonlySet<string> = new Set()): string | null {
  const words = [...infos]
    .filter(({ name }) => name !== LOCAL)
    .map((info) => {
      const state = stateWord(info, awaited.has(info.name));
      const called = named(machineName(info.name));
      return state === null ? called : `${called} (${state})`;
    });
  return words.length === 0 ? null : `Also ${words.join(", ")} over SSH`;
}

/** The machines that were added, by their names. */
export function addedWords(environments: Iterable<string>): string {
  const names = [...environments].filter((name) => name !== LOCAL).map((name) => named(machineName(name)));
  return names.length === 0
    ? "Add those that this host reaches, for your devices to see"
    : `Added: ${names.join(", ")}`;
}

function stateWord({ state, account }: EnvironmentInfo, isAwaited: boolean): string | null {
  if (state === "failed") {
    return "out of reach";
  }
  if (state === "stopped") {
    return "ended";
  }
  if (state === "starting" || isAwaited) {
    return "connecting";
  }
  return account?.state === "signedOut" ? "signed out" : null;
}
