//! A session with one host, kept up over links that come and go.
//!
//! Tasks: [`RemoteHost`] owns the session's task and the dialler. The dialler
//! makes a new link whenever the session has none: at once the first time, then
//! with growing, jittered delays, and when the host is offline it waits at the
//! relay until the host comes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reachback_proto::control::RelayToPeer;
use reachback_proto::crypto::keys::{Identity, Secret, StaticKey};
use reachback_proto::frame::ByeReason;
use reachback_proto::ids::{HostId, PublicKey};
use reachback_proto::session::{Session, SessionLimits};
use ring::rand::SystemRandom;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::link::SecureLink;
use crate::link::backoff::{Backoff, BackoffConfig};
use crate::link::circuit::WebSocketCircuit;
use crate::link::handshake::{self, HandshakeFailed};
use crate::link::relay::{self, Caller, RelayAddress, RelayError};
use crate::session::{self, ChannelHandle, SessionEnded, SessionEvent, SessionHandle, SessionState};

/// A relay that says nothing for this long is gone: it pings every 20 s.
const SILENCE_LIMIT: Duration = Duration::from_secs(45);
/// A link that lasted this long starts the back-off anew.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);
/// A host that is online takes a circuit within a round trip.
const ATTACH_TIMEOUT: Duration = Duration::from_secs(10);

/// What is needed to reach a host.
#[derive(Debug)]
pub struct RemoteConfig {
    /// The relay, pinned.
    pub relay: RelayAddress,
    /// The host.
    pub host: HostId,
    /// The host's static key.
    pub host_static: PublicKey,
    /// Proves this device to the relay.
    pub identity: Identity,
    /// Proves this device to the host.
    pub static_key: StaticKey,
    /// Shared with the host.
    pub psk: Secret,
    /// Between tries.
    pub backoff: BackoffConfig,
}

/// How the host is reached, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemoteState {
    /// Trying.
    Connecting {
        /// Since when.
        since: Instant,
        /// Why the last try or link ended; empty before the first.
        reason: String,
    },
    /// The relay is there, the host is not.
    HostOffline {
        /// Since when this side waits.
        since: Instant,
        /// When the relay last saw the host, in seconds since 1970; 0 for never.
        last_seen: u64,
    },
    /// A link carries the session.
    Up,
    /// Over: the host ended it.
    Ended {
        /// The host's last word.
        reason: Option<ByeReason>,
    },
}

impl RemoteState {
    /// For how long there has been no link.
    pub fn down_for(&self, now: Instant) -> Option<Duration> {
        match self {
            Self::Connecting { since, .. } | Self::HostOffline { since, .. } => {
                Some(now.saturating_duration_since(*since))
            }
            Self::Up => None,
            Self::Ended { .. } => Some(Duration::MAX),
        }
    }
}

/// See the module's header. Dropping it ends the session without a word; [`RemoteHost::end`] is polite.
#[derive(Debug)]
pub struct RemoteHost {
    session: SessionHandle,
    state: watch::Receiver<RemoteState>,
    apis: tokio::sync::Mutex<mpsc::UnboundedReceiver<ChannelHandle>>,
    _tasks: [AbortOnDropHandle<()>; 3],
}

impl RemoteHost {
    /// Starts dialling.
    pub fn start(config: RemoteConfig) -> Self {
        let started = session::start(Session::device(SessionLimits::default(), Instant::now()));
        let first = RemoteState::Connecting { since: Instant::now(), reason: String::new() };
        let (state_out, state) = watch::channel(first);
        let (apis_out, apis) = mpsc::unbounded_channel();
        let _ = apis_out.send(started.api);
        let dialler = Dialler { config: Arc::new(config), session: started.handle.clone(), state: state_out };
        let mut events = started.events;
        let lost = tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                if let SessionEvent::Lost { reason, api } = event {
                    tracing::info!(?reason, "the host no longer had the session; a new one was opened");
                    let _ = apis_out.send(api);
                }
            }
        });
        let dialling = AbortOnDropHandle::new(tokio::spawn(dialler.run()));
        let tasks = [started.task, AbortOnDropHandle::new(lost), dialling];
        Self { session: started.handle, state, apis: tokio::sync::Mutex::new(apis), _tasks: tasks }
    }

    /// How the host is reached, and each change.
    pub fn state(&self) -> watch::Receiver<RemoteState> {
        self.state.clone()
    }

    /// The API channel of the current session; each is given out once.
    pub async fn api(&self) -> Option<ChannelHandle> {
        let mut apis = self.apis.lock().await;
        let mut newest = apis.recv().await?;
        while let Ok(newer) = apis.try_recv() {
            newest = newer;
        }
        Some(newest)
    }

    /// Opens a channel to an environment of the host.
    pub async fn open_channel(&self, environment: &str) -> Result<ChannelHandle, SessionEnded> {
        self.session.open_channel(environment).await
    }

    /// Waits until a link carries the session; the state, should it end instead.
    pub async fn up(&self) -> Result<(), RemoteState> {
        let mut state = self.state.clone();
        loop {
            match &*state.borrow_and_update() {
                RemoteState::Up => return Ok(()),
                ended @ RemoteState::Ended { .. } => return Err(ended.clone()),
                _ => {}
            }
            if state.changed().await.is_err() {
                return Err(RemoteState::Ended { reason: None });
            }
        }
    }

    /// Ends the session with a last word to the host.
    pub async fn end(&self) {
        self.session.end(ByeReason::Normal).await;
    }
}

#[derive(Debug, thiserror::Error)]
enum LinkFailed {
    #[error(transparent)]
    Relay(#[from] RelayError),
    #[error("the host does not take the link: {0}")]
    Handshake(#[from] HandshakeFailed),
}

impl LinkFailed {
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Relay(error) => error.retry_after(),
            Self::Handshake(error) => error.reconnect_in(),
        }
    }
}

struct Dialler {
    config: Arc<RemoteConfig>,
    session: SessionHandle,
    state: watch::Sender<RemoteState>,
}

impl Dialler {
    async fn run(self) {
        let rng = SystemRandom::new();
        let mut backoff = Backoff::new(self.config.backoff);
        let mut session = self.session.state();
        loop {
            sleep(backoff.delay(&rng)).await;
            match self.link().await {
                Ok(link) => {
                    if self.session.attach(link, None).await.is_err() {
                        self.state.send_replace(RemoteState::Ended { reason: None });
                        return;
                    }
                    let attached = Instant::now();
                    match self.carried(&mut session).await {
                        Carried::Ended(reason) => {
                            self.state.send_replace(RemoteState::Ended { reason });
                            return;
                        }
                        Carried::Down(reconnect_in) => {
                            if attached.elapsed() >= HEALTHY_AFTER {
                                backoff.reset();
                            }
                            if let Some(delay) = reconnect_in.filter(|delay| !delay.is_zero()) {
                                backoff.suggest(delay);
                            }
                            self.down("the link was lost".into());
                        }
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "no link to the host");
                    if let Some(delay) = error.retry_after() {
                        backoff.suggest(delay);
                    }
                    self.down(error.to_string());
                }
            }
            if matches!(*session.borrow(), SessionState::Ended { .. }) {
                self.state.send_replace(RemoteState::Ended { reason: None });
                return;
            }
        }
    }

    /// Follows the session while the link just attached carries it.
    async fn carried(&self, session: &mut watch::Receiver<SessionState>) -> Carried {
        loop {
            match &*session.borrow_and_update() {
                SessionState::Attaching => {}
                SessionState::Up => {
                    self.state.send_replace(RemoteState::Up);
                }
                // Of this link: a watch may skip states, so the link before must be over when this begins.
                SessionState::Down { reconnect_in } => return Carried::Down(*reconnect_in),
                SessionState::Ended { reason } => return Carried::Ended(*reason),
            }
            if session.changed().await.is_err() {
                return Carried::Ended(None);
            }
        }
    }

    async fn link(&self) -> Result<SecureLink, LinkFailed> {
        let config = &self.config;
        let caller = Caller::Device { identity: &config.identity, host: config.host, watch_only: false };
        let mut connection = config.relay.connect(&caller).await?;
        let mut online = true;
        loop {
            let patience = if online { ATTACH_TIMEOUT } else { SILENCE_LIMIT };
            let frame = timeout(patience, relay::receive_or_sign(&mut connection.socket)).await;
            let frame = frame.map_err(|_| RelayError::TimedOut(config.relay.origin.to_string()))??;
            match frame {
                None | Some(RelayToPeer::Pong { .. } | RelayToPeer::Ping { .. }) => {}
                Some(RelayToPeer::Presence { online: now, since }) => {
                    online = now;
                    if !online {
                        self.offline(since);
                    }
                }
                Some(RelayToPeer::Attached { .. }) => break,
                Some(frame) => return Err(relay::refusal(frame, "a frame is not for a device").into()),
            }
        }
        let circuit = Box::new(WebSocketCircuit::new(connection.socket));
        Ok(handshake::initiate(circuit, config.host, &config.host_static, &config.static_key, &config.psk).await?)
    }

    fn down(&self, why: String) {
        self.state.send_modify(|state| {
            let since = down_since(state);
            *state = RemoteState::Connecting { since, reason: why };
        });
    }

    fn offline(&self, last_seen: u64) {
        self.state.send_modify(|state| {
            let since = down_since(state);
            *state = RemoteState::HostOffline { since, last_seen };
        });
    }
}

fn down_since(state: &RemoteState) -> Instant {
    match state {
        RemoteState::Connecting { since, .. } | RemoteState::HostOffline { since, .. } => *since,
        RemoteState::Up | RemoteState::Ended { .. } => Instant::now(),
    }
}

enum Carried {
    Down(Option<Duration>),
    Ended(Option<ByeReason>),
}
