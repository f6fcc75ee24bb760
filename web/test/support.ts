/** What tests need besides the code: hex, and keys that are known. */
import { type Bytes, concat } from "../src/bytes";
import type { Identity, Psk, StaticKey } from "../src/crypto/keys";

export function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function unhex(text: string): Bytes {
  const bytes = text.match(/[0-9a-f]{2}/g) ?? [];
  if (bytes.join("") !== text) {
    throw new Error(`not hex: ${text}`);
  }
  return Uint8Array.from(bytes, (byte) => Number.parseInt(byte, 16));
}

/** RFC 8410: a private key of 32 bytes as PKCS#8, which is how WebCrypto takes one. */
function pkcs8(algorithm: "6e" | "70", privateKey: string): Bytes {
  return concat(unhex(`302e020100300506032b65${algorithm}04220420`), unhex(privateKey));
}

export async function staticKey(pair: { private: string; public: string }): Promise<StaticKey> {
  const privateKey = await crypto.subtle.importKey("pkcs8", pkcs8("6e", pair.private), { name: "X25519" }, false, [
    "deriveBits",
  ]);
  return { algorithm: "X25519", privateKey, publicKey: unhex(pair.public) };
}

/** The pair of a private key alone: the public one is what it makes of the base point. */
export async function staticKeyOf(privateKey: string): Promise<StaticKey> {
  const own = await staticKey({ private: privateKey, public: "" });
  const base = await crypto.subtle.importKey("raw", unhex("09" + "00".repeat(31)), { name: "X25519" }, true, []);
  const params = { name: "X25519", public: base };
  return { ...own, publicKey: new Uint8Array(await crypto.subtle.deriveBits(params, own.privateKey, 256)) };
}

export async function identity(seed: string, publicKey: string): Promise<Identity> {
  const privateKey = await crypto.subtle.importKey("pkcs8", pkcs8("70", seed), { name: "Ed25519" }, false, ["sign"]);
  return { algorithm: "Ed25519", privateKey, publicKey: unhex(publicKey) };
}

/** Something that only keys with the same bytes give: psks do not show theirs. */
export async function fingerprint(psk: Psk): Promise<string> {
  const params = { name: "HKDF", hash: "SHA-256", salt: new Uint8Array(32), info: new Uint8Array(0) };
  return hex(new Uint8Array(await crypto.subtle.deriveBits(params, psk, 256)));
}

/** A value as the vectors spell it: members in snake_case, bytes in hex, 64-bit integers as text. */
export function spelled(value: unknown): unknown {
  if (value instanceof Uint8Array) {
    return hex(value);
  }
  if (typeof value === "bigint") {
    return value.toString();
  }
  if (Array.isArray(value)) {
    return value.map(spelled);
  }
  if (typeof value === "object" && value !== null) {
    const name = (key: string): string => key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    return Object.fromEntries(Object.entries(value).map(([key, member]) => [name(key), spelled(member)]));
  }
  return value;
}

/** Pseudo-random numbers below `limit`, the same in each run: xorshift32. */
export function dice(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % limit;
  };
}

/** The bytes of a JWT's part. */
export function unbase64url(text: string): Bytes {
  const letters = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  return Uint8Array.from(letters, (letter) => letter.charCodeAt(0));
}

/** What a promise was rejected with, without the cause: an engine's words are its own. */
export async function rejection(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => {
      throw new Error("it was not refused");
    },
    (error: unknown) => {
      if (error instanceof Error) {
        delete error.cause;
      }
      return error;
    },
  );
}
