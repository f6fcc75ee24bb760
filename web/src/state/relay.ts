/** The relay that the page came from. */
import type { SocketFactory } from "../link/socket";
import { Origin, OriginError } from "../pairing/origin";

export interface OwnRelay {
  /** The address that it gives itself, which hosts and typed codes go by. */
  readonly origin: Origin;
  /** The fingerprint of its key, as text; `null` where the page does not hold it. */
  readonly fingerprint: string | null;
  /** Makes a WebSocket. One to this relay goes to where the page came from: it may have other names. */
  readonly create: SocketFactory;
}

/** What the page's head and address say. */
export function ownRelay({ document, location }: Pick<Window, "document" | "location">): OwnRelay {
  const said = (name: string): string | null =>
    document.querySelector(`meta[name="${name}"]`)?.getAttribute("content") ?? null;
  const origin = parsed(said("reachback-relay")) ?? Origin.parse(location.origin);
  const fingerprint = said("reachback-fingerprint");
  return {
    origin,
    fingerprint: fingerprint?.includes("{") === true ? null : fingerprint,
    create: (url) => new WebSocket(here(url, origin, location)),
  };
}

/** This URL, at the page's own address where it is the relay's. */
export function here(url: string, relay: Origin, { protocol, host }: Pick<Location, "protocol" | "host">): string {
  const { protocol: scheme, host: named, pathname } = new URL(url);
  const meant = new URL(relay.toString());
  const isOwn = named === meant.host && (scheme === "wss:") === relay.secure;
  return isOwn ? `${protocol === "https:" ? "wss" : "ws"}://${host}${pathname}` : url;
}

function parsed(text: string | null): Origin | null {
  try {
    return text === null ? null : Origin.parse(text);
  } catch (error) {
    if (error instanceof OriginError) {
      // Nobody filled it in: another server than a relay has the page.
      return null;
    }
    throw error;
  }
}
