/** What the screens say of a thread that is being begun. */
import type { Progress, StartFault } from "../state/start";
import { visibleLine } from "../visible";
import { timeOf } from "./words";

/** How far it is: dots that are full, out of three, and words. `name` is the host's. */
export function progressWords(
  progress: Exclude<Progress, { at: "draft" }>,
  at: { readonly sending: boolean; readonly name: string; readonly now: number },
): { readonly dots: number; readonly text: string } {
  const name = visibleLine(at.name);
  switch (progress.at) {
    case "keeping":
      return { dots: 0, text: "Being kept on this device" };
    case "held": {
      const held = `Held on this device ${timeOf(progress.since, at.now)}`;
      return { dots: 1, text: at.sending ? "Sending" : held };
    }
    case "taken":
      return { dots: 2, text: `Taken by ${name} ${timeOf(progress.since, at.now)}` };
    case "started":
      return { dots: 3, text: "Turn started" };
    case "doubt":
      return { dots: 1, text: `${name} can't say if this arrived` };
  }
}

/** Most characters of a path that a select has room for on a phone. */
const MOST_PATH = 34;

/**
 * A path in one line. Of a long one stands its beginning and, as that tells folders apart, more of its end; one with
 * hidden characters stays whole, so that all of their names are seen.
 */
export function pathWords(path: string): string {
  const whole = visibleLine(path);
  const letters = Array.from(whole);
  if (letters.length <= MOST_PATH || whole !== path) {
    return whole;
  }
  const end = letters.slice(-24).join("");
  const folder = end.indexOf("/");
  return `${letters.slice(0, 9).join("")}…${folder === -1 ? end : end.slice(folder)}`;
}

const STEPS: Readonly<Record<string, string>> = {
  scope: "The host's owner lets this device prompt: `reachback devices scope`.",
  folder: "Choose another folder, or have the host's owner open this one: `reachback workspace add`.",
  environment: "Choose another folder.",
  model: "Choose the host's default.",
  busy: "Too much waits there. Start again a little later.",
  disk: "The host can't write to its disk: make room there, then start again.",
  codex: "Look at `reachback status` there, then start again.",
  store: "Copy the text, so that it is not lost.",
  ended: "It is looked for again with the next session.",
  revoked: "Pair again, then start again.",
};

/** What was wrong, and what comes next. */
export function faultWords({ reason, message }: StartFault): { readonly what: string; readonly next: string } {
  const sentence = visibleLine(message).replace(/\.$/, "");
  const next = STEPS[reason] ?? "Your text is still here: change it, or start again.";
  return { what: `${sentence.charAt(0).toUpperCase()}${sentence.slice(1)}.`, next };
}
