/**
 * Becoming a device of a host: from what a person has in hand to a host that is kept.
 *
 * ```text
 *   relay        PairHello with the code's rendezvous, and wait to be attached
 *   host         the handshake, then its Reveal: show the digits
 *   a person     types them at the host, which says every 15 s that it waits
 *   host         HostIntro: keep the host, then tell it so
 * ```
 *
 * The host is kept before it is told: a host that lists this device is one that it can reach. It closes the circuit once
 * it and the relay know the device, and a link works at once.
 */
import type { Bytes } from "../bytes";
import { generateIdentity, generateLastingStaticKey } from "../crypto/keys";
import { LinkError } from "../link/error";
import { awaitCircuit, connectRelay } from "../link/relay";
import type { MessageSocket, SocketFactory } from "../link/socket";
import { within } from "../link/within";
import type { HostStore, StoredHost } from "../store/hosts";
import { storedHost } from "../store/hosts";
import { type Persistence, persist } from "../store/persist";
import { SUPPORTED } from "../version";
import { BlockDecoder } from "../wire/blocks";
import type { TypedCode } from "./code";
import { JoinError, joinError } from "./error";
import { type DeviceSide, PairingError, PairingInitiator, type PairedHost, type Step } from "./initiator";
import { Refusal, WAITING_LIMIT_MS } from "./message";
import type { Origin } from "./origin";
import { PairingSecret } from "./secret";
import type { PairingUrl } from "./url";

/** A host that is there answers within a round trip. In milliseconds. */
const ANSWER_TIMEOUT = 15_000;
/** A person needs time to read and type, in milliseconds; the host ends it earlier when its code expires. */
export const PERSON_TIMEOUT = 300_000;
/** How long to wait for the host to say, by closing, that it and the relay know this device. In milliseconds. */
const SETTLE_TIMEOUT = 5_000;

/** What a person has in hand: the URL of the QR code, or the typed code and where the relay is. */
export type Invitation =
  | { readonly type: "url"; readonly url: PairingUrl }
  | { readonly type: "code"; readonly relay: Origin; readonly code: TypedCode };

/** What a pairing needs besides. */
export interface JoinSetup {
  /** What the host calls this device: as `label` of `name.ts` takes it. */
  readonly name: string;
  /** What it is, such as "iPhone, Safari": as `label` takes it. */
  readonly platform: string;
  /** Where the host is kept. */
  readonly store: HostStore;
  /** Called once, with the digits that a person types at the host. */
  readonly show: (digits: string) => void;
  /** Gives the pairing up; the host hears so. */
  readonly signal: AbortSignal;
  /** Where the browser is asked to keep the data: `navigator.storage`, where there is one. */
  readonly storage: StorageManager | undefined;
  /** Makes the WebSocket; the platform's own if left out. */
  readonly create?: SocketFactory;
}

/** A host that is kept now, and whether the browser keeps it when room gets short: some browsers ask a person that. */
export interface Joined {
  readonly host: StoredHost;
  readonly persistence: Promise<Persistence>;
}

/** Pairs with a host, and keeps it. The code is used up once the host has answered. Rejects with {@link JoinError}. */
export async function join(invitation: Invitation, setup: JoinSetup): Promise<Joined> {
  try {
    const secret = await secretOf(invitation);
    try {
      const host = await meet(invitation, secret, setup);
      return { host, persistence: persist(setup.storage) };
    } finally {
      secret.wipe();
    }
  } catch (cause) {
    throw setup.signal.aborted ? new JoinError({ kind: "aborted" }, { cause }) : joinError(cause);
  }
}

async function secretOf(invitation: Invitation): Promise<PairingSecret> {
  switch (invitation.type) {
    case "url":
      return invitation.url.secret;
    case "code":
      return PairingSecret.fromCode(invitation.code, invitation.relay);
  }
}

async function meet(invitation: Invitation, secret: PairingSecret, setup: JoinSetup): Promise<StoredHost> {
  const { signal, create } = setup;
  const [identity, staticKey] = [await generateIdentity(), await generateLastingStaticKey()];
  const url = invitation.type === "url" ? invitation.url : null;
  // A typed code says nothing of the relay's key: the host confirms that, end to end.
  const admits = (_: Bytes, id: Bytes): boolean => url?.isFor(id) ?? true;
  const origin = invitation.type === "url" ? invitation.url.relay : invitation.relay;
  // The last word to the host goes out on it after the person has given up.
  const connection = new AbortController();
  const giveUp = (): void => {
    connection.abort();
  };
  signal.addEventListener("abort", giveUp);
  if (signal.aborted) {
    giveUp();
  }
  const target = { origin, admits, signal: connection.signal, ...(create && { create }) };
  try {
    const rendezvous = await secret.rendezvous();
    const { socket, relayKey } = await connectRelay(target, { type: "pairing", rendezvous });
    try {
      await awaitCircuit(socket, () => undefined);
      signal.removeEventListener("abort", giveUp);
      const own = { identity, staticKey, name: setup.name, platform: setup.platform };
      return await new Meeting(socket, own, setup).run(secret, relayKey);
    } finally {
      socket.close();
    }
  } finally {
    signal.removeEventListener("abort", giveUp);
  }
}

/** The device's side of one pairing over one circuit. */
class Meeting {
  readonly #socket: MessageSocket;
  readonly #own: DeviceSide;
  readonly #setup: JoinSetup;
  readonly #blocks = new BlockDecoder();
  /** When the person has had enough time, in milliseconds of the page's clock; `null` until the digits are shown. */
  #confirmedBy: number | null = null;

  constructor(socket: MessageSocket, own: DeviceSide, setup: JoinSetup) {
    this.#socket = socket;
    this.#own = own;
    this.#setup = setup;
  }

  async run(secret: PairingSecret, relayKey: Bytes): Promise<StoredHost> {
    const start = { secret, own: this.#own, relayKey, versions: SUPPORTED };
    const { pairing, send } = await PairingInitiator.start(start);
    await this.#socket.send(send);
    for (;;) {
      const step = await this.#step(pairing);
      if (step.event?.type === "Paired") {
        return this.#keep(step.event.host, step.send);
      }
      if (step.send.length > 0) {
        await this.#socket.send(step.send);
      }
      if (step.event?.type === "Digits") {
        this.#confirmedBy = performance.now() + PERSON_TIMEOUT;
        this.#setup.show(step.event.digits);
      }
    }
  }

  /** The next step; what ends the pairing here is told to the host. */
  async #step(pairing: PairingInitiator): Promise<Step> {
    try {
      const step = await pairing.receive(await this.#block());
      this.#setup.signal.throwIfAborted();
      return step;
    } catch (error) {
      const code = this.#setup.signal.aborted ? Refusal.declined : Refusal.malformed;
      const told = error instanceof PairingError && error.fault.kind === "refused";
      const refusal = told ? null : await pairing.refuse(code);
      if (refusal !== null) {
        await this.#socket.send(refusal).catch(() => undefined);
      }
      throw error;
    }
  }

  /** The next block. Up to the digits it is round trips; after them it is a person, and the host says that it waits. */
  async #block(): Promise<Bytes> {
    const left = this.#confirmedBy === null ? Infinity : this.#confirmedBy - performance.now();
    const limit = this.#confirmedBy === null ? ANSWER_TIMEOUT : WAITING_LIMIT_MS;
    try {
      return await within(Math.max(Math.min(limit, left), 0), "host", this.#orAborted(this.#next()));
    } catch (cause) {
      const late = cause instanceof LinkError && cause.fault.kind === "timedOut" && left <= limit;
      throw late ? new JoinError({ kind: "expired" }, { cause }) : cause;
    }
  }

  async #next(): Promise<Bytes> {
    for (;;) {
      const block = this.#blocks.next();
      if (block !== null) {
        return block;
      }
      this.#blocks.push(await this.#socket.receive());
    }
  }

  /** What `work` comes to, unless the person gives up before. */
  async #orAborted<T>(work: Promise<T>): Promise<T> {
    const { signal } = this.#setup;
    const done = new AbortController();
    const aborted = new Promise<never>((_, reject) => {
      const abort = (): void => {
        reject(new JoinError({ kind: "aborted" }));
      };
      signal.addEventListener("abort", abort, { signal: done.signal });
      if (signal.aborted) {
        abort();
      }
    });
    try {
      return await Promise.race([work, aborted]);
    } finally {
      done.abort();
    }
  }

  /** Keeps the host, then tells it. A host that can't be told does not keep this device, so it is not kept here. */
  async #keep(paired: PairedHost, done: Bytes): Promise<StoredHost> {
    const { store } = this.#setup;
    const { identity, staticKey } = this.#own;
    const keys = { host: paired.identity, hostStatic: paired.staticKey, identity, staticKey, psk: paired.psk };
    const host = await storedHost(paired, keys, Date.now());
    const before = await store.read(host.id);
    await store.save(host);
    try {
      this.#setup.signal.throwIfAborted();
      await this.#socket.send(done);
    } catch (error) {
      await (before === null ? store.remove(host.id) : store.save(before));
      throw error;
    }
    // From here on it is paired, whatever comes.
    await within(SETTLE_TIMEOUT, "host", this.#socket.receive()).catch(() => undefined);
    return host;
  }
}
