/** One channel of a session: both of its directions. */
import { Inbound } from "./inbound";
import { Outbound } from "./outbound";

export class Channel {
  readonly outbound = new Outbound();
  readonly inbound = new Inbound();

  /** Whether this side has closed the channel: nothing more is sent, and what comes is forgotten. */
  get isClosing(): boolean {
    return this.outbound.isClosing;
  }

  /** Whether both directions are closed and nothing is owed to this side. */
  get isOver(): boolean {
    return this.isClosing && this.inbound.closed && this.outbound.isEmpty && this.inbound.isHandled;
  }

  /** Bytes queued or in flight. */
  get backlog(): number {
    return this.outbound.queuedBytes + this.outbound.inFlight;
  }
}
