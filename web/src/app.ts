/** Puts the app into the page. */
import { mount } from "svelte";
import { browserPage } from "./link/page";
import { AppState } from "./state/app";
import { ownRelay } from "./state/relay";
import App from "./views/App.svelte";

/** Runs the app. `code` is the pairing code that came with the address. */
export function run(code: string | null): void {
  const target = document.getElementById("app");
  if (target === null) {
    throw new Error("the page has no place for the app");
  }
  const state = new AppState({ window, page: browserPage(window), relay: ownRelay(window) });
  state.start(code);
  mount(App, { target, props: { app: state } });
}
