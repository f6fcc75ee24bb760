/**
 * The session: messages on several channels that arrive exactly once and in order over any number of links, or an
 * explicit gap. docs/protocol.md, section 4; the same machine as `proto/src/session`.
 *
 * A driver owns the sockets and the cryptography. It feeds opened records in ({@link Session.handleRecord}), takes
 * plaintexts out ({@link Session.pollTransmit}), and looks at {@link Session.pollEvent} and
 * {@link Session.pollTimeout} after each. Times come in as arguments, in milliseconds of a clock that never goes back.
 * Both ends are this one class, so that a test can be either:
 *
 * - On each channel, in each direction, frames are numbered when they are *sent* and kept until the other side has
 *   *handled* them. Messages are cut into fragments only when there is room for one, so a keystroke on one channel
 *   waits for a record of another, never for a message.
 * - A new link starts with `Open` or `Resume`. Both sides say what they expect next, and what lies before is not sent
 *   again. Nothing else depends on which link a frame came over.
 * - What is queued, unacknowledged or not handled is bounded. Who does not keep up has the channel closed with a gap.
 */
import { type Bytes, equal, utf8 } from "../bytes";
import { MAX_RECORD_PLAINTEXT } from "../wire/blocks";
import { DecodeError } from "../wire/error";
import {
  type Frame,
  MAX_CLOSE_TEXT,
  MAX_ENVIRONMENT,
  MAX_RESUME_CHANNELS,
  type Received,
  putFrame,
  readFrame,
} from "../wire/frame";
import { ChannelCloseReason } from "../wire/reason";
import { Reader } from "../wire/reader";
import { Writer } from "../wire/writer";
import { Channel } from "./channel";
import { OpenError, SendError, SessionError } from "./error";
import type { SessionEvent } from "./event";
import {
  API_CHANNEL,
  MAX_CHANNELS,
  TRICKLE_ACK_DELAY,
  TRICKLE_BYTES,
  type SessionLimits,
  type Side,
  maxMessage,
} from "./limits";
import { Liveness, PROBE_AFTER, PROBE_LIMIT, type Verdict } from "./liveness";

/** Acknowledgements wait at most this long for data to ride on, in milliseconds. */
export const ACK_DELAY = 20;
/** Acknowledgements wait for at most this many bytes that were stored or handled. */
export const ACK_BYTES = 32 * 1024;
/** A link whose `Open` or `Resume` has no answer for this long is dead: as long as for anything else unanswered. */
export const ATTACH_LIMIT = PROBE_AFTER + PROBE_LIMIT;

/** A frame that is numbered. */
type SequencedFrame = Extract<Frame, { readonly seq: number }>;

/**
 * - attaching: a device's `Open` or `Resume` is unanswered, or a host waits for it. Everything else waits, pings too:
 *   the host looks for the session in the first record alone.
 */
type LinkState = "down" | "attaching" | "up";

/** One end of a session. */
export class Session {
  readonly side: Side;
  readonly #limits: SessionLimits;
  #id: Bytes | null;
  #link: LinkState = "down";
  /** When the link began. */
  #linked: number;
  #liveness: Liveness;
  /** In ascending order, since numbers only grow. */
  #channels = new Map([[API_CHANNEL, new Channel()]]);
  /** Device: the next number to give out. Host: one more than the largest seen. */
  #nextChannel = API_CHANNEL + 1;
  /** Channels with something to send, each once, in turn. */
  #turn: number[] = [];
  /** Unsequenced frames for this link. */
  #control: Frame[] = [];
  #pong: bigint | null = null;
  /** Channels of which an acknowledgement is owed. */
  #acks = new Set<number>();
  /** Acknowledgements for channels that are over: the other side missed the last ones. */
  #staleAcks = new Map<number, number>();
  #ackDue: number | null = null;
  /** When this side last acknowledged anything on this link. */
  #acked = -Infinity;
  #ackBytes = 0;
  /** Received and not handled, all channels. */
  #receivedBytes = 0;
  #events: SessionEvent[] = [];

  private constructor(side: Side, id: Bytes | null, limits: SessionLimits, now: number) {
    this.side = side;
    this.#id = id;
    this.#limits = limits;
    this.#linked = now;
    this.#liveness = new Liveness(now);
  }

  /** A device's end. It has no id until a host gives it one. */
  static device(limits: SessionLimits, now: number): Session {
    return new Session("device", null, limits, now);
  }

  /** A host's end of a new session with this random id of 16 bytes. */
  static host(id: Bytes, limits: SessionLimits, now: number): Session {
    return new Session("host", id, limits, now);
  }

  /** The session's id, once there is one. */
  get id(): Bytes | null {
    return this.#id;
  }

  /** Whether a link carries the session now. */
  get isUp(): boolean {
    return this.#link === "up";
  }

  /** The numbers of the channels that this side knows, those still closing included. */
  get channels(): number[] {
    return [...this.#channels.keys()];
  }

  // --- links ---------------------------------------------------------

  /** A new link is there; the one before is over, and nothing from it may be fed in any more. */
  linkUp(now: number): void {
    this.linkDown();
    this.#linked = now;
    this.#liveness = new Liveness(now);
    this.#link = "attaching";
    if (this.side === "device") {
      // What is queued waits for the answer: if an `Opened` were lost, a second `Open` would send the same to a session
      // that knows nothing of the first.
      this.#control.push(
        this.#id === null ? { type: "Open" } : { type: "Resume", session: this.#id, received: this.#expected() },
      );
    }
  }

  /** The link is gone. */
  linkDown(): void {
    this.#link = "down";
    this.#control = [];
    this.#pong = null;
    this.#turn = [];
    this.#ackDue = null;
    this.#acked = -Infinity;
  }

  /** When something was last heard on the link, or it began, in milliseconds of the clock. */
  get heardAt(): number {
    return this.#liveness.heardAt;
  }

  /** Asks the other side for a sign of life; its answer is a `roundTrip`. Without a session that is up there is none. */
  probe(now: number): void {
    if (this.#link === "up") {
      this.#control.push({ type: "Ping", id: this.#liveness.ping(now) });
    }
  }

  // --- sending -------------------------------------------------------

  /** Opens a channel to an environment, for a device; returns its number. Throws {@link OpenError}. */
  openChannel(environment: string): number {
    if (utf8(environment).length > MAX_ENVIRONMENT) {
      throw new OpenError("environment");
    }
    if (this.#channels.size > MAX_CHANNELS) {
      throw new OpenError("tooMany");
    }
    const number = this.#nextChannel++;
    const channel = new Channel();
    channel.outbound.open(environment);
    this.#channels.set(number, channel);
    this.#takeTurn(number);
    return number;
  }

  /**
   * Queues a message, whose bytes belong to the session from here on. Throws {@link SendError}; on overflow the channel
   * is given up.
   */
  send(number: number, message: Bytes): void {
    const [length, limit] = [message.length, maxMessage(this.side === "device" ? "host" : "device")];
    if (length > limit) {
      throw new SendError({ kind: "tooLong", length, limit });
    }
    const channel = this.#openChannel(number);
    if (channel === null) {
      throw new SendError({ kind: "closed" });
    }
    if (channel.outbound.waitingBytes >= this.#limits.channelQueue) {
      this.#giveUp(number);
      throw new SendError({ kind: "overflow" });
    }
    channel.outbound.message(message);
    this.#takeTurn(number);
    if (this.#queuedBytes() > this.#limits.sessionQueue) {
      this.#giveUpLargest(number);
    }
  }

  /** Bytes queued or in flight on a channel. */
  backlog(number: number): number {
    return this.#channels.get(number)?.backlog ?? 0;
  }

  /** Bytes that this end holds: queued, in flight, or received and not handled. */
  get heldBytes(): number {
    let sum = this.#receivedBytes;
    for (const channel of this.#channels.values()) {
      sum += channel.backlog;
    }
    return sum;
  }

  /** Closes a channel after what is queued on it. The text is for a person, and clipped. */
  closeChannel(number: number, reason: number, text: string): void {
    const channel = this.#openChannel(number);
    if (channel !== null) {
      channel.outbound.close(reason, clipped(text, MAX_CLOSE_TEXT));
      this.#discardReceived(number, channel);
      this.#takeTurn(number);
    }
  }

  /**
   * Closes a channel, and takes back what the other side does not have: from here on, what of it arrived stays as it
   * is, and the rest never arrives. For one whose user is told that the connection broke, and may say the same again on
   * another.
   */
  withdrawChannel(number: number, reason: number, text: string): void {
    const channel = this.#openChannel(number);
    if (channel !== null) {
      channel.outbound.withdraw(reason, clipped(text, MAX_CLOSE_TEXT));
      this.#discardReceived(number, channel);
      this.#takeTurn(number);
    }
  }

  /** Ends the link with a last word: the next record of {@link pollTransmit} has it, and nothing may follow that. */
  bye(reason: number, reconnectInMs: number): void {
    if (this.#link !== "down") {
      this.#turn = [];
      this.#control.push({ type: "Bye", reason, reconnectInMs });
    }
  }

  /** The consumer has taken a message: acknowledge it. */
  handled(number: number, seq: number, now: number): void {
    const channel = this.#channels.get(number);
    if (channel !== undefined) {
      const { freed, last, moved } = channel.inbound.handled(seq);
      this.#receivedBytes -= freed;
      if (moved) {
        this.#oweAck(number, last, now);
      }
      this.#forgetIfOver(number, channel);
    }
  }

  // --- records in ----------------------------------------------------

  /**
   * Takes the plaintext of one opened record. What comes after a `Bye` counts for nothing. Throws {@link SessionError}:
   * then the session is over.
   */
  handleRecord(record: Bytes, now: number): void {
    this.#liveness.heard(now);
    const r = new Reader(record);
    while (this.#link !== "down") {
      const frame = decodeFrame(r);
      if (frame === null) {
        return;
      }
      this.#handleFrame(frame, now);
    }
  }

  #handleFrame(frame: Frame, now: number): void {
    if (frame.type === "Bye") {
      const reconnectInMs = Math.min(frame.reconnectInMs, 0xffff_ffff);
      this.#events.push({ type: "bye", reason: frame.reason, reconnectInMs });
      this.linkDown();
    } else if (this.#link === "up") {
      this.#handleUp(frame, now);
    } else if (this.side === "host") {
      this.#handleFirst(frame, now);
    } else {
      this.#handleAnswer(frame, now);
    }
  }

  /** The first frame that a host hears on a link. */
  #handleFirst(frame: Frame, now: number): void {
    const session = this.#id;
    if (frame.type === "Open" && session !== null) {
      this.#control.push({ type: "Opened", session });
      this.#events.push({ type: "established", session, resumed: false });
      this.#startSending(new Map(), now);
    } else if (frame.type === "Resume" && session !== null && equal(frame.session, session)) {
      this.#resumed(session, frame.received, now);
    } else {
      throw unexpected(frame);
    }
  }

  /** The first frame that a device hears on a link. */
  #handleAnswer(frame: Frame, now: number): void {
    const session = this.#id;
    if (frame.type === "Opened" && session === null) {
      // A copy: a view would keep the record.
      this.#id = frame.session.slice();
      this.#events.push({ type: "established", session: this.#id, resumed: false });
      this.#startSending(new Map(), now);
    } else if (frame.type === "Resumed" && session !== null) {
      this.#resumed(session, frame.received, now);
    } else if (frame.type === "Gap" && session !== null) {
      this.#lost(frame.reason);
    } else {
      throw unexpected(frame);
    }
  }

  #handleUp(frame: Frame, now: number): void {
    switch (frame.type) {
      case "Ping":
        // One answer is enough for any number of pings, so a flood of them costs nothing.
        this.#pong = frame.id;
        break;
      case "Pong":
        this.#answered(frame.id, now);
        break;
      case "Ack":
        this.#acknowledged(frame.channel, frame.next, now);
        break;
      case "ChannelOpen":
      case "ChannelClose":
      case "Data":
        this.#arrived(frame, now);
        break;
      case "Open":
      case "Opened":
      case "Resume":
      case "Resumed":
      case "Gap":
      case "Bye":
        throw unexpected(frame);
    }
  }

  #answered(id: bigint, now: number): void {
    const ms = this.#liveness.answered(id, now);
    if (ms !== null) {
      this.#events.push({ type: "roundTrip", ms });
    }
  }

  #arrived(frame: SequencedFrame, now: number): void {
    const channel = this.#channels.get(frame.channel) ?? this.#unknown(frame, now);
    if (channel === null) {
      return;
    }
    const { inbound } = channel;
    this.#liveness.heardSequenced();
    if (!inbound.accept(frame.channel, frame.seq)) {
      this.#oweAck(frame.channel, frame.type === "Data" ? frame.bytes.length : 0, now);
      return;
    }
    const opens = this.side === "host" && frame.seq === 0 && frame.channel !== API_CHANNEL;
    if (opens !== (frame.type === "ChannelOpen")) {
      throw new SessionError({ kind: "unexpected", frame: "out of place ChannelOpen or first" });
    }
    switch (frame.type) {
      case "ChannelOpen":
        this.#oweAck(frame.channel, 0, now);
        this.#channelOpened(frame.channel, frame.environment);
        break;
      case "ChannelClose":
        this.#oweAck(frame.channel, 0, now);
        inbound.closed = true;
        // Whoever closed first is not told about the answer to it.
        if (!channel.isClosing) {
          this.#channelClosed(frame.channel, channel, frame.reason, frame.text);
        }
        break;
      case "Data":
        this.#fragment(channel, frame, now);
        break;
    }
    this.#forgetIfOver(frame.channel, channel);
  }

  /** A channel that is not here: a new one, or `null` if it is over and the other side missed the last acknowledgement. */
  #unknown(frame: SequencedFrame, now: number): Channel | null {
    if (frame.channel < this.#nextChannel) {
      this.#staleAcks.set(frame.channel, Math.min(frame.seq + 1, Number.MAX_SAFE_INTEGER));
      if (this.#staleAcks.size > MAX_RESUME_CHANNELS) {
        throw new SessionError({ kind: "unexpected", frame: "stale" });
      }
      this.#ackDue ??= now + ACK_DELAY;
      return null;
    }
    if (this.side === "device" || frame.type !== "ChannelOpen") {
      throw new SessionError({ kind: "unexpected", frame: "unknown channel's" });
    }
    if (this.#channels.size > MAX_CHANNELS) {
      throw new SessionError({ kind: "unexpected", frame: "too many channels'" });
    }
    const channel = new Channel();
    this.#nextChannel = frame.channel + 1;
    this.#channels.set(frame.channel, channel);
    return channel;
  }

  #channelOpened(number: number, environment: string): void {
    const open = [...this.#channels.values()].filter((channel) => !channel.isClosing).length;
    if (open > this.#limits.channels + 1) {
      this.closeChannel(number, ChannelCloseReason.limit, "too many channels are open");
    } else {
      this.#events.push({ type: "channelOpened", channel: number, environment });
    }
  }

  #channelClosed(number: number, channel: Channel, reason: number, text: string): void {
    this.#discardReceived(number, channel);
    channel.outbound.dropQueue();
    this.closeChannel(number, ChannelCloseReason.done, "");
    this.#events.push({ type: "channelClosed", channel: number, reason, text });
  }

  #fragment(channel: Channel, frame: Extract<Frame, { readonly type: "Data" }>, now: number): void {
    if (channel.isClosing) {
      // This side is done with the channel: take and forget.
      this.#oweAck(frame.channel, frame.bytes.length, now);
      return;
    }
    const { message, held } = channel.inbound.fragment(frame.channel, frame.seq, frame, maxMessage(this.side));
    this.#receivedBytes += held;
    if (this.#receivedBytes > this.#limits.receiveBuffer) {
      throw new SessionError({ kind: "receiveBuffer", bytes: this.#receivedBytes });
    }
    if (message === null) {
      this.#oweAck(frame.channel, frame.bytes.length, now);
    } else {
      this.#events.push({ type: "message", channel: frame.channel, seq: frame.seq, bytes: message });
    }
  }

  #acknowledged(number: number, next: number, now: number): void {
    const channel = this.#channels.get(number);
    if (channel !== undefined) {
      channel.outbound.acknowledged(number, next, now);
      if (channel.outbound.hasMore) {
        this.#takeTurn(number);
      }
      this.#forgetIfOver(number, channel);
    }
  }

  // --- attaching -----------------------------------------------------

  #resumed(session: Bytes, received: readonly Received[], now: number): void {
    const peer = new Map(received.map(({ channel, next }) => [channel, next]));
    for (const [number, { outbound }] of this.#channels) {
      const next = peer.get(number);
      if (next !== undefined) {
        outbound.checkResume(number, next);
      }
    }
    if (this.side === "host") {
      this.#control.push({ type: "Resumed", received: this.#expected() });
    }
    this.#events.push({ type: "established", session, resumed: true });
    this.#startSending(peer, now);
  }

  #lost(reason: number): void {
    this.#id = null;
    this.#receivedBytes = 0;
    this.#acks.clear();
    this.#staleAcks.clear();
    this.#events.push({ type: "sessionLost", reason });
    for (const [number, channel] of this.#channels) {
      if (number !== API_CHANNEL && !channel.isClosing) {
        const text = "the host no longer has this session";
        this.#events.push({ type: "channelClosed", channel: number, reason: ChannelCloseReason.gap, text });
      }
    }
    this.#channels = new Map([[API_CHANNEL, new Channel()]]);
    this.#control.push({ type: "Open" });
  }

  /** From here on sequenced frames flow: again what the peer lacks, then what is new. */
  #startSending(peerExpects: ReadonlyMap<number, number>, now: number): void {
    this.#link = "up";
    this.#turn = [];
    for (const [number, { outbound, inbound }] of this.#channels) {
      outbound.rewind(peerExpects.get(number) ?? null);
      // Acknowledgements may have been lost with the old link: say them again.
      if (inbound.handledNext > 0) {
        this.#acks.add(number);
      }
      // In ascending order, so that channels are opened in the order of their numbers.
      if (outbound.hasMore) {
        this.#turn.push(number);
      }
    }
    // At once: the other side's window may be full of what they are about.
    if (this.#acks.size > 0 || this.#staleAcks.size > 0) {
      this.#ackDue = now;
    }
  }

  #expected(): Received[] {
    return [...this.#channels].map(([channel, { inbound }]) => ({ channel, next: inbound.expected }));
  }

  // --- records out ---------------------------------------------------

  /** The plaintext of the next record, at most 16 KiB; `null` when there is nothing to send now. */
  pollTransmit(now: number): Bytes | null {
    if (this.#link === "down") {
      return null;
    }
    const w = new Writer();
    for (const frame of this.#control.splice(0)) {
      putFrame(w, frame);
    }
    if (this.#pong !== null) {
      putFrame(w, { type: "Pong", id: this.#pong });
      this.#pong = null;
    }
    if (this.#link === "up") {
      const due = this.#ackBytes >= ACK_BYTES || (this.#ackDue !== null && this.#ackDue <= now);
      if (due || this.#turn.length > 0 || w.length > 0) {
        this.#transmitAcks(w, now);
      }
      this.#transmitData(w, now);
    }
    return w.length > 0 ? w.finish() : null;
  }

  /** An acknowledgement is at most 17 bytes: 128 channels and 256 stale ones fit beside the longest control frames. */
  #transmitAcks(w: Writer, now: number): void {
    if (this.#acks.size > 0) {
      this.#acked = now;
    }
    for (const number of [...this.#acks].sort(ascending)) {
      const channel = this.#channels.get(number);
      if (channel !== undefined) {
        putFrame(w, { type: "Ack", channel: number, next: channel.inbound.handledNext });
      }
    }
    for (const [channel, next] of [...this.#staleAcks].sort(([a], [b]) => ascending(a, b))) {
      putFrame(w, { type: "Ack", channel, next });
    }
    this.#acks.clear();
    this.#staleAcks.clear();
    this.#ackDue = null;
    this.#ackBytes = 0;
  }

  #transmitData(w: Writer, now: number): void {
    for (let number = this.#turn.shift(); number !== undefined; number = this.#turn.shift()) {
      const channel = this.#channels.get(number);
      if (channel === undefined) {
        continue;
      }
      const before = w.length;
      const full = !channel.outbound.transmit(number, MAX_RECORD_PLAINTEXT, w, now);
      if (full && w.length === before) {
        // Nothing went out: it begins the next record.
        this.#turn.unshift(number);
        return;
      }
      if (full || channel.outbound.hasMore) {
        this.#turn.push(number);
      }
      if (full) {
        return;
      }
    }
  }

  // --- time ----------------------------------------------------------

  /** When {@link handleTimeout} wants to be called, if nothing happens before; `null` without a link. */
  pollTimeout(): number | null {
    switch (this.#link) {
      case "down":
        return null;
      case "attaching":
        return this.#linked + ATTACH_LIMIT;
      case "up":
        return Math.min(this.#liveness.next(this.#oldestUnacked()), this.#ackDue ?? Infinity);
    }
  }

  /** Time has passed. */
  handleTimeout(now: number): void {
    const verdict = this.#verdict(now);
    if (verdict.type === "ping") {
      this.#control.push({ type: "Ping", id: verdict.id });
    } else if (verdict.type === "dead") {
      this.linkDown();
      this.#events.push({ type: "linkDead" });
    }
  }

  #verdict(now: number): Verdict {
    switch (this.#link) {
      case "down":
        return { type: "alive" };
      case "attaching":
        return { type: now >= this.#linked + ATTACH_LIMIT ? "dead" : "alive" };
      case "up":
        return this.#liveness.check(this.#oldestUnacked(), now);
    }
  }

  /** What happened, oldest first, each once. */
  pollEvent(): SessionEvent | null {
    return this.#events.shift() ?? null;
  }

  // --- helpers -------------------------------------------------------

  #openChannel(number: number): Channel | null {
    const channel = this.#channels.get(number);
    return channel === undefined || channel.isClosing ? null : channel;
  }

  #oldestUnacked(): number | null {
    let oldest: number | null = null;
    for (const { outbound } of this.#channels.values()) {
      const sent = outbound.oldestUnacked;
      oldest = sent === null ? oldest : Math.min(sent, oldest ?? sent);
    }
    return oldest;
  }

  #queuedBytes(): number {
    let sum = 0;
    for (const { outbound } of this.#channels.values()) {
      sum += outbound.queuedBytes;
    }
    return sum;
  }

  #takeTurn(number: number): void {
    if (this.#link === "up" && !this.#turn.includes(number)) {
      this.#turn.push(number);
    }
  }

  #oweAck(number: number, bytes: number, now: number): void {
    this.#acks.add(number);
    this.#ackBytes += bytes;
    // What opens or closes a channel is no trickle: somebody may wait for the end of it.
    const isTrickle = bytes > 0 && this.#ackBytes < TRICKLE_BYTES;
    const due = Math.max(now + ACK_DELAY, isTrickle ? this.#acked + TRICKLE_ACK_DELAY : 0);
    this.#ackDue = Math.min(this.#ackDue ?? Infinity, due);
  }

  /** The channel that holds most pays for a full session, which need not be `sender`, the one that came last. */
  #giveUpLargest(sender: number): void {
    let largest = sender;
    let most = -1;
    for (const [number, { outbound }] of this.#channels) {
      if (outbound.queuedBytes >= most) {
        [largest, most] = [number, outbound.queuedBytes];
      }
    }
    this.#giveUp(largest);
    if (largest === sender) {
      throw new SendError({ kind: "overflow" });
    }
    const text = "session queue is full";
    this.#events.push({ type: "channelClosed", channel: largest, reason: ChannelCloseReason.gap, text });
  }

  #giveUp(number: number): void {
    this.#channels.get(number)?.outbound.dropQueue();
    this.closeChannel(number, ChannelCloseReason.gap, "messages were lost: the other side was away or too slow");
  }

  #discardReceived(number: number, channel: Channel): void {
    this.#receivedBytes -= channel.inbound.discard();
    this.#acks.add(number);
  }

  #forgetIfOver(number: number, channel: Channel): void {
    if (number !== API_CHANNEL && channel.isOver) {
      // The last acknowledgement must still go out, if it has not.
      if (this.#acks.delete(number)) {
        this.#staleAcks.set(number, channel.inbound.handledNext);
      }
      this.#channels.delete(number);
    }
  }
}

function decodeFrame(r: Reader): Frame | null {
  try {
    return readFrame(r);
  } catch (cause) {
    throw cause instanceof DecodeError ? new SessionError({ kind: "decode" }, { cause }) : cause;
  }
}

function unexpected(frame: Frame): SessionError {
  return new SessionError({ kind: "unexpected", frame: frame.type });
}

function ascending(a: number, b: number): number {
  return a - b;
}

/** The start of `text` that fits `limit` bytes of UTF-8. */
function clipped(text: string, limit: number): string {
  const { read } = new TextEncoder().encodeInto(text, new Uint8Array(limit));
  return text.slice(0, read);
}
