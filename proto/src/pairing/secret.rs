//! The pairing secret, and everything that is derived from it.

use std::num::NonZeroU32;

use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use ring::pbkdf2;
use ring::rand::SecureRandom;

use super::{Origin, TypedCode};
use crate::crypto::keys::{KeyError, Secret};
use crate::ids::RendezvousId;

const SALT: &[u8] = b"reachback pairing v1";
const CODE_SALT: &[u8] = b"reachback typed code v1";
const LINK_PSK_INFO: &[u8] = b"reachback link psk v1";
/// Rounds for a typed code, whose 80 bits a relay could try offline; a browser takes tenths of a second.
const CODE_ROUNDS: NonZeroU32 = NonZeroU32::new(600_000).expect("not zero");

/// The 32 bytes that a host shows and a device learns: S in `docs/protocol.md`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairingSecret(Secret);

impl PairingSecret {
    /// A new secret, for a QR code.
    pub fn generate(rng: &dyn SecureRandom) -> Result<Self, KeyError> {
        Secret::random(rng).map(Self)
    }

    /// The secret from a QR code.
    pub fn new(secret: Secret) -> Self {
        Self(secret)
    }

    /// The secret that a typed code stands for at this relay. Takes tenths of a second: not for an async task.
    pub fn from_code(code: &TypedCode, relay: &Origin) -> Self {
        let salt = [CODE_SALT, relay.to_string().as_bytes()].concat();
        let mut key = [0; 32];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, CODE_ROUNDS, &salt, code.text().as_bytes(), &mut key);
        Self(Secret::new(key))
    }

    /// The bytes themselves, for a QR code; never for a log.
    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }

    /// Where both sides meet at the relay.
    pub fn rendezvous(&self) -> RendezvousId {
        RendezvousId(hkdf(SALT, self.expose(), b"rendezvous"))
    }

    /// The psk of the pairing handshake.
    pub fn psk0(&self) -> Secret {
        Secret::new(hkdf(SALT, self.expose(), b"psk0"))
    }

    /// The psk of all links to come, from the pairing's handshake hash and both sides' contributions.
    pub(super) fn link_psk(&self, handshake_hash: &[u8; 32], device: &Secret, host: &Secret) -> Secret {
        let key = zeroize::Zeroizing::new([&self.expose()[..], device.expose(), host.expose()].concat());
        Secret::new(hkdf(handshake_hash, &key, LINK_PSK_INFO))
    }
}

fn hkdf<const N: usize>(salt: &[u8], key: &[u8], info: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    Salt::new(HKDF_SHA256, salt)
        .extract(key)
        .expand(&[info], Length(N))
        .and_then(|okm| okm.fill(&mut out))
        .expect("HKDF-SHA256 gives up to 8160 bytes");
    out
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hkdf_matches_rfc_5869() {
        // A.1, first 32 bytes of the output.
        let out: [u8; 32] = hkdf(&(0..=12).collect::<Vec<u8>>(), &[11; 22], &(0xf0..=0xf9).collect::<Vec<u8>>());
        let hex = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf";
        assert_eq!(data_encoding::HEXLOWER.encode(&out), hex);
    }

    #[test]
    fn everything_derived_depends_on_everything_it_is_derived_from() {
        let secret = |byte| PairingSecret::new(Secret::new([byte; 32]));
        assert_ne!(secret(1).rendezvous(), secret(2).rendezvous());
        assert_ne!(secret(1).psk0(), secret(2).psk0());
        let part = |byte| Secret::new([byte; 32]);
        let psk = secret(1).link_psk(&[2; 32], &part(3), &part(4));
        for other in [
            secret(9).link_psk(&[2; 32], &part(3), &part(4)),
            secret(1).link_psk(&[9; 32], &part(3), &part(4)),
            secret(1).link_psk(&[2; 32], &part(9), &part(4)),
            secret(1).link_psk(&[2; 32], &part(3), &part(9)),
            secret(1).link_psk(&[2; 32], &part(4), &part(3)),
        ] {
            assert_ne!(psk, other);
        }
        assert_eq!(format!("{:?}", secret(1)), "PairingSecret(Secret(…))");
    }

    #[test]
    fn a_code_stands_for_another_secret_at_another_relay() {
        let code = TypedCode::parse("0123-4567-89AB-CDEF").unwrap();
        let at = |origin: &str| PairingSecret::from_code(&code, &origin.parse().unwrap());
        assert_eq!(at("https://a.example"), at("HTTPS://A.EXAMPLE:443/"));
        assert_ne!(at("https://a.example"), at("https://a.example:8443"));
    }
}
