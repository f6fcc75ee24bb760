/** A relay and a host in memory, behind a WebSocket of their own. */
import { type Bytes, concat, utf8 } from "../../src/bytes";
import {
  type Identity,
  type StaticKey,
  generateIdentity,
  generateStaticKey,
  hkdfKey,
  sign,
} from "../../src/crypto/keys";
import { Handshake, LINK } from "../../src/crypto/noise";
import { type Records, sealedRecords } from "../../src/crypto/records";
import { hostId } from "../../src/ids";
import type { PairedKeys } from "../../src/link/host";
import type { RelayTarget } from "../../src/link/relay";
import { Origin } from "../../src/pairing/origin";
import { HOST_LIMITS } from "../../src/session/limits";
import { Session } from "../../src/session/session";
import { NO_KEY, welcomeTranscript } from "../../src/welcome";
import { BlockDecoder, block } from "../../src/wire/blocks";
import { type PeerToRelay, type RelayToPeer, decodePeerToRelay, encodeRelayToPeer } from "../../src/wire/control";
import { sessionId } from "../session/pair";

class FakeCloseEvent extends Event implements CloseEvent {
  readonly wasClean = true;
  readonly code: number;
  readonly reason: string;

  constructor(code: number, reason: string) {
    super("close");
    this.code = code;
    this.reason = reason;
  }
}

/** The platform's WebSocket, as far as it is used, and the relay's end of it. */
export class FakeSocket extends EventTarget implements WebSocket {
  readonly CONNECTING = 0;
  readonly OPEN = 1;
  readonly CLOSING = 2;
  readonly CLOSED = 3;
  readonly extensions = "";
  readonly protocol = "";
  readonly url: string;
  readyState: 0 | 1 | 3 = 0;
  binaryType: BinaryType = "blob";
  onclose = null;
  onerror = null;
  onmessage = null;
  onopen = null;
  /** What the test says. */
  bufferedAmount = 0;
  readonly #sent: Bytes[] = [];
  #wake: () => void = () => undefined;

  constructor(url: string) {
    super();
    this.url = url;
  }

  send(data: string | ArrayBufferLike | Blob | ArrayBufferView): void {
    if (!ArrayBuffer.isView(data)) {
      throw new Error("only bytes are sent");
    }
    this.#sent.push(new Uint8Array(data.buffer, data.byteOffset, data.byteLength).slice());
    this.#wake();
  }

  close(code = 1005): void {
    this.drop(code);
  }

  /** The connection stands. */
  open(): void {
    if (this.readyState === this.CONNECTING) {
      this.readyState = this.OPEN;
      this.dispatchEvent(new Event("open"));
    }
  }

  /** The relay sends a message. */
  deliver(data: Bytes | string): void {
    if (this.readyState === this.OPEN) {
      const sent = typeof data === "string" ? data : data.slice().buffer;
      this.dispatchEvent(new MessageEvent("message", { data: sent }));
    }
  }

  /** The connection ends. */
  drop(code: number, reason = ""): void {
    if (this.readyState !== this.CLOSED) {
      this.readyState = this.CLOSED;
      this.dispatchEvent(new FakeCloseEvent(code, reason));
      this.#wake();
    }
  }

  /** The next message that was sent to the relay; `null` once the connection has ended. */
  async next(): Promise<Bytes | null> {
    for (;;) {
      const message = this.#sent.shift();
      if (message !== undefined || this.readyState === this.CLOSED) {
        return message ?? null;
      }
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }
}

/** What a relay says in place of what it should. */
export interface Spoil {
  readonly challenge?: (frame: RelayToPeer & { type: "Challenge" }) => RelayToPeer;
  readonly welcome?: (frame: RelayToPeer & { type: "Welcome" }) => RelayToPeer;
  /** In front of `Attached`. */
  readonly waiting?: readonly (RelayToPeer | string | Bytes)[];
  /** Never attaches. */
  readonly away?: boolean;
}

/** One relay with one host behind it, which has one session. */
export class FakeHost {
  session = Session.host(sessionId(1), HOST_LIMITS, performance.now());
  readonly sockets: FakeSocket[] = [];
  readonly hellos: PeerToRelay[] = [];
  /** Cuts each link once its host has sent this many messages. */
  cutAfter: () => number = () => Infinity;
  spoil: Spoil = {};
  /** What the host does on a circuit: the session's side of a link, unless a test says otherwise. */
  circuit = (socket: FakeSocket): Promise<void> => this.#link(socket);
  /** What the host does with a message. */
  consume: (channel: number, bytes: Bytes) => void = () => undefined;
  readonly #relay: Identity;
  readonly #identity: Identity;
  readonly #staticKey: StaticKey;
  readonly #psk: CryptoKey;
  readonly keys: PairedKeys;

  private constructor(relay: Identity, host: Identity, hostStatic: StaticKey, psk: CryptoKey, keys: PairedKeys) {
    this.#relay = relay;
    this.#identity = host;
    this.#staticKey = hostStatic;
    this.#psk = psk;
    this.keys = keys;
  }

  static async create(): Promise<FakeHost> {
    const [relay, host, identity] = [await generateIdentity(), await generateIdentity(), await generateIdentity()];
    const [hostStatic, staticKey] = [await generateStaticKey(), await generateStaticKey()];
    const psk = await hkdfKey(new Uint8Array(32).fill(5));
    const keys = { host: host.publicKey, hostStatic: hostStatic.publicKey, identity, staticKey, psk };
    return new FakeHost(relay, host, hostStatic, psk, keys);
  }

  /** The relay's identity key. */
  get relayKey(): Bytes {
    return this.#relay.publicKey;
  }

  /** How to reach it. */
  target(signal: AbortSignal = new AbortController().signal): RelayTarget {
    const admits = (key: Bytes): boolean => key.every((byte, at) => byte === this.#relay.publicKey[at]);
    return {
      origin: Origin.parse("http://relay.example:8080"),
      admits,
      signal,
      create: (url) => {
        const socket = new FakeSocket(url);
        this.sockets.push(socket);
        void this.#serve(socket);
        return socket;
      },
    };
  }

  async #serve(socket: FakeSocket): Promise<void> {
    const say = (frame: RelayToPeer): void => {
      socket.deliver(encodeRelayToPeer(frame));
    };
    await Promise.resolve();
    socket.open();
    const { spoil } = this;
    const nonce = new Uint8Array(32).fill(3);
    const versions = { min: 1, max: 1 };
    const challenge = { type: "Challenge", versions, relayKey: this.#relay.publicKey, nonce } as const;
    say(spoil.challenge?.(challenge) ?? challenge);
    const hello = await socket.next();
    if (hello === null) {
      return;
    }
    const frame = decodePeerToRelay(hello);
    this.hellos.push(frame);
    const peerNonce = "peerNonce" in frame ? frame.peerNonce : NO_KEY;
    const peerKey = "key" in frame ? frame.key : NO_KEY;
    const signature = await sign(this.#relay, welcomeTranscript(nonce, peerNonce, peerKey));
    const welcome = { type: "Welcome", version: 1, signature } as const;
    say(spoil.welcome?.(welcome) ?? welcome);
    for (const waiting of spoil.waiting ?? []) {
      socket.deliver(
        waiting instanceof Uint8Array || typeof waiting === "string" ? waiting : encodeRelayToPeer(waiting),
      );
    }
    if (spoil.away !== true) {
      say({ type: "Attached", circuit: 1n });
      await this.circuit(socket);
    }
  }

  /** The host's side of the handshake, then of the session. */
  async #link(socket: FakeSocket): Promise<void> {
    const first = await socket.next();
    if (first === null) {
      return;
    }
    const [preamble, blocks] = [first.subarray(0, 4), new BlockDecoder()];
    blocks.push(first.subarray(4));
    const prologue = concat(utf8("reachback link v1"), preamble, await hostId(this.#identity.publicKey));
    const setup = { pattern: LINK, initiator: false, prologue, own: this.#staticKey, psk: this.#psk };
    const handshake = await Handshake.begin(setup);
    await handshake.read(blocks.next() ?? new Uint8Array(0));
    const answer = block(await handshake.write(new Uint8Array([1])));
    const sealed = sealedRecords(await handshake.split());
    // In two messages: their boundaries mean nothing.
    socket.deliver(answer.subarray(0, 7));
    socket.deliver(answer.subarray(7));
    await this.#carry(socket, blocks, sealed);
  }

  async #carry(socket: FakeSocket, blocks: BlockDecoder, { sealer, opener }: Records): Promise<void> {
    const { session } = this;
    let left = this.cutAfter();
    session.linkUp(performance.now());
    const timer = setInterval(() => {
      void transmit();
    }, 5);
    let sending = Promise.resolve();
    const transmit = (): Promise<void> => {
      const records: Promise<Bytes>[] = [];
      // Of an older link nothing is said any more.
      while (this.sockets.at(-1) === socket && socket.readyState === socket.OPEN) {
        const record = session.pollTransmit(performance.now());
        if (record === null) {
          break;
        }
        records.push(sealer.seal(record));
      }
      sending = sending.then(async () => {
        for (const record of records) {
          socket.deliver(await record);
          left -= 1;
          if (left <= 0) {
            socket.drop(1006);
          }
        }
      });
      return sending;
    };
    for (let message = await socket.next(); message !== null; message = await socket.next()) {
      blocks.push(message);
      for (let next = blocks.next(); next !== null; next = blocks.next()) {
        session.handleRecord(await opener.open(next), performance.now());
      }
      for (let event = session.pollEvent(); event !== null; event = session.pollEvent()) {
        if (event.type === "message") {
          this.consume(event.channel, event.bytes);
          session.handled(event.channel, event.seq, performance.now());
        }
      }
      await transmit();
    }
    clearInterval(timer);
  }
}
