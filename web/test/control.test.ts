import { describe, expect, test } from "vitest";
import vectors from "../../proto/vectors/control.json";
import { KeyError } from "../src/crypto/keys";
import {
  type CircuitOrigin,
  type PeerToRelay,
  type RelayToPeer,
  decodePeerToRelay,
  decodeRelayToPeer,
  encodePeerToRelay,
  encodeRelayToPeer,
} from "../src/wire/control";
import { DecodeError } from "../src/wire/error";
import { checkWelcome, welcomeTranscript } from "../src/welcome";
import { hex, rejection, spelled, unhex } from "./support";

/** A frame's fields as the vectors have them: versions and origin are not nested there. */
function fields({ type: _, ...frame }: RelayToPeer | PeerToRelay): unknown {
  if ("versions" in frame) {
    const { versions, ...rest } = frame;
    return spelled({ ...rest, ...versions });
  }
  if ("origin" in frame) {
    const { origin, ...rest } = frame;
    return spelled({ ...rest, ...originFields(origin) });
  }
  return spelled(frame);
}

function originFields(origin: CircuitOrigin): object {
  return origin.type === "Device" ? { device: origin.key } : { rendezvous: origin.rendezvous };
}

describe("frames between a peer and its relay", () => {
  test.each(vectors.relay_to_peer)("of the relay: $name $hex", (vector) => {
    const frame = decodeRelayToPeer(unhex(vector.hex));
    expect(frame.type).toBe(vector.name);
    expect(fields(frame)).toEqual(vector.fields);
    expect(hex(encodeRelayToPeer(frame))).toBe(vector.hex);
  });

  test.each(vectors.peer_to_relay)("of a peer: $name $hex", (vector) => {
    const frame = decodePeerToRelay(unhex(vector.hex));
    expect(frame.type).toBe(vector.name);
    expect(fields(frame)).toEqual(vector.fields);
    expect(hex(encodePeerToRelay(frame))).toBe(vector.hex);
  });

  test.each(vectors.refused.relay_to_peer)("refused of the relay: $why", (vector) => {
    expect(() => decodeRelayToPeer(unhex(vector.hex))).toThrow(DecodeError);
  });

  test.each(vectors.refused.peer_to_relay)("refused of a peer: $why", (vector) => {
    expect(() => decodePeerToRelay(unhex(vector.hex))).toThrow(DecodeError);
  });
});

describe("welcomes", () => {
  test.each(vectors.welcomes)("for the peer $peer_key", async (vector) => {
    const [nonce, peerNonce, peerKey] = [unhex(vector.nonce), unhex(vector.peer_nonce), unhex(vector.peer_key)];
    expect(hex(welcomeTranscript(nonce, peerNonce, peerKey))).toBe(vector.transcript);
    const signature = unhex(vector.signature);
    await checkWelcome(unhex(vector.relay_key), { nonce, peerNonce, peerKey }, signature);

    const replayed = checkWelcome(unhex(vector.relay_key), { nonce, peerNonce: nonce, peerKey }, signature);
    expect(await rejection(replayed)).toEqual(new KeyError("badSignature"));
    const other = checkWelcome(new Uint8Array(32), { nonce, peerNonce, peerKey }, signature);
    expect(await rejection(other)).toEqual(new KeyError("weak"));
  });
});
