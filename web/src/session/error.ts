/** What goes wrong in a session: by the other side's doing, or by this side's. */
import { MAX_ENVIRONMENT } from "../wire/frame";

/** How the other side broke the protocol. */
export type SessionFault =
  | { readonly kind: "decode" }
  | { readonly kind: "unexpected"; readonly frame: string }
  | { readonly kind: "skipped"; readonly channel: number; readonly seq: number; readonly expected: number }
  | { readonly kind: "badAck"; readonly channel: number; readonly next: number }
  | { readonly kind: "badFragment"; readonly channel: number; readonly what: string }
  | { readonly kind: "receiveBuffer"; readonly bytes: number };

/** The other side broke the protocol. The link ends; so does the session. */
export class SessionError extends Error {
  override readonly name = "SessionError";
  readonly fault: SessionFault;

  constructor(fault: SessionFault, options?: ErrorOptions) {
    super(describeSession(fault), options);
    this.fault = fault;
  }
}

function describeSession(fault: SessionFault): string {
  switch (fault.kind) {
    case "decode":
      return "record does not hold frames";
    case "unexpected":
      return `unexpected ${fault.frame} frame`;
    case "skipped":
      return `channel ${fault.channel}: frame ${fault.seq} where ${fault.expected} was next`;
    case "badAck":
      return `channel ${fault.channel}: acknowledged up to ${fault.next}, which was not sent`;
    case "badFragment":
      return `channel ${fault.channel}: fragments do not make a message: ${fault.what}`;
    case "receiveBuffer":
      return `${fault.bytes} bytes received and not handled, over the limit`;
  }
}

/** Why a channel was not opened. */
export type OpenFault = "ended" | "tooMany" | "environment";

const OPEN_TEXTS: Readonly<Record<OpenFault, string>> = {
  ended: "the session has ended",
  tooMany: "too many channels are open or closing",
  environment: `the environment's name is longer than ${MAX_ENVIRONMENT} bytes`,
};

/** A channel could not be opened. */
export class OpenError extends Error {
  override readonly name = "OpenError";
  readonly kind: OpenFault;

  constructor(kind: OpenFault) {
    super(OPEN_TEXTS[kind]);
    this.kind = kind;
  }
}

/** Why a message was not queued. */
export type SendFault =
  /** There is no such channel, or this side or the other closed it. */
  | { readonly kind: "closed" }
  /** The message is larger than the other side takes. */
  | { readonly kind: "tooLong"; readonly length: number; readonly limit: number }
  /** The queue was full: the channel was given up and closes with a gap. */
  | { readonly kind: "overflow" };

/** A message could not be queued. */
export class SendError extends Error {
  override readonly name = "SendError";
  readonly fault: SendFault;

  constructor(fault: SendFault) {
    super(describeSend(fault));
    this.fault = fault;
  }
}

function describeSend(fault: SendFault): string {
  switch (fault.kind) {
    case "closed":
      return "channel is closed";
    case "tooLong":
      return `message of ${fault.length} bytes is over the limit of ${fault.limit}`;
    case "overflow":
      return "queue is full; the channel was closed with a gap";
  }
}
