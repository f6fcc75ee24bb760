import { expect, test } from "vitest";
import link from "../../proto/vectors/link.json";
import vectors from "../../proto/vectors/records.json";
import { sha256 } from "../src/bytes";
import { RecordError } from "../src/crypto/error";
import { hkdfKey } from "../src/crypto/keys";
import { LinkInitiator } from "../src/crypto/link";
import { Handshake, LINK } from "../src/crypto/noise";
import { type Records, sealedRecords, paddedLength } from "../src/crypto/records";
import { SUPPORTED } from "../src/version";
import { hex, rejection, staticKey, unhex } from "./support";

async function device(): Promise<Records> {
  const { link: initiator } = await LinkInitiator.start({
    host: unhex(link.host_id),
    hostStatic: unhex(link.host_static.public),
    own: await staticKey(link.device_static),
    psk: await hkdfKey(unhex(link.psk)),
    versions: SUPPORTED,
    ephemeral: await staticKey(link.device_ephemeral),
  });
  return (await initiator.finish(unhex(link.message2))).records;
}

async function host(): Promise<Records> {
  const handshake = await Handshake.begin({
    pattern: LINK,
    initiator: false,
    prologue: unhex(link.prologue),
    own: await staticKey(link.host_static),
    psk: await hkdfKey(unhex(link.psk)),
    ephemeral: await staticKey(link.host_ephemeral),
  });
  await handshake.read(unhex(link.message1));
  await handshake.write(unhex(link.message2_payload));
  return sealedRecords(await handshake.split());
}

test("lengths are padded as the vectors say", () => {
  for (const [length = -1, padded] of vectors.padding) {
    expect(paddedLength(length)).toBe(padded);
  }
  for (const length of vectors.too_long) {
    expect(paddedLength(length)).toBeNull();
  }
});

test("records of every size are sealed and opened as the vectors say", async () => {
  const [{ sealer }, { opener }] = [await device(), await host()];
  const fill = Number.parseInt(vectors.fill, 16);
  for (const record of vectors.from_device) {
    const plaintext = new Uint8Array(record.length).fill(fill);
    const sealed = await sealer.seal(plaintext);
    expect(sealed.length).toBe(record.block_length);
    expect(hex(await sha256(sealed))).toBe(record.block_sha256);
    if (record.block !== undefined) {
      expect(hex(sealed)).toBe(record.block);
    }
    const opened = await opener.open(sealed.slice(2));
    expect(opened.length).toBe(record.padded);
    expect(opened.slice(0, record.length)).toEqual(plaintext);
    expect(opened.slice(record.length).every((byte) => byte === 0)).toBe(true);
  }
});

test("lengths that do not fit a record are refused", async () => {
  for (const length of vectors.too_long) {
    const error = await rejection((await device()).sealer.seal(new Uint8Array(length)));
    expect(error).toEqual(new RecordError({ kind: "tooLong", length, limit: 16384 }));
  }
});
