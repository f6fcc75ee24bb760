/**
 * Where a person is in the app: in the fragment, so that neither the relay nor a log sees it. It names hosts by their
 * ids, and holds no content and no key.
 */

export type Route =
  | { readonly at: "hosts" }
  /** What waits for a person, at all hosts. */
  | { readonly at: "inbox" }
  /** What this device is, keeps and may. */
  | { readonly at: "settings" }
  /** Beginning to add a host. */
  | { readonly at: "add" }
  /** Scanning a code. */
  | { readonly at: "scan" }
  /** Typing a code. */
  | { readonly at: "code" }
  /** A pairing under way, or how it ended. */
  | { readonly at: "pair" }
  /** The threads of a host. */
  | { readonly at: "host"; readonly host: string }
  /** What the host is to this device. */
  | { readonly at: "about"; readonly host: string }
  /** Who else may control the host. */
  | { readonly at: "devices"; readonly host: string }
  /** How the way to it is, leg by leg, and what there is to tell of it. */
  | { readonly at: "connection"; readonly host: string }
  /** Beginning a thread. */
  | { readonly at: "new"; readonly host: string }
  | { readonly at: "thread"; readonly host: string; readonly environment: string; readonly thread: string }
  /** All that a command of a thread wrote; `item`: as its thread names it. */
  | {
      readonly at: "output";
      readonly host: string;
      readonly environment: string;
      readonly thread: string;
      readonly item: string;
    };

/** The threads of a host, or one of them. */
export type ThreadsRoute = Extract<Route, { at: "host" | "new" | "thread" | "output" }>;

/** As one of those, where it is one. */
export function threadsRoute(route: Route): ThreadsRoute | null {
  const { at } = route;
  return at === "host" || at === "new" || at === "thread" || at === "output" ? route : null;
}

/** Places that are of no host. */
const PLACES = ["inbox", "settings", "add", "scan", "code", "pair"] as const;

/** Places of a host, besides its threads. */
const OF_HOST = ["about", "devices", "connection", "new"] as const;

/** The environment that a route does not name: the host itself. */
export const LOCAL = "local";

/** The route in a fragment, such as `#/h/abc`; what is none leads to the hosts. */
export function routeOf(hash: string): Route {
  const [, name = "", ...rest] = hash.split("/");
  if (name === "h") {
    return hostRoute(rest) ?? { at: "hosts" };
  }
  const place = PLACES.find((known) => known === name);
  if (place !== undefined && rest.length === 0) {
    return { at: place };
  }
  return { at: "hosts" };
}

function hostRoute([host = "", what, ...rest]: readonly string[]): Route | null {
  if (!/^[A-Z2-7]+$/i.test(host)) {
    return null;
  }
  if (what === undefined) {
    return { at: "host", host };
  }
  const place = OF_HOST.find((known) => known === what);
  if (place !== undefined && rest.length === 0) {
    return { at: place, host };
  }
  const names = rest.map(decoded);
  // Before the environment, as that is left out where it is the host itself.
  const [item] = what === "o" ? names.splice(1, 1) : [];
  const [thread, environment = LOCAL] = names;
  if ((what !== "t" && what !== "o") || !thread || !environment || names.length > 2) {
    return null;
  }
  if (what === "t") {
    return { at: "thread", host, environment, thread };
  }
  return item ? { at: "output", host, environment, thread, item } : null;
}

/** What an id was before it was encoded; `null` where it was not. */
function decoded(text: string): string | null {
  try {
    return decodeURIComponent(text);
  } catch {
    return null;
  }
}

/** The fragment of a route. */
export function hashOf(route: Route): string {
  switch (route.at) {
    case "hosts":
      return "#/";
    case "host":
      return `#/h/${route.host}`;
    case "about":
    case "devices":
    case "connection":
    case "new":
      return `#/h/${route.host}/${route.at}`;
    case "thread": {
      const names = route.environment === LOCAL ? [route.thread] : [route.thread, route.environment];
      return `#/h/${route.host}/t/${names.map(encodeURIComponent).join("/")}`;
    }
    case "output": {
      const environment = route.environment === LOCAL ? [] : [route.environment];
      const names = [route.thread, route.item, ...environment];
      return `#/h/${route.host}/o/${names.map(encodeURIComponent).join("/")}`;
    }
    case "inbox":
    case "settings":
    case "add":
    case "scan":
    case "code":
    case "pair":
      return `#/${route.at}`;
  }
}
