/**
 * The page that a browser gets which can't run the app, or did not get it. It is made of plain elements: the app's own
 * parts may not run.
 */
import type { Missing } from "./browser";

/** What is missing of the browser; `unloaded`: a script of the app did not come. */
export type Obstacle = Missing | "unloaded";

interface Page {
  readonly title: string;
  readonly texts: readonly string[];
}

const PAGES: Readonly<Record<Obstacle, Page>> = {
  old: {
    title: "This browser is too old to keep a secret",
    texts: [
      "Reachback needs X25519 in the browser: Safari 17, Chrome 137 or Firefox 130.",
      "Update the browser (on iPhone and iPad: Settings, General, Software Update), or open this address in another one on this device.",
    ],
  },
  insecure: {
    title: "This address is not encrypted",
    texts: [
      "A browser makes keys only for a page that nobody on the way can change: one that begins with https://, or one of this computer itself.",
      "On the computer that runs the relay, open it as http://localhost with the same port. For a phone, give the relay a name and a certificate that browsers trust; its manual says how.",
    ],
  },
  unloaded: {
    title: "The app did not load",
    texts: [
      "The server that it comes from can't be reached now, or has a newer version of it. What you wrote is kept on this device.",
      "Load this page again.",
    ],
  },
};

/** Of a pairing code that led here: it has left the address, so that loading the page again does not bring it back. */
const STILL_GOOD = {
  elsewhere: "Your pairing code is still good: opening the page does not use it up.",
  here: "Your pairing code is still good: once the page loads, scan the code or open its link again.",
} as const;

/** Shows why the app does not start, and the way out. `code`: a pairing code led here. */
export function showObstacle(document: Document, obstacle: Obstacle, code: boolean): void {
  const make = (name: string, className: string, ...inside: readonly (string | Node)[]): HTMLElement => {
    const element = document.createElement(name);
    element.className = className;
    element.append(...inside);
    return element;
  };
  const { title, texts } = PAGES[obstacle];
  const still = code ? [STILL_GOOD[obstacle === "unloaded" ? "here" : "elsewhere"]] : [];
  const notes = [...texts, ...still].map((text) => make("p", "note lead", text));
  const hero = make("div", "hero", make("div", "stack", make("h1", "", title), ...notes));
  document.title = `${title} · Reachback`;
  document.getElementById("app")?.replaceChildren(make("div", "app app--one", make("main", "body", hero)));
}
