//! The Noise handshakes over a circuit, step by step.
//!
//! ```text
//!   device → host   52 purpose min max           the preamble
//!   device → host   block: message 1             e, es, s, ss     (link)
//!   host → device   block: message 2             e, ee, se, psk   payload: the version
//! ```
//!
//! A **link** is `IKpsk2`: each side knows the other's static key and a psk
//! from their pairing. The device's static key arrives encrypted in message 1;
//! the host reads it, looks the device up, and only then has the psk for
//! message 2. Message 1 can be replayed, so reading it changes nothing at the
//! host: who replays it can't open message 2 nor seal a record. **Pairing** is
//! `XXpsk0`, run by [`crate::pairing`].
//!
//! Each step consumes the state before it, so no step can be left out or done
//! twice. The prologue holds everything that was said or meant before message
//! 1, so both sides mean the same host, purpose and versions, or nothing opens.

use std::sync::Mutex;

use ring::rand::SecureRandom;
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, DefaultResolver, FallbackResolver, RingResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState};

use super::blocks::put_block;
use super::keys::{KeyError, Secret, StaticKey, check_static};
use super::records::Records;
use crate::ids::{HostId, PublicKey};
use crate::version::{SUPPORTED, VersionRange};

const LINK_PATTERN: &str = "Noise_IKpsk2_25519_AESGCM_SHA256";
const LINK_PROLOGUE: &[u8] = b"reachback link v1";
/// e 32, s 32 + 16, empty payload 16.
const LINK_MESSAGE_1: usize = 96;
/// e 32, payload 1 + 16.
const LINK_MESSAGE_2: usize = 49;
/// The place of the psk in `IKpsk2`.
const LINK_PSK: u8 = 2;

/// Largest handshake message of ours, in bytes; pairing's message 2 is the longest, 128.
const MAX_HANDSHAKE_MESSAGE: usize = 128;

/// Why a handshake ended. Drop the link; the other side learns nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The circuit does not start as ours do.
    #[error("the circuit does not start with a preamble")]
    Preamble,
    /// The preamble is for pairing where a link was expected, or the other way round.
    #[error("the circuit is for another purpose")]
    Purpose,
    /// No version in common, or one was chosen that was not offered.
    #[error("no version in common: the peer speaks {min} to {max}")]
    Version {
        /// The oldest version of the peer.
        min: u8,
        /// The newest version of the peer.
        max: u8,
    },
    /// A message of another length than the handshake has here.
    #[error("a handshake message of {length} bytes")]
    Length {
        /// Its length.
        length: usize,
    },
    /// A message does not open: another key, another psk, another prologue, or altered.
    #[error("handshake message does not open: the keys or the secret are not the same at both ends")]
    Unopened,
    /// A static key is zero or of low order.
    #[error("static key is zero or of low order")]
    WeakKey,
    /// The cryptography itself failed.
    #[error("the handshake could not be computed")]
    Crypto,
}

/// What a circuit is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A paired device's link.
    Link,
    /// A device that wants to pair.
    Pairing,
}

/// The first four bytes of a circuit, from the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preamble {
    /// What the circuit is for.
    pub purpose: Purpose,
    /// The versions that the device speaks.
    pub versions: VersionRange,
}

impl Preamble {
    const MAGIC: u8 = b'R';

    /// Its bytes.
    pub fn to_bytes(self) -> [u8; 4] {
        let purpose = match self.purpose {
            Purpose::Link => 1,
            Purpose::Pairing => 2,
        };
        [Self::MAGIC, purpose, self.versions.min, self.versions.max]
    }

    /// The preamble in these bytes.
    pub fn parse(bytes: [u8; 4]) -> Result<Self, HandshakeError> {
        let [Self::MAGIC, purpose, min, max] = bytes else { return Err(HandshakeError::Preamble) };
        let purpose = match purpose {
            1 => Purpose::Link,
            2 => Purpose::Pairing,
            _ => return Err(HandshakeError::Preamble),
        };
        Ok(Self { purpose, versions: VersionRange { min, max } })
    }

    /// The newest version that the device and this build speak, on a circuit for `purpose`.
    pub(crate) fn agree(self, purpose: Purpose) -> Result<u8, HandshakeError> {
        if self.purpose != purpose {
            return Err(HandshakeError::Purpose);
        }
        let VersionRange { min, max } = self.versions;
        SUPPORTED.agree(self.versions).ok_or(HandshakeError::Version { min, max })
    }
}

/// The private key of one handshake. Not `Clone`: used twice, it would give both links away.
#[derive(Debug)]
pub struct Ephemeral(Secret);

impl Ephemeral {
    /// A fresh one.
    pub fn generate(rng: &dyn SecureRandom) -> Result<Self, KeyError> {
        Secret::random(rng).map(Self)
    }

    /// A known one, so that `vectors/*.json` come out the same each time. Never for a link.
    pub fn for_vectors(private: Secret) -> Self {
        Self(private)
    }
}

/// The device's side of a link, waiting for message 2.
pub struct LinkInitiator {
    noise: Noise,
    offered: VersionRange,
}

impl LinkInitiator {
    /// Begins a link to `host`; the bytes are the preamble and the block of message 1.
    pub fn start(
        host: HostId,
        host_static: &PublicKey,
        own: &StaticKey,
        psk: &Secret,
        versions: VersionRange,
        ephemeral: Ephemeral,
    ) -> Result<(Self, Vec<u8>), HandshakeError> {
        check_static(host_static).map_err(|_| HandshakeError::WeakKey)?;
        let preamble = Preamble { purpose: Purpose::Link, versions }.to_bytes();
        let prologue = link_prologue(preamble, host);
        let builder = noise(LINK_PATTERN, ephemeral)
            .prologue(&prologue)
            .and_then(|builder| builder.local_private_key(own.private().expose()))
            .and_then(|builder| builder.remote_public_key(&host_static.0))
            .and_then(|builder| builder.psk(LINK_PSK, psk.expose()));
        let mut noise = Noise(builder.and_then(Builder::build_initiator).map_err(failure)?);
        let mut out = preamble.to_vec();
        put_block(&mut out, &noise.write(&[])?);
        Ok((Self { noise, offered: versions }, out))
    }

    /// The records and the version, from the block that the host answered with.
    pub fn finish(mut self, message2: &[u8]) -> Result<(Records, u8), HandshakeError> {
        exact(message2, LINK_MESSAGE_2)?;
        let [version] = self.noise.read(message2)?;
        let chosen = VersionRange { min: version, max: version };
        if self.offered.agree(chosen) != Some(version) {
            return Err(HandshakeError::Version { min: version, max: version });
        }
        Ok((self.noise.into_records()?, version))
    }
}

impl std::fmt::Debug for LinkInitiator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinkInitiator").field("offered", &self.offered).finish_non_exhaustive()
    }
}

/// The host's side of a link, after message 1: it knows who claims to call, not yet whether it is so.
pub struct LinkResponder {
    noise: Noise,
    version: u8,
}

impl LinkResponder {
    /// Reads message 1; the key is the device's static key, to look the device up by.
    ///
    /// Change nothing for it yet: the message may be a replay.
    pub fn read(
        preamble: [u8; 4],
        host: HostId,
        own: &StaticKey,
        message1: &[u8],
        ephemeral: Ephemeral,
    ) -> Result<(Self, PublicKey), HandshakeError> {
        let version = Preamble::parse(preamble)?.agree(Purpose::Link)?;
        exact(message1, LINK_MESSAGE_1)?;
        let prologue = link_prologue(preamble, host);
        let builder = noise(LINK_PATTERN, ephemeral)
            .prologue(&prologue)
            .and_then(|builder| builder.local_private_key(own.private().expose()));
        let mut noise = Noise(builder.and_then(Builder::build_responder).map_err(failure)?);
        let [] = noise.read(message1)?;
        let device = noise.remote_static()?;
        Ok((Self { noise, version }, device))
    }

    /// The version that this side chose.
    pub fn version(&self) -> u8 {
        self.version
    }

    /// The records, and the block of message 2, for a device with this psk.
    pub fn accept(mut self, psk: &Secret) -> Result<(Records, Vec<u8>), HandshakeError> {
        self.noise.0.set_psk(usize::from(LINK_PSK), psk.expose()).map_err(failure)?;
        let mut out = Vec::new();
        put_block(&mut out, &self.noise.write(&[self.version])?);
        Ok((self.noise.into_records()?, out))
    }
}

impl std::fmt::Debug for LinkResponder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinkResponder").field("version", &self.version).finish_non_exhaustive()
    }
}

fn link_prologue(preamble: [u8; 4], host: HostId) -> Vec<u8> {
    [LINK_PROLOGUE, &preamble, &host.0].concat()
}

/// Refuses another length than the one that the handshake has here, before any public-key work.
pub(crate) fn exact(message: &[u8], length: usize) -> Result<(), HandshakeError> {
    if message.len() == length { Ok(()) } else { Err(HandshakeError::Length { length: message.len() }) }
}

/// A builder with our resolver and randomness.
pub(crate) fn noise<'a>(pattern: &str, ephemeral: Ephemeral) -> Builder<'a> {
    // ring seals at several times the speed of the default resolver, and has no Diffie-Hellman for snow.
    let primitives = FallbackResolver::new(Box::new(RingResolver), Box::new(DefaultResolver));
    let resolver = Resolver { primitives, ephemeral: Mutex::new(Some(ephemeral)) };
    let params = pattern.parse().expect("our patterns are snow's");
    Builder::with_resolver(params, Box::new(resolver))
}

/// snow's errors, less what they say about how it works.
pub(crate) fn failure(err: snow::Error) -> HandshakeError {
    match err {
        snow::Error::Decrypt => HandshakeError::Unopened,
        _ => HandshakeError::Crypto,
    }
}

/// snow's handshake, in whole messages.
pub(crate) struct Noise(pub(crate) HandshakeState);

impl Noise {
    pub(crate) fn write(&mut self, payload: &[u8]) -> Result<Vec<u8>, HandshakeError> {
        let mut message = vec![0; MAX_HANDSHAKE_MESSAGE];
        let length = self.0.write_message(payload, &mut message).map_err(failure)?;
        message.truncate(length);
        Ok(message)
    }

    /// Reads a message with a payload of exactly `N` bytes.
    pub(crate) fn read<const N: usize>(&mut self, message: &[u8]) -> Result<[u8; N], HandshakeError> {
        let mut payload = [0; N];
        match self.0.read_message(message, &mut payload).map_err(failure)? {
            length if length == N => Ok(payload),
            _ => Err(HandshakeError::Length { length: message.len() }),
        }
    }

    /// The peer's static key, once a message has brought it.
    pub(crate) fn remote_static(&self) -> Result<PublicKey, HandshakeError> {
        let key = self.0.get_remote_static().and_then(|key| key.try_into().ok()).map(PublicKey);
        let key = key.ok_or(HandshakeError::Crypto)?;
        check_static(&key).map_err(|_| HandshakeError::WeakKey)?;
        Ok(key)
    }

    pub(crate) fn into_records(self) -> Result<Records, HandshakeError> {
        Records::new(self.0).map_err(failure)
    }
}

/// ring and snow's own primitives, and as only randomness the ephemeral key we chose.
struct Resolver {
    primitives: FallbackResolver,
    ephemeral: Mutex<Option<Ephemeral>>,
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        let ephemeral = self.ephemeral.lock().ok()?.take()?;
        Some(Box::new(OneKey(Some(ephemeral))))
    }
    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        self.primitives.resolve_dh(choice)
    }
    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        self.primitives.resolve_hash(choice)
    }
    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        self.primitives.resolve_cipher(choice)
    }
}

/// Randomness for one key. Asked again, it fails: a second key of the same bytes would be the end of secrecy.
struct OneKey(Option<Ephemeral>);

impl Random for OneKey {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), snow::Error> {
        let Ephemeral(secret) = self.0.take().ok_or(snow::Error::Rng)?;
        let key: &mut [u8; 32] = dest.try_into().map_err(|_| snow::Error::Rng)?;
        *key = *secret.expose();
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests;
