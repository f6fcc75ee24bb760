/** What of a host's `host/read` and `host/changed` is kept. */
import type { HostInfo } from "../api/types";
import { decode } from "../base32";
import { KeyError, checkIdentity } from "../crypto/keys";
import { MAX_RELAYS, type RelayEntry } from "../pairing/message";
import { MAX_NAME, label } from "../pairing/name";
import { Origin, OriginError } from "../pairing/origin";
import type { HostFacts } from "../store/hosts";

/** The facts in a host's word; `null` where one of them can't be used: what was known before is better then. */
export function factsOf({ hostName, relays, scope }: HostInfo): HostFacts | null {
  const name = label(hostName, MAX_NAME);
  const read = relays.flatMap(({ url, key }) => relayOf(url, key) ?? []);
  const isUsable = name.ok && read.length > 0 && read.length === relays.length && read.length <= MAX_RELAYS;
  return isUsable ? { name: name.text, relays: read, scope } : null;
}

function relayOf(url: string, text: string): RelayEntry | null {
  const key = decode(text);
  if (key === null) {
    return null;
  }
  try {
    checkIdentity(key);
    const origin = Origin.parse(url);
    return origin.secure || origin.isLoopback ? { key, origin } : null;
  } catch (error) {
    if (error instanceof OriginError || error instanceof KeyError) {
      return null;
    }
    throw error;
  }
}
