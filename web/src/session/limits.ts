/** Bounds of a session: those of the protocol, and those that its user sets. */
import { MAX_RESUME_CHANNELS } from "../wire/frame";

/** The channel of the host agent's own API; always open. */
export const API_CHANNEL = 0;
/** Largest message from a device, in bytes: what Codex's app-server takes (64 MiB, measured). */
export const MAX_MESSAGE_TO_HOST = 64 << 20;
/** Largest message to a device, in bytes: more than Codex's terminal UI takes (128 MiB). */
export const MAX_MESSAGE_TO_DEVICE = 160 << 20;
/**
 * Channels beside the API's, those still closing included. Half of what a peer may name when it resumes: the other side
 * may be behind by as many.
 */
export const MAX_CHANNELS = MAX_RESUME_CHANNELS / 2;
/** What a message or a frame costs beside its bytes, so that many tiny ones are bounded too. In bytes. */
export const FRAME_COST = 64;

/**
 * Messages that come in a trickle are acknowledged so often, in milliseconds, and the first of them as soon as others: a
 * record that only acknowledges costs the link as much as one with a short message.
 */
export const TRICKLE_ACK_DELAY = 250;
/** A trickle has fewer bytes than this between two acknowledgements. */
export const TRICKLE_BYTES = 4 * 1024;

/** Which end of the session this is: a device opens sessions and channels, a host accepts them. */
export type Side = "device" | "host";

/** The largest message that this side takes, in bytes. */
export function maxMessage(side: Side): number {
  return side === "device" ? MAX_MESSAGE_TO_DEVICE : MAX_MESSAGE_TO_HOST;
}

/** Bounds of one session; every number is in bytes unless named otherwise. */
export interface SessionLimits {
  /** Channels open at once, for a host. */
  readonly channels: number;
  /**
   * Queued on one channel, counting neither the message on its way nor a last one that crosses the line: a large one
   * would else be the end of its channel as soon as anything follows it.
   */
  readonly channelQueue: number;
  /** Queued on all channels. */
  readonly sessionQueue: number;
  /** Received and not yet handled, incomplete messages included. */
  readonly receiveBuffer: number;
}

/** A host's: the largest message and two channels' queues; two of the largest that it receives, and change. */
export const HOST_LIMITS: SessionLimits = {
  channels: 32,
  channelQueue: 16 << 20,
  sessionQueue: 192 << 20,
  receiveBuffer: 160 << 20,
};

/** A device's: the same, where what it receives is larger. */
export const DEVICE_LIMITS: SessionLimits = { ...HOST_LIMITS, receiveBuffer: 352 << 20 };
