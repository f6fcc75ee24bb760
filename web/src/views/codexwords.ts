/** What a person is told of a Codex that is not well: what it is, and what its owner does about it. */
import type { EnvironmentInfo } from "../api/types";
import { takesThreads } from "../state/choices";
import { aliasOf } from "../state/codexes";
import { LOCAL } from "../state/route";
import { visibleLine } from "../visible";
import { commandThere } from "./environmentwords";
import { sentence } from "./sentence";

/** One thing that is wrong. What is between backquotes is a command. */
export interface CodexFault {
  /** Whether nothing can run until it is mended. */
  readonly stops: boolean;
  readonly text: string;
}

/** What is wrong in an environment, as a list of all of them tells it. */
export interface Alert extends CodexFault {
  readonly environment: string;
  /** Whether its threads could not be read, so that they may be asked for again. */
  readonly again: boolean;
}

/** All that is wrong there; nothing while Codex is only being started. */
export function codexFaults(info: EnvironmentInfo): readonly CodexFault[] {
  const faults: CodexFault[] = [];
  if (isDown(info)) {
    faults.push({ stops: true, text: downWords(info) });
  } else if (info.account?.state === "signedOut") {
    const there = commandThere(info.name, "codex login --device-auth");
    faults.push({
      stops: true,
      text:
        there === null
          ? "Codex is signed out, and prompts fail. At the host: `codex login`"
          : `Codex is signed out there, and prompts fail. To sign in on that machine: \`${there}\``,
    });
  }
  for (const { message, fix } of info.troubles ?? []) {
    faults.push({ stops: false, text: `${clause(message)} ${fixWords(fix)}` });
  }
  return faults.map(({ stops, text }) => ({ stops, text: visibleLine(text) }));
}

/** What is wrong in all of them, each thing once. `faults`: why an environment has no list, by its name. */
export function alertsOf(
  infos: ReadonlyMap<string, EnvironmentInfo>,
  faults: ReadonlyMap<string, string>,
): readonly Alert[] {
  const told = [...infos.values()].flatMap((info) =>
    codexFaults(info).map((fault) => ({
      ...fault,
      environment: info.name,
      // The host's own Codex is tried again anyway.
      again: fault.stops && isDown(info) && (info.name !== LOCAL || faults.has(info.name)),
    })),
  );
  const lists = [...faults]
    .filter(([environment]) => {
      const info = infos.get(environment);
      // A Codex that is down has no list: that is said.
      return info === undefined || !isDown(info);
    })
    .map(([environment, fault]) => {
      // What a machine says stands behind its name.
      const text = aliasOf(environment) === null ? sentence(fault) : clause(visibleLine(fault));
      return { environment, stops: true, text, again: true };
    });
  return [...told, ...lists];
}

/** Why no thread can begin in an environment, and what helps; `null` where one can. */
export function closedWords(info: EnvironmentInfo): string | null {
  if (takesThreads(info)) {
    return null;
  }
  const words = [isDown(info) ? visibleLine(downWords(info)) : null, boundWords(info)];
  return words.filter((text) => text !== null).join(" ") || null;
}

/** That no device may do more than look there, and what one does instead; `null` where that is not so. */
export function boundWords({ name, maxScope, maxScopeReason }: EnvironmentInfo): string | null {
  if (maxScope !== "view") {
    return null;
  }
  const there = commandThere(name, "codex");
  const why = clause(visibleLine(maxScopeReason ?? "no device may do more there"));
  return `View only: ${why}${there === null ? "" : ` To work there, at the host: \`${there}\``}`;
}

/** Whether a Codex is down, and not only being started. */
export function isDown({ state }: EnvironmentInfo): boolean {
  return state === "failed" || state === "stopped";
}

function downWords({ name, state, reason, fix }: EnvironmentInfo): string {
  if (state === "stopped") {
    return "Codex has ended there, with its agent.";
  }
  const isHere = name === LOCAL;
  const why = clause(reason ?? "its host does not say why");
  const next = isHere ? "It is tried again from time to time." : "It is tried again when somebody asks for it.";
  return `${isHere ? "Codex does not run: " : ""}${why} ${fix === undefined ? next : fixWords(fix)}`;
}

function fixWords(fix: string): string {
  return `${fix.endsWith("?") ? "Seen from the host" : "At the host"}: ${fix}`;
}

/** What a host says, as a part of a sentence that ends with it. */
function clause(words: string): string {
  return /[.!?]$/.test(words) ? words : `${words}.`;
}
