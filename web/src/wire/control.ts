/**
 * What a device or a host and the relay say to each other: docs/protocol.md, section 2.
 *
 * Each binary message of the WebSocket is one frame, until the relay says `Attached`: what follows are the bytes of
 * the circuit. Both directions are read and written, so that a test can be either end.
 */
import type { Bytes } from "../bytes";
import { KEY_LENGTH } from "../ids";
import type { VersionRange } from "../version";
import { DecodeError } from "./error";
import { Reader } from "./reader";
import { Writer } from "./writer";

/** Largest control frame, in bytes. */
export const MAX_CONTROL = 16 * 1024;
/** Largest WebSocket message on a circuit, in bytes. */
export const MAX_CIRCUIT_CHUNK = 128 * 1024;
const MAX_DEVICES = 256;
const MAX_PROOF = 1024;
const MAX_ENROLL_KEY = 128;
const MAX_REFUSAL_MESSAGE = 400;

/** Who a circuit comes from, in the relay's words. */
export type CircuitOrigin =
  { readonly type: "Device"; readonly key: Bytes } | { readonly type: "Pairing"; readonly rendezvous: Bytes };

/** Frames that the relay sends. */
export type RelayToPeer =
  | { readonly type: "Challenge"; readonly versions: VersionRange; readonly relayKey: Bytes; readonly nonce: Bytes }
  | { readonly type: "Welcome"; readonly version: number; readonly signature: Bytes }
  | { readonly type: "Refused"; readonly code: number; readonly retryAfterMs: number; readonly message: string }
  | { readonly type: "Restarting"; readonly reconnectInMs: number }
  | { readonly type: "Ping"; readonly id: bigint }
  | { readonly type: "Pong"; readonly id: bigint }
  | { readonly type: "CircuitWanted" }
  | { readonly type: "PairingOpened"; readonly rendezvous: Bytes }
  | { readonly type: "PairingClosed"; readonly rendezvous: Bytes; readonly code: number }
  | { readonly type: "DeviceListStored"; readonly version: bigint }
  | { readonly type: "Conflict" }
  | { readonly type: "CircuitStart"; readonly circuit: bigint; readonly origin: CircuitOrigin }
  | { readonly type: "Presence"; readonly online: boolean; readonly since: bigint }
  | { readonly type: "Attached"; readonly circuit: bigint };

/** What a hello of a peer with a key starts with. */
interface Hello {
  readonly version: number;
  readonly key: Bytes;
  readonly peerNonce: Bytes;
  readonly proof: string;
}

/** Frames that a host or a device sends. */
export type PeerToRelay =
  | (Hello & { readonly type: "HostHello"; readonly boot: Bytes; readonly enrollKey: string | null })
  | (Hello & { readonly type: "HostDataHello"; readonly boot: Bytes })
  | (Hello & { readonly type: "DeviceHello"; readonly host: Bytes; readonly watchOnly: boolean })
  | { readonly type: "PairHello"; readonly version: number; readonly peerNonce: Bytes; readonly rendezvous: Bytes }
  | { readonly type: "Ping"; readonly id: bigint }
  | { readonly type: "Pong"; readonly id: bigint }
  | { readonly type: "DeviceList"; readonly version: bigint; readonly keys: readonly Bytes[] }
  | { readonly type: "PairingOpen"; readonly rendezvous: Bytes; readonly seconds: number }
  | { readonly type: "PairingClose"; readonly rendezvous: Bytes };

/** The bytes of a relay's frame. */
export function encodeRelayToPeer(frame: RelayToPeer): Bytes {
  const w = new Writer();
  switch (frame.type) {
    case "Challenge":
      return w.u8(0x01, frame.versions.min, frame.versions.max).put(frame.relayKey).put(frame.nonce).finish();
    case "Welcome":
      return w.u8(0x02, frame.version).put(frame.signature).finish();
    case "Refused":
      return w.u8(0x03).u16(frame.code).u32(frame.retryAfterMs).text(frame.message).finish();
    case "Restarting":
      return w.u8(0x04).u32(frame.reconnectInMs).finish();
    case "Ping":
      return w.u8(0x05).u64(frame.id).finish();
    case "Pong":
      return w.u8(0x06).u64(frame.id).finish();
    case "CircuitWanted":
      return w.u8(0x10).finish();
    case "PairingOpened":
      return w.u8(0x11).put(frame.rendezvous).finish();
    case "PairingClosed":
      return w.u8(0x12).put(frame.rendezvous).u16(frame.code).finish();
    case "DeviceListStored":
      return w.u8(0x13).u64(frame.version).finish();
    case "Conflict":
      return w.u8(0x14).finish();
    case "CircuitStart":
      w.u8(0x20).u64(frame.circuit);
      return frame.origin.type === "Device"
        ? w.u8(0).put(frame.origin.key).finish()
        : w.u8(1).put(frame.origin.rendezvous).finish();
    case "Presence":
      return w.u8(0x30, Number(frame.online)).u64(frame.since).finish();
    case "Attached":
      return w.u8(0x31).u64(frame.circuit).finish();
  }
}

/** The relay's frame in `bytes`, which hold nothing else. Throws {@link DecodeError}. */
export function decodeRelayToPeer(bytes: Bytes): RelayToPeer {
  const r = new Reader(bytes);
  const frame = readRelayToPeer(r);
  r.finish();
  return frame;
}

function readRelayToPeer(r: Reader): RelayToPeer {
  const tag = r.u8();
  switch (tag) {
    case 0x01: {
      const versions = { min: r.u8(), max: r.u8() };
      return { type: "Challenge", versions, relayKey: r.take(KEY_LENGTH), nonce: r.take(32) };
    }
    case 0x02:
      return { type: "Welcome", version: r.u8(), signature: r.take(64) };
    case 0x03:
      return { type: "Refused", code: r.u16(), retryAfterMs: r.u32(), message: r.text("message", MAX_REFUSAL_MESSAGE) };
    case 0x04:
      return { type: "Restarting", reconnectInMs: r.u32() };
    case 0x05:
      return { type: "Ping", id: r.u64() };
    case 0x06:
      return { type: "Pong", id: r.u64() };
    case 0x10:
      return { type: "CircuitWanted" };
    case 0x11:
      return { type: "PairingOpened", rendezvous: r.take(16) };
    case 0x12:
      return { type: "PairingClosed", rendezvous: r.take(16), code: r.u16() };
    case 0x13:
      return { type: "DeviceListStored", version: r.u64() };
    case 0x14:
      return { type: "Conflict" };
    case 0x20:
      return { type: "CircuitStart", circuit: r.u64(), origin: readOrigin(r) };
    case 0x30:
      return { type: "Presence", online: r.flag("online"), since: r.u64() };
    case 0x31:
      return { type: "Attached", circuit: r.u64() };
    default:
      throw new DecodeError({ kind: "unknownTag", tag });
  }
}

/** The bytes of a host's or a device's frame. */
export function encodePeerToRelay(frame: PeerToRelay): Bytes {
  const w = new Writer();
  switch (frame.type) {
    case "HostHello":
      return putHello(w.u8(0x41), frame)
        .put(frame.boot)
        .text(frame.proof)
        .text(frame.enrollKey ?? "")
        .finish();
    case "HostDataHello":
      return putHello(w.u8(0x42), frame).put(frame.boot).text(frame.proof).finish();
    case "DeviceHello":
      return putHello(w.u8(0x43), frame).put(frame.host).u8(Number(frame.watchOnly)).text(frame.proof).finish();
    case "PairHello":
      return w.u8(0x44, frame.version).put(frame.peerNonce).put(frame.rendezvous).finish();
    case "Ping":
      return w.u8(0x45).u64(frame.id).finish();
    case "Pong":
      return w.u8(0x46).u64(frame.id).finish();
    case "DeviceList":
      w.u8(0x50).u64(frame.version).u16(frame.keys.length);
      frame.keys.forEach((key) => w.put(key));
      return w.finish();
    case "PairingOpen":
      return w.u8(0x51).put(frame.rendezvous).u32(frame.seconds).finish();
    case "PairingClose":
      return w.u8(0x52).put(frame.rendezvous).finish();
  }
}

/** The host's or device's frame in `bytes`, which hold nothing else. Throws {@link DecodeError}. */
export function decodePeerToRelay(bytes: Bytes): PeerToRelay {
  const r = new Reader(bytes);
  const frame = readPeerToRelay(r);
  r.finish();
  return frame;
}

function readPeerToRelay(r: Reader): PeerToRelay {
  const tag = r.u8();
  switch (tag) {
    case 0x41: {
      const hello = { ...readHello(r), boot: r.take(16), proof: r.text("proof", MAX_PROOF) };
      const enrollKey = r.text("enrolment key", MAX_ENROLL_KEY);
      return { type: "HostHello", ...hello, enrollKey: enrollKey === "" ? null : enrollKey };
    }
    case 0x42:
      return { type: "HostDataHello", ...readHello(r), boot: r.take(16), proof: r.text("proof", MAX_PROOF) };
    case 0x43: {
      const hello = { ...readHello(r), host: r.take(16), watchOnly: r.flag("watch only") };
      return { type: "DeviceHello", ...hello, proof: r.text("proof", MAX_PROOF) };
    }
    case 0x44:
      return { type: "PairHello", version: r.u8(), peerNonce: r.take(32), rendezvous: r.take(16) };
    case 0x45:
      return { type: "Ping", id: r.u64() };
    case 0x46:
      return { type: "Pong", id: r.u64() };
    case 0x50:
      return { type: "DeviceList", version: r.u64(), keys: readKeys(r) };
    case 0x51:
      return { type: "PairingOpen", rendezvous: r.take(16), seconds: r.u32() };
    case 0x52:
      return { type: "PairingClose", rendezvous: r.take(16) };
    default:
      throw new DecodeError({ kind: "unknownTag", tag });
  }
}

function putHello(w: Writer, hello: Hello): Writer {
  return w.u8(hello.version).put(hello.key).put(hello.peerNonce);
}

function readHello(r: Reader): { version: number; key: Bytes; peerNonce: Bytes } {
  return { version: r.u8(), key: r.take(KEY_LENGTH), peerNonce: r.take(32) };
}

function readOrigin(r: Reader): CircuitOrigin {
  switch (r.u8()) {
    case 0:
      return { type: "Device", key: r.take(KEY_LENGTH) };
    case 1:
      return { type: "Pairing", rendezvous: r.take(16) };
    default:
      throw new DecodeError({ kind: "invalid", field: "circuit origin" });
  }
}

function readKeys(r: Reader): Bytes[] {
  const count = r.u16();
  if (count > MAX_DEVICES) {
    throw new DecodeError({ kind: "tooLong", field: "device list", length: BigInt(count), limit: MAX_DEVICES });
  }
  const keys: Bytes[] = [];
  while (keys.length < count) {
    keys.push(r.take(KEY_LENGTH));
  }
  return keys;
}
