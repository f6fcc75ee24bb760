/** Puts the app into the page. */
import { mount } from "svelte";
import { browserPage } from "./link/page";
import { AppState } from "./state/app";
import { ownRelay } from "./state/relay";
import type { Route } from "./state/route";
import type { Kept } from "./store/kept";
import { keepAtHand } from "./update";
import App from "./views/App.svelte";
import { OPENED } from "./views/opens";
import { PLACES } from "./views/places";

/** So long after the first look, in milliseconds, the pages that open from it are fetched, if nobody wants one before. */
const PREPARES = 1_000;
/** Where nothing of those pages is needed. */
const FIRST: readonly Route["at"][] = ["hosts", "host", "settings", "add", "scan", "code", "pair"];
const FIELDS = "input:not([type=radio], [type=checkbox]), textarea";

/** Runs the app. `code` is the pairing code that came with the address, `kept` what this browser keeps. */
export function run(code: string | null, kept: Kept): void {
  const target = document.getElementById("app");
  if (target === null) {
    throw new Error("the page has no place for the app");
  }
  const page = browserPage(window);
  const state = new AppState({ window, page, kept, relay: ownRelay(window), linked: PLACES });
  state.start(code);
  if (!FIRST.includes(state.route.value.at)) {
    // It is wanted as soon as the hosts are read.
    OPENED.prepare();
  }
  mount(App, { target, props: { app: state } });
  window.setTimeout(() => {
    PLACES.prepare();
  });
  window.setTimeout(() => {
    OPENED.prepare();
  }, PREPARES);
  void keepAtHand(window, page, () => state.isBusy || isTyped(document));
}

/** Whether something stands in a field that a person writes in, other than what the app put there. */
function isTyped(document: Document): boolean {
  const fields = document.querySelectorAll<HTMLInputElement | HTMLTextAreaElement>(FIELDS);
  return [...fields].some(({ value, defaultValue }) => value !== defaultValue);
}
