//! What a host or a device and the relay say to each other.
//!
//! A peer opens a WebSocket (or a QUIC stream) to the relay; each binary
//! message (or length-prefixed block) is one frame of this module:
//!
//! ```text
//!   relay → peer   Challenge { versions, relay key, nonce }
//!   peer  → relay  HostHello | HostDataHello | DeviceHello | PairHello
//!   relay → peer   Welcome { version, signature }          or Refused
//! ```
//!
//! The peer's hello proves its key over that nonce ([`crate::claims`]); the
//! relay's signature over both nonces proves the relay's. Then, by role:
//!
//! - **host control** stays in frames: device list, pairing, circuits wanted.
//! - **host data** waits for `CircuitStart`; all bytes after it, both ways, are
//!   the circuit's.
//! - **device** hears `Presence` until its host takes the circuit, then
//!   `Attached`; all bytes after it are the circuit's. A device that only
//!   watches never attaches.
//! - **pairing** is a device that has no key yet: it names a rendezvous.
//!
//! A circuit is a byte stream: the boundaries of WebSocket messages mean
//! nothing, and the relay may merge or split them.

use crate::crypto::blocks::{BLOCK_HEADER, MAX_BLOCK};
use crate::ids::{BootId, HostId, PublicKey, RendezvousId};
use crate::version::VersionRange;
use crate::wire::{DecodeError, Reader, Write};

/// Largest frame before a peer is authenticated, in bytes. A hello is under 1 KiB; 4 KiB leaves room for versions to come.
pub const MAX_HELLO: usize = 4 * 1024;
/// Largest control frame, in bytes: a full device list is 256 × 32 B and a header.
pub const MAX_CONTROL: usize = 16 * 1024;
/// Largest WebSocket message on a circuit, in bytes.
pub const MAX_CIRCUIT_CHUNK: usize = 128 * 1024;
/// What a peer puts into one message of a circuit at most, in bytes: five full records, so that 64 KiB go in one with what is
/// around them.
pub const CIRCUIT_BATCH: usize = 5 * (BLOCK_HEADER + MAX_BLOCK);
/// What one end of TLS holds sealed at most, in bytes: a [`CIRCUIT_BATCH`] with the heads of its WebSocket message and of its TLS
/// records. With less, the rest of each would leave by itself.
pub const CIRCUIT_TLS_BUFFER: usize = CIRCUIT_BATCH + 1024;
/// Devices of one host.
pub const MAX_DEVICES: usize = 256;
/// Longest self-signed proof, in bytes.
pub const MAX_PROOF: usize = 1024;
/// Longest enrolment key, in bytes.
pub const MAX_ENROLL_KEY: usize = 128;
/// Longest text in a refusal, in bytes.
pub const MAX_REFUSAL_MESSAGE: usize = 400;
/// Longest a rendezvous may stay open, in seconds.
pub const MAX_RENDEZVOUS_SECONDS: u32 = 300;

/// What the welcome's signature covers, in front of both nonces and the peer's key.
const WELCOME_LABEL: &[u8] = b"reachback relay welcome v1";

/// Frames that the relay sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelayToPeer {
    /// The first frame on every connection.
    Challenge {
        /// Versions the relay speaks.
        versions: VersionRange,
        /// The relay's identity key; its [`RelayId`](crate::ids::RelayId) is the fingerprint that peers pin.
        relay_key: PublicKey,
        /// Fresh for this connection; the peer's proof covers it.
        nonce: [u8; 32],
    },
    /// The peer is in.
    Welcome {
        /// The version both sides speak from here on.
        version: u8,
        /// Ed25519 by the relay's key over [`welcome_transcript`].
        signature: [u8; 64],
    },
    /// The peer is not let in, or is being put out; the connection closes.
    Refused {
        /// Why: a number of [`CloseCode`](crate::close::CloseCode).
        code: u16,
        /// When trying again makes sense, in milliseconds; 0 says nothing.
        retry_after_ms: u32,
        /// For a person: what was refused and what to do.
        message: String,
    },
    /// The relay is about to stop.
    Restarting {
        /// Come back after this many milliseconds, plus jitter.
        reconnect_in_ms: u32,
    },
    /// Asks for a `Pong` with the same number.
    Ping {
        /// Any number.
        id: u64,
    },
    /// Answers a `Ping`.
    Pong {
        /// The number of the ping.
        id: u64,
    },
    /// To a host: a device or a pairing waits, and no spare data connection is here. Dial one.
    CircuitWanted,
    /// To a host: the rendezvous is open.
    PairingOpened {
        /// The rendezvous.
        rendezvous: RendezvousId,
    },
    /// To a host: the rendezvous could not be opened, or has expired.
    PairingClosed {
        /// The rendezvous.
        rendezvous: RendezvousId,
        /// Why: a number of [`CloseCode`](crate::close::CloseCode).
        code: u16,
    },
    /// To a host: this version of the device list is stored and in force.
    DeviceListStored {
        /// The version of the list.
        version: u64,
    },
    /// To a host: another machine holds a live registration with the same key.
    Conflict,
    /// To a host, from version 2 on: these keys of the list that it has just sent were on a list of its before and then
    /// were not. The relay does not let them in, whatever newer list names them.
    DevicesRevoked {
        /// At most [`MAX_DEVICES`] keys.
        keys: Vec<PublicKey>,
    },
    /// To a host's data connection: the circuit starts with the next byte.
    CircuitStart {
        /// Number of the circuit at this relay, for logs.
        circuit: u64,
        /// Who is at the other end, as far as the relay knows.
        origin: CircuitOrigin,
    },
    /// To a device: whether its host is connected to the relay.
    Presence {
        /// Whether the host is connected.
        online: bool,
        /// Since when, in seconds since 1970; 0 when the host was never seen.
        since: u64,
    },
    /// To a device: the circuit starts with the next byte.
    Attached {
        /// Number of the circuit at this relay, for logs.
        circuit: u64,
    },
}

/// Who a circuit comes from, in the relay's words. The host trusts only the Noise handshake inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CircuitOrigin {
    /// A device that proved this identity key to the relay.
    Device {
        /// The device's identity key.
        key: PublicKey,
    },
    /// A device that knows this rendezvous.
    Pairing {
        /// The rendezvous.
        rendezvous: RendezvousId,
    },
}

/// Frames that a host or a device sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerToRelay {
    /// A host's control connection.
    HostHello {
        /// Version chosen from the challenge.
        version: u8,
        /// The host's identity key.
        key: PublicKey,
        /// Fresh; the relay signs it in its welcome.
        peer_nonce: [u8; 32],
        /// This run of the agent.
        boot: BootId,
        /// The self-signed proof ([`crate::claims`], role `host`).
        proof: String,
        /// The one-time enrolment key, the first time.
        enroll_key: Option<EnrollKey>,
    },
    /// A host's data connection: becomes a circuit.
    HostDataHello {
        /// Version chosen from the challenge.
        version: u8,
        /// The host's identity key.
        key: PublicKey,
        /// Fresh; the relay signs it in its welcome.
        peer_nonce: [u8; 32],
        /// The run of the agent that it belongs to.
        boot: BootId,
        /// The self-signed proof (role `host-data`).
        proof: String,
    },
    /// A paired device.
    DeviceHello {
        /// Version chosen from the challenge.
        version: u8,
        /// The device's identity key.
        key: PublicKey,
        /// Fresh; the relay signs it in its welcome.
        peer_nonce: [u8; 32],
        /// The host it wants.
        host: HostId,
        /// Only hear about presence; never attach.
        watch_only: bool,
        /// The self-signed proof (role `device`).
        proof: String,
    },
    /// A device that wants to pair.
    PairHello {
        /// Version chosen from the challenge.
        version: u8,
        /// Fresh; the relay signs it in its welcome.
        peer_nonce: [u8; 32],
        /// Derived from the pairing secret.
        rendezvous: RendezvousId,
    },
    /// Asks for a `Pong` with the same number.
    Ping {
        /// Any number.
        id: u64,
    },
    /// Answers a `Ping`.
    Pong {
        /// The number of the ping.
        id: u64,
    },
    /// From a host: the identity keys of the devices it accepts. Replaces the list before; versions only grow.
    DeviceList {
        /// Version of the list.
        version: u64,
        /// At most [`MAX_DEVICES`] keys.
        keys: Vec<PublicKey>,
    },
    /// From a host: let a device with this rendezvous through.
    PairingOpen {
        /// The rendezvous.
        rendezvous: RendezvousId,
        /// For how long, in seconds; at most [`MAX_RENDEZVOUS_SECONDS`].
        seconds: u32,
    },
    /// From a host: the rendezvous was used or given up.
    PairingClose {
        /// The rendezvous.
        rendezvous: RendezvousId,
    },
}

/// A one-time enrolment key. Its `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, zeroize::Zeroize, zeroize::ZeroizeOnDrop)]
pub struct EnrollKey(pub String);

impl std::fmt::Debug for EnrollKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EnrollKey(…)")
    }
}

/// The bytes that a welcome's signature covers.
///
/// Both nonces are fresh, so a recorded welcome proves nothing later; the
/// peer's key (zero for pairing) ties it to the peer that asked.
pub fn welcome_transcript(nonce: &[u8; 32], peer_nonce: &[u8; 32], peer_key: &PublicKey) -> Vec<u8> {
    [WELCOME_LABEL, nonce, peer_nonce, &peer_key.0].concat()
}

impl RelayToPeer {
    /// The frame's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(80);
        match self {
            Self::Challenge { versions, relay_key, nonce } => {
                out.put(&[0x01, versions.min, versions.max]);
                out.put(&relay_key.0);
                out.put(nonce);
            }
            Self::Welcome { version, signature } => {
                out.put(&[0x02, *version]);
                out.put(signature);
            }
            Self::Refused { code, retry_after_ms, message } => {
                out.put_u8(0x03);
                out.put_u16(*code);
                out.put_u32(*retry_after_ms);
                out.put_bytes(message.as_bytes());
            }
            Self::Restarting { reconnect_in_ms } => {
                out.put_u8(0x04);
                out.put_u32(*reconnect_in_ms);
            }
            Self::Ping { id } => {
                out.put_u8(0x05);
                out.put_u64(*id);
            }
            Self::Pong { id } => {
                out.put_u8(0x06);
                out.put_u64(*id);
            }
            Self::CircuitWanted => out.put_u8(0x10),
            Self::PairingOpened { rendezvous } => {
                out.put_u8(0x11);
                out.put(&rendezvous.0);
            }
            Self::PairingClosed { rendezvous, code } => {
                out.put_u8(0x12);
                out.put(&rendezvous.0);
                out.put_u16(*code);
            }
            Self::DeviceListStored { version } => {
                out.put_u8(0x13);
                out.put_u64(*version);
            }
            Self::Conflict => out.put_u8(0x14),
            Self::DevicesRevoked { keys } => {
                out.put_u8(0x15);
                put_device_keys(&mut out, keys);
            }
            Self::CircuitStart { circuit, origin } => {
                out.put_u8(0x20);
                out.put_u64(*circuit);
                match origin {
                    CircuitOrigin::Device { key } => {
                        out.put_u8(0);
                        out.put(&key.0);
                    }
                    CircuitOrigin::Pairing { rendezvous } => {
                        out.put_u8(1);
                        out.put(&rendezvous.0);
                    }
                }
            }
            Self::Presence { online, since } => {
                out.put(&[0x30, u8::from(*online)]);
                out.put_u64(*since);
            }
            Self::Attached { circuit } => {
                out.put_u8(0x31);
                out.put_u64(*circuit);
            }
        }
        out
    }

    /// The frame in `bytes`, which hold nothing else.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let frame = match r.u8()? {
            0x01 => Self::Challenge {
                versions: VersionRange { min: r.u8()?, max: r.u8()? },
                relay_key: PublicKey(r.array()?),
                nonce: r.array()?,
            },
            0x02 => Self::Welcome { version: r.u8()?, signature: r.array()? },
            0x03 => Self::Refused {
                code: r.u16()?,
                retry_after_ms: r.u32()?,
                message: r.text("message", MAX_REFUSAL_MESSAGE)?.to_owned(),
            },
            0x04 => Self::Restarting { reconnect_in_ms: r.u32()? },
            0x05 => Self::Ping { id: r.u64()? },
            0x06 => Self::Pong { id: r.u64()? },
            0x10 => Self::CircuitWanted,
            0x11 => Self::PairingOpened { rendezvous: RendezvousId(r.array()?) },
            0x12 => Self::PairingClosed { rendezvous: RendezvousId(r.array()?), code: r.u16()? },
            0x13 => Self::DeviceListStored { version: r.u64()? },
            0x14 => Self::Conflict,
            0x15 => Self::DevicesRevoked { keys: device_keys(&mut r)? },
            0x20 => Self::CircuitStart {
                circuit: r.u64()?,
                origin: match r.u8()? {
                    0 => CircuitOrigin::Device { key: PublicKey(r.array()?) },
                    1 => CircuitOrigin::Pairing { rendezvous: RendezvousId(r.array()?) },
                    _ => {
                        return Err(DecodeError::Invalid { field: "circuit origin" });
                    }
                },
            },
            0x30 => Self::Presence { online: flag(&mut r, "online")?, since: r.u64()? },
            0x31 => Self::Attached { circuit: r.u64()? },
            tag => return Err(DecodeError::UnknownTag { tag }),
        };
        r.finish()?;
        Ok(frame)
    }
}

impl PeerToRelay {
    /// The frame's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        match self {
            Self::HostHello { version, key, peer_nonce, boot, proof, enroll_key } => {
                out.put(&[0x41, *version]);
                out.put(&key.0);
                out.put(peer_nonce);
                out.put(&boot.0);
                out.put_bytes(proof.as_bytes());
                out.put_bytes(enroll_key.as_ref().map_or(&[][..], |key| key.0.as_bytes()));
            }
            Self::HostDataHello { version, key, peer_nonce, boot, proof } => {
                out.put(&[0x42, *version]);
                out.put(&key.0);
                out.put(peer_nonce);
                out.put(&boot.0);
                out.put_bytes(proof.as_bytes());
            }
            Self::DeviceHello { version, key, peer_nonce, host, watch_only, proof } => {
                out.put(&[0x43, *version]);
                out.put(&key.0);
                out.put(peer_nonce);
                out.put(&host.0);
                out.put_u8(u8::from(*watch_only));
                out.put_bytes(proof.as_bytes());
            }
            Self::PairHello { version, peer_nonce, rendezvous } => {
                out.put(&[0x44, *version]);
                out.put(peer_nonce);
                out.put(&rendezvous.0);
            }
            Self::Ping { id } => {
                out.put_u8(0x45);
                out.put_u64(*id);
            }
            Self::Pong { id } => {
                out.put_u8(0x46);
                out.put_u64(*id);
            }
            Self::DeviceList { version, keys } => {
                out.put_u8(0x50);
                out.put_u64(*version);
                put_device_keys(&mut out, keys);
            }
            Self::PairingOpen { rendezvous, seconds } => {
                out.put_u8(0x51);
                out.put(&rendezvous.0);
                out.put_u32(*seconds);
            }
            Self::PairingClose { rendezvous } => {
                out.put_u8(0x52);
                out.put(&rendezvous.0);
            }
        }
        out
    }

    /// The frame in `bytes`, which hold nothing else.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let frame = match r.u8()? {
            0x41 => Self::HostHello {
                version: r.u8()?,
                key: PublicKey(r.array()?),
                peer_nonce: r.array()?,
                boot: BootId(r.array()?),
                proof: proof(&mut r)?,
                enroll_key: match r.text("enrolment key", MAX_ENROLL_KEY)? {
                    "" => None,
                    key => Some(EnrollKey(key.to_owned())),
                },
            },
            0x42 => Self::HostDataHello {
                version: r.u8()?,
                key: PublicKey(r.array()?),
                peer_nonce: r.array()?,
                boot: BootId(r.array()?),
                proof: proof(&mut r)?,
            },
            0x43 => Self::DeviceHello {
                version: r.u8()?,
                key: PublicKey(r.array()?),
                peer_nonce: r.array()?,
                host: HostId(r.array()?),
                watch_only: flag(&mut r, "watch only")?,
                proof: proof(&mut r)?,
            },
            0x44 => Self::PairHello { version: r.u8()?, peer_nonce: r.array()?, rendezvous: RendezvousId(r.array()?) },
            0x45 => Self::Ping { id: r.u64()? },
            0x46 => Self::Pong { id: r.u64()? },
            0x50 => Self::DeviceList { version: r.u64()?, keys: device_keys(&mut r)? },
            0x51 => Self::PairingOpen { rendezvous: RendezvousId(r.array()?), seconds: r.u32()? },
            0x52 => Self::PairingClose { rendezvous: RendezvousId(r.array()?) },
            tag => return Err(DecodeError::UnknownTag { tag }),
        };
        r.finish()?;
        Ok(frame)
    }
}

fn proof(r: &mut Reader<'_>) -> Result<String, DecodeError> {
    r.text("proof", MAX_PROOF).map(str::to_owned)
}

fn flag(r: &mut Reader<'_>, field: &'static str) -> Result<bool, DecodeError> {
    match r.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::Invalid { field }),
    }
}

fn put_device_keys(out: &mut Vec<u8>, keys: &[PublicKey]) {
    out.put_u16(keys.len() as u16);
    keys.iter().for_each(|key| out.put(&key.0));
}

fn device_keys(r: &mut Reader<'_>) -> Result<Vec<PublicKey>, DecodeError> {
    let count = usize::from(r.u16()?);
    if count > MAX_DEVICES {
        return Err(DecodeError::TooLong { field: "device list", length: count as u64, limit: MAX_DEVICES as u64 });
    }
    (0..count).map(|_| r.array().map(PublicKey)).collect()
}
