//! The messages in a pairing's records.
//!
//! A record holds one message and then zeros, the padding of all records.

use std::time::Duration;

use super::origin::MAX_ORIGIN;
use super::{Label, Name, Origin, Platform};
use crate::crypto::keys::Secret;
use crate::ids::PublicKey;
use crate::scope::Scope;
use crate::wire::{DecodeError, Reader, Write};

/// What the two sides say to each other once the handshake is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PairingMessage {
    /// Host to device: opens the commitment of message 2.
    Reveal {
        /// The host's random part of the digits, r_h.
        nonce: [u8; 32],
    },
    /// Device to host: who asks.
    DeviceIntro {
        /// The device's identity key for this host.
        identity: PublicKey,
        /// Its part of the psk.
        contribution: Secret,
        /// What it calls itself.
        name: Name,
        /// What it runs on.
        platform: Platform,
    },
    /// Host to device: who answers, after the person agreed.
    HostIntro {
        /// The host's identity key.
        identity: PublicKey,
        /// Its part of the psk.
        contribution: Secret,
        /// What the device may do.
        scope: Scope,
        /// What the host calls itself.
        name: Name,
        /// The relays that it is reached through, best first: 1 to [`MAX_RELAYS`].
        relays: Vec<RelayEntry>,
    },
    /// Device to host: everything is stored.
    Done,
    /// Either way: there will be no pairing.
    Refused {
        /// Why.
        code: Refusal,
    },
    /// Host to device, every [`WAITING_INTERVAL`]: the person has not decided yet, and the host is still there.
    ///
    /// A page in a browser sees nothing of what keeps the connection alive below.
    Waiting,
}

/// How often a host says that it waits for its person. A device that hears nothing for three times as long is alone.
pub const WAITING_INTERVAL: Duration = Duration::from_secs(15);

/// Relays that one host may name.
pub const MAX_RELAYS: usize = 4;

/// A relay that a host is reached through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayEntry {
    /// Its identity key.
    pub key: PublicKey,
    /// Where it is.
    pub origin: Origin,
}

/// Why a pairing was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The digits typed at the host are not the device's.
    WrongDigits,
    /// The person said no.
    Declined,
    /// The time for this pairing is over.
    Expired,
    /// The host has all the devices it can have.
    TooManyDevices,
    /// A message was not what the pairing has there.
    Malformed,
    /// A code of a newer peer.
    Other(u8),
}

impl Refusal {
    /// The number on the wire.
    pub fn number(self) -> u8 {
        match self {
            Self::WrongDigits => 1,
            Self::Declined => 2,
            Self::Expired => 3,
            Self::TooManyDevices => 4,
            Self::Malformed => 5,
            Self::Other(number) => number,
        }
    }

    /// The code behind a number.
    pub fn from_number(number: u8) -> Self {
        let known = [Self::WrongDigits, Self::Declined, Self::Expired, Self::TooManyDevices, Self::Malformed];
        known.into_iter().find(|code| code.number() == number).unwrap_or(Self::Other(number))
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::WrongDigits => f.write_str("the digits typed at the host are not the ones on the device"),
            Self::Declined => f.write_str("it was declined"),
            Self::Expired => f.write_str("it took too long"),
            Self::TooManyDevices => f.write_str("the host has as many devices as it can have"),
            Self::Malformed => f.write_str("the other side did not understand a message"),
            Self::Other(number) => write!(f, "reason {number}, which this version does not know"),
        }
    }
}

impl PairingMessage {
    /// The message's bytes, before padding.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        match self {
            Self::Reveal { nonce } => {
                out.put_u8(0x01);
                out.put(nonce);
            }
            Self::DeviceIntro { identity, contribution, name, platform } => {
                out.put_u8(0x02);
                out.put(&identity.0);
                out.put(contribution.expose());
                out.put_bytes(name.as_str().as_bytes());
                out.put_bytes(platform.as_str().as_bytes());
            }
            Self::HostIntro { identity, contribution, scope, name, relays } => {
                out.put_u8(0x03);
                out.put(&identity.0);
                out.put(contribution.expose());
                out.put_u8(scope.tag());
                out.put_bytes(name.as_str().as_bytes());
                // A host has far fewer than 256.
                out.put_u8(relays.len() as u8);
                for relay in relays {
                    out.put(&relay.key.0);
                    out.put_bytes(relay.origin.to_string().as_bytes());
                }
            }
            Self::Done => out.put_u8(0x04),
            Self::Refused { code } => out.put(&[0x05, code.number()]),
            Self::Waiting => out.put_u8(0x06),
        }
        out
    }

    /// The message in a record's plaintext, behind which there are only zeros.
    pub fn decode(plaintext: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(plaintext);
        let message = match r.u8()? {
            0x01 => Self::Reveal { nonce: r.array()? },
            0x02 => Self::DeviceIntro {
                identity: PublicKey(r.array()?),
                contribution: Secret::new(r.array()?),
                name: label(&mut r, "name")?,
                platform: label(&mut r, "platform")?,
            },
            0x03 => Self::HostIntro {
                identity: PublicKey(r.array()?),
                contribution: Secret::new(r.array()?),
                scope: Scope::from_tag(r.u8()?).ok_or(DecodeError::Invalid { field: "scope" })?,
                name: label(&mut r, "name")?,
                relays: relays(&mut r)?,
            },
            0x04 => Self::Done,
            0x05 => Self::Refused { code: Refusal::from_number(r.u8()?) },
            0x06 => Self::Waiting,
            tag => return Err(DecodeError::UnknownTag { tag }),
        };
        match r.rest() {
            padding if padding.iter().all(|byte| *byte == 0) => Ok(message),
            padding => Err(DecodeError::Trailing { extra: padding.len() }),
        }
    }
}

fn label<const MAX: usize>(r: &mut Reader<'_>, field: &'static str) -> Result<Label<MAX>, DecodeError> {
    Label::new(r.text(field, MAX)?).map_err(|_| DecodeError::Invalid { field })
}

fn relays(r: &mut Reader<'_>) -> Result<Vec<RelayEntry>, DecodeError> {
    let count = usize::from(r.u8()?);
    if !(1..=MAX_RELAYS).contains(&count) {
        return Err(DecodeError::Invalid { field: "relays" });
    }
    (0..count).map(|_| Ok(RelayEntry { key: PublicKey(r.array()?), origin: origin(r)? })).collect()
}

fn origin(r: &mut Reader<'_>) -> Result<Origin, DecodeError> {
    let field = "relay url";
    r.text(field, MAX_ORIGIN)?.parse().map_err(|_| DecodeError::Invalid { field })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device_intro(name: &[u8]) -> Vec<u8> {
        let mut out = vec![0x02];
        out.put(&[1; 64]);
        out.put_bytes(name);
        out.put_bytes(b"Linux");
        out
    }

    #[test]
    fn names_that_would_fool_a_terminal_are_refused_on_the_wire() {
        assert!(PairingMessage::decode(&device_intro(b"Phone")).is_ok());
        let invalid = Err(DecodeError::Invalid { field: "name" });
        assert_eq!(PairingMessage::decode(&device_intro(b"\x1b[2J")), invalid);
        assert_eq!(PairingMessage::decode(&device_intro("\u{202e}enohP".as_bytes())), invalid);
        assert_eq!(PairingMessage::decode(&device_intro(b"")), invalid);
        assert_eq!(PairingMessage::decode(&device_intro(b"\xff")), invalid);
        let long = PairingMessage::decode(&device_intro(&[b'a'; 65]));
        assert_eq!(long, Err(DecodeError::TooLong { field: "name", length: 65, limit: 64 }));
    }

    #[test]
    fn a_record_holds_one_message_and_zeros() {
        let mut record = PairingMessage::Done.encode();
        record.resize(128, 0);
        assert_eq!(PairingMessage::decode(&record), Ok(PairingMessage::Done));
        record[127] = 1;
        assert_eq!(PairingMessage::decode(&record), Err(DecodeError::Trailing { extra: 127 }));
        assert_eq!(PairingMessage::decode(&[]), Err(DecodeError::Truncated));
        assert_eq!(PairingMessage::decode(&[0; 128]), Err(DecodeError::UnknownTag { tag: 0 }));
        assert_eq!(PairingMessage::decode(&[0x07]), Err(DecodeError::UnknownTag { tag: 7 }));
    }

    #[test]
    fn a_scope_and_a_relay_that_are_none_are_refused() {
        let intros = |scope: u8, relays: &[&[u8]]| {
            let mut out = vec![0x03];
            out.put(&[1; 64]);
            out.put_u8(scope);
            out.put_bytes(b"laptop");
            out.put_u8(relays.len() as u8);
            for relay in relays {
                out.put(&[2; 32]);
                out.put_bytes(relay);
            }
            PairingMessage::decode(&out)
        };
        let intro = |scope, relay| intros(scope, &[relay]);
        assert!(intro(3, b"https://relay.example").is_ok());
        for scope in [0, 5, 255] {
            assert_eq!(intro(scope, b"https://relay.example"), Err(DecodeError::Invalid { field: "scope" }));
        }
        for relay in [&b""[..], b"relay", b"javascript://x", b"https://relay.example/path"] {
            assert_eq!(intro(3, relay), Err(DecodeError::Invalid { field: "relay url" }));
        }
        let some = |count| intros(3, &vec![&b"https://relay.example"[..]; count]);
        assert!(some(MAX_RELAYS).is_ok());
        for count in [0, MAX_RELAYS + 1, 255] {
            assert_eq!(some(count), Err(DecodeError::Invalid { field: "relays" }));
        }
        let long = intro(3, &[b'a'; 201]);
        assert_eq!(long, Err(DecodeError::TooLong { field: "relay url", length: 201, limit: 200 }));
    }

    #[test]
    fn refusals_and_their_numbers_map_both_ways() {
        for number in 0..=9 {
            assert_eq!(Refusal::from_number(number).number(), number);
            assert_eq!(matches!(Refusal::from_number(number), Refusal::Other(_)), !(1..=5).contains(&number));
        }
    }

    #[test]
    fn contributions_are_not_printed() {
        let message = PairingMessage::decode(&device_intro(b"Phone")).unwrap();
        assert!(format!("{message:?}").contains("Secret(…)"));
    }
}
