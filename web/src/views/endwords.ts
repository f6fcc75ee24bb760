/** What the screens say of a session that is over. */
import type { End } from "../link/reach";
import type { StartView } from "../state/start";
import { ByeReason } from "../wire/reason";
import { timeOf } from "./words";

/** What happened, by whose word, and what comes next. What stands between backquotes is a command. */
export interface EndWords {
  readonly icon: "lock" | "warn";
  readonly look: "bad" | "warn";
  readonly title: string;
  readonly says: string;
  /** What a command at the host does, and the command. */
  readonly then: string;
  readonly command: string | null;
  readonly hint: string | null;
}

/** Letters of a device's id that its host takes for the device. */
export const ENOUGH = 8;

/** `name` is the host's, `deviceId` this device's there. */
export function endWords(
  { by, reason, error, since }: End,
  at: { readonly name: string; readonly deviceId: string; readonly now: number },
): EndWords {
  const { name } = at;
  const word = `${name} itself said so, sealed end to end, ${timeOf(since, at.now)}.`;
  const plain = { icon: "warn", look: "warn", then: "", command: null, hint: null } as const;
  if (by === "us") {
    const why = error === null ? "" : `: ${error.message}`;
    const says = `What came from it is nothing that this app understands, so it hung up${why}. Update the host, or reload this app.`;
    return { ...plain, title: `The session with ${name} broke off`, says };
  }
  switch (reason) {
    case ByeReason.revoked:
      return {
        icon: "lock",
        look: "bad",
        title: `${name} took this device off`,
        says: `${word} Who did it there, \`reachback audit\` shows. Left on this device: its keys for ${name}, which open nothing any more.`,
        then: `To pair again, type at ${name}:`,
        command: "reachback pair",
        hint: null,
      };
    case ByeReason.paused:
      return {
        icon: "lock",
        look: "warn",
        title: `${name} has paused this device`,
        says: `${word} Nothing is lost: keys, threads and drafts stay.`,
        then: `To let it in again, type at ${name}:`,
        command: `reachback devices resume ${at.deviceId.slice(0, ENOUGH)}`,
        hint: "Where all devices are paused: `reachback devices resume`.",
      };
    case ByeReason.limit:
      return {
        ...plain,
        title: `${name} takes no more sessions of this device`,
        says: `${word} Perhaps it is open in many tabs: close some.`,
      };
    default:
      return { ...plain, title: `${name} ended the session`, says: word };
  }
}

/** What has become of what was written. */
export function draftWords({ row: { sent }, kept }: StartView): string {
  if (sent === null) {
    return kept
      ? "What you wrote is kept on this device:"
      : "What you wrote could not be kept on this device. Copy it:";
  }
  return sent.journal === null
    ? "What you sent is held on this device; the host never got it:"
    : "What you sent; whether it ran, the host has not said:";
}
