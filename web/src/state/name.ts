/**
 * What this device is called at a host, which asks about it by this name and shows it to the others: what a person chose,
 * kept beside the theme; before that, what the device is.
 */
import { MAX_NAME, cleaned, label } from "../pairing/name";

const KEY = "reachback-name";

/** What is needed of a browser's window. */
export interface NameWindow {
  readonly localStorage: Pick<Storage, "getItem" | "setItem" | "removeItem">;
}

/** The name that a person means by `text`, who may leave it out; `null` where that is too long for one. */
export function nameOf(text: string, otherwise: string): string | null {
  const left = cleaned(text);
  if (left === "") {
    return otherwise;
  }
  const name = label(left, MAX_NAME);
  return name.ok ? name.text : null;
}

/** What was chosen. */
export function keptName(window: NameWindow, otherwise: string): string {
  try {
    return nameOf(window.localStorage.getItem(KEY) ?? "", otherwise) ?? otherwise;
  } catch {
    return otherwise;
  }
}

/** Keeps what was chosen, where the browser keeps anything: a pairing does not depend on it. */
export function keepName(window: NameWindow, name: string, otherwise: string): void {
  try {
    if (name === otherwise) {
      window.localStorage.removeItem(KEY);
    } else {
      window.localStorage.setItem(KEY, name);
    }
  } catch {
    // It is asked for again the next time.
  }
}
