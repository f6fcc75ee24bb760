/** What the screens say of the devices of a host, and of what is done with them. Between backquotes is a command. */
import type { DeviceInfo } from "../api/types";
import { type Scope, scopeTag } from "../scope";
import type { DeviceChange, DeviceFault } from "../state/devices";
import { ENOUGH } from "./endwords";
import { sentence } from "./sentence";
import { timeOf } from "./words";

/** What each scope is, for who gives it. */
export const SCOPE_MEANS: Readonly<Record<Scope, string>> = {
  view: "Sees threads, sends nothing",
  steer: "Prompts, and so reads and changes the workspaces; answers questions",
  approve: "Accepts commands as well: a shell as you",
  admin: "Changes this list as well, and which SSH machines devices see",
};

/** Of which device, and at which host. */
export interface DeviceAt {
  readonly device: Pick<DeviceInfo, "deviceId" | "scope">;
  /** Whether it is the one in the person's hand. */
  readonly own: boolean;
  /** The host's name. */
  readonly host: string;
}

/** The picture of a device, by what it said it is. */
export function deviceIcon(platform: string): "phone" | "laptop" {
  return /iPhone|iPad|Android/.test(platform) ? "phone" : "laptop";
}

/** When it was last there. `now`: milliseconds since 1970. */
export function seenWords({ connected, lastSeen }: Pick<DeviceInfo, "connected" | "lastSeen">, now: number): string {
  return connected ? "Here now" : `Last here ${timeOf(Date.parse(lastSeen), now)}`;
}

/** Why it is kept out; `null` where it is not. */
export function outWords(device: DeviceInfo, allowed: boolean): string | null {
  if (!device.paused) {
    return null;
  }
  if (!allowed) {
    return "Paused, with all devices";
  }
  if (device.revokedAtRelay) {
    return "Paused: the relay knows it as revoked";
  }
  return device.expired ? "Paused: not seen in 90 days" : "Paused";
}

/** What letting a device in again does, where that is not plain. */
export function resumeWords({ revokedAtRelay }: DeviceInfo): string | null {
  return revokedAtRelay
    ? "This host's list is older than what the relay knows: from a backup perhaps. Take the device off, and pair it " +
        "anew if it should come in. Letting it in helps only where the relay is another one by now."
    : null;
}

/** A command about a device, as it is typed at its host. */
export function deviceCommand(what: "scope" | "resume", deviceId: string, scope?: Scope): string {
  return ["reachback", "devices", what, deviceId.slice(0, ENOUGH), ...(scope === undefined ? [] : [scope])].join(" ");
}

/** What ends when a device may begin nothing any more. */
const WORK =
  "What it began ends: its goals are paused, its prompts leave the queues, and its turns are stopped, unless somebody else has said something in them.";

/** What a change means, as a person is asked before it is done. */
export function changeWords(change: DeviceChange, { device, own, host }: DeviceAt): readonly string[] {
  switch (change.to) {
    case "scope":
      return scopeWords(change.scope, { device, own, host });
    case "pause":
      return [
        own
          ? `This is the device in your hand. ${host} keeps it out at once, and its sessions end.`
          : "It is kept out at once, and its sessions end.",
        WORK,
        own
          ? `Only another device with \`admin\` lets it in again, or the owner at ${host}: \`${deviceCommand("resume", device.deviceId)}\``
          : "Its keys stay: it comes back once it is let in again.",
      ];
    case "revoke":
      return [
        own
          ? `This is the device in your hand. ${host} and the relay cut it off at once, and its sessions end.`
          : `${host} and the relay cut it off at once, and its sessions end.`,
        WORK,
        own
          ? `To come back, this device has to be paired again, with somebody at ${host}: \`reachback pair\`. Drafts stay here, to be copied.`
          : `It comes back only by being paired again, with somebody at ${host}: \`reachback pair\`. What it did is not undone.`,
      ];
    case "resume":
      return [];
    case "close":
      return [
        `${host} keeps every device out at once, this one too, and their sessions end.`,
        "What they began ends: goals are paused, prompts leave the queues, and turns are stopped.",
        `Only the owner at ${host} lets devices in again: \`reachback devices resume\``,
      ];
  }
}

function scopeWords(to: Scope, { device, own, host }: DeviceAt): readonly string[] {
  if (scopeTag(to) > scopeTag(device.scope)) {
    return [`It holds at once, under its open sessions too. ${SCOPE_MEANS[to]}.`];
  }
  const words = [`It holds at once, under its open sessions too.${to === "view" ? ` ${WORK}` : ""}`];
  const raise = deviceCommand("scope", device.deviceId, device.scope);
  return own
    ? [
        ...words,
        `This is the device in your hand, and it can't raise that again: another device with \`admin\` does, or the owner at ${host}: \`${raise}\``,
      ]
    : words;
}

/** What was done, for who does not see it. */
export function doneWords(change: DeviceChange, name: string): string {
  switch (change.to) {
    case "scope":
      return `${name} has ${change.scope} now.`;
    case "pause":
      return `${name} is kept out.`;
    case "resume":
      return `${name} is let in again.`;
    case "revoke":
      return `${name} was taken off.`;
    case "close":
      return "Every device is kept out.";
  }
}

/** Why something was not done, and what comes next. */
export function faultWords({ reason, held, message }: DeviceFault): string {
  switch (reason) {
    case "lost":
      return "No answer came, so it may not have been done. How the device is now was asked anew: do it again if need be.";
    case "unsent":
      return "Nothing was sent, and nothing was done. Try again once there is a link.";
    case "scope":
      return "This device may not change devices any more, and nothing was done. The owner at the host can: `reachback devices`";
    case "device":
      return "The device is not on the list any more: somebody took it off meanwhile. Nothing is left to do.";
    case "disk":
      return held
        ? "It holds, but the host's disk did not take it: it is written later. Make room there, so that it lasts."
        : "The host's disk did not take it, and nothing was done. Make room there, and try again.";
    case "busy":
      return "The host has too much to answer, and nothing was done. Try again in a moment.";
    case "method":
      return "The host is older than this app, and does not do that. At the host: `reachback devices`";
    default:
      return `${sentence(message)} Nothing was done. At the host: \`reachback devices\``;
  }
}
