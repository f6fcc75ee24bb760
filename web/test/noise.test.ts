import { expect, test } from "vitest";
import { Handshake, LINK, PAIRING, type Pattern, open, seal } from "../src/crypto/noise";
import { hkdfKey } from "../src/crypto/keys";
import published from "./cacophony.json";
import { hex, staticKeyOf, unhex } from "./support";

const NO_DATA = new Uint8Array(0);

/** Of pairing's pattern with a psk there are none; with the psk elsewhere its steps are the same. */
const PAIRING_PSK_LAST: Pattern = {
  name: "Noise_XXpsk3_25519_AESGCM_SHA256",
  known: false,
  messages: PAIRING.messages.map((tokens, at) =>
    at === 2 ? [...tokens, "psk"] : tokens.filter((token) => token !== "psk"),
  ),
};

function pattern(name: string): Pattern {
  const found = [LINK, PAIRING_PSK_LAST].find((pattern) => pattern.name === name);
  if (found === undefined) {
    throw new Error(`no pattern ${name}`);
  }
  return found;
}

test.each(published.vectors)("$protocol_name of others comes out the same", async (vector) => {
  const sides = [];
  for (const initiator of [true, false]) {
    const remote = initiator && "init_remote_static" in vector ? { remote: unhex(vector.init_remote_static) } : {};
    sides.push(
      await Handshake.begin({
        pattern: pattern(vector.protocol_name),
        initiator,
        prologue: unhex(initiator ? vector.init_prologue : vector.resp_prologue),
        own: await staticKeyOf(initiator ? vector.init_static : vector.resp_static),
        ephemeral: await staticKeyOf(initiator ? vector.init_ephemeral : vector.resp_ephemeral),
        psk: await hkdfKey(unhex((initiator ? vector.init_psks : vector.resp_psks)[0] ?? "")),
        ...remote,
      }),
    );
  }
  const [initiator, responder] = sides;
  if (initiator === undefined || responder === undefined) {
    throw new Error("a handshake has two sides");
  }
  const handshake = pattern(vector.protocol_name).messages.length;
  for (const [at, { payload, ciphertext }] of vector.messages.slice(0, handshake).entries()) {
    const [from, to] = at % 2 === 0 ? [initiator, responder] : [responder, initiator];
    expect(hex(await from.write(unhex(payload)))).toBe(ciphertext);
    expect(hex(await to.read(unhex(ciphertext)))).toBe(payload);
  }
  const [ours, theirs] = [await initiator.split(), await responder.split()];
  expect([hex(ours.handshakeHash), hex(theirs.handshakeHash)]).toEqual([vector.handshake_hash, vector.handshake_hash]);
  const nonces = [0, 0];
  for (const [at, { payload, ciphertext }] of vector.messages.entries()) {
    if (at >= handshake) {
      const way = at % 2;
      const nonce = nonces[way] ?? 0;
      nonces[way] = nonce + 1;
      const [from, to] = way === 0 ? [ours, theirs] : [theirs, ours];
      expect(hex(await seal(from.send, nonce, unhex(payload), NO_DATA))).toBe(ciphertext);
      const opened = await open(to.receive, nonce, unhex(ciphertext), NO_DATA);
      expect(opened && hex(opened)).toBe(payload);
    }
  }
});
