/**
 * Identity keys (Ed25519), static keys (X25519) and psks, all of them WebCrypto's.
 *
 * Private halves and psks are not extractable: a script that runs in this page can use them while it runs, but not
 * carry them away. They can be kept in IndexedDB as they are, but for one kind in one engine: WebKit, up to Safari 27 at
 * least, can't read an X25519 key that it has cloned. There a static key is kept wrapped, see {@link WrappedKey}.
 */
import type { Bytes } from "../bytes";
import { KEY_LENGTH } from "../ids";

/** Why a key can't be used, or a signature is none. */
export type KeyFault = "length" | "weak" | "badSignature" | "unsupported";

/** A key that can't be used. */
export class KeyError extends Error {
  override readonly name = "KeyError";
  readonly kind: KeyFault;

  constructor(kind: KeyFault, options?: ErrorOptions) {
    super(TEXTS[kind], options);
    this.kind = kind;
  }
}

const TEXTS: Readonly<Record<KeyFault, string>> = {
  length: `a public key has ${KEY_LENGTH} bytes`,
  weak: "public key is zero or of low order",
  badSignature: "signature does not fit the key and the message",
  unsupported: "this browser has no X25519 or no Ed25519: use Chrome 137, Firefox 130, Safari 17 or newer, over https",
};

/** An X25519 key pair: authenticates Noise handshakes. An ephemeral one is of the same kind. */
export interface StaticKey {
  readonly algorithm: "X25519";
  readonly privateKey: CryptoKey;
  readonly publicKey: Bytes;
  /** How the private half is kept where this browser can't clone it; left out where it can. */
  readonly wrapped?: WrappedKey;
}

/**
 * A private key in PKCS #8, sealed by AES-256-GCM with a key that is not extractable.
 *
 * Weaker than a key that can be cloned: whoever runs a script in this page could have it unwrapped as one that is
 * extractable. Without such a script it can't be read, as little as the others.
 */
export interface WrappedKey {
  readonly by: CryptoKey;
  readonly iv: Bytes;
  readonly bytes: Bytes;
}

/** A static key as IndexedDB can keep it. */
export type KeptStaticKey =
  Omit<StaticKey, "wrapped"> | (Pick<StaticKey, "algorithm" | "publicKey"> & { readonly wrapped: WrappedKey });

/** An Ed25519 key pair: proves to the relay, and names the peer. */
export interface Identity {
  readonly algorithm: "Ed25519";
  readonly privateKey: CryptoKey;
  readonly publicKey: Bytes;
}

/** A psk: a key of the algorithm HKDF that gives bits and nothing else. */
export type Psk = CryptoKey;

/** A new static or ephemeral key. Throws {@link KeyError} where the browser has no X25519. */
export async function generateStaticKey(): Promise<StaticKey> {
  return { algorithm: "X25519", ...(await generate("X25519", ["deriveBits"])) };
}

/** A new static key that can be kept. Throws {@link KeyError} where the browser has no X25519. */
export async function generateLastingStaticKey(): Promise<StaticKey> {
  const key = await generateStaticKey();
  return isCloned(key.privateKey) ? key : generateWrapped();
}

/** What is kept of a static key. */
export function keptStaticKey({ algorithm, privateKey, publicKey, wrapped }: StaticKey): KeptStaticKey {
  return wrapped === undefined ? { algorithm, privateKey, publicKey } : { algorithm, publicKey, wrapped };
}

/** The static key that was kept. */
export async function restoredStaticKey(kept: KeptStaticKey): Promise<StaticKey> {
  return "wrapped" in kept ? { ...kept, privateKey: await unwrapped(kept.wrapped) } : kept;
}

/** Whether a private key that was cloned is one: in WebKit it can't be read, and where it could it would be a public one. */
function isCloned(privateKey: CryptoKey): boolean {
  try {
    return structuredClone(privateKey).type === "private";
  } catch {
    return false;
  }
}

async function generateWrapped(): Promise<StaticKey> {
  const pair = await crypto.subtle.generateKey({ name: "X25519" }, true, ["deriveBits"]);
  if (!("privateKey" in pair)) {
    throw new KeyError("unsupported");
  }
  const by = await crypto.subtle.generateKey({ name: "AES-GCM", length: 256 }, false, ["wrapKey", "unwrapKey"]);
  const iv = crypto.getRandomValues(new Uint8Array(12));
  const bytes = new Uint8Array(await crypto.subtle.wrapKey("pkcs8", pair.privateKey, by, { name: "AES-GCM", iv }));
  const publicKey = new Uint8Array(await crypto.subtle.exportKey("raw", pair.publicKey));
  const wrapped = { by, iv, bytes };
  return { algorithm: "X25519", privateKey: await unwrapped(wrapped), publicKey, wrapped };
}

function unwrapped({ by, iv, bytes }: WrappedKey): Promise<CryptoKey> {
  return crypto.subtle.unwrapKey("pkcs8", bytes, by, { name: "AES-GCM", iv }, { name: "X25519" }, false, [
    "deriveBits",
  ]);
}

/** A new identity. Throws {@link KeyError} where the browser has no Ed25519. */
export async function generateIdentity(): Promise<Identity> {
  return { algorithm: "Ed25519", ...(await generate("Ed25519", ["sign", "verify"])) };
}

async function generate(
  name: "X25519" | "Ed25519",
  usages: readonly KeyUsage[],
): Promise<{ privateKey: CryptoKey; publicKey: Bytes }> {
  try {
    const pair = await crypto.subtle.generateKey({ name }, false, usages);
    if (!("privateKey" in pair)) {
      throw new KeyError("unsupported");
    }
    const publicKey = new Uint8Array(await crypto.subtle.exportKey("raw", pair.publicKey));
    return { privateKey: pair.privateKey, publicKey };
  } catch (cause) {
    throw new KeyError("unsupported", { cause });
  }
}

/** A key of the algorithm HKDF, such as a psk, with these bytes. They are wiped: from here on there is only the key. */
export async function hkdfKey(bytes: Bytes): Promise<Psk> {
  const key = await crypto.subtle.importKey("raw", bytes, "HKDF", false, ["deriveBits"]);
  bytes.fill(0);
  return key;
}

/**
 * The Diffie-Hellman secret with this public key, as a key for HKDF. Throws {@link KeyError} for keys of low order,
 * with which it would be zero whatever the private key.
 */
export async function agree(own: StaticKey, publicKey: Bytes): Promise<CryptoKey> {
  const shared = await sharedSecret(own, publicKey);
  if (shared.every((byte) => byte === 0)) {
    throw new KeyError("weak");
  }
  return hkdfKey(shared);
}

async function sharedSecret(own: StaticKey, publicKey: Bytes): Promise<Bytes> {
  if (publicKey.length !== KEY_LENGTH) {
    throw new KeyError("length");
  }
  try {
    const theirs = await crypto.subtle.importKey("raw", publicKey, { name: "X25519" }, true, []);
    return new Uint8Array(await crypto.subtle.deriveBits({ name: "X25519", public: theirs }, own.privateKey, 256));
  } catch (cause) {
    // WebCrypto gives no bits where the secret would be zero; a raw key of 32 bytes has nothing else to be refused for.
    throw new KeyError("weak", { cause });
  }
}

/** Signs `message`. */
export async function sign(identity: Identity, message: Bytes): Promise<Bytes> {
  return new Uint8Array(await crypto.subtle.sign({ name: "Ed25519" }, identity.privateKey, message));
}

/** Checks an Ed25519 signature. Throws {@link KeyError}. */
export async function verify(publicKey: Bytes, message: Bytes, signature: Bytes): Promise<void> {
  checkIdentity(publicKey);
  if (!(await signatureFits(publicKey, message, signature))) {
    throw new KeyError("badSignature");
  }
}

async function signatureFits(publicKey: Bytes, message: Bytes, signature: Bytes): Promise<boolean> {
  try {
    const key = await crypto.subtle.importKey("raw", publicKey, { name: "Ed25519" }, true, ["verify"]);
    return await crypto.subtle.verify({ name: "Ed25519" }, key, signature, message);
  } catch {
    // Some engines refuse a point that is not on the curve when it is imported.
    return false;
  }
}

/** The y coordinates of small order: order 4, 1, 8, 8 and 2 (libsodium's `ge25519_has_small_order`). */
const LOW_ORDER: readonly string[] = [
  "00".repeat(32),
  "01" + "00".repeat(31),
  "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
  "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
  "ec" + "ff".repeat(30) + "7f",
];

/**
 * Refuses identity keys of low order, for which anyone can make signatures that fit, and those that are not spelled as
 * they should be. Throws {@link KeyError}.
 */
export function checkIdentity(publicKey: Bytes): void {
  if (publicKey.length !== KEY_LENGTH) {
    throw new KeyError("length");
  }
  // The sign of x does not change the order.
  const y = publicKey.map((byte, at) => (at === 31 ? byte & 0x7f : byte));
  const notCanonical = y[31] === 0x7f && y.subarray(1, 31).every((byte) => byte === 0xff) && (y[0] ?? 0) >= 0xed;
  if (notCanonical || LOW_ORDER.includes(hex(y))) {
    throw new KeyError("weak");
  }
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
