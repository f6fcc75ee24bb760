/**
 * Where a person is in the app: in the fragment, so that neither the relay nor a log sees it. It names hosts by their
 * ids, and holds no content and no key.
 */

export type Route =
  | { readonly at: "hosts" }
  /** Beginning to add a host. */
  | { readonly at: "add" }
  /** Typing a code. */
  | { readonly at: "code" }
  /** A pairing under way, or how it ended. */
  | { readonly at: "pair" }
  | { readonly at: "host"; readonly host: string };

/** The route in a fragment, such as `#/h/abc`; what is none leads to the hosts. */
export function routeOf(hash: string): Route {
  const [, name = "", ...rest] = hash.split("/");
  const [first] = rest;
  if (name === "h" && first !== undefined && /^[A-Z2-7]+$/i.test(first) && rest.length === 1) {
    return { at: "host", host: first };
  }
  if ((name === "add" || name === "code" || name === "pair") && rest.length === 0) {
    return { at: name };
  }
  return { at: "hosts" };
}

/** The fragment of a route. */
export function hashOf(route: Route): string {
  switch (route.at) {
    case "hosts":
      return "#/";
    case "host":
      return `#/h/${route.host}`;
    case "add":
    case "code":
    case "pair":
      return `#/${route.at}`;
  }
}
