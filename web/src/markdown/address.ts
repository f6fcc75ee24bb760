/** Where links lead. */
import type { Address, Inline } from "./tree";

/** What a link may open; each leaves this page alone. */
const OPENED = ["http:", "https:", "mailto:"];

/**
 * The address that a link with this text may open: whole, of a kind that is opened, and without a name before the host
 * that would be read as the host. `null` for any other, such as a path.
 */
export function addressOf(written: string, text: string): Address | null {
  if (!URL.canParse(written)) {
    return null;
  }
  const { href, protocol, host, username, password, pathname } = new URL(written);
  if (!OPENED.includes(protocol) || username !== "" || password !== "") {
    return null;
  }
  const where = protocol === "mailto:" ? pathname : host;
  const same = [href, href.replace(/\/$/, ""), ...(protocol === "mailto:" ? [pathname] : [])];
  return { href, where: same.includes(text) ? null : where };
}

/** Whole addresses that nobody made a link of. */
const BARE = /\bhttps?:\/\/[^\s<>"'`\\^{}|]+/g;

/** `text` with its addresses as links. */
export function linked(text: string): readonly Inline[] {
  const parts: Inline[] = [];
  let at = 0;
  for (const { 0: found, index } of text.matchAll(BARE)) {
    const written = trimmed(found);
    const address = addressOf(written, written);
    if (address !== null) {
      parts.push({ kind: "text", text: text.slice(at, index) });
      parts.push({ kind: "link", address, inside: [{ kind: "text", text: written }] });
      at = index + written.length;
    }
  }
  return [...parts, { kind: "text", text: text.slice(at) }];
}

/** Without what ends a sentence, or a bracket that began before it. */
function trimmed(found: string): string {
  let open = 0;
  for (const letter of found) {
    open += letter === "(" ? 1 : letter === ")" ? -1 : 0;
  }
  let end = found.length;
  while (/[.,;:!?*_~\])]/.test(found.charAt(end - 1))) {
    if (found[end - 1] === ")") {
      if (open >= 0) {
        break;
      }
      open++;
    }
    end--;
  }
  return found.slice(0, end);
}
