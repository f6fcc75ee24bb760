/**
 * Drives a device's {@link Session} over whatever link there is.
 *
 * Its user attaches links as they come, and has a {@link Consumer} for each channel. Nothing here waits for a consumer,
 * and what is queued or not handled is bounded in the session, so that neither an absent host nor a slow page stops
 * anyone from going on.
 *
 * Many small messages share a record: what is said in one turn of the page's event loop is written after it, and while
 * a batch is being sealed and sent the next one gathers. Callbacks are called in the order of what they tell, each in a
 * turn of its own, so they may call back in here, and an error of theirs is theirs alone.
 */
import type { Bytes } from "../bytes";
import { LinkError } from "../link/error";
import type { Link } from "../link/link";
import { ByeReason, ChannelCloseReason } from "../wire/reason";
import { OpenError, SendError, SessionError } from "./error";
import type { SessionEvent } from "./event";
import type { ChannelHandle, Consumer } from "./handle";
import { API_CHANNEL, DEVICE_LIMITS, type SessionLimits } from "./limits";
import { Session } from "./session";

/** Plaintext collected into one message, in bytes: four full records. */
const BATCH = 64 * 1024;
/** How long a last word may take, in milliseconds. */
const BYE_TIMEOUT = 2_000;

/** How a session stands. */
export type SessionState =
  /**
   * No link carries it, and why: a link failed, or the host said goodbye (`null`). `carried`: the link that was lost
   * had carried the session. `reconnectInMs`: when the other side wants us back, in milliseconds.
   */
  | {
      readonly at: "down";
      readonly error: LinkError | null;
      readonly carried: boolean;
      readonly reconnectInMs: number | null;
    }
  /** A link is there, and the two sides compare what they have. */
  | { readonly at: "attaching" }
  /** A link carries it. */
  | { readonly at: "up" }
  /**
   * It is over, by the last word of that side, a number of `ByeReason`. `error`: how the host broke the protocol before
   * this side said its own.
   */
  | { readonly at: "ended"; readonly by: "host" | "us"; readonly reason: number; readonly error: SessionError | null };

/** What a session's user brings. */
export interface SessionUser {
  /** How the session stands, on each change. */
  readonly state: (state: SessionState) => void;
  /**
   * The host no longer had the session, why is a number of `GapReason`; a new one takes its place. Its API channel is the
   * same here, but what was said on it and not answered is lost. All other channels close with a gap.
   */
  readonly lost: (reason: number) => void;
  /** How long the host took to answer a ping, in milliseconds; left out by who does not show it. */
  readonly roundTrip?: (ms: number) => void;
  /** Takes what comes on the API's channel. It closes only when the session ends. */
  readonly api: Consumer;
  /** {@link DEVICE_LIMITS} if left out. */
  readonly limits?: SessionLimits;
  /** Milliseconds of a clock that never goes back; the page's own if left out. */
  readonly clock?: () => number;
}

/** See the module's header. */
export class SessionDriver {
  readonly #user: SessionUser;
  readonly #clock: () => number;
  readonly #session: Session;
  /** Who takes what comes in, for each channel that is open to its user. */
  readonly #consumers = new Map<number, Consumer>();
  /** The API's channel. */
  readonly api: ChannelHandle;
  #link: Link | null = null;
  #state: SessionState = { at: "down", error: null, carried: false, reconnectInMs: null };
  /** Counts sessions lost: a message of an earlier one must not be handled in a later one. */
  #generation = 0;
  /** Whether a batch is on its way. */
  #writing = false;
  /** Whether a turn is coming. */
  #awake = false;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(user: SessionUser) {
    this.#user = user;
    this.#clock = user.clock ?? (() => performance.now());
    this.#session = Session.device(user.limits ?? DEVICE_LIMITS, this.#clock());
    this.api = this.#channel(API_CHANNEL, user.api);
  }

  /** How the session stands. */
  get state(): SessionState {
    return this.#state;
  }

  /** Gives the session a new link; its old one is dropped first. */
  attach(link: Link): void {
    if (this.#state.at === "ended") {
      link.close();
      return;
    }
    // The old link is fenced before anything is computed for the new one.
    this.#link?.close();
    this.#link = link;
    this.#writing = false;
    this.#session.linkUp(this.#clock());
    this.#enter({ at: "attaching" });
    void this.#read(link);
    this.#wake();
  }

  /** Opens a channel to an environment of the host. Throws {@link OpenError}. */
  openChannel(environment: string, consumer: Consumer): ChannelHandle {
    if (this.#state.at === "ended") {
      throw new OpenError("ended");
    }
    const number = this.#session.openChannel(environment);
    this.#wake();
    return this.#channel(number, consumer);
  }

  /** Drops the link, such as one that is distrusted; the session waits for another. */
  drop(error: LinkError): void {
    if (this.#link !== null) {
      this.#loseLink(error, null);
    }
  }

  /** Asks the host for a sign of life, on the link that there is. */
  probe(): void {
    this.#session.probe(this.#clock());
    this.#wake();
  }

  /** When something was last heard on the link, or it began, in milliseconds of the clock. */
  get heardAt(): number {
    return this.#session.heardAt;
  }

  /** Ends the session with a last word. */
  async end(reason: number): Promise<void> {
    await this.#end(reason, null);
  }

  // --- channels ------------------------------------------------------

  #channel(number: number, consumer: Consumer): ChannelHandle {
    this.#consumers.set(number, consumer);
    return {
      number,
      send: (bytes) => {
        if (!this.#consumers.has(number)) {
          throw new SendError({ kind: "closed" });
        }
        try {
          this.#session.send(number, bytes);
        } catch (error) {
          if (error instanceof SendError && error.fault.kind === "overflow") {
            this.#close(number, ChannelCloseReason.gap, error.message);
          }
          throw error;
        } finally {
          this.#wake();
        }
      },
      close: (reason, text) => {
        if (this.#consumers.delete(number)) {
          this.#session.closeChannel(number, reason, text);
          this.#wake();
        }
      },
      withdraw: (text) => {
        if (this.#consumers.delete(number)) {
          this.#session.withdrawChannel(number, ChannelCloseReason.gap, text);
          this.#wake();
        }
      },
    };
  }

  #close(number: number, reason: number, text: string): void {
    const consumer = this.#consumers.get(number);
    if (consumer !== undefined) {
      this.#consumers.delete(number);
      queueMicrotask(() => {
        consumer.closed(reason, text);
      });
    }
  }

  #deliver(channel: number, seq: number, bytes: Bytes): void {
    const generation = this.#generation;
    const handled = (): void => {
      if (generation === this.#generation) {
        this.#session.handled(channel, seq, this.#clock());
        this.#wake();
      }
    };
    const consumer = this.#consumers.get(channel);
    if (consumer === undefined) {
      // Nobody is there to take it.
      handled();
      return;
    }
    queueMicrotask(() => {
      consumer.message(bytes, handled);
    });
  }

  // --- turns ---------------------------------------------------------

  /** Has a turn taken after what is being said now. */
  #wake(): void {
    if (!this.#awake) {
      this.#awake = true;
      queueMicrotask(() => {
        this.#awake = false;
        this.#turn();
      });
    }
  }

  #turn(): void {
    if (this.#state.at === "ended") {
      return;
    }
    for (let event = this.#session.pollEvent(); event !== null; event = this.#session.pollEvent()) {
      this.#happened(event);
    }
    this.#write();
    clearTimeout(this.#timer);
    const due = this.#session.pollTimeout();
    if (due !== null) {
      const timer = (): void => {
        this.#session.handleTimeout(this.#clock());
        this.#turn();
      };
      this.#timer = setTimeout(timer, Math.max(Math.ceil(due - this.#clock()), 0));
    }
  }

  #happened(event: SessionEvent): void {
    switch (event.type) {
      case "message":
        this.#deliver(event.channel, event.seq, event.bytes);
        break;
      case "established":
        this.#enter({ at: "up" });
        break;
      case "channelClosed":
        this.#close(event.channel, event.reason, event.text);
        break;
      case "sessionLost":
        this.#generation += 1;
        queueMicrotask(() => {
          this.#user.lost(event.reason);
        });
        break;
      case "bye":
        this.#bye(event.reason, event.reconnectInMs);
        break;
      case "roundTrip":
        queueMicrotask(() => {
          this.#user.roundTrip?.(event.ms);
        });
        break;
      case "linkDead":
        this.#loseLink(new LinkError({ kind: "silent" }), null);
        break;
      case "channelOpened":
        // A host opens none: the session refuses that.
        break;
    }
  }

  #bye(reason: number, reconnectInMs: number): void {
    if (reason !== ByeReason.shuttingDown) {
      this.#finish({ by: "host", reason, error: null });
      return;
    }
    // Its sessions end with it: what is said from here on would be lost, so nobody is kept waiting.
    const text = "the host shuts down";
    for (const number of [...this.#consumers.keys()].filter((number) => number !== API_CHANNEL)) {
      this.#session.withdrawChannel(number, ChannelCloseReason.gap, text);
      this.#close(number, ChannelCloseReason.gap, text);
    }
    this.#loseLink(null, reconnectInMs);
  }

  // --- the link ------------------------------------------------------

  async #read(link: Link): Promise<void> {
    try {
      for (;;) {
        const records = await link.receive();
        if (this.#link !== link) {
          return;
        }
        for (const record of records) {
          this.#session.handleRecord(record, this.#clock());
        }
        this.#turn();
      }
    } catch (error) {
      this.#failed(link, error);
    }
  }

  #write(): void {
    const link = this.#link;
    if (link === null || this.#writing) {
      return;
    }
    const batch: Bytes[] = [];
    for (let bytes = 0; bytes < BATCH;) {
      const record = this.#session.pollTransmit(this.#clock());
      if (record === null) {
        break;
      }
      batch.push(record);
      bytes += record.length;
    }
    if (batch.length > 0) {
      this.#writing = true;
      link.send(batch).then(
        () => {
          if (this.#link === link) {
            this.#writing = false;
            this.#turn();
          }
        },
        (error: unknown) => {
          // Whoever reads hears of the end too, after what came before it: perhaps a last word.
          if (!(error instanceof LinkError)) {
            throw error;
          }
        },
      );
    }
  }

  /** The link ended, or carried what no session says. */
  #failed(link: Link, error: unknown): void {
    if (this.#link !== link) {
      return;
    }
    if (error instanceof SessionError) {
      void this.#end(ByeReason.protocolError, error);
    } else if (error instanceof LinkError) {
      this.#loseLink(error, error.reconnectInMs);
    } else {
      throw error;
    }
  }

  #loseLink(error: LinkError | null, reconnectInMs: number | null): void {
    const carried = this.#state.at === "up";
    this.#link?.close();
    this.#link = null;
    this.#session.linkDown();
    this.#enter({ at: "down", error, carried, reconnectInMs });
  }

  async #end(reason: number, error: SessionError | null): Promise<void> {
    const link = this.#link;
    if (this.#state.at === "ended") {
      return;
    }
    // From here on the link is this function's: nothing is read from it, and nothing else written to it.
    this.#link = null;
    this.#session.bye(reason, 0);
    const last = this.#session.pollTransmit(this.#clock());
    this.#finish({ by: "us", reason, error });
    if (link !== null && last !== null) {
      const late = new Promise<void>((resolve) => setTimeout(resolve, BYE_TIMEOUT));
      const gone = (): void => undefined;
      await Promise.race([link.send([last]).catch(gone), late]);
    }
    link?.close();
  }

  #finish(end: Omit<SessionState & { readonly at: "ended" }, "at">): void {
    this.#link?.close();
    this.#link = null;
    this.#session.linkDown();
    clearTimeout(this.#timer);
    for (const number of [...this.#consumers.keys()]) {
      this.#close(number, ChannelCloseReason.gap, "the session has ended");
    }
    this.#enter({ at: "ended", ...end });
  }

  #enter(state: SessionState): void {
    this.#state = state;
    queueMicrotask(() => {
      this.#user.state(state);
    });
  }
}
