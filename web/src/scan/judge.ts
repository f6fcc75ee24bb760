/** What a QR code that was scanned is to this page. It gets no further than if it had been opened as a link. */
import { Origin } from "../pairing/origin";
import { PairingUrl, PairingUrlError } from "../pairing/url";

/**
 * - noCode: something else than a pairing code, or a damaged one.
 * - newer: a pairing code of a version that this app does not know.
 * - elsewhere: one for another relay, whose own page pairs by it.
 */
export type Unfit = "noCode" | "newer" | "elsewhere";

/** Where this page is. */
export interface Here {
  /** The page's own address. */
  readonly page: Origin;
  /** The relay that it came from, as that calls itself; `null` where it came from none. */
  readonly relay: Origin | null;
}

/** The pairing code in `text`, or why this page can't pair by it. */
export function judge(text: string, { page, relay }: Here): PairingUrl | Unfit {
  const url = parsed(text);
  if (!(url instanceof PairingUrl)) {
    return url;
  }
  // As a link it would have been opened at its own address: from here nothing else than that is reached.
  const isHere = same(url.web ?? url.relay, page) || (relay !== null && same(url.relay, relay));
  if (!isHere) {
    url.secret.wipe();
  }
  return isHere ? url : "elsewhere";
}

function parsed(text: string): PairingUrl | Unfit {
  try {
    return PairingUrl.parse(text);
  } catch (error) {
    if (!(error instanceof PairingUrlError)) {
      throw error;
    }
    return error.fault.kind === "version" ? "newer" : "noCode";
  }
}

function same(one: Origin, other: Origin): boolean {
  return one.toString() === other.toString();
}
