/** Why a handshake ended. */
export type HandshakeFault =
  | { readonly kind: "order" }
  | { readonly kind: "version"; readonly chosen: number }
  | { readonly kind: "length"; readonly length: number }
  | { readonly kind: "unopened" }
  | { readonly kind: "weakKey" }
  | { readonly kind: "crypto" };

/** A handshake ended. Drop the link; the other side learns nothing. */
export class HandshakeError extends Error {
  override readonly name = "HandshakeError";
  readonly fault: HandshakeFault;

  constructor(fault: HandshakeFault, options?: ErrorOptions) {
    super(describeHandshake(fault), options);
    this.fault = fault;
  }
}

function describeHandshake(fault: HandshakeFault): string {
  switch (fault.kind) {
    case "order":
      return "the handshake has no such step here";
    case "version":
      return `the host chose version ${fault.chosen}, which was not offered`;
    case "length":
      return `a handshake message of ${fault.length} bytes`;
    case "unopened":
      return "handshake message does not open: the keys or the secret are not the same at both ends";
    case "weakKey":
      return "a key of the handshake is zero or of low order";
    case "crypto":
      return "the handshake could not be computed";
  }
}

/** Why a record was not sealed or not opened. */
export type RecordFault =
  | { readonly kind: "tooLong"; readonly length: number; readonly limit: number }
  | { readonly kind: "unopened" }
  | { readonly kind: "unpadded"; readonly length: number }
  | { readonly kind: "exhausted" }
  | { readonly kind: "crypto" }
  | { readonly kind: "dead" };

/** A record was not sealed or not opened. The link is dead afterwards. */
export class RecordError extends Error {
  override readonly name = "RecordError";
  readonly fault: RecordFault;

  constructor(fault: RecordFault, options?: ErrorOptions) {
    super(describeRecord(fault), options);
    this.fault = fault;
  }
}

function describeRecord(fault: RecordFault): string {
  switch (fault.kind) {
    case "tooLong":
      return `a record of ${fault.length} bytes, the limit is ${fault.limit}`;
    case "unopened":
      return "record does not open";
    case "unpadded":
      return `a record of ${fault.length} bytes is not padded`;
    case "exhausted":
      return "all nonces of the link are used";
    case "crypto":
      return "the record could not be sealed";
    case "dead":
      return "the link has failed before";
  }
}
