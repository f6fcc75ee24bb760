//! Keys, the Noise handshakes, and the sealed records that follow.
//!
//! On a circuit the device sends a [preamble](handshake::Preamble); everything
//! after it, both ways, is [`blocks`]: first the messages of a
//! [`handshake`], then the [`records`] that it leaves.

pub mod blocks;
pub mod handshake;
pub mod keys;
pub mod records;
