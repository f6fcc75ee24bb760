/** What the screens say of a host's computer that is kept awake, or is not. Between backquotes is a command. */
import type { KeepAwakeInfo } from "../api/types";
import type { AwakeFault } from "../state/awake";
import { visibleLine } from "../visible";
import { sentence } from "./sentence";

/** How it is now, in a line. */
export function awakeWords({ state }: Pick<KeepAwakeInfo, "state">): string {
  switch (state) {
    case "off":
      return "It may sleep, and is out of reach then";
    case "held":
      return "Now: staying awake";
    case "partly":
      return "Now: staying awake in part";
    case "onBattery":
      return "Not now: it runs on its battery";
    case "noAccess":
      return "Not now: no device could come";
    case "notOffered":
      return "Not now: nothing on its system does it";
    case "failed":
      return "Not now: its system does not do it";
    default:
      return "Not known to this app";
  }
}

/** Why it is not, or not altogether, as the host says it, and what helps; `null` where the line says enough. */
export function awakeReason({ state, reason, fix }: KeepAwakeInfo, host: string): string | null {
  if (state === "off" || state === "held" || state === "onBattery" || reason === undefined) {
    return null;
  }
  return fix === undefined ? sentence(reason) : `${sentence(reason)} At ${host}: ${visibleLine(fix)}`;
}

/** Why it was not turned on or off, and what comes next. */
export function awakeFaultWords({ on, reason, message }: AwakeFault): string {
  switch (reason) {
    case "lost":
      return "No answer came, so it may not have been done. How it is now was asked anew: turn it again if need be.";
    case "unsent":
      return "Nothing was sent, and nothing was done. Try again once there is a link.";
    case "scope":
      return "This device may not turn this any more, and nothing was done. The owner at the host can: `reachback awake`";
    case "disk":
      return on
        ? "The host's disk did not take it, and it was not turned on. Make room there, and try again."
        : "It is off, but the host's disk did not take that: it may be on again when the agent there is started anew. Make room there, and turn it on and off again.";
    case "busy":
      return "The host has too much to answer, and nothing was done. Try again in a moment.";
    default:
      return `${sentence(message)} Nothing was done. At the host: \`reachback awake\``;
  }
}
