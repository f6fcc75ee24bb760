/** What a person was shown before they answered, as one digest: an answer carries it (docs/api.md, `answer/send`). */
import { type Bytes, sha256, utf8 } from "./bytes";

const LABEL = "reachback shown v1";

function length(bytes: Uint8Array): Bytes {
  const out = new Uint8Array(8);
  new DataView(out.buffer).setBigUint64(0, BigInt(bytes.length));
  return out;
}

/** SHA-256 over a label and these texts in this order, the length of each before it. */
export async function shownDigest(texts: readonly string[]): Promise<Bytes> {
  const parts = texts.map(utf8).flatMap((text) => [length(text), text]);
  return sha256(utf8(LABEL), ...parts);
}
