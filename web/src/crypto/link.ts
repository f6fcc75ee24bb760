/**
 * The device's side of a link's handshake.
 *
 * ```text
 *   device → host   52 01 min max                the preamble
 *   device → host   block: message 1             e, es, s, ss
 *   host → device   block: message 2             e, ee, se, psk   payload: the version
 * ```
 *
 * The prologue holds everything that was said or meant before message 1, so both sides mean the same host, purpose and
 * versions, or nothing opens.
 */
import { type Bytes, concat, utf8 } from "../bytes";
import { type VersionRange, agree } from "../version";
import { block } from "../wire/blocks";
import { HandshakeError } from "./error";
import type { Psk, StaticKey } from "./keys";
import { Handshake, LINK } from "./noise";
import { type Records, sealedRecords } from "./records";

/** e 32, payload 1 + 16. */
const MESSAGE_2 = 49;

/** What a circuit is for. */
export const Purpose = { link: 1, pairing: 2 } as const;

/** The first four bytes of a circuit, from the device. */
export function preamble(purpose: 1 | 2, versions: VersionRange): Bytes {
  return new Uint8Array([0x52, purpose, versions.min, versions.max]);
}

/** What a device knows of the host it links to, and what it brings. */
export interface LinkSetup {
  /** The host's id. */
  readonly host: Bytes;
  readonly hostStatic: Bytes;
  readonly own: StaticKey;
  readonly psk: Psk;
  readonly versions: VersionRange;
  /** For `vectors/*.json` only. */
  readonly ephemeral?: StaticKey;
}

/** The device's side of a link, waiting for message 2. */
export class LinkInitiator {
  readonly #handshake: Handshake;
  readonly #offered: VersionRange;

  private constructor(handshake: Handshake, offered: VersionRange) {
    this.#handshake = handshake;
    this.#offered = offered;
  }

  /** Begins a link; the bytes are the preamble and the block of message 1. Throws {@link HandshakeError}. */
  static async start(setup: LinkSetup): Promise<{ link: LinkInitiator; send: Bytes }> {
    const { host, hostStatic, own, psk, versions, ephemeral } = setup;
    const start = preamble(Purpose.link, versions);
    const handshake = await Handshake.begin({
      pattern: LINK,
      initiator: true,
      prologue: concat(utf8("reachback link v1"), start, host),
      own,
      remote: hostStatic,
      psk,
      ...(ephemeral && { ephemeral }),
    });
    const message1 = await handshake.write(new Uint8Array(0));
    return { link: new LinkInitiator(handshake, versions), send: concat(start, block(message1)) };
  }

  /** The records and the version, from the block that the host answered with. Throws {@link HandshakeError}. */
  async finish(message2: Bytes): Promise<{ records: Records; version: number }> {
    exact(message2, MESSAGE_2);
    const [version = 0] = await this.#handshake.read(message2);
    if (agree(this.#offered, { min: version, max: version }) !== version) {
      throw new HandshakeError({ kind: "version", chosen: version });
    }
    return { records: sealedRecords(await this.#handshake.split()), version };
  }
}

/** Refuses another length than the one that the handshake has here, before any public-key work. */
export function exact(message: Bytes, length: number): void {
  if (message.length !== length) {
    throw new HandshakeError({ kind: "length", length: message.length });
  }
}
