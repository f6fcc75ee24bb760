//! Circuits that arrive at the host: handshake, then the session they belong to.
//!
//! Nothing changes before the first record on the new channel has opened: the
//! handshake's first message can be replayed by anyone who recorded it, and
//! then nothing follows that opens.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reachback_proto::control::CircuitOrigin;
use reachback_proto::crypto::handshake::{HandshakeError, Preamble, Purpose};
use reachback_proto::crypto::keys::{self, KeyError, StaticKey};
use reachback_proto::frame::{ByeReason, Frame, GapReason};
use reachback_proto::ids::{DeviceId, HostId, SessionId};
use reachback_proto::session::{Attach, Session, SessionError, SessionLimits};
use reachback_relay::vital;
use ring::rand::SystemRandom;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::host_session::{self, SessionContext};
use super::pairing::Pairings;
use super::sessions::Sessions;
use super::tunnel::IncomingCircuit;
use super::turns::Turns;
use crate::link::handshake::{self, BlockStream, HANDSHAKE_TIMEOUT, HandshakeFailed};
use crate::link::{LinkError, SecureLink};
use crate::session;
use crate::state::devices::{AdmitError, DeviceStore};
use crate::state::timestamp::Timestamp;

/// Circuits that are not links yet, all together. A handshake is a round trip and half a millisecond of computing; more
/// wait at the relay.
const MAX_ACCEPTING: usize = 32;
/// How long a device may take from the handshake to its first record.
const FIRST_RECORD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a device that is turned away may take to hear why.
const LAST_WORD_TIMEOUT: Duration = Duration::from_secs(2);
/// How often it is looked which sessions have to end: what a fast link carries meanwhile is over the bound.
const SWEEP: Duration = Duration::from_secs(2);

/// What the acceptor works with.
pub(crate) struct Acceptor {
    pub host: HostId,
    /// Proves this host to devices.
    pub static_key: StaticKey,
    /// The devices accepted.
    pub devices: Arc<DeviceStore>,
    /// Their sessions.
    pub sessions: Arc<Sessions>,
    /// Open offers.
    pub pairings: Arc<Pairings>,
    /// Bounds of each session.
    pub session_limits: SessionLimits,
    /// What sessions work with.
    pub context: SessionContext,
}

#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Handshake(#[from] HandshakeFailed),
    #[error(transparent)]
    Preamble(#[from] HandshakeError),
    #[error("the first record did not come in time")]
    Silent,
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Admit(#[from] AdmitError),
    #[error("the relay says this circuit is for {said}, the device says for {wanted:?}")]
    OtherPurpose { said: &'static str, wanted: Purpose },
}

impl Acceptor {
    /// Takes circuits until the tunnel is gone, and owns every task it starts.
    pub(crate) async fn run(self, mut circuits: mpsc::Receiver<IncomingCircuit>) {
        let acceptor = Arc::new(self);
        let turns = Turns::default();
        let (started_out, mut started) = mpsc::unbounded_channel();
        let mut accepting = JoinSet::new();
        let mut running = JoinSet::new();
        let mut sweep = tokio::time::interval(SWEEP);
        loop {
            tokio::select! {
                // Only this arm waits for room: sessions already let in must not.
                circuit = circuits.recv(), if accepting.len() < MAX_ACCEPTING => {
                    let Some(circuit) = circuit else { break };
                    let Some(turn) = turns.take(&circuit.origin) else {
                        tracing::info!(circuit = circuit.number, "circuit refused: too many like it are not links yet");
                        continue;
                    };
                    let (acceptor, started) = (Arc::clone(&acceptor), started_out.clone());
                    accepting.spawn(async move {
                        let number = circuit.number;
                        if let Err(refused) = acceptor.accept(circuit, &started).await {
                            tracing::info!(circuit = number, %refused, "circuit refused");
                        }
                        drop(turn);
                    });
                }
                Some(session) = started.recv() => {
                    running.spawn(session);
                }
                Some(ended) = accepting.join_next() => vital::raise(ended),
                Some(ended) = running.join_next() => vital::raise(ended),
                _ = sweep.tick() => {
                    for session in acceptor.sessions.expired(Instant::now()) {
                        running.spawn(async move { session.end(ByeReason::Normal).await });
                    }
                    for session in acceptor.sessions.over_bytes() {
                        tracing::warn!(bytes = session.held_bytes(), "a device's sessions hold too much: one ends");
                        running.spawn(async move { session.end(ByeReason::Limit).await });
                    }
                }
            }
        }
        acceptor.sessions.end(|_| true, ByeReason::ShuttingDown).await;
    }

    async fn accept(
        &self,
        circuit: IncomingCircuit,
        started: &mpsc::UnboundedSender<host_session::Running>,
    ) -> Result<(), Refused> {
        let mut stream = BlockStream::new(circuit.circuit);
        let preamble = timeout(HANDSHAKE_TIMEOUT, stream.preamble()).await.map_err(|_| HandshakeFailed::TimedOut)??;
        match (Preamble::parse(preamble)?.purpose, circuit.origin) {
            (Purpose::Pairing, CircuitOrigin::Pairing { rendezvous }) => {
                self.pairings.serve(stream, preamble, rendezvous).await;
                Ok(())
            }
            // Which device it is, the handshake says; the relay's word about it is not asked.
            (Purpose::Link, CircuitOrigin::Device { .. }) => self.link(stream, preamble, started).await,
            (wanted, CircuitOrigin::Pairing { .. }) => Err(Refused::OtherPurpose { said: "pairing", wanted }),
            (wanted, CircuitOrigin::Device { .. }) => Err(Refused::OtherPurpose { said: "a device", wanted }),
        }
    }

    async fn link(
        &self,
        stream: BlockStream,
        preamble: [u8; 4],
        started: &mpsc::UnboundedSender<host_session::Running>,
    ) -> Result<(), Refused> {
        // One that is paused gets so far, to be told that it is; nobody else could tell it.
        let find = |key: &_| {
            let list = self.devices.current();
            let device = list.devices.iter().find(|device| device.static_key == *key)?;
            Some((device.psk.clone(), device.clone()))
        };
        let (mut link, device) = handshake::accept(stream, preamble, self.host, &self.static_key, find).await?;
        let record = first_record(&mut link).await?;
        if self.devices.admit(&device.static_key) == Err(AdmitError::Paused) {
            let _ = timeout(LAST_WORD_TIMEOUT, turn_away(link, ByeReason::Paused)).await;
            return Err(AdmitError::Paused.into());
        }
        // From here on it is really the device, and now.
        self.devices.touch(device.device_id, Timestamp::now());
        match Attach::peek(&record)? {
            Attach::Open => self.open(device.device_id, link, record, started).await,
            Attach::Resume(id) => match self.sessions.find(device.device_id, id) {
                Some(session) => {
                    tracing::debug!(device = %device.device_id.short(), session = %id.short(), "resuming");
                    let _ = session.attach(link, Some(record)).await;
                    Ok(())
                }
                // Unknown, or another device's: the same answer. The device then opens a new one here.
                None => {
                    let mut gap = Vec::new();
                    Frame::Gap { reason: GapReason::Unknown }.encode(&mut gap);
                    link.start_send(&mut gap)?;
                    link.flush().await?;
                    let record = first_record(&mut link).await?;
                    match Attach::peek(&record)? {
                        Attach::Open => self.open(device.device_id, link, record, started).await,
                        Attach::Resume(_) => Err(SessionError::Unexpected("second Resume").into()),
                    }
                }
            },
        }
    }

    async fn open(
        &self,
        device: DeviceId,
        link: SecureLink,
        record: Vec<u8>,
        started: &mpsc::UnboundedSender<host_session::Running>,
    ) -> Result<(), Refused> {
        let id = SessionId(keys::random(&SystemRandom::new())?);
        let session = session::start(Session::host(id, self.session_limits.clone(), Instant::now()));
        let handle = session.handle.clone();
        if let Some(oldest) = self.sessions.insert(device, id, handle.clone()) {
            tracing::info!(device = %device.short(), "a device has too many sessions: its oldest ends");
            oldest.end(ByeReason::Limit).await;
        }
        let context = self.context.clone();
        let _ = started.send(Box::pin(host_session::run(context, device, id, session)));
        let _ = handle.attach(link, Some(record)).await;
        Ok(())
    }
}

/// Ends a link with a last word, before there is a session.
async fn turn_away(mut link: SecureLink, reason: ByeReason) -> Result<(), LinkError> {
    let mut word = Vec::new();
    Frame::Bye { reason, reconnect_in_ms: 0 }.encode(&mut word);
    link.start_send(&mut word)?;
    link.flush().await?;
    link.close().await;
    Ok(())
}

async fn first_record(link: &mut SecureLink) -> Result<Vec<u8>, Refused> {
    Ok(timeout(FIRST_RECORD_TIMEOUT, link.record()).await.map_err(|_| Refused::Silent)??)
}

#[cfg(test)]
mod tests;
