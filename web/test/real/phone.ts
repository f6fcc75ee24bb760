/** A device in this process: paired, and able to make links. */
import { equal } from "../../src/bytes";
import { generateIdentity, generateStaticKey } from "../../src/crypto/keys";
import type { Link } from "../../src/link/link";
import { type PairedKeys, linkToHost } from "../../src/link/host";
import { awaitCircuit, connectRelay } from "../../src/link/relay";
import { type PairedHost, PairingInitiator } from "../../src/pairing/initiator";
import { Origin } from "../../src/pairing/origin";
import { PairingUrl } from "../../src/pairing/url";
import { SUPPORTED } from "../../src/version";
import { BlockDecoder } from "../../src/wire/blocks";

const ignore = (): void => undefined;

export class Phone {
  readonly host: PairedHost;
  readonly #keys: PairedKeys;
  readonly #signal: AbortSignal;

  private constructor(host: PairedHost, keys: PairedKeys, signal: AbortSignal) {
    this.host = host;
    this.#keys = keys;
    this.#signal = signal;
  }

  /** Pairs by this URL. `signal` ends every connection. */
  static async pair(text: string, signal: AbortSignal): Promise<Phone> {
    const url = PairingUrl.parse(text);
    const [identity, staticKey] = [await generateIdentity(), await generateStaticKey()];
    const rendezvous = await url.secret.rendezvous();
    const target = { origin: url.relay, admits: (_: unknown, id: Uint8Array<ArrayBuffer>) => url.isFor(id), signal };
    const { socket, relayKey } = await connectRelay(target, { type: "pairing", rendezvous });
    await awaitCircuit(socket, ignore);
    const own = { identity, staticKey, name: "phone", platform: "test" };
    const setup = { secret: url.secret, own, relayKey, versions: SUPPORTED };
    const { pairing, send } = await PairingInitiator.start(setup);
    await socket.send(send);
    const blocks = new BlockDecoder();
    for (;;) {
      const block = blocks.next();
      if (block === null) {
        blocks.push(await socket.receive());
        continue;
      }
      const { send, event } = await pairing.receive(block);
      if (send.length > 0) {
        await socket.send(send);
      }
      if (event?.type === "Paired") {
        socket.close();
        const { host } = event;
        const keys = { host: host.identity, hostStatic: host.staticKey, identity, staticKey, psk: host.psk };
        return new Phone(host, keys, signal);
      }
    }
  }

  /** Makes a link over the relay at this address. Rejects with `LinkError`. */
  link(url: string): Promise<Link> {
    const admits = (key: Uint8Array): boolean => this.host.relays.some((relay) => equal(relay.key, key));
    const target = { origin: Origin.parse(url), admits, signal: this.#signal };
    return linkToHost(target, this.#keys, ignore);
  }
}
