/** What the screens say of what is attached. */
import { MOST, MOST_FILE, MOST_TEXT, excessOf } from "../attach/bounds";
import { nameOf } from "../attach/input";
import type { LeftOut } from "../state/attaching";
import type { StoreFault } from "../store/error";
import type { Attached } from "../store/schema";
import { named } from "./named";
import { STORE_WORDS } from "./words";

/** Most names that are said; of others how many there are. */
const MOST_NAMES = 3;

const MEGABYTES = Math.round(MOST_FILE / 1_000_000);

/** Why files are not attached, after their names, and what comes next: of one, of several. */
const WHY: Readonly<Record<Exclude<LeftOut["why"], StoreFault>, readonly [one: string, more: string]>> = {
  count: [
    `not attached: ${MOST} go along with one message. Send it with the next one.`,
    `not attached: ${MOST} go along with one message. Send them with the next one.`,
  ],
  bytes: [
    "not attached: that would be too much for one message. Send it with the next one.",
    "not attached: that would be too much for one message. Send them with the next one.",
  ],
  text: [
    `not attached: the text files of one message have at most ${sizeWords(MOST_TEXT)}. Send it with the next one.`,
    `not attached: the text files of one message have at most ${sizeWords(MOST_TEXT)}. Send them with the next one.`,
  ],
  unread: ["could not be read. Pick it again.", "could not be read. Pick them again."],
  empty: ["is empty: pick another one.", "are empty: pick others."],
  undecoded: [
    "can't be opened as a picture by this browser. Attach a screenshot of it, or a copy as JPEG or PNG.",
    "can't be opened as pictures by this browser. Attach screenshots of them, or copies as JPEG or PNG.",
  ],
  large: [
    `is too large: a picture may have up to ${MEGABYTES} MB. Attach a screenshot of it, or a part.`,
    `are too large: a picture may have up to ${MEGABYTES} MB. Attach screenshots of them, or parts.`,
  ],
  long: [
    `is longer than ${sizeWords(MOST_TEXT)}. Paste the lines that matter.`,
    `are longer than ${sizeWords(MOST_TEXT)}. Paste the lines that matter.`,
  ],
  binary: [
    "is neither a picture nor text, and only those can be attached. Attach a screenshot of it, or copy it to the host.",
    "are neither pictures nor text, and only those can be attached. Attach screenshots of them, or copy them to the host.",
  ],
};

/** What is said of files that were left out: a sentence with names for each reason. */
export function leftOutWords(leftOut: readonly LeftOut[]): readonly string[] {
  return [...new Set(leftOut.map(({ why }) => why))].map((why) => {
    const names = leftOut.filter((one) => one.why === why).map(({ name }) => named(nameOf(name)));
    const others = names.length - MOST_NAMES;
    const said = names.slice(0, MOST_NAMES).join(", ") + (others > 0 ? ` and ${others} more` : "");
    return `${said}: ${isStore(why) ? storeWords(why) : WHY[why][names.length === 1 ? 0 : 1]}`;
  });
}

/** Why a draft with all of this can't be sent as it is; `null` where it can. */
export function excessWords(attached: readonly Attached[]): string | null {
  switch (excessOf(attached)) {
    case null:
      return null;
    case "count":
      return `${attached.length} things are attached, and ${MOST} go along with one message: remove some.`;
    case "bytes":
      return "More pictures are attached than go along with one message: remove some.";
    case "text":
      return "More text is attached than goes along with one message: remove some.";
  }
}

/** What else a draft has, where it can't be sent. */
export function attachedWords(count: number): string {
  return count === 1
    ? "One thing is attached to it, and stays on this device as well."
    : `${count} things are attached to it, and stay on this device as well.`;
}

/** A size, in words. */
export function sizeWords(bytes: number): string {
  const [amount, unit] = bytes < 1_000_000 ? [bytes / 1_000, "kB"] : [bytes / 1_000_000, "MB"];
  return `${amount < 10 ? Math.max(0.1, Math.round(amount * 10) / 10) : Math.round(amount)} ${unit}`;
}

/** Pictures that are not on this device. */
export function elsewhereWords(count: number, all: number): string {
  if (count < all) {
    return count === 1 ? "One more picture went along." : `${count} more pictures went along.`;
  }
  return count === 1
    ? "A picture went along. The device that sent it shows it for a while."
    : `${count} pictures went along. The device that sent them shows them for a while.`;
}

/** The same in a line, of a message that waits for its turn. */
export function picturesWords(count: number): string {
  return count === 1 ? "1 picture" : `${count} pictures`;
}

function isStore(why: LeftOut["why"]): why is StoreFault {
  return why in STORE_WORDS;
}

function storeWords(why: StoreFault): string {
  const next = why === "quota" ? " Make room, or send it without." : "";
  return `not attached. ${STORE_WORDS[why]}${next}`;
}
