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
use reachback_relay::vital::{self, Vital};
use ring::rand::SystemRandom;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::backoff::{Backoff, BackoffConfig};
use crate::link::SecureLink;
use crate::link::handshake::{self, HandshakeFailed};
use crate::link::relay::{self, Caller, RelayAddress, RelayError};
use crate::link::transports::TransportKind;
use crate::session::{self, ChannelHandle, Incoming, SessionEnded, SessionEvent, SessionHandle, SessionState};

/// A relay that says nothing for this long is gone: it pings every 20 s.
const SILENCE_LIMIT: Duration = Duration::from_secs(45);
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
    api_wanted: mpsc::Sender<oneshot::Sender<ChannelHandle>>,
    waiting: Arc<watch::Sender<usize>>,
    vital: Vital,
    _tasks: [AbortOnDropHandle<()>; 3],
}

impl RemoteHost {
    /// Starts dialling.
    pub fn start(config: RemoteConfig) -> Self {
        let started = session::start(Session::device(SessionLimits::device(), Instant::now()));
        let first = RemoteState::Connecting { since: Instant::now(), reason: String::new() };
        let (state_out, state) = watch::channel(first);
        let (api_wanted, wanted) = mpsc::channel(1);
        let (waiting, waiters) = watch::channel(0);
        let dialler = Dialler { config: Arc::new(config), session: started.handle.clone(), state: state_out, waiters };
        // All of them end with the session.
        let vital = Vital::default();
        let session = started.task;
        let tasks = [
            vital.spawn_finite("the session", async { vital::raise(session.await) }),
            vital.spawn_finite("the keeper of the API channel", keep_api(started.api, started.events, wanted)),
            vital.spawn_finite("the dialler", dialler.run()),
        ];
        Self { session: started.handle, state, api_wanted, waiting: Arc::new(waiting), vital, _tasks: tasks }
    }

    /// The tasks without which there is no connection. They end with the session; if one panics, the program should end.
    pub fn vital(&self) -> &Vital {
        &self.vital
    }

    /// How the host is reached, and each change.
    pub fn state(&self) -> watch::Receiver<RemoteState> {
        self.state.clone()
    }

    /// The API channel of the current session; each is given out once, and after that this waits for the next session's.
    pub async fn api(&self) -> Option<ChannelHandle> {
        let (reply, api) = oneshot::channel();
        self.api_wanted.send(reply).await.ok()?;
        api.await.ok()
    }

    /// Opens a channel to an environment of the host.
    pub async fn open_channel(&self, environment: &str) -> Result<ChannelHandle, SessionEnded> {
        self.session.open_channel(environment).await
    }

    /// Somebody waits for the host, as long as this is held: a link is then tried for every second.
    pub fn waits(&self) -> Waits {
        self.waiting.send_modify(|count| *count += 1);
        Waits(Arc::clone(&self.waiting))
    }

    /// Waits until a link carries the session; the state, should it end instead.
    pub async fn up(&self) -> Result<(), RemoteState> {
        let _waits = self.waits();
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

/// See [`RemoteHost::waits`].
#[derive(Debug)]
pub struct Waits(Arc<watch::Sender<usize>>);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// Holds the API channel until somebody wants it.
///
/// What comes meanwhile is taken and forgotten: nothing was asked, so it is notifications, and `host/read` says what
/// they said. Left unacknowledged they would fill the host's queue, and have an idle link probed every few seconds.
async fn keep_api(
    first: ChannelHandle,
    mut events: mpsc::UnboundedReceiver<SessionEvent>,
    mut wanted: mpsc::Receiver<oneshot::Sender<ChannelHandle>>,
) {
    let mut api = Some(first);
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Some(SessionEvent::Lost { reason, api: next }) => {
                    tracing::info!(?reason, "the host no longer had the session; a new one was opened");
                    api = Some(next);
                }
                Some(SessionEvent::ChannelOpened { .. }) => {}
                None => return,
            },
            Some(reply) = wanted.recv(), if api.is_some() => {
                // Whoever no longer waits has lost nothing: it stays here.
                api = api.take().and_then(|api| reply.send(api).err());
            }
            message = unclaimed(&mut api) => {
                if let (Some(Incoming::Message { seq, .. }), Some(api)) = (message, &api) {
                    let _ = api.sender.handled(seq);
                } else {
                    api = None;
                }
            }
        }
    }
}

async fn unclaimed(api: &mut Option<ChannelHandle>) -> Option<Incoming> {
    match api {
        Some(api) => api.incoming.recv().await,
        None => std::future::pending().await,
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
    /// How many wait for the host.
    waiters: watch::Receiver<usize>,
}

impl Dialler {
    async fn run(mut self) {
        let rng = SystemRandom::new();
        let mut backoff = Backoff::new(self.config.backoff);
        let mut session = self.session.state();
        loop {
            let is_awaited = *self.waiters.borrow_and_update() > 0;
            self.pause(backoff.delay(&rng, is_awaited), is_awaited).await;
            match self.link().await {
                Ok((link, kind)) => {
                    if self.session.attach(link, None).await.is_err() {
                        self.ended(&session);
                        return;
                    }
                    let attached = Instant::now();
                    match self.carried(&mut session).await {
                        Carried::Ended(reason) => {
                            self.state.send_replace(RemoteState::Ended { reason });
                            return;
                        }
                        Carried::Down { reconnect_in, carried, silent } => {
                            if carried {
                                backoff.worked(attached.elapsed());
                            }
                            if silent {
                                self.config.relay.transports.fell_silent(kind, attached.elapsed());
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
                self.ended(&session);
                return;
            }
        }
    }

    /// Waits before the next try; not on, where nobody waited, once somebody does.
    async fn pause(&mut self, delay: Duration, is_awaited: bool) {
        tokio::select! {
            () = sleep(delay) => {}
            Ok(_) = self.waiters.wait_for(|count| *count > 0), if !is_awaited => {}
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
                // Of this link, for it was taken before: one that died at once may never have been seen attaching.
                SessionState::Down { reconnect_in, carried, silent } => {
                    return Carried::Down { reconnect_in: *reconnect_in, carried: *carried, silent: *silent };
                }
                SessionState::Ended { reason } => return Carried::Ended(*reason),
            }
            if session.changed().await.is_err() {
                return Carried::Ended(None);
            }
        }
    }

    async fn link(&self) -> Result<(SecureLink, TransportKind), LinkFailed> {
        let config = &self.config;
        let caller = Caller::Device { identity: &config.identity, host: config.host, watch_only: false };
        let mut connection = config.relay.connect(&caller).await?;
        let (kind, entered) = (connection.carrier().kind(), Instant::now());
        let mut online = true;
        loop {
            let patience = if online { ATTACH_TIMEOUT } else { SILENCE_LIMIT };
            let Ok(frame) = timeout(patience, connection.receive_or_sign()).await else {
                config.relay.transports.fell_silent(kind, entered.elapsed());
                return Err(RelayError::TimedOut(config.relay.origin.to_string()).into());
            };
            match frame? {
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
        let (circuit, begun) = (connection.into_circuit(), Instant::now());
        let link =
            handshake::initiate(circuit, config.host, &config.host_static, &config.static_key, &config.psk).await;
        if matches!(link, Err(HandshakeFailed::TimedOut)) {
            config.relay.transports.fell_silent(kind, begun.elapsed());
        }
        Ok((link?, kind))
    }

    /// The session ended while there was no link to follow.
    fn ended(&self, session: &watch::Receiver<SessionState>) {
        let reason = match &*session.borrow() {
            SessionState::Ended { reason } => *reason,
            _ => None,
        };
        self.state.send_replace(RemoteState::Ended { reason });
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
    Down { reconnect_in: Option<Duration>, carried: bool, silent: bool },
    Ended(Option<ByeReason>),
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use reachback_proto::frame::Frame;
    use reachback_proto::ids::{RelayId, SessionId};
    use reachback_proto::wire::Reader;
    use ring::rand::SystemRandom;

    use super::*;
    use crate::link::relay::RelayTrust;
    use crate::link::testing::links;
    use crate::link::transports::{TransportChoice, Transports};

    #[tokio::test]
    async fn a_link_that_dies_before_anyone_looks_is_followed_by_another() {
        let rng = SystemRandom::new();
        let started = session::start(Session::device(SessionLimits::device(), Instant::now()));
        let config = RemoteConfig {
            relay: RelayAddress {
                origin: "http://127.0.0.1:1".parse().unwrap(),
                trust: RelayTrust::Pinned(RelayId([0; 32])),
                transports: Transports::new(TransportChoice::Wss),
            },
            host: HostId([7; 16]),
            host_static: StaticKey::generate(&rng).unwrap().public(),
            identity: Identity::generate(&rng).unwrap(),
            static_key: StaticKey::generate(&rng).unwrap(),
            psk: Secret::new([9; 32]),
            backoff: BackoffConfig::default(),
        };
        let state = watch::Sender::new(RemoteState::Connecting { since: Instant::now(), reason: String::new() });
        let dialler =
            Dialler { config: Arc::new(config), session: started.handle.clone(), state, waiters: watch::channel(0).1 };
        let mut session = started.handle.state();
        for _ in 0..3 {
            let (device, host) = links().await;
            drop(host);
            dialler.session.attach(device, None).await.unwrap();
            // The session's task sees the link come and go without a pause between.
            let carried = timeout(Duration::from_secs(30), dialler.carried(&mut session)).await;
            assert!(
                matches!(carried, Ok(Carried::Down { reconnect_in: None, .. })),
                "the dialler waits for a link that is gone"
            );
        }
    }
    async fn say(link: &mut SecureLink, frames: &[Frame<'_>]) {
        let mut record = Vec::new();
        frames.iter().for_each(|frame| frame.encode(&mut record));
        link.start_send(&mut record).unwrap();
        link.flush().await.unwrap();
    }

    #[tokio::test]
    async fn what_comes_on_an_api_channel_that_nobody_wants_is_taken() {
        let started = session::start(Session::device(SessionLimits::device(), Instant::now()));
        let (wanted, asked) = mpsc::channel(1);
        let _keeping = AbortOnDropHandle::new(tokio::spawn(keep_api(started.api, started.events, asked)));
        let (device, mut host) = links().await;
        started.handle.attach(device, None).await.unwrap();
        let message = |seq| Frame::Data { channel: 0, seq, first: Some(2), last: true, bytes: b"{}" };
        say(&mut host, &[Frame::Opened { session: SessionId([1; 16]) }, message(0)]).await;
        let acknowledged = async {
            loop {
                let record = host.record().await.unwrap();
                let mut frames = Reader::new(&record);
                while let Some(frame) = Frame::decode(&mut frames).unwrap() {
                    if frame == (Frame::Ack { channel: 0, next: 1 }) {
                        return;
                    }
                }
            }
        };
        timeout(Duration::from_secs(30), acknowledged).await.expect("it stays unacknowledged");

        let (reply, api) = oneshot::channel();
        wanted.send(reply).await.unwrap();
        let mut api = api.await.unwrap();
        say(&mut host, &[message(1)]).await;
        let wanted = Some(Incoming::Message { seq: 1, bytes: Bytes::from_static(b"{}") });
        assert_eq!(api.incoming.recv().await, wanted, "who wants the channel gets what comes from then on");
    }
}
