/** What a page hears of itself and its network, as far as a link depends on it. */

/**
 * - online, offline: the browser has, or has no, network.
 * - network: it is another one, such as a phone's that left its Wi-Fi.
 * - visible, hidden: a person can, or can't, see the page.
 * - shown: it came out of the browser's cache of pages left, where connections do not live.
 */
export type PageEvent = "online" | "offline" | "network" | "visible" | "hidden" | "shown";

/** The page: the browser's, or a test's. */
export interface Page {
  /** Whether a person can see it. */
  readonly visible: boolean;
  /** Whether the browser thinks that there is a network. */
  readonly online: boolean;
  /** Calls back on each event, until the function that is returned is called. */
  listen(heard: (event: PageEvent) => void): () => void;
}

/** The parts of a browser's window that are needed: `window` has them. */
export interface PageWindow extends EventTarget {
  readonly document: Pick<Document, "visibilityState"> & EventTarget;
  readonly navigator: { readonly onLine: boolean };
}

/** The browser's own page. */
export function browserPage(window: PageWindow): Page {
  const { document, navigator } = window;
  const isVisible = (): boolean => document.visibilityState === "visible";
  return {
    get visible() {
      return isVisible();
    },
    get online() {
      return navigator.onLine;
    },
    listen: (heard) => {
      const over = new AbortController();
      const on = (target: EventTarget, type: string, event: (found: Event) => PageEvent | null): void => {
        const hears = (found: Event): void => {
          const told = event(found);
          if (told !== null) {
            heard(told);
          }
        };
        target.addEventListener(type, hears, { signal: over.signal });
      };
      on(window, "online", () => "online");
      on(window, "offline", () => "offline");
      on(window, "pageshow", (found) => ("persisted" in found && found.persisted === true ? "shown" : null));
      on(document, "visibilitychange", () => (isVisible() ? "visible" : "hidden"));
      const connection = connectionOf(navigator);
      if (connection !== null) {
        let last = typeOf(connection);
        // It also tells each new estimate of the speed.
        on(connection, "change", () => {
          const [before, now] = [last, typeOf(connection)];
          last = now;
          return before === now ? null : "network";
        });
      }
      return () => {
        over.abort();
      };
    },
  };
}

/** Chrome's `navigator.connection`; other browsers have none. */
function connectionOf(navigator: object): EventTarget | null {
  return "connection" in navigator && navigator.connection instanceof EventTarget ? navigator.connection : null;
}

/** Such as "wifi" or "cellular"; computers do not say. */
function typeOf(connection: EventTarget): unknown {
  return "type" in connection ? connection.type : null;
}
