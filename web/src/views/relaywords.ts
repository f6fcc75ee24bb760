/** Which relay this is, and what may keep a page from one. */
import type { Origin } from "../pairing/origin";
import { type OwnRelay, barOf } from "../state/relay";
import type { StoredHost } from "../store/hosts";

/** An address as people write it, such as relay.example:8443. */
export function hostOf(origin: Origin): string {
  return new URL(origin.toString()).host;
}

/** What may keep the page from this relay although it is up, and who mends that; `null` where nothing of the page's does. */
export function barredWords(own: Pick<OwnRelay, "origin" | "page">, relay: Origin): string | null {
  const there = new URL(relay.toString());
  switch (barOf(own, relay)) {
    case "page":
      return (
        `If this device has a network and the relay is up, it may not let this page in, which comes from another server: ` +
        `\`web_origins\` of the relay has to list \`${new URL(own.page.toString()).origin}\`, and the policy of that server has to allow ` +
        `\`connect-src ${relay.secure ? "wss" : "ws"}://${there.host}\`.`
      );
    case "relay":
      return (
        `This page is another relay's, and may connect to that one alone: open \`${there.origin}\` in the browser, ` +
        `and pair this device there.`
      );
    case null:
      return null;
  }
}

/** The same of a host's relays: of the first, as long as the page may reach none of them. */
export function barredOf(own: Pick<OwnRelay, "origin" | "page">, relays: StoredHost["relays"]): string | null {
  const barred = relays.map(({ origin }) => barredWords(own, origin));
  return barred.includes(null) ? null : (barred[0] ?? null);
}
