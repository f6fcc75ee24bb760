/**
 * A text for whoever helps: how a host and this app are, and nothing that is anybody's own.
 *
 * It holds no key, no content and no path, and of what a host says only short words of letters, digits and dots: what
 * is no such word is left out, whatever it may be.
 */
import type { CodexInfo, EnvironmentInfo, HostInfo } from "../api/types";
import type { Reach } from "../link/reach";
import type { Usage } from "../store/usage";
import type { StoredHost } from "../store/hosts";
import { LOCAL } from "./route";

/** What it tells of. */
export interface Known {
  /** Milliseconds since 1970. */
  readonly at: number;
  /** This build of the app. */
  readonly version: string;
  /** What this device tells a host that it is. */
  readonly platform: string;
  readonly usage: Usage | null;
  readonly stored: Pick<StoredHost, "id" | "deviceId" | "scope" | "relays">;
  readonly reach: Reach;
  readonly info: HostInfo | null;
  readonly environments: readonly EnvironmentInfo[];
}

/** Letters of an id that tell one from others. */
const SOME = 8;

/** The text, a line for each thing. */
export function diagnosisOf(known: Known): string {
  const { at, version, platform, usage, stored, reach, info, environments } = known;
  const codex = environments.find(({ name }) => name === LOCAL) ?? info?.codex;
  const others = environments.filter(({ name }) => name !== LOCAL);
  const kept = usage === null ? "not known" : `${usage.bytes ?? "?"} bytes, ${firmness(usage)}`;
  const lines: readonly (readonly [string, string])[] = [
    ["Reachback diagnosis", time(at)],
    ["App", `${word(version)}, ${platform}`],
    ["Kept in the browser", kept],
    ["Host", `${stored.id.slice(0, SOME)}, agent ${word(info?.agentVersion)}, API ${info?.apiVersion ?? "?"}`],
    ["This device", `${stored.deviceId.slice(0, SOME)}, scope ${stored.scope}`],
    ["Link", reachText(reach)],
    ...stored.relays.map(({ origin }) => ["Relay", `${origin.toString()}, ${transportOf(origin)}`] as const),
    ["Codex", codexText(codex)],
    ...others.map((info) => ["SSH machine", codexText(info)] as const),
    ["Features", info === null ? "not known" : info.features.map(word).join(" ")],
  ];
  return lines.map(([name, text]) => `${name}: ${text}\n`).join("");
}

/** What carries the link of a browser to a relay. */
export function transportOf({ secure }: { readonly secure: boolean }): string {
  return secure ? "WebSocket over TLS" : "WebSocket without TLS";
}

function reachText(reach: Reach): string {
  const since = `since ${time(reach.since)}`;
  switch (reach.at) {
    case "online":
      return `online ${since}${reach.rttMs === null ? "" : `, ${Math.round(reach.rttMs)} ms`}`;
    case "reconnecting":
      return `reconnecting ${since}${faultText(reach.error)}`;
    case "hostOffline": {
      const seen = reach.hostSince === null ? "never seen by the relay" : `gone since ${time(reach.hostSince)}`;
      return `host ${reach.asleep ? "asleep" : "offline"}, ${seen}`;
    }
    case "relayUnreachable":
      return `no way to the relay ${since}, network ${reach.online ? "there" : "away"}${faultText(reach.error)}`;
    case "refused":
      return `refused by the relay ${since}, code ${reach.code ?? "none"}${faultText(reach.error)}`;
    case "version":
      return `no version in common with the ${reach.peer} ${since}`;
    case "ended":
      return `ended by ${reach.by === "host" ? "the host" : "this app"} ${since}, reason ${reach.reason}`;
  }
}

function faultText(error: { readonly fault: { readonly kind: string } } | null): string {
  return error === null ? "" : `, last: ${word(error.fault.kind)}`;
}

/** The words for a person may name folders: only those for programs are told. */
function codexText(info: CodexInfo | EnvironmentInfo | undefined): string {
  if (info === undefined) {
    return "not known";
  }
  const { state, version, adapter, account, troubles = [], code } = info;
  const known = [
    word(state),
    ...(version === undefined ? [] : [word(version)]),
    ...(adapter === undefined ? [] : [word(adapter)]),
    ...(code === undefined ? [] : [`code ${word(code)}`]),
    ...(account === undefined ? [] : [`account ${word(account.state)}`]),
    ...(account?.type === undefined ? [] : [word(account.type)]),
    ...troubles.map(({ code }) => `trouble ${word(code)}`),
  ];
  return known.join(", ");
}

function firmness({ firm }: Usage): string {
  return firm === null ? "for how long is not known" : firm ? "until it is removed" : "until the browser drops it";
}

function word(text: string | undefined): string {
  return text !== undefined && /^[A-Za-z0-9][A-Za-z0-9.+_-]{0,31}$/.test(text) ? text : "?";
}

/** By the clock of UTC, so that those of several devices can be compared. */
function time(at: number): string {
  const date = new Date(at);
  return Number.isNaN(date.getTime()) ? "?" : `${date.toISOString().slice(0, 19)}Z`;
}
