/**
 * The page's side of the service worker (`worker/`), which has the app open without network and brings its next version.
 *
 * A new worker that is ready takes over, and the page begins anew with it, only where nobody notices: the person has
 * just come and touched nothing yet, nothing is being typed, and nothing is held. Otherwise it waits, for the next time
 * that the page is shown or loaded; once all pages are closed, the browser lets it take over by itself.
 */
import type { Page } from "./link/page";

declare global {
  interface Window {
    /** Browsers that know no Trusted Types have none. */
    readonly trustedTypes?: TrustedTypes;
  }

  interface ServiceWorkerContainer {
    register(url: string | TrustedUrl, options: RegistrationOptions): Promise<ServiceWorkerRegistration>;
  }
}

/** A URL of a script that a policy let through. */
type TrustedUrl = object;

/** As far as it is needed. */
export interface TrustedTypes {
  createPolicy(
    name: string,
    rules: { readonly createScriptURL: (url: string) => string },
  ): { createScriptURL(url: string): TrustedUrl };
}

const SCRIPT = "/sw.js";
/** The relay's policy names it. */
const POLICY = "reachback-worker";
/** When the page last began anew for a new version, in this tab. */
const TURNED = "reachback-turned";
/** How long it does not do so again, in milliseconds: two relays of different builds behind one name would have it go on for ever. */
const PAUSE = 600_000;

/** A registration of a service worker, as far as it is needed. */
export interface Registered extends EventTarget {
  /** Not ready yet. */
  readonly installing: EventTarget | null;
  /** Ready, while an older one is in charge. */
  readonly waiting: { postMessage(message: unknown): void } | null;
  update(): Promise<unknown>;
}

/** What it stands on. */
export interface UpdateSetup {
  readonly registration: Registered;
  /** Tells when another worker has taken over. */
  readonly container: EventTarget;
  readonly page: Page;
  /** Hears whatever a person touches. */
  readonly touched: EventTarget;
  readonly storage: Pick<Storage, "getItem" | "setItem">;
  /** Whether something is being typed, or held. */
  readonly isBusy: () => boolean;
  readonly reload: () => void;
}

/** Registers the worker, and keeps the app up to date. A browser that has none, or lets none in, has the app all the same. */
export async function keepAtHand(window: Window, page: Page, isBusy: () => boolean): Promise<void> {
  const { navigator, location } = window;
  // Pages over plain http have none.
  if (!("serviceWorker" in navigator)) {
    return;
  }
  const container = navigator.serviceWorker;
  let setup: UpdateSetup;
  try {
    const url = scriptUrl(window.trustedTypes);
    const registration = await container.register(url, { scope: "/", updateViaCache: "none" });
    const reload = (): void => {
      location.reload();
    };
    setup = { registration, container, page, touched: window, storage: window.sessionStorage, isBusy, reload };
  } catch {
    // Not served, not whole, not allowed, no room: what was here before stays.
    return;
  }
  new Update(setup).start();
}

/** The address of the worker's script: the one text that its policy lets become one. */
export function scriptUrl(types: TrustedTypes | undefined): string | TrustedUrl {
  const createScriptURL = (url: string): string => {
    if (url !== SCRIPT) {
      throw new TypeError("this is not the worker's script");
    }
    return url;
  };
  return types === undefined ? SCRIPT : types.createPolicy(POLICY, { createScriptURL }).createScriptURL(SCRIPT);
}

/** See the module's header. */
export class Update {
  readonly #setup: UpdateSetup;
  /** Whether a person has touched nothing since the page was loaded, or last shown. */
  #isFresh = true;
  /** Whether a newer worker has taken over below this page. */
  #isStale = false;

  constructor(setup: UpdateSetup) {
    this.#setup = setup;
  }

  start(): void {
    const { registration, container, page, touched } = this.#setup;
    for (const type of ["pointerdown", "keydown", "wheel"]) {
      touched.addEventListener(type, () => (this.#isFresh = false), { capture: true, passive: true });
    }
    container.addEventListener("controllerchange", () => {
      this.#isStale = true;
      this.#offer();
    });
    page.listen((event) => {
      if (event === "visible") {
        this.#isFresh = true;
        this.#offer();
        // Pages stay for days; without network it is looked for the next time.
        registration.update().catch(() => undefined);
      }
    });
    registration.addEventListener("updatefound", () => {
      this.#watch(registration.installing);
    });
    this.#watch(registration.installing);
    this.#offer();
  }

  #watch(worker: EventTarget | null): void {
    worker?.addEventListener("statechange", () => {
      this.#offer();
    });
  }

  #offer(): void {
    const { registration, storage, isBusy, reload } = this.#setup;
    const waiting = registration.waiting;
    if (!this.#isFresh || isBusy() || (waiting === null && !this.#isStale)) {
      return;
    }
    const isSoon = Date.now() - Number(storage.getItem(TURNED)) < PAUSE;
    if (this.#isStale) {
      storage.setItem(TURNED, String(Date.now()));
      reload();
    } else if (!isSoon) {
      waiting?.postMessage(null);
    }
  }
}
