import { describe, expect, test } from "vitest";
import vectors from "../../proto/vectors/pairing.json";
import { type Bytes, concat, equal } from "../src/bytes";
import { KeyError, hkdfKey } from "../src/crypto/keys";
import { Handshake, PAIRING } from "../src/crypto/noise";
import { type Records, sealedRecords } from "../src/crypto/records";
import { relayId } from "../src/ids";
import { CodeError, TypedCode } from "../src/pairing/code";
import { commitment, digits } from "../src/pairing/digits";
import { type PairingEvent, PairingError, PairingInitiator, type Step } from "../src/pairing/initiator";
import { type PairingMessage, decodeMessage, encodeMessage } from "../src/pairing/message";
import { Origin, OriginError } from "../src/pairing/origin";
import { PairingSecret } from "../src/pairing/secret";
import { PairingUrl, PairingUrlError } from "../src/pairing/url";
import { encode } from "../src/base32";
import { SUPPORTED } from "../src/version";
import { DecodeError } from "../src/wire/error";
import { fingerprint, hex, identity, rejection, spelled, staticKey, unhex } from "./support";

function fields({ type: _, ...message }: PairingMessage): unknown {
  if ("relays" in message) {
    const relays = message.relays.map(({ key, origin }) => ({ key, url: origin.toString() }));
    return spelled({ ...message, relays });
  }
  return spelled(message);
}

describe("messages", () => {
  test.each(vectors.messages)("$name $hex", (vector) => {
    const message = decodeMessage(concat(unhex(vector.hex), new Uint8Array(3)));
    expect(message.type).toBe(vector.name);
    expect(fields(message)).toEqual(vector.fields);
    expect(hex(encodeMessage(message))).toBe(vector.hex);
  });

  test.each(vectors.refused_messages)("refused: $why", (vector) => {
    expect(() => decodeMessage(unhex(vector.hex))).toThrow(DecodeError);
  });
});

describe("codes and secrets", () => {
  test.each(vectors.codes)("the secret of $typed at $relay", async (vector) => {
    const code = TypedCode.parse(vector.typed);
    expect(code.expose()).toBe(vector.shown);
    const origin = Origin.parse(vector.relay);
    expect(origin.toString()).toBe(vector.origin);
    expect(hex((await PairingSecret.fromCode(code, origin)).expose())).toBe(vector.secret);
  });

  test.each(vectors.spellings.codes)("$shown, typed otherwise", ({ typed, shown }) => {
    expect(TypedCode.parse(typed).expose()).toBe(shown);
  });

  test.each(vectors.refused_codes)("refused: `%s`", (text) => {
    expect(() => TypedCode.parse(text)).toThrow(CodeError);
  });

  test("letters whose upper case is ASCII are in no code", () => {
    for (const found of ["U", "u", "!", "é", "\u0131", "\u017f", "\u212a", "_", "\0"]) {
      expect(() => TypedCode.parse(`0123-4567-89AB-110${found}`)).toThrow(new CodeError({ kind: "character", found }));
    }
  });

  test.each(vectors.secrets)("what is derived from $secret", async (vector) => {
    const secret = new PairingSecret(unhex(vector.secret));
    expect(hex(await secret.rendezvous())).toBe(vector.rendezvous);
    expect(await fingerprint(await secret.psk0())).toBe(await fingerprint(await hkdfKey(unhex(vector.psk0))));
    expect(JSON.stringify([secret, TypedCode.parse("0123-4567-89AB-CDEF")])).toBe("[{},{}]");
  });
});

describe("urls", () => {
  test.each(vectors.urls)("$url", async (vector) => {
    for (const typed of [vector.url, vector.url.toLowerCase(), ` ${vector.url}\n`]) {
      const url = PairingUrl.parse(typed);
      expect(url.relay.toString()).toBe(vector.origin);
      expect(url.web?.toString() ?? null).toBe(vector.web);
      expect(hex(url.secret.expose())).toBe(vector.secret);
      expect(hex(url.fingerprint)).toBe(vector.fingerprint);
      expect(url.expose()).toBe(vector.url);
      expect(url.isFor(await relayId(unhex(vectors.relay_key)))).toBe(true);
      expect(url.isFor(new Uint8Array(32))).toBe(false);
    }
  });

  test.each(vectors.spellings.urls)("$url, as it may be copied", ({ copied, url }) => {
    expect(PairingUrl.parse(copied).expose()).toBe(url);
  });

  test("what is no pairing URL is refused with its reason", () => {
    const fragment = encode(concat(new Uint8Array([1]), new Uint8Array(52).fill(7))).toUpperCase();
    const text = `HTTPS://RELAY.EXAMPLE.COM:443/#${fragment}`;
    const version = (number: number, more: Uint8Array): string =>
      `https://a.example/#${encode(concat(new Uint8Array([number]), new Uint8Array(52), more))}`;
    const refused = (url: string): unknown => {
      try {
        return PairingUrl.parse(url);
      } catch (error) {
        return error instanceof PairingUrlError && error.fault;
      }
    };
    expect(PairingUrl.parse(text).web).toBeNull();
    expect(refused("")).toEqual({ kind: "noFragment" });
    expect(refused("https://relay.example.com/#")).toEqual({ kind: "noFragment" });
    expect(refused(text.slice(0, -1))).toEqual({ kind: "length", found: 84 });
    expect(refused(`${text}A`)).toEqual({ kind: "length", found: 86 });
    expect(refused(text.replace("HTTPS", "FTP"))).toMatchObject({ kind: "origin", error: { kind: "scheme" } });
    expect(refused(text.replace("/#", "/X#"))).toMatchObject({ kind: "origin", error: { kind: "rest" } });
    for (const damaged of [text.replace("#A", "#1"), text.replace("#A", "#é"), `${text.slice(0, -1)}B`]) {
      expect(refused(damaged)).toEqual({ kind: "damaged" });
    }
    expect(refused(version(3, new Uint8Array(0)))).toEqual({ kind: "version", found: 3 });
    expect(refused(version(3, new Uint8Array(40)))).toEqual({ kind: "version", found: 3 });
    for (const relay of ["", "\xff", "relay.example/x", "user@relay.example", "relay.example:99999"]) {
      const bytes = Uint8Array.from(relay, (letter) => letter.charCodeAt(0));
      expect(refused(version(2, bytes))).toEqual({ kind: "damaged" });
    }
  });

  test("origins have one spelling, and what is none is refused", () => {
    const spellings = [
      ["https://relay.example.com", "https://relay.example.com:443"],
      ["HTTPS://Relay.Example.COM:443/", "https://relay.example.com:443"],
      ["http://localhost", "http://localhost:80"],
      ["https://[2001:DB8:0::1]:8443/", "https://[2001:db8::1]:8443"],
      [" https://bücher.example ", "https://xn--bcher-kva.example:443"],
    ] as const;
    for (const [text, spelling] of spellings) {
      expect(Origin.parse(text).toString()).toBe(spelling);
      expect(Origin.parse(spelling).toString()).toBe(spelling);
    }
    const refused = [
      ["", "notAUrl"],
      ["relay.example.com:443", "notAUrl"],
      ["https://", "notAUrl"],
      ["https:///relay.example.com", "notAUrl"],
      ["https://relay .example", "notAUrl"],
      ["https://relay\\example", "notAUrl"],
      ["https://relay.example:99999", "notAUrl"],
      ["wss://relay.example.com", "scheme"],
      ["javascript://relay.example.com", "scheme"],
      ["https://me@relay.example.com", "userInfo"],
      ["https://:pw@relay.example.com", "userInfo"],
      ["https://relay.example.com/path", "rest"],
      ["https://relay.example.com/?", "rest"],
      ["https://relay.example.com/#x", "rest"],
      [`https://${"a.".repeat(120)}example`, "tooLong"],
    ] as const;
    for (const [text, kind] of refused) {
      expect(() => Origin.parse(text), text).toThrow(new OriginError(kind));
    }
  });
});

const { exchange } = vectors;
const sides = exchange.sides;
const blocks = new Map(exchange.blocks.map(({ what, block }) => [what, block]));

/** A block of the vectors without its length. */
function message(what: string): Bytes {
  return unhex(blocks.get(what) ?? "").slice(2);
}

async function start(relayKey = unhex(vectors.relay_key)): Promise<{ pairing: PairingInitiator; send: Bytes }> {
  const device = sides.device;
  const seed = "12".repeat(32);
  return PairingInitiator.start({
    secret: new PairingSecret(unhex(sides.secret)),
    own: {
      identity: await identity(seed, device.identity),
      staticKey: await staticKey(device.static),
      name: device.name,
      platform: device.platform,
    },
    relayKey,
    versions: SUPPORTED,
    fresh: {
      ephemeral: await staticKey(device.ephemeral),
      nonce: unhex(device.nonce),
      contribution: unhex(device.contribution),
    },
  });
}

/** The host's handshake, for what the vectors' host would never say. */
async function host(psk0?: Bytes): Promise<Handshake> {
  const psk = psk0 ? await hkdfKey(psk0) : await new PairingSecret(unhex(sides.secret)).psk0();
  return Handshake.begin({
    pattern: PAIRING,
    initiator: false,
    prologue: unhex(exchange.prologue),
    own: await staticKey(sides.host.static),
    psk,
    ephemeral: await staticKey(sides.host.ephemeral),
  });
}

/** A pairing after message 3, with the host's end of its link. */
async function met(relayKey?: Bytes): Promise<{ pairing: PairingInitiator; host: Records }> {
  const { pairing, send } = await start(relayKey);
  const responder = await host();
  await responder.read(send.slice(6));
  const step = await pairing.receive(await responder.write(unhex(exchange.commitment)));
  await responder.read(step.send.slice(2));
  return { pairing, host: sealedRecords(await responder.split()) };
}

async function says(pairing: PairingInitiator, host: Records, said: PairingMessage): Promise<Step> {
  return pairing.receive((await host.sealer.seal(encodeMessage(said))).slice(2));
}

const reveal: PairingMessage = { type: "Reveal", nonce: unhex(sides.host.nonce) };

function intro(change: { identity?: Bytes } = {}): PairingMessage {
  return {
    type: "HostIntro",
    identity: unhex(sides.host.identity),
    contribution: unhex(sides.host.contribution),
    scope: "approve",
    name: "laptop",
    relays: sides.host.relays.map(({ key, url }) => ({ key: unhex(key), origin: Origin.parse(url) })),
    ...change,
  };
}

describe("the exchange", () => {
  test("of the vectors, from the device's side", async () => {
    const { pairing, send } = await start();
    expect(hex(send)).toBe(exchange.preamble + (blocks.get("message1") ?? ""));
    const events: (PairingEvent | null)[] = [];
    const step = async (received: string, sent?: string): Promise<void> => {
      const { send, event } = await pairing.receive(message(received));
      expect(hex(send)).toBe(sent === undefined ? "" : blocks.get(sent));
      events.push(event);
    };
    await step("message2", "message3");
    await step("Reveal", "DeviceIntro");
    await step("Waiting");
    await step("HostIntro", "Done");
    expect(events.slice(0, 3)).toEqual([null, { type: "Digits", digits: exchange.digits }, null]);
    const paired = events[3];
    if (paired?.type !== "Paired") {
      throw new Error("not paired");
    }
    const { psk, relays, ...host } = paired.host;
    expect(spelled(host)).toEqual({
      identity: sides.host.identity,
      static_key: sides.host.static.public,
      name: sides.host.name,
      scope: sides.host.scope,
    });
    expect(relays.map(({ key, origin }) => ({ key: hex(key), url: origin.toString() }))).toEqual(sides.host.relays);
    expect(psk.extractable).toBe(false);
    expect(await fingerprint(psk)).toBe(await fingerprint(await hkdfKey(unhex(exchange.psk))));
    expect(await rejection(pairing.receive(message("Waiting")))).toEqual(new PairingError({ kind: "unexpected" }));
  });

  test("of the vectors, from the host's side", async () => {
    expect(exchange.pattern).toBe(PAIRING.name);
    const responder = await host();
    await responder.read(message("message1"));
    const committed = await commitment(unhex(sides.host.nonce));
    expect(hex(committed)).toBe(exchange.commitment);
    expect(hex(await responder.write(committed))).toBe(hex(message("message2")));
    expect(hex(await responder.read(message("message3")))).toBe(sides.device.nonce);
    expect(hex(responder.remoteStatic ?? new Uint8Array(0))).toBe(sides.device.static.public);
    const { handshakeHash, sealer, opener } = sealedRecords(await responder.split());
    expect(hex(handshakeHash)).toBe(exchange.handshake_hash);
    const shown = await digits(handshakeHash, unhex(sides.host.nonce), unhex(sides.device.nonce));
    expect(shown).toBe(exchange.digits);
    for (const said of [reveal, { type: "Waiting" } as const, intro()]) {
      expect(hex(await sealer.seal(encodeMessage(said)))).toBe(blocks.get(said.type));
    }
    for (const what of ["DeviceIntro", "Done"]) {
      expect(decodeMessage(await opener.open(message(what))).type).toBe(what);
    }
  });

  test("a host with another secret, or an altered message 2, ends it", async () => {
    const { pairing } = await start();
    const altered = message("message2").map((byte, at) => (at === 100 ? byte ^ 1 : byte));
    expect(await rejection(pairing.receive(altered))).toEqual(new PairingError({ kind: "handshake" }));
    expect(await rejection(pairing.receive(message("message2")))).toEqual(new PairingError({ kind: "unexpected" }));
    const other = await host(new Uint8Array(32));
    const { send } = await start();
    expect(await rejection(other.read(send.slice(6)))).toBeInstanceOf(Error);
  });

  test("a host that does not keep to its commitment ends it", async () => {
    const { pairing, host } = await met();
    const error = await rejection(says(pairing, host, { type: "Reveal", nonce: new Uint8Array(32) }));
    expect(error).toEqual(new PairingError({ kind: "commitment" }));
    const refusal = await pairing.refuse(5);
    const told = decodeMessage(await host.opener.open((refusal ?? new Uint8Array(0)).slice(2)));
    expect(told).toEqual({ type: "Refused", code: 5 });
  });

  test("a refusal, a message out of turn, a weak key and another relay end it", async () => {
    const turns: [PairingMessage[], PairingError][] = [
      [[{ type: "Refused", code: 2 }], new PairingError({ kind: "refused", code: 2 })],
      [[reveal, { type: "Refused", code: 99 }], new PairingError({ kind: "refused", code: 99 })],
      [[{ type: "Waiting" }], new PairingError({ kind: "unexpected" })],
      [[reveal, reveal], new PairingError({ kind: "unexpected" })],
      [[reveal, intro({ identity: new Uint8Array(32) })], new PairingError({ kind: "weakKey" })],
    ];
    for (const [messages, error] of turns) {
      const { pairing, host } = await met();
      const all = (async () => {
        for (const said of messages) {
          await says(pairing, host, said);
        }
      })();
      expect(await rejection(all)).toEqual(error);
    }
    const { pairing, host } = await met(unhex(sides.device.identity));
    await says(pairing, host, reveal);
    const error = await rejection(says(pairing, host, intro()));
    expect(error).toEqual(new PairingError({ kind: "otherRelay" }));
  });

  test("a pairing that is ended while it takes a step stays ended", async () => {
    const { pairing, host } = await met();
    const step = rejection(says(pairing, host, reveal));
    await pairing.refuse(2);
    expect(await step).toEqual(new PairingError({ kind: "unexpected" }));
    expect(equal(unhex("00"), new Uint8Array(1))).toBe(true);
    expect(new KeyError("weak").message).toContain("low order");
  });
});
