import { expect, test } from "vitest";
import vectors from "../../proto/vectors/claims.json";
import { decode, encode } from "../src/base32";
import { type ProofRole, prove } from "../src/claims";
import { generateIdentity, verify } from "../src/crypto/keys";
import { deviceId, hostId, relayId } from "../src/ids";
import { utf8 } from "../src/bytes";
import { identity, unbase64url, unhex } from "./support";

const nonce = unhex(vectors.nonce);

function required<T>(value: T | null | undefined): T {
  if (value === null || value === undefined) {
    throw new Error("the vectors lack something");
  }
  return value;
}

test.each(vectors.ids)("the id and the key of a $name have their text", async (vector) => {
  const key = unhex(vector.key);
  const id = { host: hostId, device: deviceId, relay: relayId }[vector.name];
  expect(encode(await required(id)(key))).toBe(vector.id_text);
  expect(encode(key)).toBe(vector.key_text);
  expect(decode(vector.key_text)).toEqual(key);
  expect(encode(nonce)).toBe(vectors.nonce_text);
});

test.each(vectors.proofs)("the proof of a $role is the one of the vectors", async (vector) => {
  const { key } = required(vectors.ids.find(({ seed }) => seed === vector.seed));
  const relay = required(decode(vector.claims.aud));
  const roles: Readonly<Record<string, ProofRole>> = {
    host: { role: "host" },
    "host-data": { role: "host-data" },
    device: { role: "device", host: decode(vector.claims.host ?? "") ?? new Uint8Array(0) },
  };
  const token = await prove(await identity(vector.seed, key), relay, nonce, required(roles[vector.role]));
  expect(token).toBe(vector.token);
  const parts = token.split(".").map((part) => new TextDecoder().decode(unbase64url(part)));
  expect(JSON.parse(required(parts[0]))).toEqual(vector.header);
  expect(JSON.parse(required(parts[1]))).toEqual(vector.claims);
});

test("a key that nobody can take out of the browser proves just as well", async () => {
  const own = await generateIdentity();
  expect(own.privateKey.extractable).toBe(false);
  const token = await prove(own, new Uint8Array(32), nonce, { role: "device", host: new Uint8Array(16) });
  const at = token.lastIndexOf(".");
  const signature = unbase64url(token.slice(at + 1));
  await verify(own.publicKey, utf8(token.slice(0, at)), signature);
});
