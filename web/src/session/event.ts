/** What a session tells its driver. */
import type { Bytes } from "../bytes";

export type SessionEvent =
  /** The link carries the session now. `resumed`: it went on where it was, rather than being new. */
  | { readonly type: "established"; readonly session: Bytes; readonly resumed: boolean }
  /** The device opened a channel to this environment. */
  | { readonly type: "channelOpened"; readonly channel: number; readonly environment: string }
  /** A whole message. Call `Session.handled` with its number once it is taken. */
  | { readonly type: "message"; readonly channel: number; readonly seq: number; readonly bytes: Bytes }
  /** The other side closed a channel, or the channel was lost with its session. The text is for a person. */
  | { readonly type: "channelClosed"; readonly channel: number; readonly reason: number; readonly text: string }
  /** A device's session is gone: its channels are closed, what was unacknowledged is lost, a new one is being opened. */
  | { readonly type: "sessionLost"; readonly reason: number }
  /** The other side ends the link, and says when to come back, in milliseconds. */
  | { readonly type: "bye"; readonly reason: number; readonly reconnectInMs: number }
  /** The other side answered a ping, after so many milliseconds. */
  | { readonly type: "roundTrip"; readonly ms: number }
  /** Nothing was heard for too long: drop the link and make another. */
  | { readonly type: "linkDead" };
