/** The pairing secret, and everything that is derived from it: docs/protocol.md, section 5. */
import { type Bytes, concat, utf8 } from "../bytes";
import { type Psk, hkdfKey } from "../crypto/keys";
import type { TypedCode } from "./code";
import type { Origin } from "./origin";

const SALT = utf8("reachback pairing v1");
/** Rounds for a typed code, whose 80 bits a relay could try offline; a phone takes tenths of a second. */
const CODE_ROUNDS = 600_000;

/**
 * The 32 bytes that a host shows and a device learns: S. Nothing prints them by itself.
 *
 * The psk of links is derived from S and two more values side by side, so S has to be bytes until the pairing is over;
 * {@link wipe} ends that. The psks themselves become keys at once.
 */
export class PairingSecret {
  readonly #bytes: Bytes;

  /** Takes the bytes over. */
  constructor(bytes: Bytes) {
    this.#bytes = bytes;
  }

  /** The secret that a typed code stands for at this relay. */
  static async fromCode(code: TypedCode, relay: Origin): Promise<PairingSecret> {
    const key = await crypto.subtle.importKey("raw", utf8(code.text()), "PBKDF2", false, ["deriveBits"]);
    const salt = utf8(`reachback typed code v1${relay.toString()}`);
    const params = { name: "PBKDF2", hash: "SHA-256", salt, iterations: CODE_ROUNDS };
    return new PairingSecret(new Uint8Array(await crypto.subtle.deriveBits(params, key, 256)));
  }

  /** The bytes themselves, for a QR code; never for a log. */
  expose(): Bytes {
    return this.#bytes;
  }

  /** Where both sides meet at the relay. */
  async rendezvous(): Promise<Bytes> {
    return hkdf(SALT, this.#bytes.slice(), "rendezvous", 16);
  }

  /** The psk of the pairing handshake. */
  async psk0(): Promise<Psk> {
    return hkdfKey(await hkdf(SALT, this.#bytes.slice(), "psk0", 32));
  }

  /** The psk of all links to come, from the pairing's handshake hash and both sides' contributions. */
  async linkPsk(handshakeHash: Bytes, device: Bytes, host: Bytes): Promise<Psk> {
    const material = concat(this.#bytes, device, host);
    return hkdfKey(await hkdf(handshakeHash, material, "reachback link psk v1", 32));
  }

  /** Forgets the secret. */
  wipe(): void {
    this.#bytes.fill(0);
  }
}

/** HKDF-SHA256. Wipes its key material. */
async function hkdf(salt: Bytes, material: Bytes, info: string, length: number): Promise<Bytes> {
  const key = await hkdfKey(material);
  const params = { name: "HKDF", hash: "SHA-256", salt, info: utf8(info) };
  return new Uint8Array(await crypto.subtle.deriveBits(params, key, length * 8));
}
