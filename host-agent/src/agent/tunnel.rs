//! The host's tunnel: one control connection to the relay, and a data
//! connection for each circuit, with one more waiting.
//!
//! The host only dials out. The control connection tells the relay which devices
//! are accepted and which pairings are open, and hears when a circuit is wanted;
//! a data connection becomes a circuit when the relay says so. Data connections
//! live on when the control connection is lost: a relay that restarts its
//! control side does not end anyone's session.
//!
//! Tasks: [`Tunnel`] owns the control loop; the loop owns its data dialers in a
//! `JoinSet`. Dropping the tunnel ends all of them, not the circuits already handed over.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::OptionFuture;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use reachback_proto::close::CloseCode;
use reachback_proto::control::{CircuitOrigin, EnrollKey, PeerToRelay, RelayToPeer};
use reachback_proto::crypto::keys::Identity;
use reachback_proto::ids::{BootId, PublicKey, RendezvousId};
use reachback_relay::vital::{self, Vital};
use ring::rand::SystemRandom;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{self, interval, sleep, sleep_until, timeout, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use super::sessions::Sessions;
use crate::backoff::{Backoff, BackoffConfig};
use crate::link::circuit::Circuit;
use crate::link::quic::QuicConnection;
use crate::link::relay::{self, Caller, Carrier, RelayAddress, RelayConnection, RelayError, RelayTrust};
use crate::link::transports::TransportKind;
use crate::state::devices::DeviceList;

/// Ping the relay after this long without a word from it.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Give a connection up after this long without a word.
const SILENCE_LIMIT: Duration = Duration::from_secs(45);
/// Give it up this long after a probe that nothing has answered; as long as a session's link is given.
const PROBE_LIMIT: Duration = Duration::from_secs(5);
/// A connection that lasted this long starts the back-off anew.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);
/// Data connections being dialled or waiting at once, whatever the relay asks for.
const MAX_DIALS: usize = 16;
/// Data connections dialled because the relay asked for them: as many at once as a host has devices, all of which may
/// come back together, and then so many a second. A relay asks again for a device that goes on waiting, and the spare
/// connection takes it too.
const WANTED: Quota = Quota::per_second(NonZeroU32::new(8).unwrap()).allow_burst(NonZeroU32::new(256).unwrap());
/// How long the relay may take for one frame of ours. It reads at once, or not at all.
const WRITE_LIMIT: Duration = Duration::from_secs(5);

/// A tunnel that rests and is not woken begins again after so much time in which the machine was awake: it was a false alarm,
/// or nobody says what came of it.
const REST_LIMIT: Duration = Duration::from_secs(30);

/// A list that puts devices out waits so long for their sessions to end, each of which gets 2 s for its last word. The
/// relay cuts off whoever is not on the list, and a device believes nobody but its host that it was revoked: one that
/// did not hear it would go on trying for ever. It gets nothing meanwhile, as the host has ended what it did.
const LAST_WORDS: Duration = Duration::from_millis(2500);

/// How the tunnel stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TunnelState {
    /// Not connected, and trying.
    Reconnecting {
        /// Why the last try or connection ended; empty before the first.
        reason: String,
    },
    /// Connected and registered.
    Connected {
        /// What carries the connection.
        transport: TransportKind,
        /// Why that is no QUIC, where it was wanted.
        without_quic: Option<String>,
    },
    /// The relay said no; it is asked again, rarely.
    Down {
        /// Its words.
        reason: String,
        /// What to do about it.
        fix: String,
    },
}

/// A circuit that the relay has started.
pub struct IncomingCircuit {
    /// Its bytes.
    pub circuit: Box<dyn Circuit>,
    /// Who the relay says is there.
    pub origin: CircuitOrigin,
    /// Its number at the relay, for logs.
    pub number: u64,
}

/// What the tunnel needs to know.
pub struct TunnelConfig {
    /// Where the relay is, and which one it has to be.
    pub relay: RelayAddress,
    /// Proves this host.
    pub identity: Arc<Identity>,
    /// This run of the agent.
    pub boot: BootId,
    /// The one-time key, for a relay that does not know this host yet.
    pub enroll_key: Option<EnrollKey>,
    /// The devices accepted.
    pub devices: watch::Receiver<Arc<DeviceList>>,
    /// Where circuits go.
    pub circuits: mpsc::Sender<IncomingCircuit>,
    /// Whose sessions wait while there is no connection.
    pub sessions: Arc<Sessions>,
    /// Between tries.
    pub backoff: BackoffConfig,
    /// Hears if the tunnel's task is gone before it is stopped.
    pub vital: Vital,
}

/// The way to the tunnel's task. Dropping it ends the tunnel.
#[derive(Debug)]
pub struct Tunnel {
    commands: mpsc::Sender<Command>,
    state: watch::Receiver<TunnelState>,
    relay_key: watch::Receiver<Option<PublicKey>>,
    stored: watch::Receiver<u64>,
    revoked: watch::Receiver<Vec<PublicKey>>,
    rests: watch::Sender<bool>,
    task: AbortOnDropHandle<()>,
}

#[derive(Debug)]
enum Command {
    OpenPairing { rendezvous: RendezvousId, until: Instant, opened: oneshot::Sender<bool> },
    ClosePairing { rendezvous: RendezvousId },
    Probe,
    RoundTrip { answer: oneshot::Sender<Duration> },
}

impl Tunnel {
    /// Starts dialling.
    pub fn start(config: TunnelConfig) -> Self {
        let (commands, inbox) = mpsc::channel(16);
        let (state_out, state) = watch::channel(TunnelState::Reconnecting { reason: String::new() });
        let (key_out, relay_key) = watch::channel(None);
        let (stored_out, stored) = watch::channel(0);
        let (revoked_out, revoked) = watch::channel(Vec::new());
        let vital = config.vital.clone();
        let rests = watch::Sender::new(false);
        let control = ControlConnection {
            config: Arc::new(config),
            inbox,
            state: state_out,
            relay_key: key_out,
            stored: stored_out,
            revoked: revoked_out,
            rests: rests.clone(),
            pairings: HashMap::new(),
            dials: JoinSet::new(),
            pings: Pings::default(),
            wanted: RateLimiter::direct(WANTED),
            has_worked: false,
        };
        let task = vital.spawn("the tunnel to the relay", control.run());
        Self { commands, state, relay_key, stored, revoked, rests, task }
    }

    /// To a relay that has proved its key and answers nothing.
    #[cfg(test)]
    pub(super) fn deaf(relay_key: PublicKey) -> Self {
        let (commands, inbox) = mpsc::channel(16);
        let (state_out, state) =
            watch::channel(TunnelState::Connected { transport: TransportKind::Wss, without_quic: None });
        let (key_out, relay_key) = watch::channel(Some(relay_key));
        let (stored_out, stored) = watch::channel(0);
        let (revoked_out, revoked) = watch::channel(Vec::new());
        let task = tokio::spawn(async move {
            let _open = (inbox, state_out, key_out, stored_out, revoked_out);
            std::future::pending().await
        });
        let (rests, task) = (watch::Sender::new(false), AbortOnDropHandle::new(task));
        Self { commands, state, relay_key, stored, revoked, rests, task }
    }

    /// Ends the tunnel, whoever else still holds it.
    pub(crate) fn stop(&self) {
        self.task.abort();
    }

    /// Has no connection, until it is woken: the machine is about to sleep, and the relay is to know at once that nobody is
    /// here. Circuits that were handed over go on.
    pub(crate) fn rest(&self) {
        self.rests.send_replace(true);
    }

    /// Connects again, at once.
    pub(crate) fn wake(&self) {
        self.rests.send_replace(false);
    }

    /// How the tunnel stands, and each change.
    pub fn state(&self) -> watch::Receiver<TunnelState> {
        self.state.clone()
    }

    /// The relay's key, once it has proved it.
    pub(crate) fn relay_key(&self) -> watch::Receiver<Option<PublicKey>> {
        self.relay_key.clone()
    }

    /// The newest version of the device list that the relay has in force; 0 before it said so.
    pub fn stored(&self) -> watch::Receiver<u64> {
        self.stored.clone()
    }

    /// The keys of the list last sent that the relay knows as revoked, each time that it names some.
    pub(crate) fn revoked(&self) -> watch::Receiver<Vec<PublicKey>> {
        self.revoked.clone()
    }

    /// Opens a rendezvous, now or as soon as the relay is there; `false` when the relay does not open it.
    pub(crate) async fn open_pairing(&self, rendezvous: RendezvousId, until: Instant) -> bool {
        let (opened, answer) = oneshot::channel();
        let sent = self.commands.send(Command::OpenPairing { rendezvous, until, opened }).await;
        sent.is_ok() && answer.await.unwrap_or(false)
    }

    /// A circuit went silent: whatever swallowed it may have swallowed the control connection too, so it has to
    /// show soon that it lives. Without this a host whose network changed is out of reach until [`SILENCE_LIMIT`].
    pub(crate) fn probe(&self) {
        // With that many commands waiting the connection will show anyway.
        let _ = self.commands.try_send(Command::Probe);
    }

    /// How long the relay takes to answer now; `None` where there is no connection, or no answer within `limit`.
    pub(crate) async fn round_trip(&self, limit: Duration) -> Option<Duration> {
        if !matches!(*self.state.borrow(), TunnelState::Connected { .. }) {
            return None;
        }
        let (answer, answered) = oneshot::channel();
        self.commands.try_send(Command::RoundTrip { answer }).ok()?;
        timeout(limit, answered).await.ok()?.ok()
    }

    pub(crate) async fn close_pairing(&self, rendezvous: RendezvousId) {
        let _ = self.commands.send(Command::ClosePairing { rendezvous }).await;
    }
}

struct OpenPairing {
    until: Instant,
    opened: Option<oneshot::Sender<bool>>,
}

/// Who waits for the answers to pings. Those that are only to show that the connection lives have number 0.
#[derive(Debug, Default)]
struct Pings {
    last: u64,
    waiting: VecDeque<(u64, Instant, oneshot::Sender<Duration>)>,
}

impl Pings {
    /// More than ask at once; older ones go without an answer.
    const MOST: usize = 8;

    /// The number of the ping that is sent now.
    fn sent(&mut self, answer: oneshot::Sender<Duration>) -> u64 {
        self.last += 1;
        self.waiting.truncate(Self::MOST - 1);
        self.waiting.push_front((self.last, Instant::now(), answer));
        self.last
    }

    fn answered(&mut self, id: u64) {
        if let Some(at) = self.waiting.iter().position(|(sent, ..)| *sent == id)
            && let Some((_, sent, answer)) = self.waiting.remove(at)
        {
            let _ = answer.send(sent.elapsed());
        }
    }
}

struct ControlConnection {
    config: Arc<TunnelConfig>,
    inbox: mpsc::Receiver<Command>,
    state: watch::Sender<TunnelState>,
    relay_key: watch::Sender<Option<PublicKey>>,
    stored: watch::Sender<u64>,
    revoked: watch::Sender<Vec<PublicKey>>,
    /// Whether the machine is about to sleep.
    rests: watch::Sender<bool>,
    pairings: HashMap<RendezvousId, OpenPairing>,
    dials: JoinSet<()>,
    pings: Pings,
    wanted: DefaultDirectRateLimiter,
    /// Whether the connection has done what it is for.
    has_worked: bool,
}

impl ControlConnection {
    async fn run(mut self) {
        let rng = SystemRandom::new();
        let mut backoff = Backoff::new(self.config.backoff);
        loop {
            let delay = backoff.delay(&rng, self.is_awaited());
            let mut rests = self.rests.subscribe();
            let started = Instant::now() + delay;
            let served = tokio::select! {
                biased;
                _ = rests.wait_for(|rests| *rests) => None,
                served = self.connect_after(delay) => Some(served),
            };
            let Some(served) = served else {
                self.rest().await;
                backoff.reset();
                continue;
            };
            let Err(error) = served else { return };
            tracing::warn!(%error, "not connected to the relay");
            if std::mem::take(&mut self.has_worked) {
                backoff.worked(started.elapsed());
            }
            if let Some(delay) = error.retry_after() {
                backoff.suggest(delay);
            }
            // Without the control connection the relay takes no other, and a relay that restarts named a delay.
            self.dials.abort_all();
            self.state.send_replace(state_after(&error));
        }
    }

    /// Whether somebody waits for the connection: a device that has a session here, or a person who pairs one.
    fn is_awaited(&self) -> bool {
        let now = Instant::now();
        self.pairings.values().any(|pairing| pairing.until > now) || self.config.sessions.are_awaited(now)
    }

    /// Has no connection until the tunnel is woken, or the machine was awake for long enough all the same.
    async fn rest(&mut self) {
        tracing::info!("not connected to the relay while this machine sleeps");
        self.dials.abort_all();
        self.state.send_replace(TunnelState::Reconnecting { reason: "this computer goes to sleep".into() });
        let mut rests = self.rests.subscribe();
        // This clock stands still while the machine sleeps.
        let woken = timeout(REST_LIMIT, rests.wait_for(|rests| !rests)).await.is_ok();
        if !woken {
            self.rests.send_replace(false);
        }
    }

    /// One try, after a delay. `Ok` when the tunnel is dropped.
    async fn connect_after(&mut self, delay: Duration) -> Result<(), RelayError> {
        if !self.wait(delay).await {
            return Ok(());
        }
        self.connect_and_serve().await
    }

    /// Waits before the next try; commands are still taken. `false` when the tunnel is dropped.
    async fn wait(&mut self, delay: Duration) -> bool {
        let over = sleep(delay);
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = &mut over => return true,
                command = self.inbox.recv() => match command {
                    Some(command) => { self.note(command); }
                    None => return false,
                },
            }
        }
    }

    /// One control connection after another, until one ends that no better one replaces. `Ok` when the tunnel is dropped.
    async fn connect_and_serve(&mut self) -> Result<(), RelayError> {
        let mut connection = self.relay().connect(&self.caller()).await?;
        loop {
            let (transport, without_quic) = (connection.carrier().kind(), connection.carrier().without_quic());
            tracing::info!(relay = %self.config.relay.origin, ?transport, without_quic, "connected to the relay");
            self.relay_key.send_replace(Some(connection.relay_key()));
            let without_quic = without_quic.map(str::to_owned);
            self.state.send_replace(TunnelState::Connected { transport, without_quic });
            let begun = Instant::now();
            let served = self.serve(&mut connection).await;
            if served.as_ref().is_err_and(RelayError::is_silence) {
                self.config.relay.transports.fell_silent(transport, begun.elapsed());
            }
            let Some(quic) = served? else { return Ok(()) };
            // The old one is there until the new one is: nobody hears that this host was away.
            match self.relay().connect_beside(&Carrier::Quic(quic), &self.caller()).await {
                Ok(better) => connection = better,
                Err(error) => self.config.relay.transports.avoid_quic(error.to_string()),
            }
        }
    }

    /// The relay. Once it has proved its key it must be the same one, also within this run.
    fn relay(&self) -> RelayAddress {
        let mut relay = self.config.relay.clone();
        if let (RelayTrust::Learn, Some(key)) = (&relay.trust, *self.relay_key.borrow()) {
            relay.trust = RelayTrust::Pinned(reachback_proto::ids::RelayId::of(&key));
        }
        relay
    }

    fn caller(&self) -> Caller<'_> {
        let TunnelConfig { identity, boot, enroll_key, .. } = &*self.config;
        Caller::Host { identity, boot: *boot, enroll_key: enroll_key.clone() }
    }

    /// One control connection, until it ends. A QUIC connection, when there is one at last to take its place; nothing
    /// when the tunnel is dropped.
    async fn serve(&mut self, relay: &mut RelayConnection) -> Result<Option<QuicConnection>, RelayError> {
        let mut devices = self.config.devices.clone();
        let list = devices.borrow_and_update().clone();
        last_words(Arc::clone(&self.config.sessions), Arc::clone(&list), time::Instant::now() + LAST_WORDS).await;
        self.say(relay, &device_list(&list)).await?;
        self.pairings.retain(|_, pairing| pairing.until > Instant::now());
        for (rendezvous, pairing) in &self.pairings {
            self.say(relay, &open_frame(*rendezvous, pairing.until)).await?;
        }
        self.dials.abort_all();
        self.dials = JoinSet::new();
        self.dials.spawn(keep_spare(Arc::clone(&self.config), relay.carrier().clone()));
        let address = self.relay();
        let mut better = pin!(better(&address, relay.carrier().kind()));
        let mut heard = Instant::now();
        let mut probed = None;
        let mut ticks = interval(HEARTBEAT);
        ticks.tick().await;
        let (mut due, mut due_by) = (OptionFuture::default(), None);
        loop {
            let dead = probed.map_or(heard + SILENCE_LIMIT, |probed: Instant| probed + PROBE_LIMIT);
            tokio::select! {
                frame = relay.receive_or_sign() => {
                    heard = Instant::now();
                    probed = None;
                    if let Some(frame) = frame?
                        && let Some(answer) = self.handle(frame, relay.carrier())?
                    {
                        self.say(relay, &answer).await?;
                    }
                }
                command = self.inbox.recv() => match command {
                    Some(command) => {
                        if matches!(command, Command::Probe) {
                            probed.get_or_insert(Instant::now());
                        }
                        let frame = self.note(command);
                        self.say(relay, &frame).await?;
                    }
                    None => return Ok(None),
                },
                changed = devices.changed() => {
                    if changed.is_err() {
                        return Ok(None);
                    }
                    let list = devices.borrow_and_update().clone();
                    // A list that follows another one does not put that off.
                    let by = *due_by.get_or_insert_with(|| time::Instant::now() + LAST_WORDS);
                    due = Some(last_words(Arc::clone(&self.config.sessions), list, by).boxed()).into();
                }
                Some(list) = &mut due => {
                    (due, due_by) = (None.into(), None);
                    self.say(relay, &device_list(&list)).await?;
                }
                Some(ended) = self.dials.join_next() => vital::raise(ended),
                _ = ticks.tick() => self.say(relay, &PeerToRelay::Ping { id: 0 }).await?,
                quic = &mut better => return Ok(Some(quic)),
                () = sleep_until(dead.into()) => {
                    return Err(RelayError::TimedOut(self.config.relay.origin.to_string()));
                }
            }
        }
    }

    /// Says something to the relay, which has to take it: nothing else is done meanwhile.
    async fn say(&self, relay: &mut RelayConnection, frame: &PeerToRelay) -> Result<(), RelayError> {
        let said = timeout(WRITE_LIMIT, relay.send(frame)).await;
        said.map_err(|_| RelayError::TimedOut(self.config.relay.origin.to_string()))?
    }

    /// What the relay says; the answer, where it wants one.
    fn handle(&mut self, frame: RelayToPeer, carrier: &Carrier) -> Result<Option<PeerToRelay>, RelayError> {
        match frame {
            RelayToPeer::Ping { id } => return Ok(Some(PeerToRelay::Pong { id })),
            RelayToPeer::Pong { id } => self.pings.answered(id),
            RelayToPeer::CircuitWanted if self.dials.len() < MAX_DIALS && self.wanted.check().is_ok() => {
                let (config, carrier) = (Arc::clone(&self.config), carrier.clone());
                self.dials.spawn(async move {
                    if let Err(error) = dial_circuit(&config, &carrier).await {
                        tracing::debug!(%error, "a circuit that was wanted did not come about");
                    }
                });
            }
            RelayToPeer::CircuitWanted => tracing::debug!("the relay wants more circuits than we dial"),
            RelayToPeer::PairingOpened { rendezvous } => self.answer_pairing(rendezvous, true),
            RelayToPeer::PairingClosed { rendezvous, code } => {
                tracing::debug!(code = CloseCode::from_number(code).name(), "the relay closed a rendezvous");
                self.answer_pairing(rendezvous, false);
                self.pairings.remove(&rendezvous);
            }
            RelayToPeer::DeviceListStored { version } => {
                self.has_worked = true;
                self.stored.send_replace(version);
            }
            RelayToPeer::DevicesRevoked { keys } => {
                self.revoked.send_replace(keys);
            }
            RelayToPeer::Conflict => {
                tracing::error!("another machine is registered with this host's key: one of them is a clone");
            }
            frame => return Err(relay::refusal(frame, "a frame is not for a host's control connection")),
        }
        Ok(None)
    }

    fn answer_pairing(&mut self, rendezvous: RendezvousId, is_open: bool) {
        if let Some(opened) = self.pairings.get_mut(&rendezvous).and_then(|pairing| pairing.opened.take()) {
            let _ = opened.send(is_open);
        }
    }

    fn note(&mut self, command: Command) -> PeerToRelay {
        match command {
            Command::OpenPairing { rendezvous, until, opened } => {
                self.pairings.insert(rendezvous, OpenPairing { until, opened: Some(opened) });
                open_frame(rendezvous, until)
            }
            Command::ClosePairing { rendezvous } => {
                self.pairings.remove(&rendezvous);
                PeerToRelay::PairingClose { rendezvous }
            }
            Command::Probe => PeerToRelay::Ping { id: 0 },
            Command::RoundTrip { answer } => PeerToRelay::Ping { id: self.pings.sent(answer) },
        }
    }
}

fn state_after(error: &RelayError) -> TunnelState {
    let reason = error.to_string();
    let fix = match error {
        RelayError::Refused { code: CloseCode::Unauthorized, .. } => {
            "enrol this host: `reachback-relay enroll` at the relay, then `reachback host --relay URL --enroll-file F`"
        }
        RelayError::Refused { code: CloseCode::Conflict, .. } => {
            "another machine uses this host's keys: remove REACHBACK_HOME's host folder on the copy and pair it anew"
        }
        RelayError::WrongRelay(_) => {
            "if it is meant to be another relay, or this one was really set up anew, enrol there: `reachback host --relay URL --enroll-file F --new-relay`"
        }
        _ => return TunnelState::Reconnecting { reason },
    };
    TunnelState::Down { reason, fix: fix.into() }
}

/// The list, once the sessions of all who are not on it have ended, or `by` then.
async fn last_words(sessions: Arc<Sessions>, list: Arc<DeviceList>, by: time::Instant) -> Arc<DeviceList> {
    let said = timeout_at(by, sessions.only(|device| list.device(device).is_some())).await;
    if said.is_err() {
        tracing::debug!("a device that is put out did not take its last word in time");
    }
    list
}

fn device_list(list: &DeviceList) -> PeerToRelay {
    PeerToRelay::DeviceList { version: list.version, keys: list.keys() }
}

fn open_frame(rendezvous: RendezvousId, until: Instant) -> PeerToRelay {
    let seconds = until.saturating_duration_since(Instant::now()).as_secs().clamp(1, 300) as u32;
    PeerToRelay::PairingOpen { rendezvous, seconds }
}

/// Keeps one data connection waiting, for as long as the control connection lives.
async fn keep_spare(config: Arc<TunnelConfig>, carrier: Carrier) {
    let rng = SystemRandom::new();
    let mut backoff = Backoff::new(config.backoff);
    loop {
        sleep(backoff.delay(&rng, config.sessions.are_awaited(Instant::now()))).await;
        let started = Instant::now();
        match dial_circuit(&config, &carrier).await {
            // One that is taken again and again as soon as it is there is no reason to dial without a pause: circuits
            // that are wanted meanwhile are dialled by themselves.
            Ok(()) => backoff.worked(started.elapsed()),
            Err(error) => {
                tracing::debug!(%error, "the spare data connection ended");
                if let Some(delay) = error.retry_after() {
                    backoff.suggest(delay);
                }
                if started.elapsed() >= HEALTHY_AFTER {
                    backoff.reset();
                }
            }
        }
    }
}

/// A QUIC connection that is to take the place of a WebSocket; never where that is not wanted.
async fn better(relay: &RelayAddress, now: TransportKind) -> QuicConnection {
    match now {
        TransportKind::Wss => relay.quic_after_all().await,
        TransportKind::Quic => std::future::pending().await,
    }
}

/// One data connection, carried like the control connection: dialled, let in, waiting, and handed over when the relay starts a circuit on it.
async fn dial_circuit(config: &TunnelConfig, carrier: &Carrier) -> Result<(), RelayError> {
    let caller = Caller::HostData { identity: &config.identity, boot: config.boot };
    let mut connection = config.relay.connect_beside(carrier, &caller).await?;
    let (number, origin) = loop {
        // Says nothing while it waits: the relay keeps it alive with WebSocket pings, every 20 s.
        match timeout(SILENCE_LIMIT, connection.receive_or_sign()).await {
            Err(_) => return Err(RelayError::TimedOut(config.relay.origin.to_string())),
            Ok(frame) => match frame? {
                None => {}
                Some(RelayToPeer::CircuitStart { circuit, origin }) => break (circuit, origin),
                Some(frame) => return Err(relay::refusal(frame, "a frame is not for a data connection")),
            },
        }
    };
    let circuit = connection.into_circuit();
    // Full when the host is busy with handshakes: then this one waits, and the relay's own limit ends it.
    let _ = config.circuits.send(IncomingCircuit { circuit, origin, number }).await;
    Ok(())
}

#[cfg(test)]
mod tests;
