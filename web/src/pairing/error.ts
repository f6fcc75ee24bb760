/** Why a device and a host were not paired, in the words that a person needs. */
import { CloseCode } from "../close";
import { KeyError } from "../crypto/keys";
import { LinkError } from "../link/error";
import { StoreError } from "../store/error";
import { PairingError, type PairingFault } from "./initiator";
import { Refusal } from "./message";

/** What is to be done next differs by these. */
export type JoinFault =
  /** The relay has no such code: it was used, has expired, or is mistyped. */
  | { readonly kind: "noSuchCode" }
  /** The host, or someone at the relay, does not know the secret. */
  | { readonly kind: "wrongCode" }
  /** The relay is not the one that the code or the host names: someone may be in between. */
  | { readonly kind: "otherRelay" }
  /** The host did not keep to what it had committed itself to: someone may be in between. */
  | { readonly kind: "inBetween" }
  /** One of the two has to be updated. */
  | { readonly kind: "version"; readonly peer: "relay" | "host" }
  /** The relay can't be reached, or the connection to it was lost. */
  | { readonly kind: "relay" }
  /** The relay takes no more at the moment, such as while another device uses the code; the delay is in milliseconds, where it named one. */
  | { readonly kind: "busy"; readonly retryAfterMs: number | null }
  /** The host does not answer, or has gone: is it still showing the code? */
  | { readonly kind: "noHost" }
  /** Nobody typed the digits at the host in time. */
  | { readonly kind: "expired" }
  /** Other digits were typed at the host. */
  | { readonly kind: "wrongDigits" }
  /** The person at the host said no. */
  | { readonly kind: "declined" }
  /** The host has as many devices as it can have. */
  | { readonly kind: "tooManyDevices" }
  /** The host refused for a reason that this version does not know. */
  | { readonly kind: "refused"; readonly code: number }
  /** Something that is not this protocol. */
  | { readonly kind: "protocol" }
  /** This browser can't make the keys. */
  | { readonly kind: "keys" }
  /** This browser does not keep the host; the pairing was called off. */
  | { readonly kind: "store" }
  /** The person at this device gave it up. */
  | { readonly kind: "aborted" };

/** A pairing did not come about. The `cause` is the error behind it, where there is one. */
export class JoinError extends Error {
  override readonly name = "JoinError";
  readonly fault: JoinFault;

  constructor(fault: JoinFault, options?: ErrorOptions) {
    super(describe(fault), options);
    this.fault = fault;
  }
}

const TEXTS: Readonly<Record<Exclude<JoinFault["kind"], "version" | "refused">, string>> = {
  noSuchCode: "the relay has no such code: it was used, has expired, or is mistyped; take a new one from the host",
  wrongCode: "the code is not the host's: take a new one from the host",
  otherRelay:
    "this is not the relay that the host means: someone may be in between; pair again where you trust the network",
  inBetween:
    "the host did not keep to its commitment: someone may be in between; pair again where you trust the network",
  relay: "the relay can't be reached",
  busy: "the relay takes no more at the moment: try again a little later",
  noHost: "the host does not answer: is `reachback pair` still running there?",
  expired: "the digits were not typed at the host in time: pair again",
  wrongDigits: "other digits were typed at the host: pair again",
  declined: "the host declined",
  tooManyDevices: "the host has as many devices as it can have: revoke one there",
  protocol: "the other side does not speak this protocol",
  keys: "this browser can't make the keys",
  store: "this browser does not keep the host, so the pairing was called off",
  aborted: "the pairing was given up",
};

function describe(fault: JoinFault): string {
  if (fault.kind === "version") {
    return `the ${fault.peer} and this app have no version in common: one of them has to be updated`;
  }
  return fault.kind === "refused"
    ? `the host refused, reason ${fault.code}, which this version does not know`
    : TEXTS[fault.kind];
}

/** What an error of a step stands for; what is none of a step's is thrown on. */
export function joinError(cause: unknown): JoinError {
  if (cause instanceof JoinError) {
    return cause;
  }
  const fault = faultOf(cause);
  if (fault === null) {
    throw cause;
  }
  return new JoinError(fault, { cause });
}

function faultOf(cause: unknown): JoinFault | null {
  if (cause instanceof LinkError) {
    return ofLink(cause);
  }
  if (cause instanceof PairingError) {
    return ofPairing(cause.fault);
  }
  if (cause instanceof StoreError) {
    return { kind: "store" };
  }
  return cause instanceof KeyError ? { kind: "keys" } : null;
}

function ofLink({ fault, reconnectInMs }: LinkError): JoinFault {
  switch (fault.kind) {
    case "refused":
    case "closed":
      return ofCode(fault.code, reconnectInMs);
    case "timedOut":
      return { kind: fault.step === "relay" ? "relay" : "noHost" };
    case "wrongRelay":
      return { kind: "otherRelay" };
    case "version":
      return { kind: "version", peer: fault.peer };
    case "aborted":
      return { kind: "aborted" };
    case "unreachable":
    case "silent":
      return { kind: "relay" };
    case "protocol":
    case "unread":
    case "crypto":
      return { kind: "protocol" };
  }
}

/** By the relay's codes; another is a connection lost. */
function ofCode(code: number, retryAfterMs: number | null): JoinFault {
  switch (code) {
    case CloseCode.notFound:
      return { kind: "noSuchCode" };
    case CloseCode.version:
      return { kind: "version", peer: "relay" };
    case CloseCode.peerGone:
    case CloseCode.normal:
    case CloseCode.timeout:
      return { kind: "noHost" };
    case CloseCode.limited:
    case CloseCode.restarting:
      return { kind: "busy", retryAfterMs };
    case CloseCode.malformed:
    case CloseCode.tooLarge:
      return { kind: "protocol" };
    default:
      return { kind: "relay" };
  }
}

function ofPairing(fault: PairingFault): JoinFault {
  switch (fault.kind) {
    case "handshake":
      return { kind: "wrongCode" };
    case "commitment":
      return { kind: "inBetween" };
    case "otherRelay":
      return { kind: "otherRelay" };
    case "refused":
      return ofRefusal(fault.code);
    case "record":
    case "message":
    case "weakKey":
    case "unexpected":
      return { kind: "protocol" };
  }
}

function ofRefusal(code: number): JoinFault {
  switch (code) {
    case Refusal.wrongDigits:
      return { kind: "wrongDigits" };
    case Refusal.declined:
      return { kind: "declined" };
    case Refusal.expired:
      return { kind: "expired" };
    case Refusal.tooManyDevices:
      return { kind: "tooManyDevices" };
    case Refusal.malformed:
      return { kind: "protocol" };
    default:
      return { kind: "refused", code };
  }
}
