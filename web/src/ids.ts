/**
 * Names of things on the wire: derived from the identity key they stand for, so that an id can't be claimed with
 * another key. As text they are lower-case base32 ({@link encode} of `base32.ts`).
 */
import { type Bytes, sha256, utf8 } from "./bytes";

/** Bytes of a public key, Ed25519 or X25519. */
export const KEY_LENGTH = 32;

/** The id of the host with this identity key. */
export async function hostId(identity: Bytes): Promise<Bytes> {
  return (await sha256(utf8("reachback host v1"), identity)).slice(0, 16);
}

/** The id of the device with this identity key. */
export async function deviceId(identity: Bytes): Promise<Bytes> {
  return (await sha256(utf8("reachback device v1"), identity)).slice(0, 16);
}

/** The fingerprint of the relay with this identity key. */
export async function relayId(identity: Bytes): Promise<Bytes> {
  return sha256(utf8("reachback relay v1"), identity);
}
