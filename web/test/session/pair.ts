/** Two sessions, a lossy link between them, and virtual time. */
import type { Bytes } from "../../src/bytes";
import type { SessionEvent } from "../../src/session/event";
import { DEVICE_LIMITS, HOST_LIMITS, TRICKLE_ACK_DELAY, type SessionLimits, type Side } from "../../src/session/limits";
import { ACK_DELAY, Session } from "../../src/session/session";
import { MAX_RECORD_PLAINTEXT } from "../../src/wire/blocks";
import { type Frame, decodeFrames, encodeFrames } from "../../src/wire/frame";
import { GapReason } from "../../src/wire/reason";

/** A message that was given out. */
export interface Taken {
  readonly channel: number;
  readonly seq: number;
  readonly bytes: Bytes;
}

const SIDES: readonly Side[] = ["device", "host"];

export class Pair {
  now = 1_000_000;
  device: Session;
  host: Session;
  /** Records in flight to each side. */
  readonly wire: Record<Side, Bytes[]> = { device: [], host: [] };
  /** What each side's consumer was given. */
  readonly taken: Record<Side, Taken[]> = { device: [], host: [] };
  events: { side: Side; event: SessionEvent }[] = [];
  /** Given out while nobody handled them. */
  pending: { side: Side; channel: number; seq: number }[] = [];
  /** Whether consumers take messages as they come. */
  consume = true;
  /** Whether the host waits for a link's first record. */
  #greeting = false;

  constructor(device: SessionLimits = DEVICE_LIMITS, host: SessionLimits = HOST_LIMITS) {
    this.device = Session.device(device, this.now);
    this.host = Session.host(sessionId(1), host, this.now);
  }

  static connected(device?: SessionLimits, host?: SessionLimits): Pair {
    const pair = new Pair(device, host);
    pair.connect();
    pair.run();
    return pair;
  }

  /** Cuts the link, and makes another. */
  connect(): void {
    this.cut();
    this.#greeting = true;
    this.host.linkUp(this.now);
    this.device.linkUp(this.now);
  }

  /** Loses the link and everything on it. */
  cut(): void {
    for (const side of SIDES) {
      this[side].linkDown();
      this.wire[side] = [];
    }
  }

  /** Puts on the link what both sides have to say. */
  transmit(): boolean {
    let any = false;
    for (const side of SIDES) {
      for (
        let record = this[side].pollTransmit(this.now);
        record !== null;
        record = this[side].pollTransmit(this.now)
      ) {
        if (record.length > MAX_RECORD_PLAINTEXT) {
          throw new Error(`a record of ${record.length} bytes`);
        }
        this.wire[other(side)].push(record);
        any = true;
      }
    }
    return any;
  }

  /** Delivers one record to a side. A link's first one finds the session, as the host's agent does. */
  deliver(side: Side): boolean {
    const record = this.wire[side].shift();
    if (record === undefined) {
      return false;
    }
    const [first] = side === "host" && this.#greeting ? decodeFrames(record) : [];
    this.#greeting &&= side !== "host";
    if (first?.type === "Resume" && first.session.some((byte, at) => byte !== this.host.id?.[at])) {
      this.wire.device.push(encodeFrames([{ type: "Gap", reason: GapReason.unknown }]));
      this.#greeting = true;
    } else {
      this[side].handleRecord(record, this.now);
    }
    this.drain();
    return true;
  }

  /** Takes what the sessions tell. */
  drain(): void {
    for (const side of SIDES) {
      const session = this[side];
      for (let event = session.pollEvent(); event !== null; event = session.pollEvent()) {
        this.events.push({ side, event });
        if (event.type === "message") {
          const { channel, seq } = event;
          this.taken[side].push(event);
          if (this.consume) {
            session.handled(channel, seq, this.now);
          } else {
            this.pending.push({ side, channel, seq });
          }
        }
      }
    }
  }

  /** Until both sides have nothing more to say, acknowledgements included. */
  run(): void {
    for (let quiet = 0; quiet < 3;) {
      const moved = [this.transmit(), this.deliver("host"), this.deliver("device")];
      quiet = moved.includes(true) ? 0 : quiet + 1;
      if (quiet > 0) {
        const next = Math.min(...SIDES.map((side) => this[side].pollTimeout() ?? Infinity));
        if (next > this.now + TRICKLE_ACK_DELAY) {
          return;
        }
        this.now = Math.max(next, this.now + ACK_DELAY);
      }
    }
  }

  /** Opens a channel. */
  channel(): number {
    const channel = this.device.openChannel("local");
    this.run();
    return channel;
  }

  /** Handles what was given out and not taken. */
  handlePending(): void {
    for (const { side, channel, seq } of this.pending.splice(0)) {
      this[side].handled(channel, seq, this.now);
    }
  }

  /** The events of this type that a side has told. */
  told<T extends SessionEvent["type"]>(side: Side, type: T): Extract<SessionEvent, { type: T }>[] {
    return this.events.flatMap((told) => (told.side === side && is(told.event, type) ? [told.event] : []));
  }

  /** Frames put on the link to a side from here on, without delivering them. */
  framesTo(side: Side): Frame[] {
    this.transmit();
    return this.wire[side].flatMap(decodeFrames);
  }
}

function is<T extends SessionEvent["type"]>(event: SessionEvent, type: T): event is Extract<SessionEvent, { type: T }> {
  return event.type === type;
}

export function other(side: Side): Side {
  return side === "device" ? "host" : "device";
}

export function sessionId(number: number): Bytes {
  return new Uint8Array(16).fill(number);
}

/** A message that can be told from others: its number in front. */
export function message(number: number, length: number): Bytes {
  const bytes = new Uint8Array(Math.max(length, 4)).fill(46);
  new DataView(bytes.buffer).setUint32(0, number);
  return bytes;
}

/** The number of a {@link message}. */
export function numberOf(bytes: Bytes): number {
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(0);
}
