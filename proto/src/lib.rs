//! Wire, cryptography and session rules of Reachback.
//!
//! Nothing here opens a socket, reads a clock or an environment variable:
//! bytes, time and randomness come in as arguments, bytes and events go out.
//! That is what lets the same rules run in an in-memory lossy pair, in the
//! relay, in the agent, and (through `vectors/*.json`) be checked against the
//! TypeScript client.
//!
//! From the rim inwards, as a link is built:
//!
//! 1. [`control`]: what a host or a device says to the relay, before it
//!    splices a circuit. Peers prove their keys with [`claims`].
//! 2. [`crypto`]: the Noise handshakes over a circuit, and the sealed, padded
//!    records that follow.
//! 3. [`pairing`]: how a device becomes known to a host.
//! 4. [`frame`] and [`session`]: what records carry: numbered fragments of
//!    messages on several channels, acknowledged, replayed after a cut.
//! 5. [`shown`]: what an answer to Codex says about the question that its
//!    person saw.
//!
//! Beside it, [`bearer`] is how the host proves itself to a Codex that somebody else started.
//!
//! `docs/protocol.md` is the same story for someone writing another client.

pub mod bearer;
pub mod claims;
pub mod close;
pub mod control;
pub mod crypto;
pub mod endpoint;
pub mod frame;
pub mod ids;
pub mod pairing;
pub mod scope;
pub mod session;
pub mod shown;
pub mod version;
pub mod wire;
pub mod words;
