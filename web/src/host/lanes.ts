/**
 * Text that comes in short: what is around a piece comes once, with the number of a lane, and then only the lane's number;
 * and a text that a lane has carried is not said once more when its item is complete (`shortText` and `shortItems` of
 * `host/read`, docs/api.md).
 *
 * The text that goes into such an item is what this channel has carried for this very item. The host says how long it is:
 * where that is another length, something is wrong, and the thread has to be read again.
 */
import { utf8 } from "../bytes";
import { type Json, json, text } from "../json";

/** Lanes that a channel has at most. */
const LANES = 8;
/** What is kept of a lane's text at most, in UTF-16 units: a text that is longer, in bytes, comes with its item. */
const MOST_KEPT = 256 * 1024;

/** Where the text stands in an item that is complete, by what adds to it. */
const PLACES: ReadonlyMap<string, string> = new Map([
  ["item/agentMessage/delta", "text"],
  ["item/commandExecution/outputDelta", "aggregatedOutput"],
  ["item/plan/delta", "text"],
]);

/** One of them. */
interface Lane {
  /** The message that began it. */
  readonly begun: Json;
  /** What it has carried since, or since an item was complete without it; `null` where that is too long to be kept. */
  said: string | null;
}

/** The lanes of one channel. */
export class TextLanes {
  readonly #lanes = new Map<number, Lane>();

  /**
   * The message that `message` stands for: itself, where it is not in short. Empty where its lane has not begun; `null`
   * where a text is left out of it that is not here.
   */
  whole(message: Json): Json | null {
    if (message.method === "item/completed" && message.omitted !== undefined) {
      return this.#completed(message);
    }
    const { lane, ...rest } = message;
    if (typeof lane !== "number" || !Number.isInteger(lane) || lane < 0 || lane >= LANES) {
      return message;
    }
    if (rest.method !== undefined) {
      this.#lanes.set(lane, { begun: rest, said: after("", json(rest.params).delta) });
      return rest;
    }
    const carried = this.#lanes.get(lane);
    if (carried === undefined) {
      return {};
    }
    carried.said = after(carried.said, rest.delta);
    return { ...carried.begun, params: { ...json(carried.begun.params), delta: rest.delta } };
  }

  #completed({ omitted, ...message }: Json): Json | null {
    const { lane, bytes } = json(omitted);
    const carried = typeof lane === "number" ? this.#lanes.get(lane) : undefined;
    if (carried === undefined || carried.said === null || utf8(carried.said).length !== bytes) {
      return null;
    }
    const place = PLACES.get(text(carried.begun.method));
    const [params, begun] = [json(message.params), json(carried.begun.params)];
    const item = json(params.item);
    const isOf = item.id === begun.itemId && params.threadId === begun.threadId && params.turnId === begun.turnId;
    if (place === undefined || !isOf) {
      return null;
    }
    const whole = { ...item, [place]: carried.said };
    carried.said = "";
    return { ...message, params: { ...params, item: whole } };
  }
}

/** `said` with a piece behind it, as far as it is kept. */
function after(said: string | null, delta: unknown): string | null {
  return said === null || typeof delta !== "string" || said.length + delta.length > MOST_KEPT ? null : said + delta;
}
