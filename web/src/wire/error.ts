/** Why bytes from the network are not what they should be. */
export type DecodeFault =
  | { readonly kind: "truncated" }
  | { readonly kind: "trailing"; readonly extra: number }
  | { readonly kind: "unknownTag"; readonly tag: number }
  | { readonly kind: "tooLong"; readonly field: string; readonly length: bigint; readonly limit: number }
  | { readonly kind: "invalid"; readonly field: string };

/** Bytes from the network were not a frame or a message. Nothing of them is in the text but lengths and tags. */
export class DecodeError extends Error {
  override readonly name = "DecodeError";
  readonly fault: DecodeFault;

  constructor(fault: DecodeFault) {
    super(describe(fault));
    this.fault = fault;
  }
}

function describe(fault: DecodeFault): string {
  switch (fault.kind) {
    case "truncated":
      return "frame ends in the middle of a field";
    case "trailing":
      return `${fault.extra} bytes after the last field`;
    case "unknownTag":
      return `unknown tag 0x${fault.tag.toString(16).padStart(2, "0")}`;
    case "tooLong":
      return `${fault.field} is ${fault.length.toString()} long, the limit is ${fault.limit}`;
    case "invalid":
      return `${fault.field} is not valid`;
  }
}
