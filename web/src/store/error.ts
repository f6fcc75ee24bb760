/** Why something was not kept, or not read. */

/** What went wrong in the browser's storage. */
export type StoreFault =
  /** This browser has no IndexedDB, or does not let this page have one. */
  | "unavailable"
  /** Another tab with an older version of the app holds the database: close it. */
  | "blocked"
  /** The database belongs to a newer version of the app: reload. */
  | "newer"
  /** The device has no room. */
  | "quota"
  /** The browser took the database away while it was in use, twice in a row. */
  | "gone"
  /** Anything else: the `cause` says what. */
  | "failed";

const TEXTS: Readonly<Record<StoreFault, string>> = {
  unavailable:
    "this browser does not let the app keep anything: leave private browsing, or allow the site to keep data",
  blocked: "another tab holds an older version of the app: close it and try again",
  newer: "a newer version of the app has been here: reload this page",
  quota: "this device has no room left for the app's data",
  gone: "the browser took the app's data away while it was in use: reload this page",
  failed: "the browser could not keep or read the app's data",
};

/** Something was not kept, or not read. Nothing of it is in the error: it may be secret. */
export class StoreError extends Error {
  override readonly name = "StoreError";
  readonly kind: StoreFault;

  constructor(kind: StoreFault, options?: ErrorOptions) {
    super(TEXTS[kind], options);
    this.kind = kind;
  }
}

/** What an exception of IndexedDB stands for. */
export function storeError(cause: unknown): StoreError {
  return cause instanceof StoreError ? cause : new StoreError(FAULTS[nameOf(cause)] ?? "failed", { cause });
}

/** Whether the connection to the database is gone, and a new one may do. */
export function isGone(cause: unknown): boolean {
  return FAULTS[nameOf(cause)] === "gone";
}

/** By the names of the exceptions, as far as they say anything. */
const FAULTS: Readonly<Record<string, StoreFault>> = {
  SecurityError: "unavailable",
  VersionError: "newer",
  QuotaExceededError: "quota",
  // The connection was closed under a transaction, or before it.
  InvalidStateError: "gone",
  AbortError: "gone",
  // Safari, when its storage process has gone while the page slept.
  UnknownError: "gone",
};

function nameOf(cause: unknown): string {
  // A DOMException is no Error in every engine.
  return typeof cause === "object" && cause !== null && "name" in cause ? String(cause.name) : "";
}
