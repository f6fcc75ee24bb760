/** Where the page came from: its relay, or a server that has the app alone. */
import type { SocketFactory } from "../link/socket";
import { Origin, OriginError } from "../pairing/origin";

export interface OwnRelay {
  /** The address that it gives itself, which hosts and typed codes go by; `null` where the page comes from no relay. */
  readonly origin: Origin | null;
  /** The page's own address. */
  readonly page: Origin;
  /** The fingerprint of its key, as text; `null` where the page does not hold it. */
  readonly fingerprint: string | null;
  /** Makes a WebSocket. One to this relay goes to where the page came from: it may have other names. */
  readonly create: SocketFactory;
}

/** What the page's head and address say. */
export function ownRelay({ document, location }: Pick<Window, "document" | "location">): OwnRelay {
  const said = (name: string): string | null =>
    document.querySelector(`meta[name="${name}"]`)?.getAttribute("content") ?? null;
  // Nobody fills it in where another server than a relay has the page.
  const origin = parsed(said("reachback-relay"));
  const fingerprint = said("reachback-fingerprint");
  return {
    origin,
    page: Origin.parse(location.origin),
    fingerprint: fingerprint?.includes("{") === true ? null : fingerprint,
    create: (url) => new WebSocket(origin === null ? url : here(url, origin, location)),
  };
}

/** This URL, at the page's own address where it is the relay's. */
export function here(url: string, relay: Origin, { protocol, host }: Pick<Location, "protocol" | "host">): string {
  const { protocol: scheme, host: named, pathname } = new URL(url);
  const meant = new URL(relay.toString());
  const isOwn = named === meant.host && (scheme === "wss:") === relay.secure;
  return isOwn ? `${protocol === "https:" ? "wss" : "ws"}://${host}${pathname}` : url;
}

/** The relay that somebody means who types this, over https unless that says otherwise; `null` where it is no address. */
export function relayOf(typed: string): Origin | null {
  const text = typed.trim();
  return parsed(text.includes("://") ? text : `https://${text}`);
}

/**
 * What may keep this page from a relay that is up:
 * - page: the relay has to list the page's origin, and the page's server has to allow the relay.
 * - relay: the page is another relay's, whose policy lets it connect to that one alone.
 */
export type Bar = "page" | "relay";

/** What of the page's may be between it and this relay; `null` where nothing is. */
export function barOf({ origin }: Pick<OwnRelay, "origin">, relay: Origin): Bar | null {
  if (origin === null) {
    return "page";
  }
  return origin.toString() === relay.toString() ? null : "relay";
}

function parsed(text: string | null): Origin | null {
  try {
    return text === null ? null : Origin.parse(text);
  } catch (error) {
    if (error instanceof OriginError) {
      return null;
    }
    throw error;
  }
}
