/**
 * The pairing code in the page's address.
 *
 * It is a secret, so it leaves the address bar, and with it what the browser remembers and shows, before anything else
 * runs. Routes are in the fragment too: they begin with a slash, which no code does.
 */

/** The page, as far as it is needed: `window` is one. */
export interface Addressed {
  readonly location: Pick<Location, "origin" | "pathname" | "search" | "hash">;
  readonly history: Pick<History, "replaceState">;
}

/**
 * Takes the fragment out of the page's address, unless it is a route. Returns the text for `PairingUrl.parse`, also of a
 * code that is damaged; `null` where there was none. Call it first of all.
 */
export function takeFragment({ location, history }: Addressed): string | null {
  const { origin, pathname, search, hash } = location;
  if (hash.length < 2 || hash.startsWith("#/")) {
    return null;
  }
  history.replaceState(null, "", pathname + search);
  return `${origin}/${hash}`;
}
