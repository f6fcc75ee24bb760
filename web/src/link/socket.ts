/**
 * A WebSocket as a queue: binary messages in order, asked for one by one.
 *
 * A page can't slow its WebSocket's sender down, so what is unread is bounded here: a peer that sends more loses the
 * connection. Nor does a page hear when there is room to write again: it has to look.
 */
import type { Bytes } from "../bytes";
import { CloseCode } from "../close";
import { MAX_CIRCUIT_CHUNK } from "../wire/control";
import { LinkError, typed } from "./error";

/**
 * Most unread bytes: eight channels' largest windows. An honest host comes near only where this page stands still; the
 * link is then dropped, and the session resumes on the next.
 */
export const MAX_UNREAD = 32 << 20;
/** What a message costs beside its bytes, in bytes: about what an empty one takes in memory, and those are bounded too. */
const MESSAGE_COST = 256;
/** Most bytes that wait in the browser in front of what is sent next: more would stand in front of a keystroke. */
export const MAX_BUFFERED = 64 * 1024;
/** How often to look whether there is room, in milliseconds: 64 KiB each time is 16 MB/s. */
const LOOK_AGAIN = 4;

/** Makes the platform's WebSocket to this URL. */
export type SocketFactory = (url: string) => WebSocket;

/** A connection to the relay, from the attempt on. */
export class MessageSocket {
  readonly #socket: WebSocket;
  readonly #over = new AbortController();
  #opened = false;
  #unread: Bytes[] = [];
  #unreadBytes = 0;
  /** Why nothing more comes. */
  #ended: LinkError | null = null;
  /** Tells who waits that something has come, or that nothing will. */
  #wake: () => void = () => undefined;

  /** Begins to connect; `signal` ends the connection at any time. Throws {@link LinkError}. */
  constructor(url: string, create: SocketFactory, signal: AbortSignal) {
    const socket = attempt(url, create);
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    const listen = { signal: this.#over.signal };
    socket.addEventListener("open", () => (this.#opened = true), listen);
    socket.addEventListener(
      "message",
      ({ data }: MessageEvent<unknown>) => {
        this.#received(data);
      },
      listen,
    );
    socket.addEventListener(
      "close",
      ({ code, reason }) => {
        this.#end(this.#opened ? closed(code, reason) : new LinkError({ kind: "unreachable" }));
      },
      listen,
    );
    const abort = (): void => {
      this.close(new LinkError({ kind: "aborted" }));
    };
    signal.addEventListener("abort", abort, listen);
    if (signal.aborted) {
      abort();
    }
  }

  /** The next message. For one caller at a time. What came before the end is given out before it rejects with {@link LinkError}. */
  async receive(): Promise<Bytes> {
    for (;;) {
      const message = this.#unread.shift();
      if (message !== undefined) {
        this.#unreadBytes -= message.length + MESSAGE_COST;
        return message;
      }
      this.#check();
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  /** Sends a message on a connection that is open; resolves once there is room for another. Rejects with {@link LinkError}. */
  async send(message: Bytes): Promise<void> {
    this.#check();
    this.#socket.send(message);
    while (this.#socket.bufferedAmount > MAX_BUFFERED) {
      await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN));
      // What a connection that has ended still holds never gets less.
      this.#check();
    }
  }

  /**
   * Closes the connection once what was sent is out, and says why to whoever receives. Nothing more is received. One that
   * has ended already stays as it is.
   */
  close(error: LinkError = closed(CloseCode.normal, "")): void {
    if (this.#ended === null) {
      this.#unread = [];
      this.#end(error);
      this.#socket.close(CloseCode.normal);
    }
  }

  #received(data: unknown): void {
    if (!(data instanceof ArrayBuffer)) {
      this.close(new LinkError({ kind: "protocol", what: "a message is not binary" }));
      return;
    }
    if (data.byteLength > MAX_CIRCUIT_CHUNK) {
      this.close(new LinkError({ kind: "protocol", what: "a message is too long" }));
      return;
    }
    this.#unreadBytes += data.byteLength + MESSAGE_COST;
    if (this.#unreadBytes > MAX_UNREAD) {
      this.close(new LinkError({ kind: "unread", bytes: this.#unreadBytes }));
      return;
    }
    this.#unread.push(new Uint8Array(data));
    this.#wake();
  }

  #check(): void {
    if (this.#ended !== null) {
      throw this.#ended;
    }
  }

  #end(error: LinkError): void {
    this.#ended = error;
    this.#over.abort();
    this.#wake();
  }
}

/** Takes a step on a connection, which is closed if that fails. Rejects with {@link LinkError}. */
export async function orClose<T>(socket: MessageSocket, step: () => Promise<T>): Promise<T> {
  return typed(step).catch((error: unknown) => {
    socket.close(error instanceof LinkError ? error : undefined);
    throw error;
  });
}

function attempt(url: string, create: SocketFactory): WebSocket {
  try {
    return create(url);
  } catch (cause) {
    // Such as a page over https that asks for a relay without.
    throw new LinkError({ kind: "unreachable" }, { cause });
  }
}

/** A restarting relay puts its delay, in milliseconds, into the close's reason. */
function closed(code: number, reason: string): LinkError {
  const delay = code === CloseCode.restarting && /^\d{1,10}$/.test(reason) ? Number(reason) : null;
  return new LinkError({ kind: "closed", code, reconnectInMs: delay });
}
