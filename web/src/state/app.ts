/** The app's state: where a person is, which hosts there are, and a pairing under way. Screens show it. */
import { isComputer, isTabOfIphone } from "../browser";
import { type Later, PartError } from "../later";
import { LinkLock } from "../link/lock";
import type { Page } from "../link/page";
import { Observable } from "../observable";
import type { TypedCode } from "../pairing/code";
import { takeFragment } from "../pairing/fragment";
import type { Origin } from "../pairing/origin";
import { PairingUrl, PairingUrlError } from "../pairing/url";
import { type Unfit, judge } from "../scan/judge";
import { AttachmentStore } from "../store/attachments";
import { StoreError, type StoreFault } from "../store/error";
import type { Kept } from "../store/kept";
import { MessageStore } from "../store/messages";
import { StartStore } from "../store/starts";
import { Unfinished } from "../store/unfinished";
import { type Theme, keepTheme, keptTheme, showTheme } from "../theme";
import { describeDevice } from "./device";
import { type Host, Hosts, type Reaching } from "./hosts";
import { Inbox } from "./inbox";
import { Layers } from "./layers";
import { keepName, keptName } from "./name";
import { type Joining, Pairing } from "./pairing";
import type { OwnRelay } from "./relay";
import { type Route, type ThreadsRoute, hashOf, routeOf, threadsRoute } from "./route";
import { wideOf } from "./wide";

/** What the app stands on. */
export interface AppSetup {
  readonly window: Window;
  readonly page: Page;
  /** What this browser keeps. */
  readonly kept: Kept;
  readonly relay: OwnRelay;
  /** What is only needed where there is a host, or is to be one. */
  readonly linked: Later<Reaching & Joining>;
}

/** See the module's header. */
export class AppState {
  readonly relay: OwnRelay;
  readonly route: Observable<Route>;
  /** Which threads, or which one, a person was at last: where there is room it stays there beside hosts and settings. */
  readonly threads: Observable<ThreadsRoute | null>;
  /** Whether there is room for the list of threads beside a thread. */
  readonly wide: Observable<boolean>;
  /** What lies over the screen. */
  readonly layers: Layers;
  readonly hosts: Hosts;
  /** What waits for a person at any of them. */
  readonly inbox: Inbox;
  /** Whether this tab is the one that has the links to them. */
  readonly lock: LinkLock;
  readonly pairing: Pairing;
  /** Whether the app had better be put on the Home Screen before it gets keys. */
  readonly belongsOnHomeScreen: boolean;
  /** Whether it is on a computer rather than on a phone. */
  readonly isComputer: boolean;
  /** Why what is kept can't be read; `null` while nothing is wrong. */
  readonly storeFault = new Observable<StoreFault | null>(null);
  /** Whether the part of the app that reaches hosts did not come, when one was to be reached. */
  readonly isPartMissing = new Observable(false);
  /** How it looks. */
  readonly theme: Observable<Theme>;
  /** What this device tells a host that it is. */
  readonly device: string;
  /** What it is called there where nobody gives it a name. */
  readonly unnamed: string;
  /** The page that the app is in. */
  readonly page: Page;
  /** Where the browser keeps all of it. */
  readonly storage: StorageManager;
  readonly #window: Window;

  constructor({ window, page, kept, relay, linked }: AppSetup) {
    this.#window = window;
    this.relay = relay;
    this.page = page;
    this.belongsOnHomeScreen = isTabOfIphone(window.navigator);
    this.isComputer = isComputer({ matchMedia: (media) => window.matchMedia(media) });
    this.route = new Observable(routeOf(window.location.hash));
    this.threads = new Observable(threadsRoute(this.route.value));
    this.wide = wideOf(window);
    this.layers = new Layers(window);
    const { database, hosts: store } = kept;
    const attachments = new AttachmentStore(database);
    const unfinished = new Unfinished(window);
    const starts = new StartStore(database, attachments, unfinished);
    const messages = new MessageStore(database, attachments, unfinished);
    this.hosts = new Hosts({ store, starts, messages, page, create: relay.create, reaching: linked });
    this.inbox = new Inbox(this.hosts.list);
    this.lock = new LinkLock("locks" in window.navigator ? window.navigator.locks : null, page);
    this.lock.hold.subscribe((hold) => {
      if (hold === "ours") {
        this.hosts.wake();
      } else {
        this.hosts.rest();
      }
    });
    this.theme = new Observable(keptTheme(window));
    showTheme(window, this.theme.value);
    this.storage = window.navigator.storage;
    const { name, platform } = describeDevice(window.navigator.userAgent);
    this.device = platform;
    this.unnamed = name;
    this.pairing = new Pairing({
      platform,
      store,
      storage: this.storage,
      create: relay.create,
      joining: linked,
      paired: (host) => this.hosts.add(host),
    });
  }

  /** Whether something is held that a page which begins anew would lose, or come in between of, such as another tab. */
  get isBusy(): boolean {
    const isHeld = (this.hosts.list.value ?? []).some(({ start, messages }) => start.isHeld || messages.isHeld);
    return isHeld || this.route.value.at === "pair" || this.lock.hold.value === "elsewhere";
  }

  /** Begins. `code` is the pairing code that came with the address. */
  start(code: string | null): void {
    this.layers.start();
    this.#window.addEventListener("hashchange", () => {
      this.#moved();
    });
    this.#window.addEventListener("storage", () => {
      // Another tab has chosen.
      this.#look(keptTheme(this.#window));
    });
    this.lock.start();
    void this.load();
    if (code !== null) {
      this.#pairBy(code);
    } else if (this.route.value.at === "pair") {
      // A pairing does not outlive its page.
      this.go({ at: "hosts" }, "replace");
    }
  }

  /** Reads the hosts that are kept. */
  async load(): Promise<void> {
    try {
      await this.hosts.load();
      this.storeFault.set(null);
    } catch (error) {
      if (error instanceof PartError) {
        this.isPartMissing.set(true);
      } else if (error instanceof StoreError) {
        this.storeFault.set(error.kind);
      } else {
        throw error;
      }
    }
  }

  /** Has the browser load the app anew, where it is. */
  again(): void {
    this.#window.location.reload();
  }

  /** Goes somewhere; `replace` leaves no way back to where one was. */
  go(route: Route, way: "push" | "replace" = "push"): void {
    const { history } = this.#window;
    if (way === "push") {
      history.pushState(null, "", hashOf(route));
    } else {
      history.replaceState(null, "", hashOf(route));
    }
    this.layers.clear();
    this.#show(route);
  }

  /** Goes to the threads that a person was at last, or to those of the first host. */
  goToThreads(): void {
    const hosts = this.hosts.list.value ?? [];
    const last = this.threads.value;
    const first = hosts[0]?.stored.id;
    const isThere = hosts.some(({ stored }) => stored.id === last?.host);
    this.go(last !== null && isThere ? last : first === undefined ? { at: "hosts" } : { at: "host", host: first });
  }

  /** Where one pairs with another host: at the camera; where that is not all that is to be said, at both ways. */
  get pairs(): Route {
    const isFirst = (this.hosts.list.value ?? []).length === 0;
    return { at: this.isComputer || (this.belongsOnHomeScreen && isFirst) ? "add" : "scan" };
  }

  /** What this device is to be called at the next host. */
  get name(): string {
    return keptName(this.#window, this.unnamed);
  }

  /** Asks whether to pair by this code. */
  offer(url: PairingUrl): void {
    this.pairing.offer(url);
    // Back leads to before the code, which is good once.
    this.go({ at: "pair" }, "replace");
  }

  /** Pairs by the code that was offered, under this name. */
  accept(name: string): void {
    keepName(this.#window, name, this.unnamed);
    this.pairing.accept(name);
  }

  /** Pairs by a code that was typed, under this name, at this relay. */
  pairTyped(code: TypedCode, name: string, relay: Origin): void {
    keepName(this.#window, name, this.unnamed);
    this.pairing.start({ type: "code", relay, code }, name);
    this.go({ at: "pair" }, "replace");
  }

  /** What a QR code that was scanned is to this page. */
  judge(text: string): PairingUrl | Unfit {
    return judge(text, { page: this.relay.page, relay: this.relay.origin });
  }

  /** Leaves a pairing, for what there is besides. */
  leavePairing(route: Route): void {
    this.go(route, "replace");
  }

  /** Has it look like that, in all tabs; gives whether that is kept. */
  chooseTheme(theme: Theme): boolean {
    this.#look(theme);
    return keepTheme(this.#window, theme);
  }

  /** Forgets a host and its keys. */
  async forget(host: Host): Promise<void> {
    try {
      await this.hosts.forget(host);
      if ("host" in this.route.value) {
        this.go({ at: "hosts" }, "replace");
      }
    } catch (error) {
      if (!(error instanceof StoreError)) {
        throw error;
      }
      this.storeFault.set(error.kind);
    }
  }

  #look(theme: Theme): void {
    showTheme(this.#window, theme);
    this.theme.set(theme);
  }

  /** A link was followed, back was pressed, or a pairing URL was put into the address bar of the open app. */
  #moved(): void {
    const code = takeFragment(this.#window);
    if (code === null) {
      this.#show(routeOf(this.#window.location.hash));
    } else {
      this.#pairBy(code);
    }
  }

  #show(route: Route): void {
    if (route.at !== "pair") {
      this.pairing.cancel();
    }
    this.threads.set(threadsRoute(route) ?? this.threads.value);
    this.route.set(route);
  }

  #pairBy(code: string): void {
    try {
      this.offer(PairingUrl.parse(code));
    } catch (error) {
      if (!(error instanceof PairingUrlError)) {
        throw error;
      }
      this.pairing.noCode(error.message);
      this.go({ at: "pair" }, "replace");
    }
  }
}
