/**
 * From a WebSocket to the start of a circuit: docs/protocol.md, section 2.
 *
 * ```text
 *   relay → device   Challenge                    which relay, and a nonce
 *   device → relay   DeviceHello or PairHello     the proof over that nonce
 *   relay → device   Welcome                      the relay's proof over both nonces
 *   relay → device   Presence, Ping …             while the host is not there
 *   relay → device   Attached                     what follows are the circuit's bytes
 * ```
 */
import { type Bytes, random } from "../bytes";
import { prove } from "../claims";
import { CloseCode } from "../close";
import { type Identity, checkIdentity } from "../crypto/keys";
import { relayId } from "../ids";
import type { Origin } from "../pairing/origin";
import { SUPPORTED, agree } from "../version";
import { NO_KEY, checkWelcome } from "../welcome";
import { MAX_CONTROL, type PeerToRelay, type RelayToPeer, decodeRelayToPeer, encodePeerToRelay } from "../wire/control";
import { DecodeError } from "../wire/error";
import { LinkError } from "./error";
import { MessageSocket, orClose, type SocketFactory } from "./socket";
import { within } from "./within";

/** Connecting and the hello together, in milliseconds: beyond this a path is as good as dead. */
const CONNECT_TIMEOUT = 10_000;
/** A host that is online takes a circuit within a round trip. In milliseconds. */
const ATTACH_TIMEOUT = 10_000;
/** A relay that says nothing for this long, in milliseconds, is gone: it pings every 20 s. */
const SILENCE_LIMIT = 45_000;

/** Which relay to call, and how. */
export interface RelayTarget {
  readonly origin: Origin;
  /** Whether the relay with this identity key, of which this is the id, is the one wanted. It is asked before the proof. */
  readonly admits: (key: Bytes, id: Bytes) => boolean;
  /** Ends the connection at any time, the attempt too. */
  readonly signal: AbortSignal;
  /** Makes the WebSocket; the platform's own if left out. */
  readonly create?: SocketFactory;
}

/** Who is calling: a paired device that wants a host by its id, or one that wants to pair. */
export type Caller =
  | { readonly type: "device"; readonly identity: Identity; readonly host: Bytes; readonly watchOnly: boolean }
  | { readonly type: "pairing"; readonly rendezvous: Bytes };

/** A connection to a relay that has let this device in. */
export interface RelayConnection {
  readonly socket: MessageSocket;
  /** The relay's identity key; it has proved it. */
  readonly relayKey: Bytes;
}

/** Whether the host is connected to the relay, and since when, in seconds since 1970; 0 for never. */
export interface Presence {
  readonly online: boolean;
  readonly since: bigint;
}

/** Calls the relay and is let in. Rejects with {@link LinkError}. */
export async function connectRelay(target: RelayTarget, caller: Caller): Promise<RelayConnection> {
  const { secure, host, port } = target.origin;
  const url = `${secure ? "wss" : "ws"}://${host}:${port}/v1/device`;
  const create = target.create ?? ((url: string) => new WebSocket(url));
  const socket = new MessageSocket(url, create, target.signal);
  return orClose(socket, async () => {
    const relayKey = await within(CONNECT_TIMEOUT, "relay", hello(socket, target, caller));
    return { socket, relayKey };
  });
}

/** Waits until the relay has attached this device: what the socket receives from then on are the circuit's bytes. */
export async function awaitCircuit(socket: MessageSocket, present: (presence: Presence) => void): Promise<void> {
  await orClose(socket, async () => {
    let online = true;
    for (;;) {
      const frame: RelayToPeer = online
        ? await within(ATTACH_TIMEOUT, "host", receive(socket))
        : await within(SILENCE_LIMIT, "relay", receive(socket));
      if (frame.type === "Attached") {
        return;
      }
      if (frame.type === "Presence") {
        online = frame.online;
        present({ online, since: frame.since });
      } else if (frame.type !== "Ping" && frame.type !== "Pong") {
        throw refusal(frame, "a frame is not for a device");
      }
    }
  });
}

/** Returns the relay's key, which it has proved. */
async function hello(socket: MessageSocket, target: RelayTarget, caller: Caller): Promise<Bytes> {
  const challenge = await receive(socket);
  if (challenge.type !== "Challenge") {
    throw refusal(challenge, "no challenge");
  }
  const { relayKey, nonce } = challenge;
  checkIdentity(relayKey);
  const id = await relayId(relayKey);
  if (!target.admits(relayKey, id)) {
    throw new LinkError({ kind: "wrongRelay", id });
  }
  const version = agree(SUPPORTED, challenge.versions);
  if (version === null) {
    throw new LinkError({ kind: "version", peer: "relay" });
  }
  const peerNonce = random(32);
  await socket.send(encodePeerToRelay(await greeting(caller, version, id, nonce, peerNonce)));
  const welcome = await receive(socket);
  if (welcome.type !== "Welcome" || welcome.version !== version) {
    throw refusal(welcome, "no welcome");
  }
  const peerKey = caller.type === "device" ? caller.identity.publicKey : NO_KEY;
  await checkWelcome(relayKey, { nonce, peerNonce, peerKey }, welcome.signature);
  // A copy: a view would keep the frame.
  return relayKey.slice();
}

async function greeting(
  caller: Caller,
  version: number,
  relay: Bytes,
  nonce: Bytes,
  peerNonce: Bytes,
): Promise<PeerToRelay> {
  if (caller.type === "pairing") {
    return { type: "PairHello", version, peerNonce, rendezvous: caller.rendezvous };
  }
  const { identity, host, watchOnly } = caller;
  const proof = await prove(identity, relay, nonce, { role: "device", host });
  return { type: "DeviceHello", version, key: identity.publicKey, peerNonce, host, watchOnly, proof };
}

async function receive(socket: MessageSocket): Promise<RelayToPeer> {
  const message = await socket.receive();
  if (message.length > MAX_CONTROL) {
    throw new LinkError({ kind: "protocol", what: "a frame is too long" });
  }
  try {
    return decodeRelayToPeer(message);
  } catch (cause) {
    throw cause instanceof DecodeError ? new LinkError({ kind: "protocol", what: cause.message }, { cause }) : cause;
  }
}

/** The error that a frame stands for, where none was expected. */
function refusal(frame: RelayToPeer, what: string): LinkError {
  if (frame.type === "Refused") {
    const { code, retryAfterMs } = frame;
    if (code === CloseCode.version) {
      return new LinkError({ kind: "version", peer: "relay" });
    }
    // A hostile relay's words are shown to a person.
    const message = frame.message.replace(/\p{Cc}/gu, "");
    return new LinkError({ kind: "refused", code, message, retryAfterMs: retryAfterMs > 0 ? retryAfterMs : null });
  }
  if (frame.type === "Restarting") {
    const message = "it is restarting";
    return new LinkError({ kind: "refused", code: CloseCode.restarting, message, retryAfterMs: frame.reconnectInMs });
  }
  return new LinkError({ kind: "protocol", what });
}
