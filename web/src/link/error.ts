/** Why there is no link to the host, or there is none any more. */
import { encode } from "../base32";
import type { Bytes } from "../bytes";
import { HandshakeError } from "../crypto/error";

/** What was waited for in vain. */
export type Step = "relay" | "host" | "handshake";

/** Why a link was not made, or ended. */
export type LinkFault =
  /** No connection: a browser does not say why. */
  | { readonly kind: "unreachable" }
  | { readonly kind: "timedOut"; readonly step: Step }
  /** The caller gave the link up. */
  | { readonly kind: "aborted" }
  /** Something that is not this protocol. */
  | { readonly kind: "protocol"; readonly what: string }
  /** There is no version of the protocol that both sides speak: one of them is to be updated. */
  | { readonly kind: "version"; readonly peer: "relay" | "host" }
  /** The relay has another key than the one wanted. */
  | { readonly kind: "wrongRelay"; readonly id: Bytes }
  /** The relay said no, in its own words; `code` is one of `CloseCode`, the delay is in milliseconds. */
  | { readonly kind: "refused"; readonly code: number; readonly message: string; readonly retryAfterMs: number | null }
  /** The WebSocket was closed; `code` is one of `CloseCode` or RFC 6455's. A relay that restarts says when to come back. */
  | { readonly kind: "closed"; readonly code: number; readonly reconnectInMs: number | null }
  /** The other side sent more than this side holds unread. */
  | { readonly kind: "unread"; readonly bytes: number }
  /** Keys, the handshake or a record failed: the `cause` says which. */
  | { readonly kind: "crypto" }
  /** Nothing was heard for too long. */
  | { readonly kind: "silent" };

/** A link was not made, or ended. */
export class LinkError extends Error {
  override readonly name = "LinkError";
  readonly fault: LinkFault;

  constructor(fault: LinkFault, options?: ErrorOptions) {
    super(describe(fault), options);
    this.fault = fault;
  }

  /** When to make another link, in milliseconds from now, where the relay said so. */
  get reconnectInMs(): number | null {
    switch (this.fault.kind) {
      case "refused":
        return this.fault.retryAfterMs;
      case "closed":
        return this.fault.reconnectInMs;
      case "unreachable":
      case "timedOut":
      case "aborted":
      case "protocol":
      case "version":
      case "wrongRelay":
      case "unread":
      case "crypto":
      case "silent":
        return null;
    }
  }
}

const WAITED: Readonly<Record<Step, string>> = {
  relay: "the relay does not answer",
  host: "the host does not answer",
  handshake: "the host does not finish the handshake",
};

function describe(fault: LinkFault): string {
  switch (fault.kind) {
    case "unreachable":
      return "cannot reach the relay";
    case "timedOut":
      return WAITED[fault.step];
    case "aborted":
      return "the link was given up";
    case "protocol":
      return `the relay does not speak this protocol: ${fault.what}`;
    case "version":
      return `the ${fault.peer} and this app have no version in common: one of them has to be updated`;
    case "wrongRelay":
      return `this is not the relay that was paired with: its fingerprint is ${encode(fault.id)}`;
    case "refused":
      return `the relay refused: ${fault.message}`;
    case "closed":
      return `the connection was closed (${fault.code})`;
    case "unread":
      return `${fault.bytes} bytes came and were not read, over the limit`;
    case "crypto":
      return "the link's keys, handshake or records failed";
    case "silent":
      return "nothing was heard for too long";
  }
}

/** Whatever goes wrong inside is a {@link LinkError} outside; what is none yet is a failure of the cryptography. */
export async function typed<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    throw cause instanceof LinkError ? cause : new LinkError(faultOf(cause), { cause });
  }
}

function faultOf(cause: unknown): LinkFault {
  return cause instanceof HandshakeError && cause.fault.kind === "version"
    ? { kind: "version", peer: "host" }
    : { kind: "crypto" };
}
