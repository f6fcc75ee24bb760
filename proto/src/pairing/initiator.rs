//! The device's side of a pairing.

use super::exchange::{Digits, Fresh, MESSAGE_2, Messages, PairingError, Side, Step, commitment, handshake};
use super::{Name, PairingMessage, PairingSecret, Platform, Refusal, RelayEntry};
use crate::crypto::blocks::put_block;
use crate::crypto::handshake::{Noise, Preamble, Purpose, exact};
use crate::crypto::keys::{Secret, StaticKey, check_identity};
use crate::ids::{HostId, PublicKey};
use crate::scope::Scope;
use crate::version::VersionRange;

/// What a device brings to a pairing.
#[derive(Debug, Clone)]
pub struct DeviceSide {
    /// Its identity key for this host.
    pub identity: PublicKey,
    /// Its static key for this host.
    pub static_key: StaticKey,
    /// What it calls itself.
    pub name: Name,
    /// What it runs on.
    pub platform: Platform,
}

/// What a device knows of a host once they are paired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairedHost {
    /// The host's identity key.
    pub identity: PublicKey,
    /// The host's static key.
    pub static_key: PublicKey,
    /// What the host calls itself.
    pub name: Name,
    /// The relays that it is reached through, best first, to pin their keys. Never empty.
    pub relays: Vec<RelayEntry>,
    /// The psk of the links to come.
    pub psk: Secret,
    /// What this device may do.
    pub scope: Scope,
}

impl PairedHost {
    /// The host's id.
    pub fn id(&self) -> HostId {
        HostId::of(&self.identity)
    }
}

/// What the device's side tells its person.
#[derive(Debug, PartialEq, Eq)]
pub enum InitiatorEvent {
    /// Show these digits, to be typed at the host.
    Digits(Digits),
    /// Keep this host, then send the step's bytes: the host keeps the device once it has them.
    Paired(Box<PairedHost>),
}

/// A pairing on the device. The first error ends it.
pub struct PairingInitiator {
    secret: PairingSecret,
    own: DeviceSide,
    relay_key: PublicKey,
    contribution: Secret,
    pub(super) state: State,
    pub(super) messages: Option<Messages>,
}

pub(super) enum State {
    Message2 { noise: Box<Noise>, nonce: [u8; 32] },
    Reveal { host_static: PublicKey, nonce: [u8; 32], commitment: [u8; 32] },
    HostIntro { host_static: PublicKey },
    Over,
}

impl PairingInitiator {
    /// Begins a pairing over a circuit; the bytes are the preamble and the block of message 1.
    ///
    /// `relay_key` is the key that the relay of this connection has proved in its
    /// welcome. With a QR code, check it against
    /// [`PairingUrl::is_for`](super::PairingUrl::is_for) first; here it is
    /// compared with the one that the host knows.
    pub fn start(
        secret: PairingSecret,
        own: DeviceSide,
        relay_key: PublicKey,
        versions: VersionRange,
        fresh: Fresh,
    ) -> Result<(Self, Vec<u8>), PairingError> {
        let Fresh { ephemeral, nonce, contribution } = fresh;
        let preamble = Preamble { purpose: Purpose::Pairing, versions }.to_bytes();
        let mut noise = handshake(&secret, preamble, &own.static_key, ephemeral, Side::Device)?;
        let mut out = preamble.to_vec();
        put_block(&mut out, &noise.write(&[])?);
        let state = State::Message2 { noise, nonce };
        Ok((Self { secret, own, relay_key, contribution, state, messages: None }, out))
    }

    /// Takes the next block of the circuit.
    pub fn receive(&mut self, block: &[u8]) -> Result<Step<InitiatorEvent>, PairingError> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Message2 { noise, nonce } => self.message2(noise, nonce, block),
            State::Reveal { host_static, nonce, commitment } => self.reveal(host_static, nonce, commitment, block),
            State::HostIntro { host_static } => self.host_intro(host_static, block),
            State::Over => Err(PairingError::Unexpected),
        }
    }

    /// Noise's hash of the handshake, h in `docs/protocol.md`: not secret, and the same at the host. `None` while
    /// there is no link.
    pub fn handshake_hash(&self) -> Option<&[u8; 32]> {
        self.messages.as_ref().map(|messages| &messages.handshake_hash)
    }

    /// Ends the pairing, as after an error of [`receive`](Self::receive); the bytes tell the host, if it can be told.
    pub fn refuse(&mut self, code: Refusal) -> Option<Vec<u8>> {
        self.state = State::Over;
        self.messages.take()?.refuse(code)
    }

    fn message2(
        &mut self,
        mut noise: Box<Noise>,
        nonce: [u8; 32],
        block: &[u8],
    ) -> Result<Step<InitiatorEvent>, PairingError> {
        exact(block, MESSAGE_2)?;
        let commitment = noise.read(block)?;
        let host_static = noise.remote_static()?;
        let mut send = Vec::new();
        put_block(&mut send, &noise.write(&nonce)?);
        self.messages = Some(Messages::new(noise.into_records()?));
        self.state = State::Reveal { host_static, nonce, commitment };
        Ok(Step { send, event: None })
    }

    fn reveal(
        &mut self,
        host_static: PublicKey,
        nonce: [u8; 32],
        committed: [u8; 32],
        block: &[u8],
    ) -> Result<Step<InitiatorEvent>, PairingError> {
        let messages = self.messages.as_mut().ok_or(PairingError::Unexpected)?;
        let PairingMessage::Reveal { nonce: host_nonce } = messages.open(block)? else {
            return Err(PairingError::Unexpected);
        };
        if commitment(&host_nonce) != committed {
            return Err(PairingError::Commitment);
        }
        let digits = Digits::compute(&messages.handshake_hash, &host_nonce, &nonce);
        let send = messages.seal(&PairingMessage::DeviceIntro {
            identity: self.own.identity,
            contribution: self.contribution.clone(),
            name: self.own.name.clone(),
            platform: self.own.platform.clone(),
        })?;
        self.state = State::HostIntro { host_static };
        Ok(Step { send, event: Some(InitiatorEvent::Digits(digits)) })
    }

    fn host_intro(&mut self, host_static: PublicKey, block: &[u8]) -> Result<Step<InitiatorEvent>, PairingError> {
        let messages = self.messages.as_mut().ok_or(PairingError::Unexpected)?;
        let (identity, contribution, scope, name, relays) = match messages.open(block)? {
            PairingMessage::HostIntro { identity, contribution, scope, name, relays } => {
                (identity, contribution, scope, name, relays)
            }
            PairingMessage::Waiting => {
                self.state = State::HostIntro { host_static };
                return Ok(Step { send: Vec::new(), event: None });
            }
            _ => return Err(PairingError::Unexpected),
        };
        check_identity(&identity)?;
        if !relays.iter().any(|relay| relay.key == self.relay_key) {
            return Err(PairingError::OtherRelay);
        }
        for relay in &relays {
            check_identity(&relay.key)?;
        }
        let psk = self.secret.link_psk(&messages.handshake_hash, &self.contribution, &contribution);
        let send = messages.seal(&PairingMessage::Done)?;
        self.messages = None;
        let host = PairedHost { identity, static_key: host_static, name, relays, psk, scope };
        Ok(Step { send, event: Some(InitiatorEvent::Paired(Box::new(host))) })
    }
}

impl std::fmt::Debug for PairingInitiator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PairingInitiator").field("own", &self.own).finish_non_exhaustive()
    }
}
