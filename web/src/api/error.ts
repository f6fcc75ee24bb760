/** Why a request to the host agent has no result. */
import type { ApiError } from "./types";

/** Why a request has no result. */
export type RequestFault =
  /** The host said no, in its words and with its reason. Nothing was done. */
  | { readonly kind: "refused"; readonly error: ApiError }
  /** The host lost the session before it answered: it may have been done or not. Read what is so now. */
  | { readonly kind: "gap" }
  /** The session has ended: it may have been done or not. */
  | { readonly kind: "ended" }
  /** Who asked gave it up: it may still be done. */
  | { readonly kind: "aborted" }
  /** It could not be queued; the `cause` is a `SendError`. Nothing was done. */
  | { readonly kind: "unsent" }
  /** The answer is none of this API's. */
  | { readonly kind: "answer" };

/** A request has no result. */
export class RequestError extends Error {
  override readonly name = "RequestError";
  readonly method: string;
  readonly fault: RequestFault;

  constructor(method: string, fault: RequestFault, options?: ErrorOptions) {
    super(describe(method, fault), options);
    this.method = method;
    this.fault = fault;
  }
}

function describe(method: string, fault: RequestFault): string {
  switch (fault.kind) {
    case "refused":
      return fault.error.message;
    case "gap":
      return `\`${method}\`: the host lost the session before it answered; it may have been done or not`;
    case "ended":
      return `\`${method}\`: the session has ended; it may have been done or not`;
    case "aborted":
      return `\`${method}\` was given up`;
    case "unsent":
      return `\`${method}\` could not be sent`;
    case "answer":
      return `\`${method}\`: the host's answer is none of its API`;
  }
}
