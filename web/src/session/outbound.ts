/**
 * The sending half of a channel: numbering, cutting, and keeping until it is acknowledged.
 *
 * Frames get their numbers when they are first sent. A message is cut only when there is room for a fragment, so what
 * is queued has no numbers yet and can still be given up.
 */
import type { Bytes } from "../bytes";
import { type Frame, dataOverhead, putFrame } from "../wire/frame";
import type { Writer } from "../wire/writer";
import { SessionError } from "./error";
import { FRAME_COST, TRICKLE_BYTES } from "./limits";
import { SendWindow } from "./window";

/** A fragment smaller than this, in bytes, is not worth cutting a message for when the record is nearly full. */
const MIN_FRAGMENT = 512;

type Open = Readonly<{ type: "open"; environment: string }>;
type Close = Readonly<{ type: "close"; reason: number; text: string }>;
type Fragment = Readonly<{ type: "fragment"; total: number | null; last: boolean; bytes: Bytes }>;

/** Something to send, not yet numbered; of a message, what is left of it from `sent` on. */
type Outgoing = Open | Close | { readonly type: "message"; readonly bytes: Bytes; sent: number };

/** A numbered frame, kept until it is acknowledged. */
interface Kept {
  readonly what: Open | Close | Fragment;
  /** When it was sent; for one sent again on a later link, when that was. */
  sent: number;
  /** It says nothing about the delay of this link. */
  resent: boolean;
}

/** What one channel sends. */
export class Outbound {
  #queue: Outgoing[] = [];
  #queuedBytes = 0;
  #kept: Kept[] = [];
  #keptBytes = 0;
  /** Number of the first frame that is kept. */
  #base = 0;
  /** How many of those kept need not be sent (again) on this link. */
  #sent = 0;
  #window = new SendWindow();
  #closing = false;
  /** What the other side does not have is not to reach it any more, see {@link withdraw}. */
  #withdrawn = false;

  /** Queues the frame that opens the channel. */
  open(environment: string): void {
    this.#enqueue({ type: "open", environment });
  }

  /** Queues a message. */
  message(bytes: Bytes): void {
    this.#enqueue({ type: "message", bytes, sent: 0 });
  }

  /** Queues the close, after which nothing is sent. */
  close(reason: number, text: string): void {
    this.#closing = true;
    this.#enqueue({ type: "close", reason, text });
  }

  /** Forgets what is not numbered yet, except that a channel be opened. */
  dropQueue(): void {
    this.#queue = this.#queue.filter(({ type }) => type === "open");
    this.#queuedBytes = total(this.#queue, queuedCost);
    this.#closing = this.#kept.some(({ what }) => what.type === "close");
  }

  /**
   * Closes the channel in place of what is not numbered yet, and from {@link rewind} on of what the other side does not
   * have.
   */
  withdraw(reason: number, text: string): void {
    this.dropQueue();
    this.#withdrawn = true;
    this.close(reason, text);
  }

  /** Bytes that are queued and not numbered. */
  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  /** Bytes queued behind the message on its way. */
  get waitingBytes(): number {
    const [first] = this.#queue;
    return this.#queuedBytes - (first === undefined ? 0 : queuedCost(first));
  }

  /** Bytes numbered and not acknowledged. */
  get inFlight(): number {
    return this.#keptBytes;
  }

  /** Whether a close is queued or numbered. */
  get isClosing(): boolean {
    return this.#closing;
  }

  /** Whether all that was said is acknowledged. */
  get isEmpty(): boolean {
    return this.#queue.length === 0 && this.#kept.length === 0;
  }

  /** Whether there is something to send that the window lets through. */
  get hasMore(): boolean {
    return this.#sent < this.#kept.length || (this.#queue.length > 0 && this.#keptBytes < this.#window.limit);
  }

  /** When the oldest unacknowledged frame was sent on this link: those that wait for room wait for nothing else. */
  get oldestUnacked(): number | null {
    return this.#sent > 0 ? (this.#kept[0]?.sent ?? null) : null;
  }

  /** A link begins; the peer has everything below `next`, or `null`: it does not know the channel, not yet or not any more. */
  rewind(next: number | null): void {
    this.#sent = Math.min(Math.max((next ?? 0) - this.#base, 0), this.#kept.length);
    this.#window = new SendWindow();
    // What was sent over another link says nothing about the delay of this one.
    for (const kept of this.#kept) {
      kept.resent = true;
    }
    // Of one that it does not know any more it may still acknowledge every number.
    if (this.#withdrawn && next !== null) {
      this.#dropUnsent();
    }
  }

  /**
   * Takes back the messages that were numbered and need to be sent again: the other side does not have them, and what
   * lies on the link before is not read any more. Their numbers go to what follows.
   */
  #dropUnsent(): void {
    const again: Outgoing[] = [];
    for (const { what } of this.#kept.splice(this.#sent)) {
      if (what.type !== "fragment") {
        again.push(what);
      }
    }
    this.#queuedBytes += total(again, queuedCost);
    this.#queue.unshift(...again);
    this.#keptBytes = total(this.#kept, keptCost);
  }

  /**
   * Writes frames until this channel's turn is over; `false` when the record, of at most `limit` bytes, is full first.
   *
   * A turn is everything small, or one fragment of something large: what is left of the record is at most one record's
   * worth.
   */
  transmit(channel: number, limit: number, w: Writer, now: number): boolean {
    for (let kept = this.#kept[this.#sent]; kept !== undefined; kept = this.#kept[this.#sent]) {
      if (!put(w, limit, frameOf(kept.what, channel, this.#base + this.#sent))) {
        return false;
      }
      kept.sent = now;
      kept.resent = true;
      this.#sent += 1;
    }
    while (this.#keptBytes < this.#window.limit) {
      const [outgoing] = this.#queue;
      if (outgoing === undefined) {
        break;
      }
      const seq = this.#base + this.#kept.length;
      const what = outgoing.type === "message" ? cut(outgoing, channel, seq, limit - w.length) : outgoing;
      if (what === null || !put(w, limit, frameOf(what, channel, seq))) {
        return false;
      }
      const before = queuedCost(outgoing);
      const done = what.type !== "fragment" || what.last;
      if (done) {
        this.#queue.shift();
        this.#queuedBytes -= before;
      } else if (outgoing.type === "message") {
        outgoing.sent += what.bytes.length;
        this.#queuedBytes -= before - queuedCost(outgoing);
      }
      const kept = { what, sent: now, resent: false };
      this.#keptBytes += keptCost(kept);
      this.#kept.push(kept);
      this.#sent += 1;
      if (!done) {
        break;
      }
    }
    return true;
  }

  /** Refuses what a peer says that it expects when it resumes, if that was never sent, or was acknowledged before. */
  checkResume(channel: number, next: number): void {
    if (next < this.#base || next > this.#base + this.#kept.length) {
      throw new SessionError({ kind: "badAck", channel, next });
    }
  }

  /** The other side has handled everything below `next`. Throws {@link SessionError}. */
  acknowledged(channel: number, next: number, now: number): void {
    if (next > this.#base + this.#kept.length) {
      throw new SessionError({ kind: "badAck", channel, next });
    }
    const count = next - this.#base;
    if (count <= 0) {
      return;
    }
    const limited = this.#queue.length > 0;
    const known = this.#kept.splice(0, count);
    const isTrickle = total(known, (kept) => keptCost(kept) - FRAME_COST) < TRICKLE_BYTES;
    for (const kept of known) {
      const bytes = keptCost(kept);
      this.#keptBytes -= bytes;
      if (!kept.resent) {
        this.#window.acknowledged(bytes, kept.sent, { limited, isTrickle }, now);
      }
    }
    this.#base = next;
    this.#sent = Math.max(this.#sent - count, 0);
  }

  #enqueue(outgoing: Outgoing): void {
    this.#queuedBytes += queuedCost(outgoing);
    this.#queue.push(outgoing);
  }
}

/** The next fragment of a message, for a record that has `room` bytes left; `null` if that is not worth it. */
function cut(
  { bytes, sent }: { readonly bytes: Bytes; readonly sent: number },
  channel: number,
  seq: number,
  room: number,
): Fragment | null {
  const total = sent === 0 ? bytes.length : null;
  const rest = bytes.length - sent;
  const overhead = dataOverhead(channel, seq, total, Math.min(rest, room));
  const size = Math.min(rest, Math.max(room - overhead, 0));
  if (size < Math.min(rest, MIN_FRAGMENT)) {
    return null;
  }
  return { type: "fragment", total, last: size === rest, bytes: bytes.subarray(sent, sent + size) };
}

/** Writes a frame, if the record has room for it. */
function put(w: Writer, limit: number, frame: Frame): boolean {
  const before = w.length;
  putFrame(w, frame);
  if (w.length > limit) {
    w.truncate(before);
    return false;
  }
  return true;
}

function frameOf(what: Open | Close | Fragment, channel: number, seq: number): Frame {
  switch (what.type) {
    case "open":
      return { type: "ChannelOpen", channel, seq, environment: what.environment };
    case "close":
      return { type: "ChannelClose", channel, seq, reason: what.reason, text: what.text };
    case "fragment":
      return { type: "Data", channel, seq, total: what.total, last: what.last, bytes: what.bytes };
  }
}

function queuedCost(outgoing: Outgoing): number {
  return FRAME_COST + (outgoing.type === "message" ? outgoing.bytes.length - outgoing.sent : 0);
}

function keptCost({ what }: Kept): number {
  return FRAME_COST + (what.type === "fragment" ? what.bytes.length : 0);
}

function total<T>(items: readonly T[], cost: (item: T) => number): number {
  return items.reduce((sum, item) => sum + cost(item), 0);
}
