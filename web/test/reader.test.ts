import { describe, expect, test } from "vitest";
import { decode, encode } from "../src/base32";
import { type Bytes, concat, random } from "../src/bytes";
import { decodeMessage } from "../src/pairing/message";
import { label } from "../src/pairing/name";
import { BlockDecoder, BlockError, MAX_BLOCK, block } from "../src/wire/blocks";
import { decodePeerToRelay, decodeRelayToPeer } from "../src/wire/control";
import { DecodeError } from "../src/wire/error";
import { decodeFrames } from "../src/wire/frame";
import { Reader } from "../src/wire/reader";
import { MAX_VARINT, Writer } from "../src/wire/writer";
import { dice, hex, unhex } from "./support";

/** What every decoder may do with bytes: take them, or refuse them with its own error. */
function taken(read: () => unknown): boolean {
  try {
    read();
    return true;
  } catch (error) {
    expect(error).toBeInstanceOf(DecodeError);
    return false;
  }
}

describe("the reader", () => {
  test("varints match the examples of RFC 9000", () => {
    const examples = [
      [151_288_809_941_952_652n, "c2197c5eff14e88c"],
      [494_878_333n, "9d7f3e7d"],
      [15_293n, "7bbd"],
      [37n, "25"],
    ] as const;
    for (const [value, bytes] of examples) {
      expect(hex(new Writer().varint(value).finish())).toBe(bytes);
      expect(new Reader(unhex(bytes)).bigVarint()).toBe(value);
    }
    expect(new Reader(unhex("4025")).varint("x")).toBe(37);
  });

  test("every varint comes back, in the shortest form", () => {
    const edges = [6n, 14n, 30n, 62n].flatMap((bits) => [(1n << bits) - 1n, 1n << bits]);
    for (const value of [0n, 1n, ...edges].filter((value) => value <= MAX_VARINT)) {
      const bytes = new Writer().varint(value).finish();
      expect(bytes.length).toBe(value < 0x40n ? 1 : value < 0x4000n ? 2 : value < 0x4000_0000n ? 4 : 8);
      expect(new Reader(bytes).bigVarint()).toBe(value);
    }
    expect(() => new Writer().varint(MAX_VARINT + 1n)).toThrow(RangeError);
    expect(() => new Reader(unhex("c020000000000000")).varint("x")).toThrow(
      new DecodeError({ kind: "invalid", field: "x" }),
    );
  });

  test("a claimed length beyond the buffer or the limit is refused, and nothing is allocated for it", () => {
    const truncated = new DecodeError({ kind: "truncated" });
    expect(() => new Reader(unhex("050102")).bytes("x", 10)).toThrow(truncated);
    expect(() => new Reader(unhex("050102030405")).bytes("x", 4)).toThrow(
      new DecodeError({ kind: "tooLong", field: "x", length: 5n, limit: 4 }),
    );
    // 2^62 - 1 bytes: an allocation of that size would be an error of another kind.
    expect(() => new Reader(unhex("ffffffffffffffff00")).bytes("x", Number.MAX_SAFE_INTEGER)).toThrow(DecodeError);
    expect(() => new Reader(unhex("c01fffffffffffff00")).bytes("x", 2 ** 53)).toThrow(truncated);
  });

  test("never reads beyond its bytes, also where they are part of a larger buffer", () => {
    const roll = dice(7);
    const whole = random(256);
    for (let round = 0; round < 2000; round++) {
      const from = roll(200);
      const part = whole.subarray(from, from + roll(40));
      const r = new Reader(part);
      let seen = 0;
      const reads: (() => number)[] = [
        () => (r.u8(), 1),
        () => (r.u16(), 2),
        () => (r.u32(), 4),
        () => (r.u64(), 8),
        () => r.take(roll(20)).length,
        () => {
          const before = r.left;
          const view = r.bytes("x", 64);
          expect(view.byteOffset + view.length).toBeLessThanOrEqual(part.byteOffset + part.length);
          return before - r.left;
        },
      ];
      while (
        taken(() => {
          seen += reads[roll(reads.length)]?.() ?? 0;
        }) &&
        r.left > 0
      ) {
        expect(seen).toBe(part.length - r.left);
      }
      expect(r.left).toBeGreaterThanOrEqual(0);
      const rest = r.rest();
      expect(rest).toEqual(part.subarray(part.length - rest.length));
    }
  });

  test("arbitrary bytes are taken or refused, by every decoder", () => {
    const roll = dice(11);
    const tags = [0, 1, 2, 3, 4, 5, 6, 0x10, 0x11, 0x12, 0x14, 0x20, 0x30, 0x31, 0x41, 0x42, 0x43, 0x44, 0x50, 0x51];
    for (let round = 0; round < 5000; round++) {
      const bytes = random(roll(120));
      if (bytes.length > 0) {
        bytes[0] = tags[roll(tags.length)] ?? 0;
      }
      for (const read of [decodeRelayToPeer, decodePeerToRelay, decodeMessage, decodeFrames]) {
        taken(() => read(bytes));
      }
    }
  });
});

describe("blocks", () => {
  test("come out whole however the stream is cut", () => {
    const messages = [16, 17, 300, MAX_BLOCK].map((length) => new Uint8Array(length).fill(length));
    const stream = concat(...messages.map(block));
    for (const piece of [1, 2, 3, 7, 1000, stream.length]) {
      const decoder = new BlockDecoder();
      const seen: Bytes[] = [];
      for (let at = 0; at < stream.length; at += piece) {
        decoder.push(stream.slice(at, at + piece));
        for (let next = decoder.next(); next !== null; next = decoder.next()) {
          seen.push(next);
        }
      }
      expect(seen).toEqual(messages);
    }
  });

  test("a length that no block has is refused before its bytes arrive", () => {
    for (const length of [0, 15, MAX_BLOCK + 1, 0xffff]) {
      const decoder = new BlockDecoder();
      decoder.push(new Writer().u16(length).finish());
      expect(() => decoder.next()).toThrow(new BlockError(length));
    }
  });
});

test("base32 has one spelling for each value, and comes back", () => {
  for (let length = 0; length < 40; length++) {
    const bytes = random(length);
    expect(decode(encode(bytes))).toEqual(bytes);
    expect(decode(encode(bytes).toUpperCase())).toEqual(bytes);
  }
  for (const text of ["a", "ab", "aaa", "aaaaaa", "a1", "aé", "aa==", "\u{212a}a"]) {
    expect(decode(text), text).toBeNull();
  }
  expect(decode("aa")).toEqual(new Uint8Array(1));
});

test("names that would not be shown as they are are refused", () => {
  for (const text of ["Phone", "Ana's phone", "Büro 2", "开发机", "📱", "a".repeat(64)]) {
    expect(label(text, 64)).toEqual({ ok: true, text });
  }
  for (const letter of [
    "\u001b",
    "\n",
    "\0",
    "\u007f",
    "\u009b",
    "\u202e",
    "\u2066",
    "\u200b",
    "\ufeff",
    "\u{e0041}",
  ]) {
    expect(label(`Pho${letter}ne`, 64)).toEqual({ ok: false, fault: "character" });
  }
  expect(label("  \u00a0", 64)).toEqual({ ok: false, fault: "empty" });
  expect(label("a".repeat(65), 64)).toEqual({ ok: false, fault: "tooLong" });
});
