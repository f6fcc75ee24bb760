/** One channel of a session, as its user sees it. */
import type { Bytes } from "../bytes";

/** Who takes what comes in on a channel. */
export interface Consumer {
  /** A message. Call `handled` once it is taken: until then the other side keeps it. */
  message(bytes: Bytes, handled: () => void): void;
  /** The other side closed the channel, or it was lost; nothing follows. The text is for a person. */
  closed(reason: number, text: string): void;
}

/** The sending side of a channel. */
export interface ChannelHandle {
  readonly number: number;
  /** Queues a message, whose bytes belong to the session from here on. Throws `SendError`. */
  send(bytes: Bytes): void;
  /** Closes the channel after what is queued on it. The consumer hears nothing more. */
  close(reason: number, text: string): void;
  /** Closes the channel with a gap, and takes back what the other side does not have yet. The consumer hears nothing more. */
  withdraw(text: string): void;
}
