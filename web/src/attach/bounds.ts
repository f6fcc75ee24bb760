/**
 * How much goes along with a prompt.
 *
 * The host takes a request of 16 MiB with a prompt, and a picture of 8 MiB. Bytes become four thirds of themselves on
 * the way, as base64, and text up to six times of itself, as JSON.
 */
import { isPicture } from "../store/attachments";
import type { Attached } from "../store/schema";

/** Most things that go along with one prompt. */
export const MOST = 8;
/** Most bytes of the pictures of one prompt: a minute and a half of a slow phone's uplink (1 Mbit/s). */
export const MOST_BYTES = 8 << 20;
/** Most bytes of the text files of one prompt: as much as a screen shows of one text. */
export const MOST_TEXT = 64 << 10;
/**
 * Longest edge of a picture, in pixels. Models scale down what is larger than this square before they look at it, so
 * more would cost time on the way and show them nothing.
 */
export const LONGEST_EDGE = 2_048;
/** Most bytes of one picture: four of the largest go along. Few are larger than a quarter of it. */
export const MOST_PICTURE = 2 << 20;
/** A picture without losses, as screenshots are, may be so many bytes; else it is made a JPEG, which is smaller. */
export const MOST_PNG = 1 << 20;
/** Largest file that is looked at, in bytes: a photo of today's largest cameras. */
export const MOST_FILE = 64 << 20;

/** What is too much. */
export type Excess = "count" | "bytes" | "text";

/** What of it is too much for one prompt; `null` where nothing is. */
export function excessOf(attached: readonly Attached[]): Excess | null {
  const sum = (some: readonly Attached[]): number => some.reduce((bytes, one) => bytes + one.bytes, 0);
  if (attached.length > MOST) {
    return "count";
  }
  if (sum(attached.filter(isPicture)) > MOST_BYTES) {
    return "bytes";
  }
  return sum(attached.filter((one) => !isPicture(one))) > MOST_TEXT ? "text" : null;
}

/** The largest size of the same shape with no edge over `edge`; never larger than it is, never less than a pixel. */
export function fitted(
  { width, height }: { readonly width: number; readonly height: number },
  edge = LONGEST_EDGE,
): { readonly width: number; readonly height: number } {
  const scale = Math.min(1, edge / Math.max(width, height));
  const scaled = (length: number): number => Math.max(1, Math.round(length * scale));
  return { width: scaled(width), height: scaled(height) };
}
