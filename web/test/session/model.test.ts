/**
 * What may happen to a session: cuts, a host that starts over, overflow, timers, consumers that stall and handle out of
 * turn. Whatever happens, nothing is doubled or out of order, and nothing is lost in silence.
 */
import { expect, test } from "vitest";
import { equal } from "../../src/bytes";
import { OpenError, SendError } from "../../src/session/error";
import { API_CHANNEL, DEVICE_LIMITS, HOST_LIMITS, type Side } from "../../src/session/limits";
import { Session } from "../../src/session/session";
import { ChannelCloseReason } from "../../src/wire/reason";
import { dice } from "../support";
import { Pair, message, numberOf, other, sessionId } from "./pair";

/** Small enough that queues overflow and channels are refused. */
const SMALL = { channels: 3, channelQueue: 60_000, sessionQueue: 150_000 };
const SIDES: readonly Side[] = ["device", "host"];

/** A message as it was sent: its number in the whole run. */
interface Sent {
  readonly side: Side;
  readonly channel: number;
  readonly number: number;
  readonly length: number;
}

class Model {
  readonly pair: Pair;
  readonly #roll: (limit: number) => number;
  readonly #small: boolean;
  readonly #channels = [API_CHANNEL];
  readonly #sent: Sent[] = [];
  #number = 0;
  #hosts = 1;
  /** What a side sent up to this number may be lost: the device was told. */
  readonly #lostBefore: Record<Side, number> = { device: 0, host: 0 };

  constructor(seed: number) {
    this.#roll = dice(seed);
    this.#small = this.#roll(2) === 0;
    this.pair = Pair.connected({ ...DEVICE_LIMITS, ...(this.#small && SMALL) }, this.#hostLimits());
  }

  #hostLimits(): typeof HOST_LIMITS {
    return { ...HOST_LIMITS, ...(this.#small && SMALL) };
  }

  step(): void {
    const [roll, { pair }] = [this.#roll, this];
    const side: Side = roll(2) === 0 ? "device" : "host";
    const channel = this.#channels[roll(Math.min(this.#channels.length, 5))] ?? API_CHANNEL;
    const chance = roll(34);
    if (chance < 10) {
      this.#send(side, channel, roll(2) === 0 ? roll(300) : roll(60_000));
    } else if (chance < 13) {
      this.#open();
    } else if (chance < 14) {
      if (channel !== API_CHANNEL) {
        pair[side].closeChannel(channel, ChannelCloseReason.done, "");
      }
    } else if (chance < 22) {
      this.#move(roll(12), roll(12));
    } else if (chance < 24) {
      pair.connect();
    } else if (chance < 25) {
      pair.cut();
    } else if (chance < 26) {
      this.#restart();
    } else if (chance < 29) {
      pair.now += roll(2) === 0 ? roll(30) : roll(12_000);
      pair.device.handleTimeout(pair.now);
      pair.host.handleTimeout(pair.now);
      pair.drain();
    } else if (chance < 30) {
      pair.consume = roll(2) === 0;
    } else {
      for (const { side, channel, seq } of pair.pending.splice(roll(pair.pending.length + 1), 1)) {
        pair[side].handled(channel, seq, pair.now);
      }
    }
    this.#noteLoss();
  }

  #send(side: Side, channel: number, size: number): void {
    const [number, length] = [(this.#number += 1), Math.max(size, 4)];
    try {
      this.pair[side].send(channel, message(number, length));
      this.#sent.push({ side, channel, number, length });
    } catch (error) {
      expect(error).toBeInstanceOf(SendError);
    }
  }

  #open(): void {
    try {
      this.#channels.unshift(this.pair.device.openChannel("local"));
    } catch (error) {
      expect(error).toBeInstanceOf(OpenError);
    }
  }

  #move(toHost: number, toDevice: number): void {
    this.pair.transmit();
    for (let n = 0; n < toHost && this.pair.deliver("host"); n += 1);
    for (let n = 0; n < toDevice && this.pair.deliver("device"); n += 1);
  }

  #restart(): void {
    this.#hosts += 1;
    this.pair.host = Session.host(sessionId(this.#hosts % 256), this.#hostLimits(), this.pair.now);
    this.pair.pending = this.pair.pending.filter(({ side }) => side === "device");
    this.#lostBefore.host = this.#number;
    this.pair.connect();
  }

  /** What the device had sent when it heard that its session is gone may be lost. */
  #noteLoss(): void {
    if (this.pair.told("device", "sessionLost").length > 0) {
      this.#lostBefore.device = this.#number;
      this.pair.pending = this.pair.pending.filter(({ side }) => side === "host");
    }
    this.pair.events = [];
  }

  /** Lets everything through, and has everything taken. */
  settle(): void {
    this.pair.consume = true;
    this.pair.connect();
    this.pair.run();
    this.#noteLoss();
    this.pair.handlePending();
    this.pair.run();
  }

  check(): void {
    const { device, host, taken, now } = this.pair;
    expect(device.channels).toEqual(host.channels);
    expect([device.heldBytes, host.heldBytes]).toEqual([0, 0]);
    expect([device.pollTransmit(now), host.pollTransmit(now)]).toEqual([null, null]);
    for (const side of SIDES) {
      for (const channel of this.#channels) {
        const sent = this.#sent.filter((sent) => sent.side === side && sent.channel === channel);
        const got = taken[other(side)].filter((taken) => taken.channel === channel).map(({ bytes }) => bytes);
        const numbers = got.map(numberOf);
        expect(numbers).toEqual([...new Set(numbers)].sort((a, b) => a - b));
        const altered = got.filter((bytes) => {
          const length = sent.find(({ number }) => number === numberOf(bytes))?.length ?? 0;
          return !equal(bytes, message(numberOf(bytes), length));
        });
        expect(altered).toEqual([]);
        if (isOpen(device, channel) && isOpen(host, channel)) {
          const due = sent.map(({ number }) => number).filter((number) => number > this.#lostBefore[side]);
          expect(due.filter((number) => !numbers.includes(number))).toEqual([]);
        }
      }
    }
  }
}

/** Whether messages may still be sent. The API's channel is never forgotten, but closes when its queue overflows. */
function isOpen(session: Session, channel: number): boolean {
  try {
    session.send(channel, new Uint8Array(0));
    return true;
  } catch {
    return false;
  }
}

test("nothing is doubled, reordered or lost in silence", () => {
  for (let seed = 1; seed <= 150; seed += 1) {
    const model = new Model(seed * 7919);
    for (let step = 0; step < 100; step += 1) {
      model.step();
    }
    model.settle();
    try {
      model.check();
    } catch (cause) {
      throw new Error(`seed ${seed}`, { cause });
    }
  }
});
