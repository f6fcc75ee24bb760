/** The messages in a pairing's records. A record holds one message and then zeros, the padding of all records. */
import type { Bytes } from "../bytes";
import { KEY_LENGTH } from "../ids";
import { type Scope, scopeFromTag, scopeTag } from "../scope";
import { DecodeError } from "../wire/error";
import { Reader } from "../wire/reader";
import { Writer } from "../wire/writer";
import { MAX_NAME, MAX_PLATFORM, label } from "./name";
import { MAX_ORIGIN, Origin } from "./origin";

/** Most relays that a host names. */
export const MAX_RELAYS = 4;

/** How long a host that waits for its person may be silent, in milliseconds: three times as long as it should be. */
export const WAITING_LIMIT_MS = 45_000;

/** A relay that a host is reached through. */
export interface RelayEntry {
  readonly key: Bytes;
  readonly origin: Origin;
}

/** Why a pairing was refused; another number comes from a newer host. */
export const Refusal = { wrongDigits: 1, declined: 2, expired: 3, tooManyDevices: 4, malformed: 5 } as const;

/** What a refusal means, to end a sentence with. */
export function describeRefusal(code: number): string {
  switch (code) {
    case Refusal.wrongDigits:
      return "the digits typed at the host are not the ones on the device";
    case Refusal.declined:
      return "it was declined";
    case Refusal.expired:
      return "it took too long";
    case Refusal.tooManyDevices:
      return "the host has as many devices as it can have";
    case Refusal.malformed:
      return "the other side did not understand a message";
    default:
      return `reason ${code}, which this version does not know`;
  }
}

/** What the two sides say to each other once the handshake is over. */
export type PairingMessage =
  | { readonly type: "Reveal"; readonly nonce: Bytes }
  | {
      readonly type: "DeviceIntro";
      readonly identity: Bytes;
      readonly contribution: Bytes;
      readonly name: string;
      readonly platform: string;
    }
  | {
      readonly type: "HostIntro";
      readonly identity: Bytes;
      readonly contribution: Bytes;
      readonly scope: Scope;
      readonly name: string;
      readonly relays: readonly RelayEntry[];
    }
  | { readonly type: "Done" }
  | { readonly type: "Refused"; readonly code: number }
  | { readonly type: "Waiting" };

/** The message's bytes, before padding. */
export function encodeMessage(message: PairingMessage): Bytes {
  const w = new Writer();
  switch (message.type) {
    case "Reveal":
      return w.u8(0x01).put(message.nonce).finish();
    case "DeviceIntro":
      w.u8(0x02).put(message.identity).put(message.contribution);
      return w.text(message.name).text(message.platform).finish();
    case "HostIntro":
      w.u8(0x03).put(message.identity).put(message.contribution).u8(scopeTag(message.scope));
      w.text(message.name).u8(message.relays.length);
      message.relays.forEach(({ key, origin }) => w.put(key).text(origin.toString()));
      return w.finish();
    case "Done":
      return w.u8(0x04).finish();
    case "Refused":
      return w.u8(0x05, message.code).finish();
    case "Waiting":
      return w.u8(0x06).finish();
  }
}

/** The message in a record's plaintext, behind which there are only zeros. Throws {@link DecodeError}. */
export function decodeMessage(plaintext: Bytes): PairingMessage {
  const r = new Reader(plaintext);
  const message = readMessage(r);
  const extra = r.left;
  if (r.rest().some((byte) => byte !== 0)) {
    throw new DecodeError({ kind: "trailing", extra });
  }
  return message;
}

function readMessage(r: Reader): PairingMessage {
  const tag = r.u8();
  switch (tag) {
    case 0x01:
      return { type: "Reveal", nonce: r.take(32) };
    case 0x02: {
      const who = { identity: r.take(KEY_LENGTH), contribution: r.take(32) };
      const name = readLabel(r, "name", MAX_NAME);
      return { type: "DeviceIntro", ...who, name, platform: readLabel(r, "platform", MAX_PLATFORM) };
    }
    case 0x03: {
      const who = { identity: r.take(KEY_LENGTH), contribution: r.take(32) };
      const scope = scopeFromTag(r.u8()) ?? invalid("scope");
      const name = readLabel(r, "name", MAX_NAME);
      return { type: "HostIntro", ...who, scope, name, relays: readRelays(r) };
    }
    case 0x04:
      return { type: "Done" };
    case 0x05:
      return { type: "Refused", code: r.u8() };
    case 0x06:
      return { type: "Waiting" };
    default:
      throw new DecodeError({ kind: "unknownTag", tag });
  }
}

function readLabel(r: Reader, field: string, limit: number): string {
  const read = label(r.text(field, limit), limit);
  return read.ok ? read.text : invalid(field);
}

function readRelays(r: Reader): RelayEntry[] {
  const count = r.u8();
  if (count < 1 || count > MAX_RELAYS) {
    return invalid("relays");
  }
  const relays: RelayEntry[] = [];
  while (relays.length < count) {
    relays.push({ key: r.take(KEY_LENGTH), origin: readOrigin(r) });
  }
  return relays;
}

function readOrigin(r: Reader): Origin {
  const text = r.text("relay url", MAX_ORIGIN);
  try {
    return Origin.parse(text);
  } catch {
    return invalid("relay url");
  }
}

function invalid(field: string): never {
  throw new DecodeError({ kind: "invalid", field });
}
