/** Keys that lead through the app where there is room for a list and a thread. None of them sends, answers or deletes. */

/** Where two letters lead, the first of which is G. */
export type Place = "inbox" | "threads" | "hosts";

/** What a key was, as far as it matters here. */
export type Pressed = Pick<KeyboardEvent, "key" | "ctrlKey" | "metaKey" | "altKey" | "repeat">;

/** Between the first letter and the second, in milliseconds. */
const SOON = 1_500;

const PLACES: Readonly<Record<string, Place>> = { i: "inbox", t: "threads", h: "hosts" };

/** Two letters, one after the other. */
export class Going {
  /** When the first one was pressed; `null` while none was. */
  #began: number | null = null;

  /** Gives where they lead; `at`: the time in milliseconds. Every other key is the end of it. */
  heard(pressed: Pressed, at: number): Place | null {
    const letter = letterOf(pressed);
    const isSecond = this.#began !== null && at - this.#began <= SOON;
    this.#began = letter === "g" ? at : null;
    return (isSecond && letter !== null ? PLACES[letter] : undefined) ?? null;
  }

  /** What was pressed is nobody's beginning: it was written somewhere. */
  forget(): void {
    this.#began = null;
  }
}

/** Which file a key leads to: the next one, or the one before. */
export function fileStepOf(pressed: Pressed): 1 | -1 | null {
  const letter = letterOf(pressed, true);
  return letter === "]" ? 1 : letter === "[" ? -1 : null;
}

/** The letter alone; with `typed` also one that a keyboard has on another level, such as brackets behind AltGr. */
function letterOf({ key, ctrlKey, metaKey, altKey, repeat }: Pressed, typed = false): string | null {
  const isHeld = typed ? (ctrlKey && !altKey) || metaKey : ctrlKey || metaKey || altKey || repeat;
  return key.length === 1 && !isHeld ? key.toLowerCase() : null;
}

/** Whether letters are somebody's words there. */
export function takesLetters(element: Element): boolean {
  return element.closest("input:not([type=radio], [type=checkbox]), textarea, select, [contenteditable]") !== null;
}

/** Whether something lies over the screen: keys are for that alone. */
export function isCovered(document: Document): boolean {
  return document.querySelector("dialog[open]") !== null;
}
