/** What a person is told of a Codex that is not well: what it is, and what its owner does about it. */
import type { EnvironmentInfo } from "../api/types";
import { visibleLine } from "../visible";

/** One thing that is wrong. */
export interface CodexFault {
  /** Whether nothing can run until it is mended. */
  readonly stops: boolean;
  readonly text: string;
}

/** All that is wrong there; nothing while Codex is only being started. */
export function codexFaults(info: EnvironmentInfo): readonly CodexFault[] {
  const faults: CodexFault[] = [];
  if (info.state === "failed") {
    const fix = info.fix === undefined ? "It is tried again from time to time." : `At the host: ${info.fix}`;
    faults.push({
      stops: true,
      text: `Codex does not run: ${sentence(info.reason ?? "its host does not say why")} ${fix}`,
    });
  } else if (info.state === "stopped") {
    faults.push({ stops: true, text: "Codex has ended there, with its agent." });
  } else if (info.account?.state === "signedOut") {
    faults.push({ stops: true, text: "Codex is signed out, and prompts fail. At the host: `codex login`" });
  }
  for (const { message, fix } of info.troubles ?? []) {
    faults.push({ stops: false, text: `${sentence(message)} At the host: ${fix}` });
  }
  return faults.map(({ stops, text }) => ({ stops, text: visibleLine(text) }));
}

function sentence(words: string): string {
  return /[.!?]$/.test(words) ? words : `${words}.`;
}
