//! Names of things on the wire: short, derived or random, never secret.
//!
//! Host and device ids are derived from the identity key they stand for, so an
//! id can't be claimed with another key. As text they are lower-case base32.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE32_NOPAD;
use ring::digest::{SHA256, digest};

use crate::words::quote;

/// Text that is not an id of the kind wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not a {kind}: wanted {length} base32 characters", quote(text))]
pub struct ParseIdError {
    kind: &'static str,
    length: usize,
    text: String,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $bytes]);

        impl $name {
            /// The first eight characters, for logs and tables.
            pub fn short(&self) -> String {
                self.to_string().chars().take(8).collect()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&BASE32_NOPAD.encode(&self.0).to_ascii_lowercase())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.short())
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let bytes = BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes()).ok();
                bytes.and_then(|b| b.try_into().ok()).map(Self).ok_or_else(|| ParseIdError {
                    kind: $kind,
                    length: ($bytes * 8usize).div_ceil(5),
                    text: text.chars().take(64).collect(),
                })
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id!(
    /// A host: the first 16 bytes of SHA-256("reachback host v1" ‖ identity key).
    HostId, 16, "host id"
);
id!(
    /// A device at one host: the first 16 bytes of SHA-256("reachback device v1" ‖ identity key).
    DeviceId, 16, "device id"
);
id!(
    /// A relay: SHA-256("reachback relay v1" ‖ identity key). Shown as its fingerprint.
    RelayId, 32, "relay fingerprint"
);
id!(
    /// A pairing rendezvous at the relay, derived from the pairing secret.
    RendezvousId, 16, "rendezvous id"
);
id!(
    /// One run of a host agent, random; tells two machines with one cloned key apart.
    BootId, 16, "boot id"
);
id!(
    /// A session between a host and a device, random, chosen by the host.
    SessionId, 16, "session id"
);
id!(
    /// A raw public key, Ed25519 or X25519.
    PublicKey, 32, "public key"
);

impl HostId {
    /// The id of the host with this Ed25519 identity key.
    pub fn of(identity: &PublicKey) -> Self {
        Self(truncated(b"reachback host v1", identity))
    }
}

impl DeviceId {
    /// The id of the device with this Ed25519 identity key.
    pub fn of(identity: &PublicKey) -> Self {
        Self(truncated(b"reachback device v1", identity))
    }
}

impl RelayId {
    /// The id of the relay with this Ed25519 identity key.
    pub fn of(identity: &PublicKey) -> Self {
        Self(hash(b"reachback relay v1", identity))
    }

    /// Whether `prefix`, the part of a fingerprint that a pairing URL has room for, is this relay's.
    pub fn starts_with(&self, prefix: &[u8]) -> bool {
        prefix.len() >= RelayId::PREFIX_LEN && self.0.starts_with(prefix)
    }

    /// Bytes of a fingerprint in a pairing URL: 160 bits, out of reach of a second preimage.
    pub const PREFIX_LEN: usize = 20;
}

fn hash(label: &[u8], key: &PublicKey) -> [u8; 32] {
    let mut input = label.to_vec();
    input.extend_from_slice(&key.0);
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, &input).as_ref());
    out
}

fn truncated(label: &[u8], key: &PublicKey) -> [u8; 16] {
    let mut out = [0; 16];
    out.copy_from_slice(&hash(label, key)[..16]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_text_and_json_and_refuse_other_lengths() {
        let id = HostId::of(&PublicKey([7; 32]));
        assert_eq!(id.to_string().parse(), Ok(id));
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(serde_json::from_str::<HostId>(&json).unwrap(), id);
        assert!("aaaa".parse::<HostId>().is_err());
        assert!(PublicKey([7; 32]).to_string().parse::<HostId>().is_err());
        assert_ne!(id.0, DeviceId::of(&PublicKey([7; 32])).0);
    }
}
