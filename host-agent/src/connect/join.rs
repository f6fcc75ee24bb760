//! Becoming a device of a host.

use std::time::Duration;

use reachback_proto::crypto::keys::{Identity, KeyError, StaticKey};
use reachback_proto::pairing::OriginError;
use reachback_proto::pairing::{
    DeviceSide, Digits, Fresh, InitiatorEvent, Name, Origin, PairingError, PairingInitiator, PairingSecret, PairingUrl,
    Platform, Refusal, TypedCode, WAITING_INTERVAL,
};
use reachback_proto::version;
use ring::rand::SystemRandom;
use tokio::time::{Instant, timeout, timeout_at};

use crate::link::handshake::{BlockStream, HandshakeFailed};
use crate::link::relay::{Caller, RelayAddress, RelayConnection, RelayError, RelayTrust};
use crate::link::transports::{TransportChoice, Transports};
use crate::link::way_out::WayOut;
use crate::state::atomic::FileError;
use crate::state::host::RelayPin;
use crate::state::paired_hosts::{PairedHost, PairedHostStore};
use crate::state::timestamp::Timestamp;
use reachback_proto::control::RelayToPeer;

/// A host that is there answers within a round trip.
const ATTACH_TIMEOUT: Duration = Duration::from_secs(15);
/// A person needs time to read and type; the host ends it earlier when its code expires.
const PERSON_TIMEOUT: Duration = Duration::from_secs(300);
/// How long to wait for the host to say, by closing, that relay and host know this device.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);

/// What a person has in hand.
#[derive(Debug)]
pub enum Invitation {
    /// The URL of the QR code.
    Url(PairingUrl),
    /// The typed code, and where the relay is.
    Code {
        /// The relay.
        relay: Origin,
        /// The code.
        code: TypedCode,
    },
}

/// The pairing did not come about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The relay.
    #[error(transparent)]
    Relay(#[from] RelayError),
    /// The host did not come.
    #[error("the host does not answer: is `reachback pair` still running there?")]
    NoHost,
    /// The person did not type the digits.
    #[error("the digits were not typed at the host in time: pair again")]
    NotConfirmed,
    /// The circuit.
    #[error("the connection to the host failed: {0}")]
    Link(#[from] HandshakeFailed),
    /// The exchange.
    #[error(transparent)]
    Pairing(#[from] PairingError),
    /// Keys could not be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The host could not be stored; the pairing was called off.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Waits until the relay has found the host.
async fn attached(mut connection: RelayConnection) -> Result<RelayConnection, JoinError> {
    loop {
        let frame = timeout(ATTACH_TIMEOUT, connection.receive()).await;
        match frame.map_err(|_| JoinError::NoHost)?? {
            RelayToPeer::Attached { .. } => return Ok(connection),
            RelayToPeer::Presence { .. } | RelayToPeer::Ping { .. } => {}
            _ => return Err(RelayError::Protocol("a frame is not for a pairing device").into()),
        }
    }
}

/// Pairs with a host and stores it. `show` is called with the digits that a person types at the host.
pub async fn join(
    invitation: &Invitation,
    way_out: WayOut,
    name: Name,
    platform: Platform,
    store: &PairedHostStore,
    show: impl FnOnce(Digits),
) -> Result<PairedHost, JoinError> {
    let (origin, trust, secret) = match invitation {
        Invitation::Url(url) => (url.relay.clone(), RelayTrust::Prefix(url.fingerprint.to_vec()), url.secret.clone()),
        Invitation::Code { relay, code } => {
            // The code is what authenticates; the relay's key is confirmed by the host, end to end.
            (relay.clone(), RelayTrust::Learn, stretched(code.clone(), relay.clone()).await)
        }
    };
    // Of a few round trips: QUIC would gain nothing.
    let relay = RelayAddress { origin, trust, transports: Transports::new(TransportChoice::Wss).through(way_out) };
    let rendezvous = secret.rendezvous();
    let connection = attached(relay.connect(&Caller::Pairing { rendezvous }).await?).await?;
    let rng = SystemRandom::new();
    let identity = Identity::generate(&rng)?;
    let static_key = StaticKey::generate(&rng)?;
    let own = DeviceSide { identity: identity.public(), static_key: static_key.clone(), name, platform };
    let fresh = Fresh::generate(&rng)?;
    let (mut pairing, hello) = PairingInitiator::start(secret, own, connection.relay_key(), version::SUPPORTED, fresh)?;
    let mut stream = BlockStream::new(connection.into_circuit());
    stream.write(&hello).await?;
    let mut show = Some(show);
    let mut confirmed_by = Instant::now();
    loop {
        // Up to the digits it is round trips; after them it is a person, and the host says that it waits for one.
        let heard_by = Instant::now() + if show.is_some() { ATTACH_TIMEOUT } else { 3 * WAITING_INTERVAL };
        let until = if show.is_some() { heard_by } else { heard_by.min(confirmed_by) };
        let block = match timeout_at(until, stream.block()).await {
            Ok(block) => block?,
            Err(_) if show.is_none() && until == confirmed_by => return Err(JoinError::NotConfirmed),
            Err(_) => return Err(JoinError::NoHost),
        };
        let step = match pairing.receive(&block) {
            Ok(step) => step,
            Err(error) => {
                if let Some(refusal) = pairing.refuse(Refusal::Malformed) {
                    let _ = stream.write(&refusal).await;
                }
                return Err(error.into());
            }
        };
        match step.event {
            None if step.send.is_empty() => {}
            None => stream.write(&step.send).await?,
            Some(InitiatorEvent::Digits(digits)) => {
                stream.write(&step.send).await?;
                if let Some(show) = show.take() {
                    show(digits);
                    confirmed_by = Instant::now() + PERSON_TIMEOUT;
                }
            }
            Some(InitiatorEvent::Paired(paired)) => {
                let host = PairedHost {
                    name: paired.name.as_str().to_owned(),
                    host_identity: paired.identity,
                    host_static: paired.static_key,
                    identity,
                    static_key,
                    psk: paired.psk.clone(),
                    relays: paired.relays.iter().map(RelayPin::from).collect(),
                    scope: paired.scope,
                    paired_at: Timestamp::now(),
                };
                // Stored before the host is told: a host that lists this device is one that it can reach.
                store.save(&host)?;
                stream.write(&step.send).await?;
                // The host closes once it and the relay know this device; then `connect` works at once.
                let _ = timeout(SETTLE_TIMEOUT, stream.block()).await;
                return Ok(host);
            }
        }
    }
}

/// The relay of a paired host, pinned.
pub fn relay_of(host: &PairedHost, transports: impl Into<Transports>) -> Result<RelayAddress, OriginError> {
    let trust = RelayTrust::Pinned(host.relay().id());
    Ok(RelayAddress { origin: host.relay().url.parse()?, trust, transports: transports.into() })
}

/// The typed code's key derivation takes a fifth of a second of computing.
async fn stretched(code: TypedCode, relay: Origin) -> PairingSecret {
    tokio::task::spawn_blocking(move || PairingSecret::from_code(&code, &relay))
        .await
        .expect("the derivation does not panic")
}
