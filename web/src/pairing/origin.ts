/**
 * A relay's origin: scheme, host and port, in one spelling.
 *
 * It is the salt of typed codes, so a terminal and a browser have to spell it alike. What the browser's own parser would
 * skip or mend is refused here, as in `proto/src/pairing/origin.rs`.
 */
import { utf8 } from "../bytes";

/** Longest origin, in bytes. */
export const MAX_ORIGIN = 200;

/** Why text is not the address of a relay. */
export type OriginFault = "notAUrl" | "scheme" | "userInfo" | "rest" | "tooLong";

const TEXTS: Readonly<Record<OriginFault, string>> = {
  notAUrl: "not the address of a relay: write it like https://relay.example.com",
  scheme: "a relay's address starts with https:// (or http:// on this computer)",
  userInfo: "a relay's address has no user name or password: leave out what is before the @",
  rest: "a relay's address ends after the port: leave out the rest",
  tooLong: `a relay's address has at most ${MAX_ORIGIN} characters`,
};

/** Text is not the address of a relay. */
export class OriginError extends Error {
  override readonly name = "OriginError";
  readonly kind: OriginFault;

  constructor(kind: OriginFault) {
    super(TEXTS[kind]);
    this.kind = kind;
  }
}

/** `scheme://host:port`, lower case, the port always there. */
export class Origin {
  readonly secure: boolean;
  /** The host's name or address; IPv6 in brackets. */
  readonly host: string;
  readonly port: number;

  private constructor(secure: boolean, host: string, port: number) {
    this.secure = secure;
    this.host = host;
    this.port = port;
  }

  /** The origin in `text`. Throws {@link OriginError}. */
  static parse(text: string): Origin {
    const trimmed = text.replace(/^\p{White_Space}+|\p{White_Space}+$/gu, "");
    if (utf8(trimmed).length > MAX_ORIGIN + 1) {
      throw new OriginError("tooLong");
    }
    const [, scheme, rest] = /^(.*?):\/\/(.*)$/su.exec(trimmed) ?? [];
    if (scheme === undefined || rest === undefined || /[\p{White_Space}\p{Cc}\\]/u.test(trimmed)) {
      throw new OriginError("notAUrl");
    }
    if (!/^https?$/i.test(scheme)) {
      throw new OriginError("scheme");
    }
    if (rest.startsWith("/")) {
      throw new OriginError("notAUrl");
    }
    const url = parseUrl(trimmed);
    if (url.username !== "" || url.password !== "") {
      throw new OriginError("userInfo");
    }
    // An empty query or fragment leaves no trace in the parsed URL.
    if (url.pathname !== "/" || /[?#]/.test(trimmed)) {
      throw new OriginError("rest");
    }
    const secure = url.protocol === "https:";
    const port = url.port === "" ? (secure ? 443 : 80) : Number(url.port);
    const origin = new Origin(secure, url.hostname, port);
    if (origin.toString().length > MAX_ORIGIN) {
      throw new OriginError("tooLong");
    }
    return origin;
  }

  /** Whether it is this computer itself, where plain http is a secure context. */
  get isLoopback(): boolean {
    // The browser's parser has spelled addresses in their one way.
    return this.host === "localhost" || this.host === "[::1]" || /^127(\.\d+){3}$/.test(this.host);
  }

  /** Its one spelling. */
  toString(): string {
    return `${this.secure ? "https" : "http"}://${this.host}:${this.port}`;
  }
}

function parseUrl(text: string): URL {
  try {
    return new URL(text);
  } catch {
    throw new OriginError("notAUrl");
  }
}
