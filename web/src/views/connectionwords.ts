/** What the screens say of the way to a host's Codex, leg by leg. Between backquotes is a command. */
import type { EnvironmentInfo } from "../api/types";
import type { Reach } from "../link/reach";
import { codexFaults } from "./codexwords";
import { refusalWords, timeOf } from "./words";

/** How a leg is: a word never stands on its colour alone. */
export type Verdict = "fine" | "broken" | "tried" | "unknown";

/** One leg of the way. */
export interface Leg {
  readonly name: string;
  readonly verdict: Verdict;
  readonly text: string;
}

export const VERDICTS: Readonly<
  Record<Verdict, { readonly icon: string; readonly look: string; readonly word: string }>
> = {
  fine: { icon: "done", look: "ok", word: "Fine" },
  broken: { icon: "fail", look: "bad", word: "Broken" },
  tried: { icon: "clock", look: "", word: "Being tried" },
  unknown: { icon: "idle", look: "", word: "Not known" },
};

/** What is known of the way. */
export interface Way {
  readonly reach: Reach;
  /** The host's name. */
  readonly host: string;
  /** What carries the first leg. */
  readonly transport: string;
  /** What may keep the page from the relay; see `relaywords.ts`. */
  readonly barred: string | null;
  /** The host's own Codex; `undefined` where it is not known. */
  readonly codex: EnvironmentInfo | undefined;
  readonly now: number;
}

/** The legs from this device to the account that Codex works with, in their order. */
export function legsOf(way: Way): readonly Leg[] {
  const { host, reach } = way;
  const isThere = reach.at === "online";
  const codex = isThere ? way.codex : undefined;
  const unknown = {
    verdict: "unknown",
    text: isThere ? "The host has not said yet" : "Told once there is a link",
  } as const;
  return [
    { name: "This device → relay", ...toRelay(way) },
    { name: `Relay → ${host}`, ...toHost(way) },
    { name: `${host} → Codex`, ...(codex === undefined ? unknown : toCodex(codex)) },
    { name: "Codex → its account", ...(codex === undefined ? unknown : toAccount(codex)) },
  ];
}

type Found = Pick<Leg, "verdict" | "text">;

function toRelay({ reach, transport, barred }: Way): Found {
  switch (reach.at) {
    case "online":
    case "hostOffline":
      return { verdict: "fine", text: transport };
    case "reconnecting":
      return { verdict: "tried", text: "A link is being made. Nothing is to be done" };
    case "relayUnreachable":
      return reach.online
        ? {
            verdict: "broken",
            text: `No way to the relay. It is tried again by itself. Is it up? Whoever runs it knows${barred === null ? "" : `. ${barred}`}`,
          }
        : { verdict: "broken", text: "This device has no network. Connect it to one" };
    case "refused":
      return {
        verdict: "broken",
        text: `${reach.code === null ? "This is another relay than the one that was paired with." : refusalWords(reach.code)} At the host, \`reachback devices\` shows whether this device is on its list`,
      };
    case "version":
      return reach.peer === "relay"
        ? { verdict: "broken", text: "No version in common. Update the relay, or reload this app" }
        : { verdict: "fine", text: transport };
    case "ended":
      return { verdict: "unknown", text: "The session is over" };
  }
}

function toHost({ reach, now }: Way): Found {
  if (reach.at === "online") {
    const ms = reach.rttMs === null ? "" : `, ${Math.round(reach.rttMs)} ms there and back`;
    return { verdict: "fine", text: `Sealed end to end since ${timeOf(reach.since, now)}${ms}` };
  }
  if (reach.at === "hostOffline") {
    const since = timeOf(reach.hostSince ?? reach.since, now);
    return reach.asleep
      ? { verdict: "broken", text: `Asleep since ${since}. Wake it up` }
      : {
          verdict: "broken",
          text: `Away since ${since}. Is it on, and does Reachback run there? \`reachback status\``,
        };
  }
  if (reach.at === "version" && reach.peer === "host") {
    return { verdict: "broken", text: "No version in common. Update the host, or reload this app" };
  }
  return { verdict: "unknown", text: "Told once there is a way to the relay" };
}

function toCodex(info: EnvironmentInfo): Found {
  const { state, version, adapter } = info;
  switch (state) {
    case "ready": {
      const by = adapter === "attached" ? "shared with who started it" : "started by Reachback";
      return { verdict: "fine", text: `${version ?? "of an unknown version"}, ${by}` };
    }
    case "failed":
    case "stopped":
      return { verdict: "broken", text: codexFaults(info)[0]?.text ?? "It does not run" };
    case "idle":
    case "starting":
      return { verdict: "tried", text: "It is being started. Nothing is to be done" };
  }
}

function toAccount(info: EnvironmentInfo): Found {
  if (info.state !== "ready" || info.account === undefined) {
    return { verdict: "unknown", text: "Codex has not said yet" };
  }
  switch (info.account.state) {
    case "signedIn":
      return { verdict: "fine", text: "Signed in. Whether the model answers, the next turn shows" };
    case "notNeeded":
      return { verdict: "fine", text: "Its model needs no account of OpenAI's" };
    case "signedOut":
      return { verdict: "broken", text: codexFaults(info)[0]?.text ?? "Signed out. At the host: `codex login`" };
  }
}

/** What is wrong with Codex although it answers. */
export function troublesOf(info: EnvironmentInfo | undefined): readonly string[] {
  return info === undefined
    ? []
    : codexFaults(info)
        .filter(({ stops }) => !stops)
        .map(({ text }) => text);
}

/** All legs in one line. */
export function wayWords(legs: readonly Leg[]): string {
  const broken = legs.find(({ verdict }) => verdict === "broken");
  if (broken !== undefined) {
    return `Broken: ${broken.name}`;
  }
  return legs.every(({ verdict }) => verdict === "fine") ? "All four legs are fine" : "Not all of it is known yet";
}
