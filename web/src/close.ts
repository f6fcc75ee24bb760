/**
 * Close codes of WebSockets, and the codes of `Refused`: one table, as in `proto/src/close.rs`.
 *
 * 1000–2999 belong to RFC 6455, 4000–4999 are ours. A number that is not here comes from a newer relay.
 */
export const CloseCode = {
  normal: 1000,
  /** The relay restarts; the reason text is the delay in milliseconds. */
  restarting: 1012,
  malformed: 4400,
  unauthorized: 4401,
  /** The host took this device off its list. */
  revoked: 4403,
  /** No such rendezvous; it expired, was used, or never was. */
  notFound: 4404,
  version: 4406,
  timeout: 4408,
  conflict: 4409,
  peerGone: 4410,
  replaced: 4411,
  tooLarge: 4413,
  limited: 4429,
  internal: 4500,
} as const;
