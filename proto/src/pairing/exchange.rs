//! What both sides of a pairing have in common: randomness, digits, messages, errors.

use std::fmt;

use ring::digest::{SHA256, digest};
use ring::rand::SecureRandom;
use zeroize::Zeroizing;

use super::{PairingMessage, PairingSecret, Refusal};
use crate::crypto::handshake::{Ephemeral, HandshakeError, Noise, failure, noise};
use crate::crypto::keys::{KeyError, Secret, StaticKey, random};
use crate::crypto::records::{Opener, RecordError, Records, Sealer};
use crate::wire::DecodeError;

const PATTERN: &str = "Noise_XXpsk0_25519_AESGCM_SHA256";
const PROLOGUE: &[u8] = b"reachback pairing v1";
const COMMITMENT_LABEL: &[u8] = b"reachback commit v1";
const DIGITS_LABEL: &[u8] = b"reachback digits v1";
/// e 32, empty payload 16.
pub(super) const MESSAGE_1: usize = 48;
/// e 32, s 32 + 16, payload 32 + 16.
pub(super) const MESSAGE_2: usize = 128;
/// s 32 + 16, payload 32 + 16.
pub(super) const MESSAGE_3: usize = 96;

/// Why a pairing ended, or a step of it was not possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PairingError {
    /// The device does not have this pairing's secret. The host counts these.
    #[error("the device does not have this pairing's code")]
    WrongSecret,
    /// The handshake failed.
    #[error("pairing handshake failed")]
    Handshake(#[from] HandshakeError),
    /// A record did not open.
    #[error("pairing record failed")]
    Record(#[from] RecordError),
    /// A record holds no message of a pairing.
    #[error("pairing message is malformed")]
    Message(#[from] DecodeError),
    /// The host's random part is not the one that it committed to: someone is in between.
    #[error("the host did not keep to its commitment: someone may be in between, pair again")]
    Commitment,
    /// An identity key is zero or of low order.
    #[error("identity key of the other side is zero or of low order")]
    WeakKey,
    /// The host knows its relay by another key than the relay of this connection has shown.
    #[error("the host's relay is another one than this: someone may be in between, pair again")]
    OtherRelay,
    /// The other side refused.
    #[error("pairing was refused: {0}")]
    Refused(Refusal),
    /// A message, or a call, that has no place in this step.
    #[error("nothing of that kind is expected at this step of the pairing")]
    Unexpected,
    /// What was typed is not six digits. The pairing goes on; ask again.
    #[error("type the six digits that the device shows")]
    NotSixDigits,
    /// The operating system gave no randomness.
    #[error("the operating system gave no randomness")]
    NoRandomness,
}

impl From<KeyError> for PairingError {
    fn from(err: KeyError) -> Self {
        match err {
            KeyError::NoRandomness => Self::NoRandomness,
            _ => Self::WeakKey,
        }
    }
}

/// All chance in one side of one pairing. Not `Clone`: it is used once.
pub struct Fresh {
    /// The handshake's ephemeral key.
    pub ephemeral: Ephemeral,
    /// This side's random part of the digits, r_h or r_d.
    pub nonce: [u8; 32],
    /// This side's part of the psk.
    pub contribution: Secret,
}

impl Fresh {
    /// From the operating system.
    pub fn generate(rng: &dyn SecureRandom) -> Result<Self, KeyError> {
        let (ephemeral, contribution) = (Ephemeral::generate(rng)?, Secret::random(rng)?);
        Ok(Self { ephemeral, nonce: random(rng)?, contribution })
    }
}

impl fmt::Debug for Fresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fresh(…)")
    }
}

/// What to send, and what happened.
#[derive(Debug, PartialEq, Eq)]
pub struct Step<E> {
    /// Bytes for the circuit, in whole blocks; often none.
    pub send: Vec<u8>,
    /// What there is to show, ask or keep.
    pub event: Option<E>,
}

/// The six digits that both sides compute and a person compares.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digits(u32);

impl Digits {
    pub(super) fn compute(handshake_hash: &[u8; 32], host: &[u8; 32], device: &[u8; 32]) -> Self {
        let hash = digest(&SHA256, &[DIGITS_LABEL, handshake_hash, host, device].concat());
        let first = hash.as_ref().first_chunk().expect("SHA-256 has more than eight bytes");
        Self((u64::from_be_bytes(*first) % 1_000_000) as u32)
    }

    /// What a person typed; spaces and dashes don't matter.
    pub fn parse(typed: &str) -> Option<Self> {
        let digits: String = super::typed::typed(typed).collect();
        let six = digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_digit());
        six.then(|| digits.parse().ok().map(Self)).flatten()
    }
}

impl fmt::Display for Digits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06}", self.0)
    }
}

/// Whoever reads them in a host's log could confirm a pairing without seeing the device.
impl fmt::Debug for Digits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digits(…)")
    }
}

/// What message 2 carries, so that the host can't choose r_h once it knows r_d.
pub(super) fn commitment(nonce: &[u8; 32]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, &[COMMITMENT_LABEL, nonce].concat()).as_ref());
    out
}

#[derive(Clone, Copy)]
pub(super) enum Side {
    Device,
    Host,
}

pub(super) fn handshake(
    secret: &PairingSecret,
    preamble: [u8; 4],
    own: &StaticKey,
    ephemeral: Ephemeral,
    side: Side,
) -> Result<Box<Noise>, HandshakeError> {
    let prologue = [PROLOGUE, &preamble, &secret.rendezvous().0].concat();
    let psk0 = secret.psk0();
    noise(PATTERN, ephemeral)
        .prologue(&prologue)
        .and_then(|builder| builder.local_private_key(own.private().expose()))
        .and_then(|builder| builder.psk(0, psk0.expose()))
        .and_then(|builder| match side {
            Side::Device => builder.build_initiator(),
            Side::Host => builder.build_responder(),
        })
        .map(|state| Box::new(Noise(state)))
        .map_err(failure)
}

/// Messages in the records that the handshake left.
pub(super) struct Messages {
    pub(super) handshake_hash: [u8; 32],
    pub(super) sealer: Sealer,
    opener: Opener,
}

impl Messages {
    pub(super) fn new(records: Records) -> Self {
        let handshake_hash = *records.handshake_hash();
        let (sealer, opener) = records.split();
        Self { handshake_hash, sealer, opener }
    }

    pub(super) fn seal(&mut self, message: &PairingMessage) -> Result<Vec<u8>, RecordError> {
        let mut out = Vec::new();
        self.sealer.seal(&mut Zeroizing::new(message.encode()), &mut out)?;
        Ok(out)
    }

    /// The message in a block; a refusal of the other side is an error.
    pub(super) fn open(&mut self, block: &[u8]) -> Result<PairingMessage, PairingError> {
        let mut plaintext = Zeroizing::new(Vec::new());
        self.opener.open(block, &mut plaintext)?;
        match PairingMessage::decode(&plaintext)? {
            PairingMessage::Refused { code } => Err(PairingError::Refused(code)),
            message => Ok(message),
        }
    }

    pub(super) fn refuse(mut self, code: Refusal) -> Option<Vec<u8>> {
        self.seal(&PairingMessage::Refused { code }).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_six_however_they_are_typed() {
        for typed in ["001234", "001 234", " 001-234\n", "００１–２３４\u{200b}"] {
            let digits = Digits::parse(typed).unwrap();
            assert_eq!((digits, digits.to_string().as_str()), (Digits(1234), "001234"), "{typed}");
        }
        for typed in ["", "12345", "1234567", "12345a", "+12345", "-1234", "١٢٣٤٥٦"] {
            assert_eq!(Digits::parse(typed), None, "{typed}");
        }
        assert_eq!(format!("{:?}", Digits(1)), "Digits(…)");
    }

    #[test]
    fn digits_depend_on_the_handshake_and_on_both_sides() {
        let digits = Digits::compute(&[1; 32], &[2; 32], &[3; 32]);
        for other in [
            Digits::compute(&[9; 32], &[2; 32], &[3; 32]),
            Digits::compute(&[1; 32], &[9; 32], &[3; 32]),
            Digits::compute(&[1; 32], &[2; 32], &[9; 32]),
            Digits::compute(&[1; 32], &[3; 32], &[2; 32]),
        ] {
            assert_ne!(digits, other);
        }
    }
}
