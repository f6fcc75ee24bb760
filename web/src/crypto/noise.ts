/**
 * The two Noise handshakes of the protocol, over WebCrypto: every primitive is the browser's.
 *
 * - Noise's HKDF is RFC 5869's with the chaining key as salt and no info, so one `deriveBits` gives all its outputs.
 *   The input key material is a key of the algorithm HKDF; that is how a psk is mixed in (`MixKeyAndHash`) without its
 *   bytes. They are in this page once, when pairing derives them: WebCrypto derives no HKDF key, only bits for one.
 * - Diffie-Hellman is X25519's `deriveBits`; its result becomes such a key at once, and the bytes are wiped.
 * - A nonce is four zero bytes and a big-endian counter.
 *
 * What WebCrypto has no key for, the chaining key, lives in this object and is wiped by {@link Handshake.split}.
 */
import { type Bytes, concat, sha256, utf8 } from "../bytes";
import { KEY_LENGTH } from "../ids";
import { TAG_LENGTH } from "../wire/blocks";
import { HandshakeError } from "./error";
import { KeyError, type Psk, type StaticKey, agree, generateStaticKey, hkdfKey } from "./keys";

type Token = "e" | "s" | "ee" | "es" | "se" | "ss" | "psk";

/** A handshake pattern with a psk. */
export interface Pattern {
  /** Exactly as long as a hash, so that it is the first one. */
  readonly name: string;
  /** Whether the initiator knows the responder's static key before. */
  readonly known: boolean;
  readonly messages: readonly (readonly Token[])[];
}

/** A link: both static keys are known from pairing. */
export const LINK: Pattern = {
  name: "Noise_IKpsk2_25519_AESGCM_SHA256",
  known: true,
  messages: [
    ["e", "es", "s", "ss"],
    ["e", "ee", "se", "psk"],
  ],
};

/** Pairing: only the secret is known. */
export const PAIRING: Pattern = {
  name: "Noise_XXpsk0_25519_AESGCM_SHA256",
  known: false,
  messages: [
    ["psk", "e"],
    ["e", "ee", "s", "es"],
    ["s", "se"],
  ],
};

/** What a handshake begins with. */
export interface Setup {
  readonly pattern: Pattern;
  readonly initiator: boolean;
  readonly prologue: Bytes;
  readonly own: StaticKey;
  /** The responder's static key: for the initiator of a link, and for nobody else. */
  readonly remote?: Bytes;
  readonly psk: Psk;
  /** A known one, so that `vectors/*.json` come out the same each time. Never for a link. */
  readonly ephemeral?: StaticKey;
}

/** What a finished handshake leaves. */
export interface Transport {
  /** Noise's hash of the whole handshake: the same at both ends, and nowhere else. */
  readonly handshakeHash: Bytes;
  readonly send: CryptoKey;
  readonly receive: CryptoKey;
}

/** One side of one handshake. The first error ends it, and steps are taken one at a time. */
export class Handshake {
  readonly #setup: Setup;
  readonly #ephemeral: StaticKey;
  #chainingKey: Bytes;
  #hash: Bytes;
  #key: CryptoKey | null = null;
  #nonce = 0;
  #remoteStatic: Bytes | null;
  #remoteEphemeral: Bytes | null = null;
  /** The message that comes next; none after an error. */
  #next = 0;

  private constructor(setup: Setup, ephemeral: StaticKey, hash: Bytes) {
    this.#setup = setup;
    this.#ephemeral = ephemeral;
    this.#chainingKey = utf8(setup.pattern.name);
    this.#hash = hash;
    this.#remoteStatic = setup.remote ?? null;
  }

  /** Begins a handshake with a fresh ephemeral key. Throws {@link HandshakeError}. */
  static async begin(setup: Setup): Promise<Handshake> {
    return attempt(async () => {
      let hash = await sha256(utf8(setup.pattern.name), setup.prologue);
      if (setup.pattern.known) {
        const responder = setup.initiator ? setup.remote : setup.own.publicKey;
        hash = await sha256(hash, responder ?? fail("crypto"));
      }
      return new Handshake(setup, setup.ephemeral ?? (await generateStaticKey()), hash);
    });
  }

  /** The other side's static key, once it is known. */
  get remoteStatic(): Bytes | null {
    return this.#remoteStatic;
  }

  /** The next message, which is this side's. Throws {@link HandshakeError}. */
  async write(payload: Bytes): Promise<Bytes> {
    return this.#step(this.#setup.initiator, async (tokens) => {
      const parts: Bytes[] = [];
      for (const token of tokens) {
        if (token === "e") {
          parts.push(this.#ephemeral.publicKey);
          await this.#mixEphemeral(this.#ephemeral.publicKey);
        } else if (token === "s") {
          parts.push(await this.#encrypt(this.#setup.own.publicKey));
        } else {
          await this.#mix(token);
        }
      }
      return concat(...parts, await this.#encrypt(payload));
    });
  }

  /** The payload of the other side's message. Throws {@link HandshakeError}. */
  async read(message: Bytes): Promise<Bytes> {
    return this.#step(!this.#setup.initiator, async (tokens) => {
      let rest = message;
      const take = (length: number): Bytes => {
        if (rest.length < length) {
          throw new HandshakeError({ kind: "length", length: message.length });
        }
        const head = rest.slice(0, length);
        rest = rest.subarray(length);
        return head;
      };
      for (const token of tokens) {
        if (token === "e") {
          this.#remoteEphemeral = take(KEY_LENGTH);
          await this.#mixEphemeral(this.#remoteEphemeral);
        } else if (token === "s") {
          this.#remoteStatic = await this.#decrypt(take(KEY_LENGTH + TAG_LENGTH));
        } else {
          await this.#mix(token);
        }
      }
      return this.#decrypt(rest);
    });
  }

  /** Ends the handshake: the keys of both directions. Throws {@link HandshakeError} if a message is missing. */
  async split(): Promise<Transport> {
    return attempt(async () => {
      if (this.#next !== this.#setup.pattern.messages.length) {
        return fail("order");
      }
      this.#next = Number.NaN;
      const [first, second] = await expandNothing(this.#chainingKey);
      this.#chainingKey.fill(0);
      const [send, receive] = this.#setup.initiator ? [first, second] : [second, first];
      return { handshakeHash: this.#hash, send: await cipherKey(send), receive: await cipherKey(receive) };
    });
  }

  /** Takes one step if it is this side's turn; after an error there are no more. */
  async #step(byInitiator: boolean, work: (tokens: readonly Token[]) => Promise<Bytes>): Promise<Bytes> {
    return attempt(async () => {
      const at = this.#next;
      const tokens = this.#setup.pattern.messages[at];
      this.#next = Number.NaN;
      if (tokens === undefined || (at % 2 === 0) !== byInitiator) {
        return fail("order");
      }
      const result = await work(tokens);
      this.#next = at + 1;
      return result;
    });
  }

  /** In handshakes with a psk, ephemeral keys are mixed into the key as well as into the hash. */
  async #mixEphemeral(publicKey: Bytes): Promise<void> {
    await this.#mixHash(publicKey);
    await this.#mixKey(await hkdfKey(publicKey.slice()));
  }

  async #mix(token: Exclude<Token, "e" | "s">): Promise<void> {
    const { initiator, own, psk } = this.#setup;
    if (token === "psk") {
      await this.#mixKeyAndHash(psk);
      return;
    }
    // The first letter is the initiator's key, the second the responder's.
    const ours = initiator ? token.startsWith("e") : token.endsWith("e");
    const theirs = initiator ? token.endsWith("e") : token.startsWith("e");
    const remote = (theirs ? this.#remoteEphemeral : this.#remoteStatic) ?? fail("crypto");
    await this.#mixKey(await agree(ours ? this.#ephemeral : own, remote));
  }

  async #mixHash(data: Bytes): Promise<void> {
    this.#hash = await sha256(this.#hash, data);
  }

  async #mixKey(material: CryptoKey): Promise<void> {
    const [chainingKey, key] = await this.#expand(material, 2);
    await this.#rekey(chainingKey, key);
  }

  async #mixKeyAndHash(material: CryptoKey): Promise<void> {
    const [chainingKey, hash, key] = await this.#expand(material, 3);
    await this.#mixHash(hash);
    await this.#rekey(chainingKey, key);
  }

  async #rekey(chainingKey: Bytes, key: Bytes): Promise<void> {
    this.#chainingKey.fill(0);
    this.#chainingKey = chainingKey;
    this.#key = await cipherKey(key);
    this.#nonce = 0;
  }

  /** Noise's HKDF with two or three outputs. */
  async #expand(material: CryptoKey, outputs: 2 | 3): Promise<[Bytes, Bytes, Bytes]> {
    const params = { name: "HKDF", hash: "SHA-256", salt: this.#chainingKey, info: new Uint8Array(0) };
    const bits = new Uint8Array(await crypto.subtle.deriveBits(params, material, outputs * 256));
    const parts: [Bytes, Bytes, Bytes] = [bits.slice(0, 32), bits.slice(32, 64), bits.slice(64, 96)];
    bits.fill(0);
    return parts;
  }

  async #encrypt(plaintext: Bytes): Promise<Bytes> {
    const sealed = await seal(this.#key ?? fail("crypto"), this.#nonce++, plaintext, this.#hash);
    await this.#mixHash(sealed);
    return sealed;
  }

  async #decrypt(sealed: Bytes): Promise<Bytes> {
    const plaintext = await open(this.#key ?? fail("crypto"), this.#nonce++, sealed, this.#hash);
    if (plaintext === null) {
      return fail("unopened");
    }
    await this.#mixHash(sealed);
    return plaintext;
  }
}

/**
 * Noise's HKDF where there is no key material, spelled out with HMAC as Noise does: engines need not agree on whether
 * no bytes are a key.
 */
async function expandNothing(chainingKey: Bytes): Promise<[Bytes, Bytes]> {
  const secret = await hmac(chainingKey, new Uint8Array(0));
  const first = await hmac(secret, new Uint8Array([1]));
  const second = await hmac(secret, concat(first, new Uint8Array([2])));
  secret.fill(0);
  return [first, second];
}

async function hmac(bytes: Bytes, data: Bytes): Promise<Bytes> {
  const key = await crypto.subtle.importKey("raw", bytes, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  return new Uint8Array(await crypto.subtle.sign("HMAC", key, data));
}

/** AES-256-GCM as Noise uses it. */
export async function seal(key: CryptoKey, nonce: number, plaintext: Bytes, data: Bytes): Promise<Bytes> {
  const params = { name: "AES-GCM", iv: iv(nonce), additionalData: data };
  return new Uint8Array(await crypto.subtle.encrypt(params, key, plaintext));
}

/** The plaintext; `null` if it was sealed otherwise. */
export async function open(key: CryptoKey, nonce: number, sealed: Bytes, data: Bytes): Promise<Bytes | null> {
  try {
    const params = { name: "AES-GCM", iv: iv(nonce), additionalData: data };
    return new Uint8Array(await crypto.subtle.decrypt(params, key, sealed));
  } catch {
    return null;
  }
}

function iv(nonce: number): Bytes {
  const bytes = new Uint8Array(12);
  new DataView(bytes.buffer).setBigUint64(4, BigInt(nonce));
  return bytes;
}

/** Takes the bytes over and wipes them. */
async function cipherKey(bytes: Bytes): Promise<CryptoKey> {
  const key = await crypto.subtle.importKey("raw", bytes, "AES-GCM", false, ["encrypt", "decrypt"]);
  bytes.fill(0);
  return key;
}

function fail(kind: "order" | "unopened" | "crypto"): never {
  throw new HandshakeError({ kind });
}

/** Whatever goes wrong inside is a {@link HandshakeError} outside. */
async function attempt<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (cause instanceof HandshakeError) {
      throw cause;
    }
    const weak = cause instanceof KeyError && cause.kind !== "unsupported";
    throw new HandshakeError({ kind: weak ? "weakKey" : "crypto" }, { cause });
  }
}
