import { describe, expect, test } from "vitest";
import vectors from "../../proto/vectors/link.json";
import { type Bytes, concat, utf8 } from "../src/bytes";
import { RecordError, HandshakeError } from "../src/crypto/error";
import { type StaticKey, generateStaticKey, hkdfKey } from "../src/crypto/keys";
import { LinkInitiator, type LinkSetup } from "../src/crypto/link";
import { Handshake, LINK, type Setup } from "../src/crypto/noise";
import { type Records, sealedRecords } from "../src/crypto/records";
import { SUPPORTED } from "../src/version";
import { block } from "../src/wire/blocks";
import { hex, rejection, staticKey, unhex } from "./support";

async function deviceSetup(): Promise<LinkSetup> {
  return {
    host: unhex(vectors.host_id),
    hostStatic: unhex(vectors.host_static.public),
    own: await staticKey(vectors.device_static),
    psk: await hkdfKey(unhex(vectors.psk)),
    versions: SUPPORTED,
    ephemeral: await staticKey(vectors.device_ephemeral),
  };
}

async function hostSetup(change: Partial<Setup> = {}): Promise<Setup> {
  return {
    pattern: LINK,
    initiator: false,
    prologue: unhex(vectors.prologue),
    own: await staticKey(vectors.host_static),
    psk: await hkdfKey(unhex(vectors.psk)),
    ephemeral: await staticKey(vectors.host_ephemeral),
    ...change,
  };
}

/** A record's plaintext without its padding. */
function unpadded(plaintext: Bytes): string {
  return hex(plaintext).replace(/(00)+$/, "");
}

test("a link of the vectors, from the device's side", async () => {
  const { link, send } = await LinkInitiator.start(await deviceSetup());
  expect(hex(send)).toBe(vectors.preamble + hex(block(unhex(vectors.message1))));
  const { records, version } = await link.finish(unhex(vectors.message2));
  expect(version).toBe(Number.parseInt(vectors.message2_payload, 16));
  expect(hex(records.handshakeHash)).toBe(vectors.handshake_hash);
  for (const record of vectors.records) {
    if (record.from === "device") {
      expect(hex(await records.sealer.seal(unhex(record.plaintext)))).toBe(record.block);
    } else {
      expect(unpadded(await records.opener.open(unhex(record.block).slice(2)))).toBe(record.plaintext);
    }
  }
});

test("a link of the vectors, from the host's side", async () => {
  expect(vectors.pattern).toBe(LINK.name);
  const host = await Handshake.begin(await hostSetup());
  expect(await host.read(unhex(vectors.message1))).toEqual(new Uint8Array(0));
  expect(host.remoteStatic).toEqual(unhex(vectors.device_static.public));
  expect(hex(await host.write(unhex(vectors.message2_payload)))).toBe(vectors.message2);
  const { handshakeHash, sealer, opener } = sealedRecords(await host.split());
  expect(hex(handshakeHash)).toBe(vectors.handshake_hash);
  for (const record of vectors.records) {
    if (record.from === "host") {
      expect(hex(await sealer.seal(unhex(record.plaintext)))).toBe(record.block);
    } else {
      expect(unpadded(await opener.open(unhex(record.block).slice(2)))).toBe(record.plaintext);
    }
  }
});

/** Both ends of a link with fresh keys; the host answers with `version`. */
async function linked(version = 1): Promise<{ device: Records; host: Records }> {
  const [own, hostKey] = [await generateStaticKey(), await generateStaticKey()];
  const psk = await hkdfKey(crypto.getRandomValues(new Uint8Array(32)));
  const id = new Uint8Array(16);
  const { link, send } = await LinkInitiator.start({
    host: id,
    hostStatic: hostKey.publicKey,
    own,
    psk,
    versions: SUPPORTED,
  });
  const prologue = concat(utf8("reachback link v1"), send.slice(0, 4), id);
  const host = await Handshake.begin({ pattern: LINK, initiator: false, prologue, own: hostKey, psk });
  await host.read(send.slice(6));
  const finished = await link.finish(await host.write(new Uint8Array([version])));
  return { device: finished.records, host: sealedRecords(await host.split()) };
}

describe("handshakes", () => {
  test("with fresh keys give both ends one link, and no private key can be taken out", async () => {
    const own = await generateStaticKey();
    const psk = await hkdfKey(new Uint8Array(32));
    expect([own.privateKey.extractable, psk.extractable]).toEqual([false, false]);
    await expect(crypto.subtle.exportKey("raw", psk)).rejects.toThrow();
    const { device, host } = await linked();
    expect(device.handshakeHash).toEqual(host.handshakeHash);
    const text = utf8("hello");
    const opened = await host.opener.open((await device.sealer.seal(text)).slice(2));
    expect(opened.slice(0, 5)).toEqual(text);
  });

  test("a version that was not offered is refused", async () => {
    for (const version of [0, 2, 255]) {
      const error = await rejection(linked(version));
      expect(error).toEqual(new HandshakeError({ kind: "version", chosen: version }));
    }
  });

  test("another key, psk, prologue or an altered message does not open", async () => {
    const unopened = new HandshakeError({ kind: "unopened" });
    const changes: Partial<Setup>[] = [
      { psk: await hkdfKey(new Uint8Array(32)) },
      { prologue: utf8("another") },
      { own: await staticKey(vectors.host_ephemeral) },
    ];
    for (const change of changes) {
      const host = await Handshake.begin(await hostSetup(change));
      const answered = (async () => {
        await host.read(unhex(vectors.message1));
        const { link } = await LinkInitiator.start(await deviceSetup());
        return link.finish(await host.write(new Uint8Array([1])));
      })();
      expect(await rejection(answered)).toEqual(unopened);
    }
    for (const at of [0, 31, 32, 48]) {
      const { link } = await LinkInitiator.start(await deviceSetup());
      const altered = unhex(vectors.message2);
      altered[at] = (altered[at] ?? 0) ^ 1;
      expect(await rejection(link.finish(altered))).toEqual(unopened);
      const again = await rejection(link.finish(unhex(vectors.message2)));
      expect(again).toEqual(new HandshakeError({ kind: "order" }));
    }
  });

  test("messages of another length are refused, at either end", async () => {
    for (const length of [0, 16, 48, 50, 16400]) {
      const { link } = await LinkInitiator.start(await deviceSetup());
      const error = await rejection(link.finish(new Uint8Array(length)));
      expect(error).toEqual(new HandshakeError({ kind: "length", length }));
    }
    const host = await Handshake.begin(await hostSetup());
    expect(await rejection(host.read(new Uint8Array(31)))).toEqual(new HandshakeError({ kind: "length", length: 31 }));
  });

  test("keys of low order are refused, at either end", async () => {
    // The seven points of https://cr.yp.to/ecdh.html#validate.
    for (const point of [
      "00".repeat(32),
      "01" + "00".repeat(31),
      "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
      "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
      "ec" + "ff".repeat(30) + "7f",
      "ed" + "ff".repeat(30) + "7f",
      "ee" + "ff".repeat(30) + "7f",
    ]) {
      const weak = new HandshakeError({ kind: "weakKey" });
      const started = LinkInitiator.start({ ...(await deviceSetup()), hostStatic: unhex(point) });
      expect(await rejection(started)).toEqual(weak);
      const host = await Handshake.begin(await hostSetup());
      const message = concat(unhex(point), unhex(vectors.message1).slice(32));
      expect(await rejection(host.read(message))).toEqual(weak);
    }
  });

  test("steps are taken in their order and once", async () => {
    const order = new HandshakeError({ kind: "order" });
    const host = await Handshake.begin(await hostSetup());
    expect(await rejection(host.write(new Uint8Array(0)))).toEqual(order);
    const early = await Handshake.begin(await hostSetup());
    expect(await rejection(early.split())).toEqual(order);
    const twice: StaticKey = await generateStaticKey();
    const both = await Handshake.begin(await hostSetup({ ephemeral: twice }));
    const [first, second] = await Promise.allSettled([
      both.read(unhex(vectors.message1)),
      both.read(unhex(vectors.message1)),
    ]);
    expect([first.status, second.status]).toEqual(["fulfilled", "rejected"]);
  });
});

describe("records", () => {
  test("handed in at once come out in order, both ways", async () => {
    const { device, host } = await linked();
    const lengths = Array.from({ length: 60 }, (_, at) => (at * 997) % 16385);
    const blocks = await Promise.all(lengths.map((length) => device.sealer.seal(new Uint8Array(length).fill(7))));
    const order: number[] = [];
    const opened = await Promise.all(
      blocks.map(async (sealed, at) => {
        const plaintext = await host.opener.open(sealed.slice(2));
        order.push(at);
        return plaintext;
      }),
    );
    expect(order).toEqual(lengths.map((_, at) => at));
    opened.forEach((plaintext, at) => {
      expect(plaintext.filter((byte) => byte === 7).length).toBe(lengths[at]);
    });
  });

  test("altered, repeated, lost and reflected ones kill the link", async () => {
    const unopened = new RecordError({ kind: "unopened" });
    const spoil: ((first: Bytes, second: Bytes) => Bytes)[] = [
      (first) => first.map((byte, at) => (at === 5 ? byte ^ 1 : byte)),
      (first) => first.slice(0, -1),
      (_, second) => second,
      () => new Uint8Array(0),
    ];
    for (const change of spoil) {
      const { device, host } = await linked();
      const first = (await device.sealer.seal(utf8("1"))).slice(2);
      const second = (await device.sealer.seal(utf8("2"))).slice(2);
      // Both at once: what follows a bad record is refused even if it was handed in before that was known.
      const bad = rejection(host.opener.open(change(first, second)));
      const next = rejection(host.opener.open(second));
      expect(await bad).toEqual(unopened);
      expect(await next).toEqual(new RecordError({ kind: "dead" }));
      expect(await rejection(device.opener.open(first))).toEqual(unopened);
    }
    const { device, host } = await linked();
    const once = (await device.sealer.seal(utf8("1"))).slice(2);
    await host.opener.open(once);
    expect(await rejection(host.opener.open(once))).toEqual(unopened);
  });

  test("that are too long, or padded otherwise, are refused", async () => {
    const { device, host } = await linked();
    expect(await rejection(device.sealer.seal(new Uint8Array(16385)))).toBeInstanceOf(RecordError);
    expect(await rejection(device.sealer.seal(new Uint8Array(1)))).toEqual(new RecordError({ kind: "dead" }));
    const limit = { kind: "tooLong", length: 16385, limit: 16384 } as const;
    expect(await rejection(host.opener.open(new Uint8Array(16401)))).toEqual(new RecordError(limit));
  });
});
