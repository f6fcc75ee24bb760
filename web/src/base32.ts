/**
 * Base32 without padding (RFC 4648): how all ids and keys are spelled, and what a QR code holds.
 *
 * Each value has one spelling: bits that are left over must be zero.
 */
import type { Bytes } from "./bytes";

const ALPHABET = "abcdefghijklmnopqrstuvwxyz234567";

/** Lower-case base32. */
export function encode(bytes: Uint8Array): string {
  let out = "";
  let buffer = 0;
  let bits = 0;
  for (const byte of bytes) {
    buffer = (buffer << 8) | byte;
    for (bits += 8; bits >= 5; bits -= 5) {
      out += ALPHABET.charAt((buffer >> (bits - 5)) & 31);
    }
    buffer &= (1 << bits) - 1;
  }
  return bits > 0 ? out + ALPHABET.charAt((buffer << (5 - bits)) & 31) : out;
}

/** The bytes that `text` spells, in either case; `null` if it spells none. */
export function decode(text: string): Bytes | null {
  const out = new Uint8Array(Math.floor((text.length * 5) / 8));
  let at = 0;
  let buffer = 0;
  let bits = 0;
  for (const letter of text) {
    // Not toLowerCase alone: it makes an ASCII k of the sign for kelvin.
    const value = /^[A-Za-z2-7]$/.test(letter) ? ALPHABET.indexOf(letter.toLowerCase()) : -1;
    if (value < 0) {
      return null;
    }
    buffer = (buffer << 5) | value;
    bits += 5;
    if (bits >= 8) {
      bits -= 8;
      out[at++] = buffer >> bits;
      buffer &= (1 << bits) - 1;
    }
  }
  // Five bits or more would be a letter that no byte needs.
  return bits < 5 && buffer === 0 ? out : null;
}
