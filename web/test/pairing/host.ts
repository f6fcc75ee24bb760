/** The host's side of a pairing, behind a relay in memory. */
import { type Bytes, concat, random, utf8 } from "../../src/bytes";
import { type Identity, generateIdentity, generateStaticKey } from "../../src/crypto/keys";
import { Handshake, PAIRING } from "../../src/crypto/noise";
import { type Records, sealedRecords } from "../../src/crypto/records";
import { commitment, digits } from "../../src/pairing/digits";
import { type PairingMessage, decodeMessage, encodeMessage } from "../../src/pairing/message";
import { Origin } from "../../src/pairing/origin";
import { PairingSecret } from "../../src/pairing/secret";
import { BlockDecoder, block } from "../../src/wire/blocks";
import { FakeHost, type FakeSocket } from "../link/fake";

/** What the host says once the handshake is over, besides its `Reveal`. */
export type Script = (host: PairingHost) => Promise<void>;

export class PairingHost {
  readonly relay: FakeHost;
  readonly identity: Identity;
  /** What the device said. */
  readonly heard: PairingMessage[] = [];
  /** The digits that this side computed. */
  digits = "";
  readonly #secret: Bytes;
  #socket: FakeSocket | null = null;
  #records: Records | null = null;

  private constructor(relay: FakeHost, identity: Identity, secret: Bytes) {
    this.relay = relay;
    this.identity = identity;
    this.#secret = secret;
  }

  /** A host that shows this secret, and goes on by the script. */
  static async create(secret: Bytes, script: Script): Promise<PairingHost> {
    const host = new PairingHost(await FakeHost.create(), await generateIdentity(), secret);
    host.relay.circuit = (socket) => host.#circuit(socket, script);
    return host;
  }

  async say(message: PairingMessage): Promise<void> {
    const sealed = await this.#records?.sealer.seal(encodeMessage(message));
    this.#socket?.deliver(sealed ?? new Uint8Array(0));
  }

  /** Says who it is, at this relay. */
  async introduce(relayKey: Bytes = this.relay.relayKey): Promise<void> {
    const relays = [{ key: relayKey, origin: Origin.parse("http://relay.example:8080") }];
    const contribution = random(32);
    const identity = this.identity.publicKey;
    await this.say({ type: "HostIntro", identity, contribution, scope: "steer", name: "tower", relays });
  }

  /** The end of the connection, from the relay. */
  close(code: number): void {
    this.#socket?.drop(code);
  }

  async #circuit(socket: FakeSocket, script: Script): Promise<void> {
    this.#socket = socket;
    const first = await socket.next();
    if (first === null) {
      return;
    }
    const blocks = new BlockDecoder();
    blocks.push(first.subarray(4));
    const next = async (): Promise<Bytes | null> => {
      for (;;) {
        const block = blocks.next();
        if (block !== null) {
          return block;
        }
        const message = await socket.next();
        if (message === null) {
          return null;
        }
        blocks.push(message);
      }
    };
    const secret = new PairingSecret(this.#secret.slice());
    const prologue = concat(utf8("reachback pairing v1"), first.subarray(0, 4), await secret.rendezvous());
    const own = await generateStaticKey();
    const psk = await secret.psk0();
    const handshake = await Handshake.begin({ pattern: PAIRING, initiator: false, prologue, own, psk });
    await handshake.read((await next()) ?? new Uint8Array(0));
    const nonce = random(32);
    socket.deliver(block(await handshake.write(await commitment(nonce))));
    const message3 = await next();
    if (message3 === null) {
      return;
    }
    const theirs = await handshake.read(message3);
    this.#records = sealedRecords(await handshake.split());
    this.digits = await digits(this.#records.handshakeHash, nonce, theirs);
    await this.say({ type: "Reveal", nonce });
    const listening = this.#listen(next, this.#records);
    await script(this);
    await listening;
  }

  async #listen(next: () => Promise<Bytes | null>, { opener }: Records): Promise<void> {
    for (let block = await next(); block !== null; block = await next()) {
      this.heard.push(decodeMessage(await opener.open(block)));
    }
  }
}
