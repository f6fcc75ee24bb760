//! Keys, the Noise handshakes, and the sealed records that follow.

pub mod keys;
