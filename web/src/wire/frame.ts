/**
 * Session frames: what the plaintext of records is made of. docs/protocol.md, section 4.
 *
 * Reasons are numbers, so that one of a newer peer is just another number. So are channels and sequence numbers; only
 * the id of a ping, which may be anything, keeps all its bits.
 */
import type { Bytes } from "../bytes";
import { DecodeError } from "./error";
import { Reader } from "./reader";
import { Writer, varintLength } from "./writer";

/** Most channels that a peer may name when it resumes: the open ones and those still closing. */
export const MAX_RESUME_CHANNELS = 256;
/** Longest environment name, in bytes. */
export const MAX_ENVIRONMENT = 256;
/** Longest text of a channel's close, in bytes. */
export const MAX_CLOSE_TEXT = 400;
const MAX_FRAGMENT = 0xffff;
const FIRST = 1;
const LAST = 2;

/** What a peer expects next on a channel. */
export interface Received {
  readonly channel: number;
  readonly next: number;
}

interface Sequenced {
  readonly channel: number;
  readonly seq: number;
}

/** One frame. Byte strings of a decoded one are views of its record. */
export type Frame =
  | { readonly type: "Open" }
  | { readonly type: "Opened"; readonly session: Bytes }
  | { readonly type: "Resume"; readonly session: Bytes; readonly received: readonly Received[] }
  | { readonly type: "Resumed"; readonly received: readonly Received[] }
  | { readonly type: "Gap"; readonly reason: number }
  | { readonly type: "Bye"; readonly reason: number; readonly reconnectInMs: number }
  | (Sequenced & { readonly type: "ChannelOpen"; readonly environment: string })
  | (Sequenced & { readonly type: "ChannelClose"; readonly reason: number; readonly text: string })
  /** `total`, the length of the whole message, is in its first fragment. */
  | (Sequenced & {
      readonly type: "Data";
      readonly total: number | null;
      readonly last: boolean;
      readonly bytes: Bytes;
    })
  | { readonly type: "Ack"; readonly channel: number; readonly next: number }
  | { readonly type: "Ping"; readonly id: bigint }
  | { readonly type: "Pong"; readonly id: bigint };

/** Appends the frame's bytes. */
export function putFrame(w: Writer, frame: Frame): void {
  switch (frame.type) {
    case "Open":
      w.u8(0x01);
      break;
    case "Opened":
      w.u8(0x02).put(frame.session);
      break;
    case "Resume":
      putReceived(w.u8(0x03).put(frame.session), frame.received);
      break;
    case "Resumed":
      putReceived(w.u8(0x04), frame.received);
      break;
    case "Gap":
      w.u8(0x05, frame.reason);
      break;
    case "Bye":
      w.u8(0x06, frame.reason).varint(frame.reconnectInMs);
      break;
    case "ChannelOpen":
      w.u8(0x10).varint(frame.channel).varint(frame.seq).text(frame.environment);
      break;
    case "ChannelClose":
      w.u8(0x11).varint(frame.channel).varint(frame.seq).u8(frame.reason).text(frame.text);
      break;
    case "Data":
      w.u8(0x12).varint(frame.channel).varint(frame.seq);
      w.u8((frame.total === null ? 0 : FIRST) | (frame.last ? LAST : 0));
      if (frame.total !== null) {
        w.varint(frame.total);
      }
      w.bytes(frame.bytes);
      break;
    case "Ack":
      w.u8(0x20).varint(frame.channel).varint(frame.next);
      break;
    case "Ping":
      w.u8(0x21).varint(frame.id);
      break;
    case "Pong":
      w.u8(0x22).varint(frame.id);
      break;
  }
}

/** What a `Data` frame adds to a fragment of at most `fragment` bytes, in bytes. */
export function dataOverhead(channel: number, seq: number, total: number | null, fragment: number): number {
  const first = total === null ? 0 : varintLength(total);
  return 2 + varintLength(channel) + varintLength(seq) + first + varintLength(fragment);
}

/** The plaintext of a record with these frames, before padding. */
export function encodeFrames(frames: readonly Frame[]): Bytes {
  const w = new Writer();
  frames.forEach((frame) => {
    putFrame(w, frame);
  });
  return w.finish();
}

/** All frames of a record. Throws {@link DecodeError}. */
export function decodeFrames(plaintext: Bytes): Frame[] {
  const r = new Reader(plaintext);
  const frames: Frame[] = [];
  for (let frame = readFrame(r); frame !== null; frame = readFrame(r)) {
    frames.push(frame);
  }
  return frames;
}

/** The next frame; `null` at the padding or the end of the record. Throws {@link DecodeError}. */
export function readFrame(r: Reader): Frame | null {
  if (r.left === 0) {
    return null;
  }
  const tag = r.u8();
  switch (tag) {
    case 0x00:
      // A byte hidden in the padding would be a channel that nobody looks at.
      if (r.rest().some((byte) => byte !== 0)) {
        throw new DecodeError({ kind: "invalid", field: "padding" });
      }
      return null;
    case 0x01:
      return { type: "Open" };
    case 0x02:
      return { type: "Opened", session: r.take(16) };
    case 0x03:
      return { type: "Resume", session: r.take(16), received: readReceived(r) };
    case 0x04:
      return { type: "Resumed", received: readReceived(r) };
    case 0x05:
      return { type: "Gap", reason: r.u8() };
    case 0x06:
      return { type: "Bye", reason: r.u8(), reconnectInMs: r.varint("delay") };
    case 0x10:
      return { type: "ChannelOpen", ...readSequenced(r), environment: r.text("environment", MAX_ENVIRONMENT) };
    case 0x11:
      return { type: "ChannelClose", ...readSequenced(r), reason: r.u8(), text: r.text("close text", MAX_CLOSE_TEXT) };
    case 0x12:
      return readData(r);
    case 0x20:
      return { type: "Ack", channel: r.varint("channel"), next: r.varint("next") };
    case 0x21:
      return { type: "Ping", id: r.bigVarint() };
    case 0x22:
      return { type: "Pong", id: r.bigVarint() };
    default:
      throw new DecodeError({ kind: "unknownTag", tag });
  }
}

function readData(r: Reader): Frame {
  const sequenced = readSequenced(r);
  const flags = r.u8();
  if ((flags & ~(FIRST | LAST)) !== 0) {
    throw new DecodeError({ kind: "invalid", field: "data flags" });
  }
  const total = (flags & FIRST) === 0 ? null : r.varint("total");
  const bytes = r.bytes("fragment", MAX_FRAGMENT);
  return { type: "Data", ...sequenced, total, last: (flags & LAST) !== 0, bytes };
}

function readSequenced(r: Reader): Sequenced {
  return { channel: r.varint("channel"), seq: r.varint("sequence number") };
}

function putReceived(w: Writer, received: readonly Received[]): void {
  w.varint(received.length);
  received.forEach(({ channel, next }) => w.varint(channel).varint(next));
}

function readReceived(r: Reader): Received[] {
  const length = r.bigVarint();
  if (length > BigInt(MAX_RESUME_CHANNELS)) {
    throw new DecodeError({ kind: "tooLong", field: "resume list", length, limit: MAX_RESUME_CHANNELS });
  }
  const received: Received[] = [];
  while (received.length < length) {
    received.push({ channel: r.varint("channel"), next: r.varint("next") });
  }
  return received;
}
