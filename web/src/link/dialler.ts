/**
 * Keeps a session on a link: makes one whenever there is none, until the session ends.
 *
 * - The first try is at once, later ones after growing, jittered delays ({@link Backoff}): within a second while a
 *   person sees the page, up to 30 s while nobody does. What the other side asks for when it restarts is honoured.
 * - A try goes through the host's relays in order, each over a new socket. Where the host is offline, this device waits
 *   at its relay; with several relays it goes on to the next after a while.
 * - When the network or the page comes back, it is tried at once, and a try that is under way is begun again: it may be
 *   on a network that is gone.
 * - While a person sees the page, the link is asked for a sign of life, and one that gives none is dropped. In the
 *   background the session's own, slower heartbeat is enough.
 * - While it rests it makes none: another tab of the browser has the link.
 *
 * All that it says of a host goes into one value, {@link Dialler.reach}. Only the session's end is final: what a relay
 * says never is.
 */
import { Observable } from "../observable";
import type { RelayEntry } from "../pairing/message";
import type { SessionState } from "../session/driver";
import { Backoff } from "./backoff";
import { LinkError } from "./error";
import type { Link } from "./link";
import type { Page, PageEvent } from "./page";
import { type Reach, obstacle } from "./reach";
import type { Presence } from "./relay";

/** A visible page asks for a sign of life when it has heard nothing for this long, in milliseconds. */
export const PROBE_AFTER = 2_500;
/** A visible page distrusts a link that has been silent for this long, in milliseconds. */
export const DISTRUST_AFTER = 5_000;
/** The same before the first answer on a link, and as often as the last round trip on slow ones: slow is not dead. */
const UNMEASURED = 10_000;
const ROUND_TRIPS = 3;
/** A page that comes back trusts no link that missed its heartbeat meanwhile (15 s, and time for the answer). */
const STALE_AFTER = 20_000;
/** Events within this time, in milliseconds, tell of one return. */
const ONE_RETURN = 300;
/** With no link for this long, in milliseconds, it is more than a moment: the screen names the relay. */
export const UNREACHABLE_AFTER = 5_000;
/** How long to wait for the host at one relay while there are others, in milliseconds. */
export const OTHER_RELAY_AFTER = 5_000;

/** What a dialler needs of a `SessionDriver`. */
export interface Dialled {
  attach(link: Link): void;
  drop(error: LinkError): void;
  probe(): void;
  readonly heardAt: number;
}

/** Makes a link over this relay, waiting there while the host is offline. Rejects with `LinkError`. */
export type Dial = (relay: RelayEntry, signal: AbortSignal, present: (presence: Presence) => void) => Promise<Link>;

/** What a dialler is made of. */
export interface DiallerSetup {
  readonly session: Dialled;
  readonly dial: Dial;
  /** The host's relays as they are now, best first. */
  readonly relays: () => readonly RelayEntry[];
  readonly page: Page;
  /** Milliseconds of a clock that never goes back: the session's. The page's own if left out. */
  readonly clock?: () => number;
  /** Draws from 0 to 1; `Math.random` if left out. */
  readonly random?: () => number;
}

/** See the module's header. */
export class Dialler {
  readonly #setup: DiallerSetup;
  readonly #clock: () => number;
  readonly #backoff: Backoff;
  /** How the host is reached. */
  readonly reach: Observable<Reach>;
  #unlisten: (() => void) | null = null;
  #session: SessionState = { at: "down", error: null, carried: false, reconnectInMs: null };
  /** Ends the try that is under way. */
  #try: AbortController | null = null;
  /** When the page or its network last came back, in milliseconds of the clock. */
  #returnedAt = -Infinity;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** When the timer is due, in milliseconds since 1970. */
  #next: number | null = null;
  /** Since when the link is there, or is not, in milliseconds since 1970. */
  #since = Date.now();
  /** When the link began to carry the session, in milliseconds of the clock. */
  #upAt = 0;
  /** What the relay said of the host, while nothing else has been heard since. */
  #offline: Presence | null = null;
  /** Whether the host's last word was that its computer goes to sleep. */
  #asleep = false;
  /** Why the last try failed, or the last link. */
  #error: LinkError | null = null;
  #rttMs: number | null = null;
  #watch: ReturnType<typeof setTimeout> | undefined;
  /** Since when a person has seen the page, in milliseconds of the clock. */
  #visibleAt: number;
  /** When something had last been heard as a sign of life was asked for. */
  #probedAt: number | null = null;

  constructor(setup: DiallerSetup) {
    this.#setup = setup;
    this.#clock = setup.clock ?? (() => performance.now());
    this.#backoff = new Backoff(setup.random ?? Math.random);
    this.#visibleAt = this.#clock();
    this.reach = new Observable(this.#described());
  }

  /** Begins, or goes on. */
  start(): void {
    if (this.#unlisten !== null || this.#session.at === "ended") {
      return;
    }
    this.#unlisten = this.#setup.page.listen((event) => {
      this.#happened(event);
    });
    this.#since = Date.now();
    this.#visibleAt = this.#clock();
    this.#again();
  }

  /** Stops, and leaves the session as it is. */
  stop(): void {
    this.#unlisten?.();
    this.#unlisten = null;
    this.#settle();
  }

  /** Gives the link up, and makes none until it is started again. */
  rest(): void {
    this.stop();
    if (this.#session.at === "ended") {
      return;
    }
    this.#backoff.restart();
    [this.#offline, this.#error] = [null, null];
    this.#setup.session.drop(new LinkError({ kind: "aborted" }));
    this.#publish();
  }

  /** A person wants a link now: begins on a new socket, whatever was asked to be waited for. */
  tryNow(): void {
    if (this.#unlisten !== null && this.#session.at !== "up" && this.#session.at !== "ended") {
      this.#renew(new LinkError({ kind: "aborted" }));
    }
  }

  /** Takes each state of the session. */
  sessionChanged(state: SessionState): void {
    const was = this.#session.at;
    this.#session = state;
    switch (state.at) {
      case "attaching":
        return;
      case "up":
        this.#up();
        break;
      case "down":
        this.#down(state, was === "up");
        break;
      case "ended":
        this.#since = Date.now();
        this.stop();
        break;
    }
    this.#publish();
  }

  /** The host says that its computer goes to sleep. */
  hostSleeps(): void {
    this.#asleep = true;
  }

  /** Takes each answer of the host to a ping, in milliseconds. */
  roundTrip(ms: number): void {
    this.#rttMs = ms;
    this.#publish();
    this.#look();
  }

  // --- tries ---------------------------------------------------------

  /** Drops what there is, and begins on a new socket. */
  #renew(error: LinkError): void {
    this.#setup.session.drop(error);
    this.#backoff.restart();
    this.#again();
  }

  /** Begins a try; one that is under way ends. */
  #again(): void {
    this.#settle();
    const begun = new AbortController();
    this.#try = begun;
    this.#publish();
    void this.#dialAll(begun);
  }

  /** Ends the try that is under way, and what waits. */
  #settle(): void {
    clearTimeout(this.#timer);
    clearTimeout(this.#watch);
    this.#next = null;
    this.#try?.abort();
    this.#try = null;
  }

  async #dialAll(begun: AbortController): Promise<void> {
    let failed: LinkError | null = null;
    const relays = this.#setup.relays();
    for (const relay of relays) {
      try {
        const link = await this.#dial(relay, begun, relays.length > 1);
        if (this.#try !== begun) {
          link.close();
          return;
        }
        this.#try = null;
        this.#setup.session.attach(link);
        return;
      } catch (cause) {
        if (this.#try !== begun) {
          return;
        }
        if (!(cause instanceof LinkError)) {
          throw cause;
        }
        // That a relay can't be reached says less than what another has said.
        failed = failed === null || failed.fault.kind === "unreachable" ? cause : failed;
      }
    }
    this.#failed(failed);
  }

  /** Makes a link over one relay, and gives it up where the host is not while there are others. */
  async #dial(relay: RelayEntry, begun: AbortController, others: boolean): Promise<Link> {
    const own = new AbortController();
    const over = new AbortController();
    let late: ReturnType<typeof setTimeout> | undefined;
    const abort = (): void => {
      own.abort();
    };
    begun.signal.addEventListener("abort", abort, { signal: over.signal });
    try {
      return await this.#setup.dial(relay, own.signal, (presence) => {
        this.#present(begun, presence);
        if (others && !presence.online) {
          late ??= setTimeout(abort, OTHER_RELAY_AFTER);
        }
      });
    } finally {
      // A socket ends with its signal: that of a link no more with the try that made it.
      over.abort();
      clearTimeout(late);
    }
  }

  #present(begun: AbortController, presence: Presence): void {
    if (this.#try === begun) {
      this.#offline = presence.online ? null : presence;
      this.#error = null;
      this.#publish();
    }
  }

  #failed(error: LinkError | null): void {
    this.#try = null;
    // One that was left because the host was offline there says so still.
    if (error?.fault.kind !== "aborted") {
      this.#offline = null;
    }
    this.#error = error;
    this.#later(error?.reconnectInMs ?? null);
    this.#publish();
  }

  /** Waits for the next try. */
  #later(suggestedMs: number | null): void {
    if (suggestedMs !== null && suggestedMs > 0) {
      this.#backoff.suggest(suggestedMs);
    }
    const passes = this.#error === null || ["relay", "passing"].includes(obstacle(this.#error));
    const delay = this.#backoff.delay(this.#setup.page.visible && passes);
    if (delay === 0) {
      this.#again();
      return;
    }
    this.#next = Date.now() + delay;
    this.#timer = setTimeout(() => {
      this.#again();
    }, delay);
  }

  // --- the session ---------------------------------------------------

  #up(): void {
    this.#since = Date.now();
    this.#upAt = this.#clock();
    this.#offline = null;
    this.#asleep = false;
    this.#error = null;
    this.#rttMs = null;
    this.#probedAt = null;
    this.#look();
  }

  #down(state: SessionState & { readonly at: "down" }, wasUp: boolean): void {
    clearTimeout(this.#watch);
    if (wasUp) {
      this.#since = Date.now();
    }
    if (state.carried) {
      this.#backoff.worked(this.#clock() - this.#upAt);
    }
    this.#error = state.error;
    // A link that was dropped for a new one has its successor under way.
    if (this.#unlisten !== null && this.#try === null) {
      this.#later(state.reconnectInMs);
    }
  }

  // --- the page ------------------------------------------------------

  #happened(event: PageEvent): void {
    switch (event) {
      case "online":
      case "network":
        // The old network's connections are gone, whatever they look like.
        this.#returned(true);
        break;
      case "visible":
      case "shown":
        this.#visibleAt = this.#clock();
        this.#probedAt = null;
        this.#returned(this.#clock() - this.#setup.session.heardAt >= STALE_AFTER);
        break;
      case "hidden":
        clearTimeout(this.#watch);
        break;
      case "offline":
        this.#publish();
        break;
    }
  }

  /** The page or its network is back. */
  #returned(distrusts: boolean): void {
    if (this.#session.at === "up" && !distrusts) {
      this.#look();
    } else if (this.#clock() - this.#returnedAt >= ONE_RETURN) {
      this.#returnedAt = this.#clock();
      this.#renew(new LinkError({ kind: "silent" }));
    }
  }

  /** Looks whether the link has given a sign of life, while a person sees the page, and when to look again. */
  #look(): void {
    clearTimeout(this.#watch);
    const { session, page } = this.#setup;
    if (this.#session.at !== "up" || !page.visible || this.#unlisten === null) {
      return;
    }
    const heard = Math.max(session.heardAt, this.#visibleAt);
    const silent = this.#clock() - heard;
    const limit = this.#rttMs === null ? UNMEASURED : Math.max(DISTRUST_AFTER, ROUND_TRIPS * this.#rttMs);
    if (silent >= limit) {
      this.#renew(new LinkError({ kind: "silent" }));
      return;
    }
    const returned = this.#probedAt === null;
    if (this.#probedAt !== heard && (returned || silent >= PROBE_AFTER)) {
      this.#probedAt = heard;
      session.probe();
    }
    const due = this.#probedAt === heard ? limit : PROBE_AFTER;
    this.#watch = setTimeout(
      () => {
        this.#look();
      },
      Math.max(Math.ceil(due - silent), 1),
    );
  }

  // --- what is said of it ----------------------------------------------

  #publish(): void {
    this.reach.set(this.#described());
  }

  #described(): Reach {
    const [session, since, next, error] = [this.#session, this.#since, this.#next, this.#error];
    if (session.at === "ended") {
      return { ...session, since };
    }
    if (session.at === "up") {
      return { at: "online", since, rttMs: this.#rttMs };
    }
    if (this.#offline !== null) {
      const hostSince = this.#offline.since === 0n ? null : Number(this.#offline.since) * 1_000;
      return { at: "hostOffline", asleep: this.#asleep, hostSince, since, next };
    }
    const { online } = this.#setup.page;
    const inTheWay = error === null ? "passing" : obstacle(error);
    if (error?.fault.kind === "version") {
      return { at: "version", peer: error.fault.peer, since, next };
    }
    if (error !== null && inTheWay === "refused") {
      return { at: "refused", code: "code" in error.fault ? error.fault.code : null, since, next, error };
    }
    const isLong = Date.now() - since >= UNREACHABLE_AFTER;
    if (!online || (inTheWay === "relay" && isLong)) {
      return { at: "relayUnreachable", since, next, online, error };
    }
    return { at: "reconnecting", since, next, error };
  }
}
