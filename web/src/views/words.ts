/** What the screens say, where it depends on what happened. */
import { CloseCode } from "../close";
import type { End, Reach } from "../link/reach";
import type { JoinFault } from "../pairing/error";
import type { Scope } from "../scope";
import type { StoreFault } from "../store/error";
import { ByeReason } from "../wire/reason";

/** How a state looks: a word never stands on its colour alone. */
export type Look = "on" | "off" | "busy" | "asleep" | "closed" | "warn";

/** A host's state in one line. */
export interface Status {
  readonly look: Look;
  readonly text: string;
}

/** The state of the way to a host. `now` and times are milliseconds since 1970. */
export function statusOf(reach: Reach, now: number): Status {
  switch (reach.at) {
    case "online":
      return { look: "on", text: reach.rttMs === null ? "Online" : `Online · ${Math.round(reach.rttMs)} ms` };
    case "reconnecting":
      return { look: "busy", text: `Connecting${nextTry(reach.next, now)}` };
    case "hostOffline":
      if (reach.asleep) {
        return { look: "asleep", text: `Asleep since ${timeOf(reach.hostSince ?? reach.since, now)}` };
      }
      return {
        look: "off",
        text: reach.hostSince === null ? "Offline" : `Offline since ${timeOf(reach.hostSince, now)}`,
      };
    case "relayUnreachable":
      return reach.online
        ? { look: "warn", text: `Unknown: no way to the relay${nextTry(reach.next, now)}` }
        : { look: "off", text: "Unknown: this device has no network" };
    case "refused":
      return { look: "closed", text: "The relay does not let this device in" };
    case "version":
      return { look: "warn", text: `The ${reach.peer} and this app have no version in common: update one of them` };
    case "ended":
      return ended(reach);
  }
}

/** Since when a host is out of reach, after its name; `null` where it is there, or may be in a moment. */
export function unreachableSince(reach: Reach, now: number): string | null {
  if (reach.at === "hostOffline") {
    return `${reach.asleep ? "asleep" : "unreachable"} since ${timeOf(reach.hostSince ?? reach.since, now)}`;
  }
  return reach.at === "relayUnreachable" ? `unreachable since ${timeOf(reach.since, now)}` : null;
}

/** Why nothing of a host is there to show, and what comes next; `null` while it may come in a moment. `barred`: see `relaywords.ts`. */
export function awayWords(reach: Reach, name: string, barred: string | null = null): Failure | null {
  const threads = "Its threads are kept there alone: they show by themselves, once there is a link.";
  if (reach.at === "hostOffline") {
    return reach.asleep
      ? { title: `${name} is asleep`, text: `${threads} Wake it up.` }
      : { title: `${name} is away`, text: `${threads} Is it on, and does Reachback run there?` };
  }
  if (reach.at === "relayUnreachable") {
    return reach.online
      ? { title: "There is no way to the relay", text: `How ${name} is can't be known. ${threads}${after(barred)}` }
      : { title: "This device has no network", text: `How ${name} is can't be known. ${threads}` };
  }
  return null;
}

function after(barred: string | null): string {
  return barred === null ? "" : ` ${barred}`;
}

/** What a relay says that does not let this device in, by one of `CloseCode`: it is the relay's word alone. */
export function refusalWords(code: number): string {
  switch (code) {
    case CloseCode.revoked:
      return "The relay says that the host took this device off.";
    case CloseCode.unauthorized:
      return "The relay says that this device is not on the host's list.";
    default:
      return "The relay does not let this device in.";
  }
}

function ended({ by, reason }: End): Status {
  // Only the host's own word is put in its mouth.
  switch (by === "host" ? reason : ByeReason.normal) {
    case ByeReason.revoked:
      return { look: "closed", text: "Taken off by the host" };
    case ByeReason.paused:
      return { look: "closed", text: "Paused by the host" };
    case ByeReason.limit:
      return { look: "closed", text: "The host takes no more sessions" };
    default:
      return { look: "warn", text: "The session ended" };
  }
}

function nextTry(next: number | null, now: number): string {
  const seconds = next === null ? 0 : Math.ceil((next - now) / 1_000);
  return seconds > 0 ? `, next try in ${seconds} s` : "";
}

/** A time of day; with the date where it is more than a day ago. */
export function timeOf(at: number, now: number): string {
  const day = 24 * 60 * 60 * 1_000;
  const hour = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" } as const;
  const date = now - at < day ? {} : ({ day: "numeric", month: "short" } as const);
  return new Intl.DateTimeFormat("en", { ...hour, ...date }).format(at);
}

/** What is left until then, such as 4:12. */
export function leftUntil(until: number, now: number): string {
  const seconds = Math.max(0, Math.round((until - now) / 1_000));
  return `${Math.floor(seconds / 60)}:${(seconds % 60).toString().padStart(2, "0")}`;
}

/** What a device with this scope may do at a host, and what not. */
export const SCOPE_WORDS: Readonly<Record<Scope, { readonly may: string; readonly mayNot: string | null }>> = {
  view: { may: "watch", mayNot: "prompt, answer, approve, manage devices" },
  steer: { may: "prompt, answer questions", mayNot: "approve commands, manage devices" },
  approve: { may: "prompt, answer, approve once", mayNot: "grant lasting permissions, manage devices" },
  admin: { may: "prompt, answer, approve once, manage devices", mayNot: "grant lasting permissions" },
};

/** How a pairing failed: what happened, and what comes next. */
export interface Failure {
  readonly title: string;
  readonly text: string;
}

const RETRY = "Nothing was paired. `reachback pair` shows a fresh code: use that one.";
const IN_BETWEEN = "Someone may be in between. Nothing was paired. Pair again where you trust the network.";

/** Why a pairing did not come about; `barred`: see `relaywords.ts`. */
export function failureOf(fault: JoinFault, barred: string | null = null): Failure {
  switch (fault.kind) {
    case "noSuchCode":
      return {
        title: "No pairing with that code is open",
        text: "It may have been used, have run out (5 minutes), or one letter is off. `reachback pair` shows a fresh one.",
      };
    case "wrongCode":
      return { title: "That is not the computer's code", text: RETRY };
    case "otherRelay":
      return { title: "This is not the relay that the code means", text: IN_BETWEEN };
    case "inBetween":
      return { title: "The computer did not keep to its word", text: IN_BETWEEN };
    case "version":
      return {
        title: "No version in common",
        text: `Nothing was paired. Update the ${fault.peer}, or reload this app.`,
      };
    case "relay":
      return {
        title: "No way to the relay",
        text: `Nothing was paired. Try again when there is a network.${after(barred)}`,
      };
    case "busy":
      return { title: "The relay takes no more at the moment", text: "Nothing was paired. Try again a little later." };
    case "noHost":
      return {
        title: "The computer does not answer",
        text: "Nothing was paired. Is `reachback pair` still running there? It shows a fresh code by itself.",
      };
    case "expired":
      return {
        title: "The code ran out",
        text: "Nothing was paired. While `reachback pair` runs it shows a fresh code by itself: use that one.",
      };
    case "wrongDigits":
      return { title: "Other digits were typed at the computer", text: RETRY };
    case "declined":
      return { title: "The computer declined", text: RETRY };
    case "tooManyDevices":
      return {
        title: "The computer has all the devices it can have",
        text: "Nothing was paired. Revoke one there: `reachback devices` lists them.",
      };
    case "refused":
      return {
        title: "The computer refused",
        text: `Nothing was paired. Its reason, ${fault.code}, is new to this app: reload it.`,
      };
    case "protocol":
      return {
        title: "The other side speaks another protocol",
        text: "Nothing was paired. Update relay and host, and reload this app.",
      };
    case "keys":
      return { title: "This browser can't make the keys", text: "Nothing was paired. Update it, or use another one." };
    case "store":
      return {
        title: "This browser does not keep the host",
        text: "The pairing was called off. Leave private browsing, or allow this site to keep data, and pair again.",
      };
    case "aborted":
      return { title: "The pairing was given up", text: RETRY };
  }
}

/** Why what is kept can't be read. */
export const STORE_WORDS: Readonly<Record<StoreFault, string>> = {
  unavailable:
    "This browser does not let the app keep anything. Leave private browsing, or allow this site to keep data.",
  blocked: "Another tab holds an older version of the app. Close it, then try again.",
  newer: "A newer version of the app has been here. Reload this page.",
  quota: "This device has no room left for the app's data.",
  gone: "The browser took the app's data away while it was in use. Reload this page.",
  failed: "The browser could not read the app's data.",
};
