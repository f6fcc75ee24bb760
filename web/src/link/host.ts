/** A link to a paired host: relay, circuit, handshake. */
import type { Bytes } from "../bytes";
import type { Identity, Psk, StaticKey } from "../crypto/keys";
import { hostId } from "../ids";
import { SUPPORTED } from "../version";
import type { Link } from "./link";
import { type Presence, type RelayTarget, awaitCircuit, connectRelay } from "./relay";
import { initiate } from "./secure";

/** What pairing left at this device. */
export interface PairedKeys {
  /** The host's identity key. */
  readonly host: Bytes;
  readonly hostStatic: Bytes;
  readonly identity: Identity;
  readonly staticKey: StaticKey;
  readonly psk: Psk;
}

/**
 * Makes a link, waiting at the relay for as long as the host is offline; `present` hears whether it is. Rejects with
 * `LinkError`.
 */
export async function linkToHost(
  target: RelayTarget,
  keys: PairedKeys,
  present: (presence: Presence) => void,
): Promise<Link> {
  const { identity, hostStatic, staticKey: own, psk } = keys;
  const host = await hostId(keys.host);
  const { socket } = await connectRelay(target, { type: "device", identity, host, watchOnly: false });
  await awaitCircuit(socket, present);
  return initiate(socket, { host, hostStatic, own, psk, versions: SUPPORTED });
}
