/**
 * Text that comes in short: what is around a piece comes once, with the number of a lane, and then only the lane's number
 * (`shortText` of `host/read`, docs/api.md).
 */
import { type Json, json } from "../json";

/** Lanes that a channel has at most. */
const LANES = 8;

/** The lanes of one channel. */
export class TextLanes {
  readonly #begun = new Map<number, Json>();

  /** The message that `message` stands for: itself, where it is not in short. Empty where its lane has not begun. */
  whole(message: Json): Json {
    const { lane, ...rest } = message;
    if (typeof lane !== "number" || !Number.isInteger(lane) || lane < 0 || lane >= LANES) {
      return message;
    }
    if (rest.method !== undefined) {
      this.#begun.set(lane, rest);
      return rest;
    }
    const begun = this.#begun.get(lane);
    return begun === undefined ? {} : { ...begun, params: { ...json(begun.params), delta: rest.delta } };
  }
}
