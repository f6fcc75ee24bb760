/**
 * Codex itself: its app-server's JSON-RPC on a channel of a session, behind the host's firewall (docs/scopes.md).
 *
 * What Codex asks (approvals, questions) is not answered here: the agent's API does that for all devices.
 */
import { type Bytes, utf8 } from "../bytes";
import { type Json, isJson, json, text } from "../json";
import type { SessionDriver } from "../session/driver";
import { OpenError, SendError } from "../session/error";
import type { ChannelHandle } from "../session/handle";
import { ChannelCloseReason } from "../wire/reason";
import { TextLanes } from "./lanes";

/** Who hears of a channel. */
export interface CodexUser {
  /** A notification of Codex's. */
  readonly heard: (method: string, params: Json) => void;
  /** The channel is gone, and not by this side; a number of `ChannelCloseReason`. */
  readonly closed: (reason: number) => void;
  /** What it says can't be made out, and the channel is closed for that: what was heard on it has to be read again. */
  readonly torn: () => void;
}

/** Codex, or the host before it, did not do what it was asked to. Its words are for a person. */
export class CodexError extends Error {
  override readonly name = "CodexError";
}

/** It has answered, and said no: asked again it says so again. */
export class CodexRefusal extends CodexError {}

/** Codex has too much to do, and did not begin it. */
class OverloadedError extends CodexError {}

/** The code of that in JSON-RPC: docs/adapters.md, "A Codex with too much to do". */
const OVERLOADED = -32001;
/** So often a request is asked again, as often as the host asks its own. */
const MOST_RETRIES = 8;
/** Bounds of the pauses before that, in milliseconds: the first, which doubles, and the last. */
const [FIRST_PAUSE, LAST_PAUSE] = [100, 3_000];

interface Unanswered {
  readonly resolve: (result: Json) => void;
  readonly reject: (error: CodexError) => void;
}

const NOBODY: CodexUser = { heard: () => undefined, closed: () => undefined, torn: () => undefined };
const GONE = "The connection to Codex was lost before it answered: it may have been done or not.";

/** See the module's header. {@link Codex.close} ends it. */
export class Codex {
  readonly #channel: ChannelHandle;
  readonly #user: CodexUser;
  readonly #unanswered = new Map<number, Unanswered>();
  readonly #lanes = new TextLanes();
  #nextId = 0;
  #closed = false;

  private constructor(session: SessionDriver, environment: string, user: CodexUser) {
    this.#user = user;
    this.#channel = session.openChannel(environment, {
      message: (bytes, handled) => {
        try {
          this.#take(bytes);
        } finally {
          handled();
        }
      },
      closed: (reason) => {
        this.#gone();
        user.closed(reason);
      },
    });
  }

  /** Opens a channel to an environment, and introduces this app there. Throws {@link CodexError}. */
  static open(session: SessionDriver, environment: string, user: CodexUser = NOBODY): Codex {
    try {
      const codex = new Codex(session, environment, user);
      const clientInfo = { name: "reachback_app", title: "Reachback", version: "0.1.0" };
      // What it answers is of no use here, and whatever fails fails with the first request, too.
      codex.request("initialize", { clientInfo, capabilities: { experimentalApi: true } }).catch(() => undefined);
      codex.#say({ method: "initialized" });
      return codex;
    } catch (cause) {
      throw cause instanceof OpenError ? new CodexError(cause.message, { cause }) : cause;
    }
  }

  /** Asks one thing on a channel of its own. Rejects with {@link CodexError}. */
  static async once(session: SessionDriver, environment: string, method: string, params: Json): Promise<Json> {
    const codex = Codex.open(session, environment);
    try {
      return await codex.request(method, params);
    } finally {
      codex.close();
    }
  }

  /**
   * Asks; again, later and later, while Codex has too much to do, so that whoever was refused at the same time does not
   * come back at the same time. Rejects with {@link CodexError}.
   */
  async request(method: string, params: Json): Promise<Json> {
    for (let tried = 0; ; tried += 1) {
      try {
        return await this.#ask(method, params);
      } catch (error) {
        if (!(error instanceof OverloadedError) || tried === MOST_RETRIES) {
          throw error;
        }
        await new Promise((resolve) => setTimeout(resolve, pauseBound(tried) * Math.random()));
        if (this.#closed) {
          throw error;
        }
      }
    }
  }

  #ask(method: string, params: Json): Promise<Json> {
    return new Promise((resolve, reject) => {
      const id = this.#nextId++;
      this.#unanswered.set(id, { resolve, reject });
      try {
        this.#say({ id, method, params });
      } catch (cause) {
        this.#unanswered.delete(id);
        throw cause;
      }
    });
  }

  /** Closes the channel; whatever has no answer yet fails. */
  close(): void {
    if (!this.#closed) {
      this.#gone();
      this.#channel.close(ChannelCloseReason.done, "");
    }
  }

  #say(message: Json): void {
    try {
      this.#channel.send(utf8(JSON.stringify(message)));
    } catch (cause) {
      throw cause instanceof SendError ? new CodexError(GONE, { cause }) : cause;
    }
  }

  #gone(): void {
    this.#closed = true;
    for (const { reject } of this.#unanswered.values()) {
      reject(new CodexError(GONE));
    }
    this.#unanswered.clear();
  }

  #take(bytes: Bytes): void {
    const message = this.#lanes.whole(parse(bytes));
    if (message === null) {
      if (!this.#closed) {
        this.close();
        this.#user.torn();
      }
      return;
    }
    const { id, method, params, result, error } = message;
    if (typeof method === "string") {
      // With an id Codex asks something.
      if (id === undefined && !this.#closed) {
        this.#user.heard(method, json(params));
      }
      return;
    }
    const unanswered = typeof id === "number" ? this.#unanswered.get(id) : undefined;
    if (typeof id !== "number" || unanswered === undefined) {
      return;
    }
    this.#unanswered.delete(id);
    if (isJson(error)) {
      const words = text(error.message) || "Codex refused, and did not say why.";
      unanswered.reject(error.code === OVERLOADED ? new OverloadedError(words) : new CodexRefusal(words));
    } else {
      unanswered.resolve(json(result));
    }
  }
}

/** The longest pause after so many that were made already, in milliseconds; it is drawn from zero to that. */
export function pauseBound(made: number): number {
  return Math.min(FIRST_PAUSE * 2 ** made, LAST_PAUSE);
}

const decoder = new TextDecoder("utf-8", { fatal: true });

function parse(bytes: Bytes): Json {
  try {
    return json(JSON.parse(decoder.decode(bytes)));
  } catch {
    return {};
  }
}
