/** How a host is reached, for the screen. */
import type { SessionError } from "../session/error";
import { CloseCode } from "../close";
import type { LinkError } from "./error";

/**
 * `since` and `next` are milliseconds since 1970, by this device's clock; `next` is when a link is tried again, `null`
 * while one is being tried.
 */
export type Reach =
  /** A link carries the session; a message takes `rttMs` milliseconds there and back, once that is known. */
  | { readonly at: "online"; readonly since: number; readonly rttMs: number | null }
  /** There is no link since then, and there may be one again in a moment. */
  | {
      readonly at: "reconnecting";
      readonly since: number;
      readonly next: number | null;
      readonly error: LinkError | null;
    }
  /**
   * The relay is there, the host is not, and the link is made once it is. `asleep`: the host itself had said that it goes to sleep.
   * `hostSince` is when the relay last saw it, by the relay's clock, or `null` for never.
   */
  | {
      readonly at: "hostOffline";
      readonly asleep: boolean;
      readonly hostSince: number | null;
      readonly since: number;
      readonly next: number | null;
    }
  /** No way to the relay. `online`: the browser thinks that there is a network. */
  | {
      readonly at: "relayUnreachable";
      readonly since: number;
      readonly next: number | null;
      readonly online: boolean;
      readonly error: LinkError | null;
    }
  /**
   * The relay does not let this device in, by one of `CloseCode`, or is another one than was paired with (`null`). It
   * is only the relay's word: keys stay, and it is tried again.
   */
  | {
      readonly at: "refused";
      readonly code: number | null;
      readonly since: number;
      readonly next: number | null;
      readonly error: LinkError;
    }
  /** One of the two has to be updated. */
  | { readonly at: "version"; readonly peer: "relay" | "host"; readonly since: number; readonly next: number | null }
  | End;

/**
 * Over, by the host's own sealed word, a number of `ByeReason` (revoked is one), or by this side's, perhaps because the
 * host broke the protocol.
 */
export interface End {
  readonly at: "ended";
  readonly by: "host" | "us";
  readonly reason: number;
  readonly error: SessionError | null;
  readonly since: number;
}

/** What a failed try says: see {@link Reach}. Only what passes by itself is `passing`. */
export type Obstacle = "relay" | "passing" | "refused" | "version";

/** What stands in the way, by the error of a try. */
export function obstacle({ fault }: LinkError): Obstacle {
  switch (fault.kind) {
    case "version":
      return "version";
    case "wrongRelay":
      return "refused";
    case "refused":
    case "closed":
      return REFUSALS.includes(fault.code) ? "refused" : fault.code === CONNECTION_LOST ? "relay" : "passing";
    case "unreachable":
    case "protocol":
      return "relay";
    case "timedOut":
      return fault.step === "relay" ? "relay" : "passing";
    case "aborted":
    case "unread":
    case "crypto":
    case "silent":
      return "passing";
  }
}

/** A relay that says these says them again. */
const REFUSALS: readonly number[] = [
  CloseCode.malformed,
  CloseCode.unauthorized,
  CloseCode.revoked,
  CloseCode.notFound,
];
/** A WebSocket that ended without a word (RFC 6455, 7.1.5). */
const CONNECTION_LOST = 1006;
