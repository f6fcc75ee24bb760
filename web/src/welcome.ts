/** The relay's proof: its signature over both nonces and the peer's key. */
import { type Bytes, concat, utf8 } from "./bytes";
import { verify } from "./crypto/keys";

/** What stands for the peer's key where the peer has none, in pairing. */
export const NO_KEY: Bytes = new Uint8Array(32);

/** The bytes that a welcome's signature covers. Both nonces are fresh, so a recorded welcome proves nothing later. */
export function welcomeTranscript(nonce: Bytes, peerNonce: Bytes, peerKey: Bytes): Bytes {
  return concat(utf8("reachback relay welcome v1"), nonce, peerNonce, peerKey);
}

/** Checks a welcome's signature. Throws {@link KeyError}. */
export async function checkWelcome(
  relayKey: Bytes,
  { nonce, peerNonce, peerKey }: { nonce: Bytes; peerNonce: Bytes; peerKey: Bytes },
  signature: Bytes,
): Promise<void> {
  await verify(relayKey, welcomeTranscript(nonce, peerNonce, peerKey), signature);
}
