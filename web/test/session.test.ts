import { expect, test } from "vitest";
import vectors from "../../proto/vectors/session.json";
import { DecodeError } from "../src/wire/error";
import { type Frame, decodeFrames, encodeFrames } from "../src/wire/frame";
import { concat } from "../src/bytes";
import { hex, spelled, unhex } from "./support";

/** A frame's fields as the vectors have them. */
function fields(frame: Frame): unknown {
  const { type: name, ...rest } = frame;
  if ("received" in rest) {
    return spelled({ frame: name, ...rest, received: rest.received.map(({ channel, next }) => [channel, next]) });
  }
  // The ids of pings keep all their bits here; those of the vectors are small.
  return spelled({ frame: name, ...rest, ...("id" in rest && { id: Number(rest.id) }) });
}

test.each(vectors.frames)("$frame $hex", (vector) => {
  const { hex: bytes, ...wanted } = vector;
  const padded = concat(unhex(bytes), new Uint8Array(5));
  const frames = decodeFrames(padded);
  expect(frames.map(fields)).toEqual([wanted]);
  expect(hex(encodeFrames(frames))).toBe(bytes);
});

test.each(vectors.refused)("refused: $why", (vector) => {
  expect(() => decodeFrames(unhex(vector.hex))).toThrow(DecodeError);
});

test("every record of a session that is cut and resumed", () => {
  for (const record of vectors.exchange) {
    const frames = decodeFrames(unhex(record.hex));
    expect(frames.map(({ type }) => type)).toEqual(record.frames);
    expect(hex(encodeFrames(frames))).toBe(record.hex);
  }
});

test("reasons of a newer peer, and the largest id of a ping, are no error", () => {
  for (const bytes of ["0563", "066305", "11010263" + "0178", "21ffffffffffffffff"]) {
    expect(hex(encodeFrames(decodeFrames(unhex(bytes))))).toBe(bytes);
  }
});
