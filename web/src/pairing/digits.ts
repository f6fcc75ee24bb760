/** The six digits that both sides compute and a person compares, and the commitment that makes six enough. */
import { type Bytes, sha256, utf8 } from "../bytes";

/** The digits, as they are shown. Never for a log: whoever reads them could confirm a pairing. */
export async function digits(handshakeHash: Bytes, host: Bytes, device: Bytes): Promise<string> {
  const hash = await sha256(utf8("reachback digits v1"), handshakeHash, host, device);
  const number = new DataView(hash.buffer).getBigUint64(0) % 1_000_000n;
  return number.toString().padStart(6, "0");
}

/** What message 2 carries, so that the host can't choose its random part once it knows the device's. */
export async function commitment(nonce: Bytes): Promise<Bytes> {
  return sha256(utf8("reachback commit v1"), nonce);
}
