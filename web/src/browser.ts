/** What this browser is: whether it can run the app (found out by trying, since names and versions lie), and keep it. */

/**
 * - insecure: the page came over plain http from another computer, so the browser gives it no cryptography.
 * - old: no X25519 or Ed25519 in WebCrypto, which Chrome has from 137 on, Firefox from 130, Safari from 17.
 */
export type Missing = "insecure" | "old";

/** The parts of a window that are looked at: `window` has them. */
export interface Looked {
  readonly isSecureContext: boolean;
  readonly crypto?: { readonly subtle?: Pick<SubtleCrypto, "generateKey"> };
}

/** What the app needs and this browser has not; `null` where it has everything. */
export async function missingIn({ isSecureContext, crypto }: Looked): Promise<Missing | null> {
  if (!isSecureContext) {
    return "insecure";
  }
  const subtle = crypto?.subtle;
  if (subtle === undefined) {
    return "old";
  }
  try {
    await subtle.generateKey({ name: "X25519" }, false, ["deriveBits"]);
    await subtle.generateKey({ name: "Ed25519" }, false, ["sign"]);
    return null;
  } catch {
    // Whatever it says: it can't make these keys.
    return "old";
  }
}

/** Who has a mouse and keys sits at a computer: it has a terminal, and seldom a camera that sees another screen. */
export function isComputer({
  matchMedia,
}: {
  readonly matchMedia: (media: string) => { readonly matches: boolean };
}): boolean {
  return matchMedia("(hover: hover) and (pointer: fine)").matches;
}

/** The parts of a navigator that are looked at. `standalone` is Apple's own. */
export interface Navigated {
  readonly userAgent: string;
  readonly standalone?: unknown;
}

/** As Safari of an iPhone calls itself; the other browsers there put a name of their own in between, or behind. */
const SAFARI_OF_IPHONE = /\(iPhone;.* Version\/[\d.]+ Mobile\/\w+ Safari\/[\d.]+$/;

/** Whether this is a tab of an iPhone's Safari, which drops what it keeps, where an app on the Home Screen does not. */
export function isTabOfIphone({ userAgent, standalone }: Navigated): boolean {
  return standalone === false && SAFARI_OF_IPHONE.test(userAgent);
}
