/** What the screens say of a login to a machine that asks for a code. */
import type { EnvironmentInfo } from "../api/types";
import type { LoginView } from "../state/login";
import { shellWord } from "./folderwords";
import { sentence } from "./sentence";

/** Whether what is wrong with a machine's environment is that somebody has to log in there, which a device can. */
export function wantsLogin({ state, code }: EnvironmentInfo): boolean {
  return state === "failed" && code === "login";
}

/** How much time is left, in whole seconds; never less than none. */
export function secondsLeft(until: number, now: number): number {
  return Math.max(0, Math.ceil((until - now) / 1000));
}

/** A span of seconds, for a person. */
export function spanWords(seconds: number): string {
  const [minutes, rest] = [Math.floor(seconds / 60), seconds % 60];
  return minutes === 0 ? `${rest} s` : `${minutes} min ${rest} s`;
}

/** Why a login failed. */
export function loginFault({ why, message, again }: Extract<LoginView, { at: "failed" }>): string {
  switch (why) {
    case "ended":
      return "You ended this login. It counts as one that failed.";
    case "lost":
      return "No answer came, so it is not known whether the host is logged in. Look at the machine again after a while.";
    case "wrong":
      return "The machine did not let the host in after what you typed. The code may be wrong, too old, or used before.";
    case "busy":
      // The host's words have a number that would stand beside the one that counts down.
      return again === null
        ? sentence(message)
        : "The last login there failed, on this device or another one, so the next one waits.";
    case "refused":
      return sentence(message);
  }
}

/**
 * Which commands to type at the host a refusal names. They are put together here: it may also have words of the
 * machine's own, and of these nothing is to be copied into a shell.
 */
export function loginCommands(alias: string, message: string): readonly string[] {
  const word = shellWord(alias, "");
  const known = [
    `reachback ssh login ${word}`,
    `reachback ssh check ${word}`,
    `reachback ssh bootstrap ${word}`,
    `reachback ssh ask-devices ${word} on`,
    `ssh ${word}`,
  ];
  return word === "" ? [] : known.filter((command) => message.includes(command));
}
