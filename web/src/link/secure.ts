/**
 * Sealed records over a circuit.
 *
 * WebCrypto answers later. What is handed in together is sealed at once and sent as one message, and messages go out in
 * the order of their sealing, whatever is ready first. The same way back: blocks that are here are opened together and
 * come out in order.
 */
import { type Bytes, concat } from "../bytes";
import { LinkInitiator, type LinkSetup } from "../crypto/link";
import type { Records } from "../crypto/records";
import { BlockDecoder } from "../wire/blocks";
import { typed } from "./error";
import type { Link } from "./link";
import { type MessageSocket, orClose } from "./socket";
import { within } from "./within";

/** A handshake takes a round trip; beyond this, in milliseconds, the other side is not there. */
const HANDSHAKE_TIMEOUT = 10_000;
/** Records opened at once: what one message holds, so that an answer does not wait for a flood. */
const OPEN_AT_ONCE = 8;

/** Makes a link over a circuit that has just started. Rejects with `LinkError`. */
export async function initiate(socket: MessageSocket, setup: LinkSetup): Promise<Link> {
  return orClose(socket, async () => {
    const blocks = new BlockDecoder();
    const answer = async (): Promise<Records> => {
      const { link, send } = await LinkInitiator.start(setup);
      await socket.send(send);
      const { records } = await link.finish(await nextBlock(socket, blocks));
      return records;
    };
    return new SecureLink(socket, blocks, await within(HANDSHAKE_TIMEOUT, "handshake", answer()));
  });
}

/** See the module's header. */
class SecureLink implements Link {
  readonly #socket: MessageSocket;
  readonly #blocks: BlockDecoder;
  readonly #records: Records;
  #sending = Promise.resolve();

  /** Goes on after a handshake, with the blocks that came behind it. */
  constructor(socket: MessageSocket, blocks: BlockDecoder, records: Records) {
    this.#socket = socket;
    this.#blocks = blocks;
    this.#records = records;
  }

  send(plaintexts: readonly Bytes[]): Promise<void> {
    const sealed = Promise.all(plaintexts.map((plaintext) => this.#records.sealer.seal(plaintext)));
    // Its failure is seen in its turn, not before.
    sealed.catch(() => undefined);
    const before = this.#sending;
    this.#sending = orClose(this.#socket, async () => {
      await before;
      await this.#socket.send(concat(...(await sealed)));
    });
    return this.#sending;
  }

  receive(): Promise<readonly Bytes[]> {
    return typed(async () => {
      const first = await nextBlock(this.#socket, this.#blocks);
      const opened = [this.#records.opener.open(first)];
      while (opened.length < OPEN_AT_ONCE) {
        const next = this.#blocks.next();
        if (next === null) {
          break;
        }
        opened.push(this.#records.opener.open(next));
      }
      return Promise.all(opened);
    });
  }

  close(): void {
    this.#socket.close();
  }
}

/** The next block of the circuit, without its length. */
async function nextBlock(socket: MessageSocket, blocks: BlockDecoder): Promise<Bytes> {
  for (;;) {
    const next = blocks.next();
    if (next !== null) {
      return next;
    }
    blocks.push(await socket.receive());
  }
}
