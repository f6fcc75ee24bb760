//! Identity keys (Ed25519) and static keys (X25519).
//!
//! A host has one pair of each; a device has a pair of each *per host*; a relay
//! has an identity key. Private halves live in types that don't print, don't
//! serialise and are wiped when dropped.

use ring::rand::SecureRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::ids::PublicKey;

/// A key that can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The operating system gave no randomness.
    #[error("the operating system gave no randomness")]
    NoRandomness,
    /// Zero, or of low order: a handshake with it would not be secret.
    #[error("public key is zero or of low order")]
    Weak,
    /// The two halves don't belong together.
    #[error("public and private key don't belong together")]
    Mismatch,
    /// A signature does not fit.
    #[error("signature does not fit the key and the message")]
    BadSignature,
}

/// 32 secret bytes: a private key, a psk, a pairing secret.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Secret([u8; 32]);

impl Secret {
    /// Wraps secret bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Fresh secret bytes.
    pub fn random(rng: &dyn SecureRandom) -> Result<Self, KeyError> {
        random(rng).map(Self)
    }

    /// The bytes themselves, for a key schedule or a 0600 file; never for a log.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// `N` random bytes: nonces, ids, pairing contributions.
pub fn random<const N: usize>(rng: &dyn SecureRandom) -> Result<[u8; N], KeyError> {
    let mut out = [0; N];
    rng.fill(&mut out).map_err(|_| KeyError::NoRandomness)?;
    Ok(out)
}

/// An Ed25519 identity: proves to the relay, and names the peer.
pub struct Identity {
    seed: Secret,
    pair: Ed25519KeyPair,
}

impl Identity {
    /// A new identity.
    pub fn generate(rng: &dyn SecureRandom) -> Result<Self, KeyError> {
        Ok(Self::from_seed(Secret::random(rng)?))
    }

    /// The identity with this 32-byte seed (RFC 8032's private key).
    pub fn from_seed(seed: Secret) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.expose()).expect("any 32 bytes are an Ed25519 seed");
        Self { seed, pair }
    }

    /// The seed, to keep it in a 0600 file.
    pub fn seed(&self) -> &Secret {
        &self.seed
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        let mut key = [0; 32];
        key.copy_from_slice(self.pair.public_key().as_ref());
        PublicKey(key)
    }

    /// Signs `message`.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut out = [0; 64];
        out.copy_from_slice(self.pair.sign(message).as_ref());
        out
    }

    /// The private key as PKCS#8 v1, for libraries that take nothing else (jsonwebtoken, rcgen).
    pub fn pkcs8(&self) -> zeroize::Zeroizing<Vec<u8>> {
        // RFC 8410 §7: the fixed header of an Ed25519 OneAsymmetricKey, then the seed.
        const HEADER: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
        zeroize::Zeroizing::new([&HEADER[..], self.seed.expose()].concat())
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Identity").field(&self.public()).finish()
    }
}

/// Checks an Ed25519 signature.
pub fn verify(key: &PublicKey, message: &[u8], signature: &[u8]) -> Result<(), KeyError> {
    check_identity(key)?;
    UnparsedPublicKey::new(&ED25519, key.0).verify(message, signature).map_err(|_| KeyError::BadSignature)
}

/// Refuses identity keys of low order, for which anyone can make signatures that fit.
///
/// The eight small-order points have few encodings, canonical or not; the list
/// is libsodium's `ge25519_has_small_order`.
pub fn check_identity(key: &PublicKey) -> Result<(), KeyError> {
    const LOW: [[u8; 32]; 5] = [
        // order 4
        [0; 32],
        // order 1
        {
            let mut k = [0; 32];
            k[0] = 1;
            k
        },
        // order 8
        *b"\x26\xe8\x95\x8f\xc2\xb2\x27\xb0\x45\xc3\xf4\x89\xf2\xef\x98\xf0\xd5\xdf\xac\x05\xd3\xc6\x33\x39\xb1\x38\x02\x88\x6d\x53\xfc\x05",
        *b"\xc7\x17\x6a\x70\x3d\x4d\xd8\x4f\xba\x3c\x0b\x76\x0d\x10\x67\x0f\x2a\x20\x53\xfa\x2c\x39\xcc\xc6\x4e\xc7\xfd\x77\x92\xac\x03\x7a",
        // p - 1, order 2; p and p + 1 follow below
        *b"\xec\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
    ];
    let mut y = key.0;
    y[31] &= 0x7f; // the sign of x does not change the order
    let non_canonical = y[31] == 0x7f && y[1..31].iter().all(|b| *b == 0xff) && y[0] >= 0xed;
    if LOW.contains(&y) || non_canonical { Err(KeyError::Weak) } else { Ok(()) }
}

/// An X25519 static key pair: authenticates Noise handshakes.
#[derive(Clone)]
pub struct StaticKey {
    private: Secret,
    public: PublicKey,
}

impl StaticKey {
    /// A new pair.
    pub fn generate(rng: &dyn SecureRandom) -> Result<Self, KeyError> {
        Self::from_private(Secret::random(rng)?)
    }

    /// The pair with this private half.
    pub fn from_private(private: Secret) -> Result<Self, KeyError> {
        let mut dh = x25519();
        dh.set(private.expose());
        let public = PublicKey(dh.pubkey().try_into().map_err(|_| KeyError::Mismatch)?);
        check_static(&public)?;
        Ok(Self { private, public })
    }

    /// The private half, for the handshake or a 0600 file.
    pub fn private(&self) -> &Secret {
        &self.private
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        self.public
    }
}

impl std::fmt::Debug for StaticKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("StaticKey").field(&self.public).finish()
    }
}

/// Refuses X25519 keys of low order: Diffie-Hellman with one gives zero whatever the private key.
///
/// snow takes them, so every key from a peer or a file passes here first.
pub fn check_static(key: &PublicKey) -> Result<(), KeyError> {
    let mut dh = x25519();
    // Any clamped scalar is a multiple of the cofactor, so a low-order point gives zero.
    dh.set(&[0x40; 32]);
    let mut shared = [0; 32];
    match dh.dh(&key.0, &mut shared) {
        Ok(()) if shared != [0; 32] => Ok(()),
        _ => Err(KeyError::Weak),
    }
}

fn x25519() -> Box<dyn snow::types::Dh> {
    use snow::resolvers::{CryptoResolver, DefaultResolver};
    DefaultResolver.resolve_dh(&snow::params::DHChoice::Curve25519).expect("snow's default resolver has Curve25519")
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER;
    use ring::rand::SystemRandom;

    fn key(hex: &str) -> PublicKey {
        PublicKey(HEXLOWER.decode(hex.as_bytes()).unwrap().try_into().unwrap())
    }

    #[test]
    fn low_order_static_keys_are_refused() {
        // The seven canonical and non-canonical points of https://cr.yp.to/ecdh.html#validate.
        for hex in [
            "0000000000000000000000000000000000000000000000000000000000000000",
            "0100000000000000000000000000000000000000000000000000000000000000",
            "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
            "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        ] {
            assert_eq!(check_static(&key(hex)), Err(KeyError::Weak), "{hex}");
        }
        let good = StaticKey::generate(&SystemRandom::new()).unwrap();
        assert_eq!(check_static(&good.public()), Ok(()));
    }

    #[test]
    fn a_static_key_matches_rfc_7748() {
        // §5.2: one iteration of k = u = 9, which is the public key of the private key 9.
        let mut nine = [0; 32];
        nine[0] = 9;
        let pair = StaticKey::from_private(Secret::new(nine)).unwrap();
        assert_eq!(pair.public(), key("422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079"));
    }

    #[test]
    fn low_order_identity_keys_are_refused_and_signatures_checked() {
        for first in [0u8, 1] {
            let mut bytes = [0; 32];
            bytes[0] = first;
            assert_eq!(check_identity(&PublicKey(bytes)), Err(KeyError::Weak));
            bytes[31] = 0x80;
            assert_eq!(check_identity(&PublicKey(bytes)), Err(KeyError::Weak));
        }
        let identity = Identity::generate(&SystemRandom::new()).unwrap();
        let signature = identity.sign(b"yes");
        assert_eq!(verify(&identity.public(), b"yes", &signature), Ok(()));
        assert_eq!(verify(&identity.public(), b"no", &signature), Err(KeyError::BadSignature));
        assert_eq!(format!("{:?}", Secret::new([9; 32])), "Secret(…)");
    }
}
