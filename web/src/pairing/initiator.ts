/**
 * The device's side of a pairing.
 *
 * ```text
 *   device → host   1 e                          the preamble comes before it
 *   host → device   2 e, ee, s, es               commitment to r_h
 *   device → host   3 s, se                      r_d
 *   host → device   Reveal { r_h }               digits = hash(h ‖ r_h ‖ r_d)
 *   device → host   DeviceIntro                  who asks
 *                   the person types the device's digits at the host
 *   host → device   HostIntro                    who answers, and the scope given
 *   device → host   Done                         now, and only now, the host keeps the device
 * ```
 *
 * Blocks go in, bytes and events come out; waiting, timing out and the circuit itself are the caller's.
 */
import { type Bytes, concat, equal, random, utf8 } from "../bytes";
import { RecordError } from "../crypto/error";
import { type Identity, KeyError, type Psk, type StaticKey, checkIdentity } from "../crypto/keys";
import { Purpose, exact, preamble } from "../crypto/link";
import { Handshake, PAIRING } from "../crypto/noise";
import { type Records, sealedRecords } from "../crypto/records";
import type { Scope } from "../scope";
import type { VersionRange } from "../version";
import { block } from "../wire/blocks";
import { DecodeError } from "../wire/error";
import { commitment, digits } from "./digits";
import { type PairingMessage, type RelayEntry, decodeMessage, describeRefusal, encodeMessage } from "./message";
import type { PairingSecret } from "./secret";

/** e 32, s 32 + 16, payload 32 + 16. */
const MESSAGE_2 = 128;

/** Why a pairing ended. Where another error was the reason, it is the `cause`. */
export type PairingFault =
  | { readonly kind: "handshake" | "record" | "message" | "commitment" | "weakKey" | "otherRelay" | "unexpected" }
  | { readonly kind: "refused"; readonly code: number };

/** A pairing ended. */
export class PairingError extends Error {
  override readonly name = "PairingError";
  readonly fault: PairingFault;

  constructor(fault: PairingFault, options?: ErrorOptions) {
    super(describe(fault), options);
    this.fault = fault;
  }
}

function describe(fault: PairingFault): string {
  switch (fault.kind) {
    case "handshake":
      return "pairing handshake failed: the code may be wrong or used, pair again";
    case "record":
      return "pairing record failed";
    case "message":
      return "pairing message is malformed";
    case "commitment":
      return "the host did not keep to its commitment: someone may be in between, pair again";
    case "weakKey":
      return "identity key of the other side is zero or of low order";
    case "otherRelay":
      return "the host's relay is another one than this: someone may be in between, pair again";
    case "unexpected":
      return "nothing of that kind is expected at this step of the pairing";
    case "refused":
      return `pairing was refused: ${describeRefusal(fault.code)}`;
  }
}

/** What a device brings to a pairing. */
export interface DeviceSide {
  readonly identity: Identity;
  readonly staticKey: StaticKey;
  readonly name: string;
  readonly platform: string;
}

/** All chance in one side of one pairing, for `vectors/*.json` only. */
export interface Fresh {
  readonly ephemeral: StaticKey;
  readonly nonce: Bytes;
  readonly contribution: Bytes;
}

/** What a pairing begins with. */
export interface PairingSetup {
  /** Wiped once the pairing is over. */
  readonly secret: PairingSecret;
  readonly own: DeviceSide;
  /**
   * The key that the relay of this connection has proved in its welcome. With a QR code, check it against
   * `PairingUrl.isFor` first; here it is compared with the one that the host knows.
   */
  readonly relayKey: Bytes;
  readonly versions: VersionRange;
  readonly fresh?: Fresh;
}

/** What a device knows of a host once they are paired. All of it can be kept in IndexedDB but the origins' class. */
export interface PairedHost {
  readonly identity: Bytes;
  readonly staticKey: Bytes;
  readonly name: string;
  /** Best first, never empty: pin their keys. */
  readonly relays: readonly RelayEntry[];
  /** The psk of the links to come. */
  readonly psk: Psk;
  /** What this device may do. */
  readonly scope: Scope;
}

/** What to show, or to keep. */
export type PairingEvent =
  | { readonly type: "Digits"; readonly digits: string }
  /** Keep this host, then send the step's bytes: the host keeps the device once it has them. */
  | { readonly type: "Paired"; readonly host: PairedHost };

/** What to send, often nothing, and what happened. */
export interface Step {
  readonly send: Bytes;
  readonly event: PairingEvent | null;
}

type State =
  | { readonly at: "message2"; readonly handshake: Handshake }
  | { readonly at: "reveal"; readonly hostStatic: Bytes; readonly committed: Bytes; readonly records: Records }
  | { readonly at: "hostIntro"; readonly hostStatic: Bytes; readonly records: Records }
  | { readonly at: "over" };

const NOTHING: Bytes = new Uint8Array(0);

/** A pairing on the device. The first error ends it. */
export class PairingInitiator {
  readonly #setup: PairingSetup;
  readonly #nonce: Bytes;
  readonly #contribution: Bytes;
  #state: State;
  #records: Records | null = null;
  #ended = false;

  private constructor(setup: PairingSetup, handshake: Handshake) {
    this.#setup = setup;
    this.#nonce = setup.fresh?.nonce ?? random(32);
    this.#contribution = setup.fresh?.contribution ?? random(32);
    this.#state = { at: "message2", handshake };
  }

  /** Begins a pairing; the bytes are the preamble and the block of message 1. Throws {@link PairingError}. */
  static async start(setup: PairingSetup): Promise<{ pairing: PairingInitiator; send: Bytes }> {
    return typed(async () => {
      const { secret, own, versions, fresh } = setup;
      const start = preamble(Purpose.pairing, versions);
      const handshake = await Handshake.begin({
        pattern: PAIRING,
        initiator: true,
        prologue: concat(utf8("reachback pairing v1"), start, await secret.rendezvous()),
        own: own.staticKey,
        psk: await secret.psk0(),
        ...(fresh && { ephemeral: fresh.ephemeral }),
      });
      const message1 = await handshake.write(NOTHING);
      return { pairing: new PairingInitiator(setup, handshake), send: concat(start, block(message1)) };
    });
  }

  /** Takes the next block of the circuit, without its length. Throws {@link PairingError}. */
  async receive(message: Bytes): Promise<Step> {
    const state = this.#state;
    // Whatever is not set again below is over: after an error, and while a step is being taken.
    this.#state = { at: "over" };
    return typed(async () => {
      switch (state.at) {
        case "message2":
          return this.#message2(state.handshake, message);
        case "reveal":
          return this.#reveal(state.records, state.hostStatic, state.committed, message);
        case "hostIntro":
          return this.#hostIntro(state.records, state.hostStatic, message);
        case "over":
          throw new PairingError({ kind: "unexpected" });
      }
    });
  }

  /** Ends the pairing, as after an error; the bytes tell the host, or are `null` if it can't be told. */
  async refuse(code: number): Promise<Bytes | null> {
    const records = this.#records;
    this.#over();
    try {
      return records && (await records.sealer.seal(encodeMessage({ type: "Refused", code })));
    } catch {
      return null;
    }
  }

  /** The next state; a pairing that was ended meanwhile stays so. */
  #move(state: State): void {
    if (this.#ended) {
      throw new PairingError({ kind: "unexpected" });
    }
    this.#state = state;
  }

  #over(): void {
    this.#ended = true;
    this.#state = { at: "over" };
    this.#records = null;
    this.#setup.secret.wipe();
    this.#contribution.fill(0);
  }

  async #message2(handshake: Handshake, message: Bytes): Promise<Step> {
    exact(message, MESSAGE_2);
    const committed = await handshake.read(message);
    const send = block(await handshake.write(this.#nonce));
    const hostStatic = handshake.remoteStatic;
    if (hostStatic === null) {
      throw new PairingError({ kind: "unexpected" });
    }
    this.#records = sealedRecords(await handshake.split());
    this.#move({ at: "reveal", hostStatic, committed, records: this.#records });
    return { send, event: null };
  }

  async #reveal(records: Records, hostStatic: Bytes, committed: Bytes, message: Bytes): Promise<Step> {
    const reveal = await receive(records, message);
    if (reveal.type !== "Reveal") {
      throw new PairingError({ kind: "unexpected" });
    }
    if (!equal(await commitment(reveal.nonce), committed)) {
      throw new PairingError({ kind: "commitment" });
    }
    const shown = await digits(records.handshakeHash, reveal.nonce, this.#nonce);
    const { identity, name, platform } = this.#setup.own;
    const contribution = this.#contribution;
    const intro = encodeMessage({ type: "DeviceIntro", identity: identity.publicKey, contribution, name, platform });
    const send = await records.sealer.seal(intro);
    this.#move({ at: "hostIntro", hostStatic, records });
    return { send, event: { type: "Digits", digits: shown } };
  }

  async #hostIntro(records: Records, hostStatic: Bytes, message: Bytes): Promise<Step> {
    const intro = await receive(records, message);
    if (intro.type === "Waiting") {
      this.#move({ at: "hostIntro", hostStatic, records });
      return { send: NOTHING, event: null };
    }
    if (intro.type !== "HostIntro") {
      throw new PairingError({ kind: "unexpected" });
    }
    const { identity, scope, name, relays } = intro;
    checkIdentity(identity);
    if (!relays.some((relay) => equal(relay.key, this.#setup.relayKey))) {
      throw new PairingError({ kind: "otherRelay" });
    }
    relays.forEach((relay) => {
      checkIdentity(relay.key);
    });
    const { secret } = this.#setup;
    const psk = await secret.linkPsk(records.handshakeHash, this.#contribution, intro.contribution);
    const send = await records.sealer.seal(encodeMessage({ type: "Done" }));
    this.#move({ at: "over" });
    this.#over();
    // Copies: a view would take the whole record, secrets included, along to where the host is kept.
    const pinned = relays.map(({ key, origin }) => ({ key: key.slice(), origin }));
    const host = { identity: identity.slice(), staticKey: hostStatic, name, relays: pinned, psk, scope };
    return { send, event: { type: "Paired", host } };
  }
}

/** The message in a block; a refusal of the other side is an error. */
async function receive(records: Records, message: Bytes): Promise<PairingMessage> {
  const received = decodeMessage(await records.opener.open(message));
  if (received.type === "Refused") {
    throw new PairingError({ kind: "refused", code: received.code });
  }
  return received;
}

/** Whatever goes wrong inside is a {@link PairingError} outside. */
async function typed<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (cause instanceof PairingError) {
      throw cause;
    }
    throw new PairingError({ kind: kindOf(cause) }, { cause });
  }
}

function kindOf(cause: unknown): "handshake" | "record" | "message" | "weakKey" {
  if (cause instanceof DecodeError) {
    return "message";
  }
  if (cause instanceof RecordError) {
    return "record";
  }
  return cause instanceof KeyError ? "weakKey" : "handshake";
}
