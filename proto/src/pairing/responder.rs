//! The host's side of a pairing.

use super::exchange::{Digits, Fresh, MESSAGE_1, MESSAGE_3, Messages, PairingError, Side, Step, commitment, handshake};
use super::{Name, PairingMessage, PairingSecret, Platform, Refusal, RelayEntry};
use crate::crypto::blocks::put_block;
use crate::crypto::handshake::{HandshakeError, Noise, Preamble, Purpose, exact};
use crate::crypto::keys::{Secret, StaticKey, check_identity};
use crate::ids::{DeviceId, PublicKey};
use crate::scope::Scope;

/// What a host brings to a pairing.
#[derive(Debug, Clone)]
pub struct HostSide {
    /// Its identity key.
    pub identity: PublicKey,
    /// Its static key.
    pub static_key: StaticKey,
    /// What it calls itself.
    pub name: Name,
    /// The relays that it is reached through, best first: 1 to [`MAX_RELAYS`](super::MAX_RELAYS).
    pub relays: Vec<RelayEntry>,
    /// What the device will be allowed to do.
    pub scope: Scope,
}

/// What a host keeps of a device once they are paired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairedDevice {
    /// The device's identity key for this host.
    pub identity: PublicKey,
    /// The device's static key for this host.
    pub static_key: PublicKey,
    /// What the device calls itself.
    pub name: Name,
    /// What it runs on.
    pub platform: Platform,
    /// The psk of the links to come.
    pub psk: Secret,
    /// What it may do.
    pub scope: Scope,
}

impl PairedDevice {
    /// The device's id.
    pub fn id(&self) -> DeviceId {
        DeviceId::of(&self.identity)
    }
}

/// What the host's side tells whoever runs `reachback pair`.
#[derive(Debug, PartialEq, Eq)]
pub enum ResponderEvent {
    /// A device asks. Have the digits that it shows typed here, or decline.
    DeviceWaits {
        /// Its identity key.
        identity: PublicKey,
        /// What it calls itself.
        name: Name,
        /// What it runs on.
        platform: Platform,
    },
    /// The digits typed are not the device's: the pairing is over.
    WrongDigits,
    /// The device has stored this host: keep it.
    Paired(Box<PairedDevice>),
}

/// A pairing on the host. The first error ends it.
pub struct PairingResponder {
    secret: PairingSecret,
    own: HostSide,
    contribution: Secret,
    pub(super) state: State,
    pub(super) messages: Option<Messages>,
}

pub(super) enum State {
    Message1 { noise: Box<Noise>, nonce: [u8; 32] },
    Message3 { noise: Box<Noise>, nonce: [u8; 32] },
    DeviceIntro { device_static: PublicKey, digits: Digits },
    Confirm { device: Box<PairedDevice>, digits: Digits },
    Done { device: Box<PairedDevice> },
    Over,
}

impl PairingResponder {
    /// Waits for a device on a circuit that began with `preamble`.
    pub fn start(secret: PairingSecret, preamble: [u8; 4], own: HostSide, fresh: Fresh) -> Result<Self, PairingError> {
        Preamble::parse(preamble)?.agree(Purpose::Pairing)?;
        let Fresh { ephemeral, nonce, contribution } = fresh;
        let noise = handshake(&secret, preamble, &own.static_key, ephemeral, Side::Host)?;
        Ok(Self { secret, own, contribution, state: State::Message1 { noise, nonce }, messages: None })
    }

    /// Takes the next block of the circuit.
    pub fn receive(&mut self, block: &[u8]) -> Result<Step<ResponderEvent>, PairingError> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Message1 { noise, nonce } => self.message1(noise, nonce, block),
            State::Message3 { noise, nonce } => self.message3(noise, nonce, block),
            State::DeviceIntro { device_static, digits } => self.device_intro(device_static, digits, block),
            // The device has nothing to say before the person has, except that it gives up.
            State::Confirm { .. } => self.open(block).and(Err(PairingError::Unexpected)),
            State::Done { device } => match self.open(block)? {
                PairingMessage::Done => {
                    self.messages = None;
                    Ok(Step { send: Vec::new(), event: Some(ResponderEvent::Paired(device)) })
                }
                _ => Err(PairingError::Unexpected),
            },
            State::Over => Err(PairingError::Unexpected),
        }
    }

    /// While the person has not decided: the device is to have this scope, in place of the one that [`HostSide`] names.
    pub fn grant(&mut self, scope: Scope) -> Result<(), PairingError> {
        let State::Confirm { device, .. } = &mut self.state else { return Err(PairingError::Unexpected) };
        device.scope = scope;
        self.own.scope = scope;
        Ok(())
    }

    /// The person typed the digits that the device shows. Wrong ones end the pairing: there is one guess.
    pub fn confirm(&mut self, typed: &str) -> Result<Step<ResponderEvent>, PairingError> {
        let typed = Digits::parse(typed).ok_or(PairingError::NotSixDigits)?;
        let State::Confirm { digits, .. } = &self.state else { return Err(PairingError::Unexpected) };
        if typed == *digits {
            return self.confirm_without_digits();
        }
        let send = self.refuse(Refusal::WrongDigits).unwrap_or_default();
        Ok(Step { send, event: Some(ResponderEvent::WrongDigits) })
    }

    /// Lets the device in without comparing digits: for programs (`--yes`), in the process that showed the code.
    pub fn confirm_without_digits(&mut self) -> Result<Step<ResponderEvent>, PairingError> {
        let device = match std::mem::replace(&mut self.state, State::Over) {
            State::Confirm { device, .. } => device,
            other => {
                self.state = other;
                return Err(PairingError::Unexpected);
            }
        };
        let message = PairingMessage::HostIntro {
            identity: self.own.identity,
            contribution: self.contribution.clone(),
            scope: self.own.scope,
            name: self.own.name.clone(),
            relays: self.own.relays.clone(),
        };
        let send = self.messages()?.seal(&message)?;
        self.state = State::Done { device };
        Ok(Step { send, event: None })
    }

    /// While the person has not decided: what tells the device so, every [`WAITING_INTERVAL`](super::WAITING_INTERVAL).
    pub fn waiting(&mut self) -> Result<Vec<u8>, PairingError> {
        match self.state {
            State::Confirm { .. } => Ok(self.messages()?.seal(&PairingMessage::Waiting)?),
            _ => Err(PairingError::Unexpected),
        }
    }

    /// Ends the pairing, as after an error of [`receive`](Self::receive); the bytes tell the device, if it can be told.
    pub fn refuse(&mut self, code: Refusal) -> Option<Vec<u8>> {
        self.state = State::Over;
        self.messages.take()?.refuse(code)
    }

    fn message1(
        &mut self,
        mut noise: Box<Noise>,
        nonce: [u8; 32],
        block: &[u8],
    ) -> Result<Step<ResponderEvent>, PairingError> {
        exact(block, MESSAGE_1)?;
        let [] = noise.read(block).map_err(|err| match err {
            HandshakeError::Unopened => PairingError::WrongSecret,
            other => other.into(),
        })?;
        let mut send = Vec::new();
        put_block(&mut send, &noise.write(&commitment(&nonce))?);
        self.state = State::Message3 { noise, nonce };
        Ok(Step { send, event: None })
    }

    fn message3(
        &mut self,
        mut noise: Box<Noise>,
        nonce: [u8; 32],
        block: &[u8],
    ) -> Result<Step<ResponderEvent>, PairingError> {
        exact(block, MESSAGE_3)?;
        let device_nonce = noise.read(block)?;
        let device_static = noise.remote_static()?;
        let mut messages = Messages::new(noise.into_records()?);
        let digits = Digits::compute(&messages.handshake_hash, &nonce, &device_nonce);
        let send = messages.seal(&PairingMessage::Reveal { nonce })?;
        self.messages = Some(messages);
        self.state = State::DeviceIntro { device_static, digits };
        Ok(Step { send, event: None })
    }

    fn device_intro(
        &mut self,
        device_static: PublicKey,
        digits: Digits,
        block: &[u8],
    ) -> Result<Step<ResponderEvent>, PairingError> {
        let PairingMessage::DeviceIntro { identity, contribution, name, platform } = self.open(block)? else {
            return Err(PairingError::Unexpected);
        };
        check_identity(&identity)?;
        let handshake_hash = self.messages()?.handshake_hash;
        let psk = self.secret.link_psk(&handshake_hash, &contribution, &self.contribution);
        let event = ResponderEvent::DeviceWaits { identity, name: name.clone(), platform: platform.clone() };
        let scope = self.own.scope;
        let device = PairedDevice { identity, static_key: device_static, name, platform, psk, scope };
        self.state = State::Confirm { device: Box::new(device), digits };
        Ok(Step { send: Vec::new(), event: Some(event) })
    }

    fn messages(&mut self) -> Result<&mut Messages, PairingError> {
        self.messages.as_mut().ok_or(PairingError::Unexpected)
    }

    fn open(&mut self, block: &[u8]) -> Result<PairingMessage, PairingError> {
        self.messages()?.open(block)
    }
}

impl std::fmt::Debug for PairingResponder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PairingResponder").field("own", &self.own).finish_non_exhaustive()
    }
}
