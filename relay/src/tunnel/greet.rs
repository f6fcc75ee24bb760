//! Challenge, hello, welcome.
//!
//! A stranger costs, in this order: a token of its address's bucket, a nonce,
//! at most 4 KiB and 5 seconds, and only then the check of one signature. What
//! the relay knows about the key is looked up after that.

use std::net::IpAddr;

use futures_util::StreamExt;
use reachback_proto::claims::{self, ProofRole};
use reachback_proto::close::CloseCode;
use reachback_proto::control::{EnrollKey, PeerToRelay, RelayToPeer, welcome_transcript};
use reachback_proto::crypto::keys::random;
use reachback_proto::endpoint::Endpoint;
use reachback_proto::ids::{BootId, HostId, PublicKey, RendezvousId};
use reachback_proto::version::{TELLS_REVOKED, VersionRange, WITH_RELAY};
use tokio::time::timeout;

use super::ending::Ending;
use crate::limits::{Limit, ms};
use crate::link::{Link, LinkError, Received, send};
use crate::refusal::Refusal;
use crate::state::State;

/// What a peer said, its key proved. It is needed until the peer is welcome.
pub(super) enum Hello {
    Host(Box<HostHello>),
    Data(Box<DataHello>),
    Device(Box<DeviceHello>),
    Pairing(Box<PairingHello>),
}

/// What the welcome answers.
pub(super) struct Greeting {
    version: u8,
    nonce: [u8; 32],
    peer_nonce: [u8; 32],
    /// Zero for a pairing.
    peer_key: PublicKey,
}

impl Greeting {
    /// Whether the peer takes [`RelayToPeer::DevicesRevoked`].
    pub(super) fn tells_revoked(&self) -> bool {
        self.version >= TELLS_REVOKED
    }
}

pub(super) struct HostHello {
    pub(super) greeting: Greeting,
    pub(super) key: PublicKey,
    pub(super) boot: BootId,
    pub(super) enroll_key: Option<EnrollKey>,
}

pub(super) struct DataHello {
    pub(super) greeting: Greeting,
    pub(super) host: HostId,
    pub(super) boot: BootId,
}

pub(super) struct DeviceHello {
    pub(super) greeting: Greeting,
    pub(super) key: PublicKey,
    pub(super) host: HostId,
    pub(super) watch_only: bool,
}

pub(super) struct PairingHello {
    pub(super) greeting: Greeting,
    pub(super) rendezvous: RendezvousId,
}

/// Challenges the peer and checks its hello.
pub(super) async fn greet(state: &State, link: &mut Link, endpoint: Endpoint, from: IpAddr) -> Result<Hello, Ending> {
    state.attempts.link(from).map_err(|wait| {
        Refusal::limited(Limit::Attempts, "too many connections from this address").retry_after(wait)
    })?;
    let nonce = random(&state.rng).map_err(|error| {
        tracing::error!(%error, "no challenge could be made");
        Refusal::new(CloseCode::Internal, "the relay could not answer; its log has the cause")
    })?;
    let challenge = RelayToPeer::Challenge { versions: WITH_RELAY, relay_key: state.identity.public(), nonce };
    let hello = async {
        send(link, challenge.encode(), ms(state.limits().hello_ms)).await?;
        next_frame(link).await
    };
    let hello = tokio::select! {
        hello = timeout(ms(state.limits().hello_ms), hello) => hello.map_err(|_| Refusal::timeout(Limit::Hello))?,
        () = state.lifecycle.soft().cancelled() => return Err(Ending::Restarting),
    };
    let hello = hello.map_err(|error| match error {
        LinkError::TooLarge => Refusal::too_large(Some(Limit::HelloBytes)).into(),
        other => Ending::from(other),
    })?;
    check(state, &hello, endpoint, nonce).map_err(Ending::Refused)
}

async fn next_frame(link: &mut Link) -> Result<Vec<u8>, LinkError> {
    loop {
        match link.next().await {
            Some(Ok(Received::Bytes(frame))) => return Ok(frame.into()),
            Some(Ok(Received::Alive)) => {}
            Some(Ok(Received::Closed)) | None => return Err(LinkError::Gone),
            Some(Err(error)) => return Err(error),
        }
    }
}

fn check(state: &State, hello: &[u8], endpoint: Endpoint, nonce: [u8; 32]) -> Result<Hello, Refusal> {
    let prove = |proof: &str, key: &PublicKey, role, host| {
        claims::check(proof, key, state.relay_id, &nonce, role, host).map_err(|error| {
            tracing::debug!(%error, "a proof did not hold");
            Refusal::new(CloseCode::Unauthorized, "the proof of the key does not hold for this relay and connection")
        })
    };
    let greeting = |version, peer_nonce, peer_key| {
        let VersionRange { min, max } = WITH_RELAY;
        if !(min..=max).contains(&version) {
            let what = format!("this relay speaks versions {min} to {max}: update the older side");
            return Err(Refusal::new(CloseCode::Version, what));
        }
        Ok(Greeting { version, nonce, peer_nonce, peer_key })
    };
    match (endpoint, PeerToRelay::decode(hello)?) {
        (Endpoint::Host, PeerToRelay::HostHello { version, key, peer_nonce, boot, proof, enroll_key }) => {
            let greeting = greeting(version, peer_nonce, key)?;
            prove(&proof, &key, ProofRole::Host, None)?;
            Ok(Hello::Host(Box::new(HostHello { greeting, key, boot, enroll_key })))
        }
        (Endpoint::HostData, PeerToRelay::HostDataHello { version, key, peer_nonce, boot, proof }) => {
            let greeting = greeting(version, peer_nonce, key)?;
            prove(&proof, &key, ProofRole::HostData, None)?;
            Ok(Hello::Data(Box::new(DataHello { greeting, host: HostId::of(&key), boot })))
        }
        (Endpoint::Device, PeerToRelay::DeviceHello { version, key, peer_nonce, host, watch_only, proof }) => {
            let greeting = greeting(version, peer_nonce, key)?;
            prove(&proof, &key, ProofRole::Device, Some(host))?;
            Ok(Hello::Device(Box::new(DeviceHello { greeting, key, host, watch_only })))
        }
        (Endpoint::Device, PeerToRelay::PairHello { version, peer_nonce, rendezvous }) => {
            let greeting = greeting(version, peer_nonce, PublicKey([0; 32]))?;
            Ok(Hello::Pairing(Box::new(PairingHello { greeting, rendezvous })))
        }
        _ => Err(Refusal::malformed("this frame is not a hello of this endpoint")),
    }
}

/// Lets the peer in.
pub(super) async fn welcome(state: &State, link: &mut Link, greeting: &Greeting) -> Result<(), Ending> {
    let Greeting { version, nonce, peer_nonce, peer_key } = greeting;
    let signature = state.identity.sign(&welcome_transcript(nonce, peer_nonce, peer_key));
    link.welcome();
    send(link, RelayToPeer::Welcome { version: *version, signature }.encode(), ms(state.limits().write_ms)).await?;
    Ok(())
}
