//! How a device becomes known to a host.
//!
//! The host makes a [`PairingSecret`] and shows it, as a QR code
//! ([`PairingUrl`]) or as a [`TypedCode`]. From it both sides derive where they
//! meet at the relay and the psk of a Noise `XXpsk0` handshake. Knowing the
//! secret is what authenticates each side's static key; six digits then show
//! that no third party guessed or copied it:
//!
//! ```text
//!   device → host   1 e                          the preamble comes before it
//!   host → device   2 e, ee, s, es               commitment to r_h
//!   device → host   3 s, se                      r_d
//!   host → device   Reveal { r_h }               digits = hash(h ‖ r_h ‖ r_d)
//!   device → host   DeviceIntro                  who asks
//!                   the person types the device's digits at the host
//!   host → device   HostIntro                    who answers, and the scope given
//!   device → host   Done                         now, and only now, the host keeps the device
//! ```
//!
//! The commitment is what makes six digits enough: whoever sits in between has
//! to fix its r_h before it sees the other side's random part, so it gets one
//! guess in a million, not as many as it can compute.
//!
//! [`PairingInitiator`] is the device's side, [`PairingResponder`] the host's.
//! Blocks go in, bytes and events come out; waiting, timing out and counting
//! failures is up to whoever holds the circuit.

mod code;
mod exchange;
mod initiator;
mod message;
mod name;
mod origin;
mod responder;
mod secret;
mod typed;
mod url;

pub use self::code::{CodeError, TypedCode};
pub use self::exchange::{Digits, Fresh, PairingError, Step};
pub use self::initiator::{DeviceSide, InitiatorEvent, PairedHost, PairingInitiator};
pub use self::message::{MAX_RELAYS, PairingMessage, Refusal, RelayEntry, WAITING_INTERVAL};
pub use self::name::{Label, LabelError, Name, Platform};
pub use self::origin::{Origin, OriginError};
pub use self::responder::{HostSide, PairedDevice, PairingResponder, ResponderEvent};
pub use self::secret::PairingSecret;
pub use self::url::{PairingUrl, PairingUrlError};

#[cfg(test)]
mod tests;
