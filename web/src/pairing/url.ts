/**
 * What a QR code holds: where the relay is, the secret, and who the relay must be.
 *
 * ```text
 *   HTTPS://RELAY.EXAMPLE.COM:443/#AEAQ…      85 characters after the #
 * ```
 *
 * Where a team serves the web app from an origin of its own, the address is that one, and the fragment (version 2) ends
 * with the relay's `host:port`. The fragment never leaves the browser that opens the URL.
 */
import { decode, encode } from "../base32";
import { type Bytes, concat, equal, utf8 } from "../bytes";
import { Reader } from "../wire/reader";
import { Origin, OriginError } from "./origin";
import { PairingSecret } from "./secret";
import { asciiUpper, copiedText } from "./text";

/** The version in front of the fragment's fields, where the address is the relay's. */
const AT_RELAY = 1;
/** The same where it is the web app's. */
const ELSEWHERE = 2;
/** Bytes of a relay's fingerprint in a code. */
const FINGERPRINT = 20;
/** Characters of the fragment, or the least of version 2. */
const FRAGMENT = Math.ceil(((1 + 32 + FINGERPRINT) * 8) / 5);
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Why text is not a pairing URL. */
export type PairingUrlFault =
  | { readonly kind: "origin"; readonly error: OriginError }
  | { readonly kind: "noFragment" }
  | { readonly kind: "length"; readonly found: number }
  | { readonly kind: "damaged" }
  | { readonly kind: "version"; readonly found: number };

/** Text is not a pairing URL. Nothing of the text is kept: it may hold a secret. */
export class PairingUrlError extends Error {
  override readonly name = "PairingUrlError";
  readonly fault: PairingUrlFault;

  constructor(fault: PairingUrlFault) {
    super(describe(fault));
    this.fault = fault;
  }
}

function describe(fault: PairingUrlFault): string {
  switch (fault.kind) {
    case "origin":
      return `the code's address is not usable: ${fault.error.message}`;
    case "noFragment":
      return "the link has no pairing code after a #: copy the whole link that `reachback pair` shows";
    case "length":
      return `the link has ${fault.found} characters after the #, which is no whole pairing code: copy the whole link`;
    case "damaged":
      return "the link's pairing code is damaged: copy or scan it again";
    case "version":
      return `the link is of version ${fault.found}, this app knows versions ${AT_RELAY} and ${ELSEWHERE}: update it`;
  }
}

/** A pairing URL, taken apart. */
export class PairingUrl {
  readonly relay: Origin;
  /** Where the web app is, if not there. */
  readonly web: Origin | null;
  readonly secret: PairingSecret;
  /** The start of the relay's fingerprint. */
  readonly fingerprint: Bytes;

  constructor(relay: Origin, web: Origin | null, secret: PairingSecret, fingerprint: Bytes) {
    this.relay = relay;
    this.web = web;
    this.secret = secret;
    this.fingerprint = fingerprint;
  }

  /** The URL in `text`; its case does not matter. Throws {@link PairingUrlError}. */
  static parse(copied: string): PairingUrl {
    const text = copiedText(copied);
    const hash = text.indexOf("#");
    if (hash < 0) {
      throw new PairingUrlError({ kind: "noFragment" });
    }
    const address = parseAddress(text.slice(0, hash));
    const fragment = text.slice(hash + 1);
    const r = new Reader(parseFragment(fragment));
    const version = r.u8();
    const secret = new PairingSecret(r.take(32).slice());
    const fingerprint = r.take(FINGERPRINT).slice();
    const rest = r.rest();
    if (version === AT_RELAY && rest.length === 0) {
      return new PairingUrl(address, null, secret, fingerprint);
    }
    if (version === ELSEWHERE) {
      return new PairingUrl(parseElsewhere(rest), address, secret, fingerprint);
    }
    throw new PairingUrlError(
      version === AT_RELAY ? { kind: "length", found: characters(fragment) } : { kind: "version", found: version },
    );
  }

  /** Whether the relay with this id is the one that the code was made for. */
  isFor(relayId: Bytes): boolean {
    return equal(relayId.subarray(0, FINGERPRINT), this.fingerprint);
  }

  /** The text of the QR code; never for a log. */
  expose(): string {
    const relay = this.web === null ? "" : `${this.relay.host}:${this.relay.port}`;
    const version = this.web === null ? AT_RELAY : ELSEWHERE;
    const fields = concat(new Uint8Array([version]), this.secret.expose(), this.fingerprint, utf8(relay));
    return asciiUpper(`${(this.web ?? this.relay).toString()}/#${encode(fields)}`);
  }
}

function parseAddress(text: string): Origin {
  try {
    return Origin.parse(text);
  } catch (error) {
    throw error instanceof OriginError ? new PairingUrlError({ kind: "origin", error }) : error;
  }
}

/** At least the fields of version 1. */
function parseFragment(fragment: string): Bytes {
  const found = characters(fragment);
  if (found === 0) {
    throw new PairingUrlError({ kind: "noFragment" });
  }
  const fields = found < FRAGMENT ? null : decode(fragment);
  if (fields === null) {
    throw new PairingUrlError(found === FRAGMENT ? { kind: "damaged" } : { kind: "length", found });
  }
  return fields;
}

function parseElsewhere(relay: Bytes): Origin {
  try {
    return Origin.parse(`https://${decoder.decode(relay)}`);
  } catch {
    throw new PairingUrlError({ kind: "damaged" });
  }
}

function characters(text: string): number {
  return Array.from(text).length;
}
