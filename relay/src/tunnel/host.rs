//! A host's control connection.
//!
//! The host is known by its key, or makes itself known with an enrolment key.
//! Then one task owns the connection: it answers the host's frames in order and
//! passes on what the directory asks of the host. It ends when the host is silent for
//! too long, when a newer connection takes its place, or with the relay.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use reachback_proto::close::CloseCode;
use reachback_proto::control::{MAX_RENDEZVOUS_SECONDS, PeerToRelay, RelayToPeer};
use reachback_proto::ids::{BootId, HostId, PublicKey, RendezvousId};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::Instrument;

use super::ending::{Ending, finish};
use super::greet::{HostHello, welcome};
use crate::directory::{Command, Opening, Registered, Registration};
use crate::limits::{Limit, ms};
use crate::link::{Link, Received, send};
use crate::refusal::Refusal;
use crate::state::{State, unix_now};
use crate::store::{EnrollHash, ListOutcome, SentList};

/// Serves a host from its checked hello on.
pub(super) async fn serve(state: &State, link: Link, hello: Box<HostHello>) {
    let mut control = ControlConnection::new(state, link, &hello);
    let span = tracing::info_span!("host", id = %control.host.short());
    async {
        let ending = match Box::pin(admit(state, &mut control.link, hello)).await {
            Ok(registration) => control.serve(registration).await,
            Err(ending) => ending,
        };
        finish(state, control.link, ending).await;
    }
    .instrument(span)
    .await;
}

async fn admit(state: &State, link: &mut Link, hello: Box<HostHello>) -> Result<Registration, Ending> {
    enrolled(state, &hello).await?;
    let registration = register(state, HostId::of(&hello.key), hello.boot).await?;
    welcome(state, link, &hello.greeting).await?;
    Ok(registration)
}

/// Lets in a host that enrolled before, or that brings an enrolment key.
async fn enrolled(state: &State, hello: &HostHello) -> Result<(), Refusal> {
    let host = HostId::of(&hello.key);
    if state.store.last_seen(host).await?.is_some() {
        return Ok(());
    }
    let Some(key) = &hello.enroll_key else {
        let what = "this relay does not know this host: enrol it with a one-time key (`reachback-relay enroll`)";
        return Err(Refusal::new(CloseCode::Unauthorized, what));
    };
    if !state.store.enroll(EnrollHash::of(&key.0), hello.key, unix_now()).await? {
        let what = "this enrolment key is unknown, used, or older than an hour: get a new one";
        return Err(Refusal::new(CloseCode::Unauthorized, what));
    }
    tracing::info!(host = %host, "host enrolled");
    if let Err(error) = state.enrollment.refresh(&*state.store, unix_now()).await {
        tracing::error!(%error, "the enrolment key file could not be removed");
    }
    Ok(())
}

/// Takes the host's place in the directory. Another run of the agent keeps it while it answers.
async fn register(state: &State, host: HostId, boot: BootId) -> Result<Registration, Refusal> {
    let mut dead = None;
    loop {
        let occupied = match state.directory.register(host, boot, dead).await? {
            Registered::Here(registration) => return Ok(registration),
            Registered::Occupied(occupied) => occupied,
        };
        let (reply, answered) = oneshot::channel();
        // A queue that is full or gone, and a task that ends meanwhile, count as silence.
        let asked = occupied.commands.try_send(Command::Probe(reply)).is_ok();
        let alive = asked && matches!(timeout(ms(state.limits().conflict_probe_ms), answered).await, Ok(Ok(())));
        if alive {
            tracing::warn!("two machines use one host key");
            let _full = occupied.commands.try_send(Command::Conflict);
            let what = "another machine is connected with this host's key: stop one, or give each its own identity";
            return Err(Refusal::new(CloseCode::Conflict, what).retry_after(Duration::from_secs(30)));
        }
        dead = Some(occupied.number);
    }
}

/// What a control connection has to do.
enum Next {
    /// Nothing more.
    End(Ending),
    /// What the directory asks.
    Obey(Command),
    /// What the host says.
    Answer(Bytes),
    /// The host gave a sign of life.
    Alive,
    /// A time that was waited for has come.
    Time,
}

struct ControlConnection<'a> {
    state: &'a State,
    link: Link,
    host: HostId,
    boot: BootId,
    /// Whether the host is told which keys of its list are revoked.
    tells_revoked: bool,
    /// When the host was last heard.
    heard: Instant,
    /// When it was last asked for a sign of life.
    pinged: Instant,
    /// Number of the last ping.
    pings: u64,
    /// Who waits for the answer to which ping.
    probes: Vec<(u64, oneshot::Sender<()>)>,
}

impl<'a> ControlConnection<'a> {
    fn new(state: &'a State, link: Link, hello: &HostHello) -> Self {
        let now = Instant::now();
        Self {
            state,
            link,
            host: HostId::of(&hello.key),
            boot: hello.boot,
            tells_revoked: hello.greeting.tells_revoked(),
            heard: now,
            pinged: now,
            pings: 0,
            probes: vec![],
        }
    }

    /// Serves a host that is registered until its connection ends; why it ends.
    async fn serve(&mut self, registration: Registration) -> Ending {
        let _open = self.state.metrics.link("host");
        tracing::info!("online");
        if let Err(error) = self.state.store.saw_host(self.host, unix_now()).await {
            return Refusal::from(error).into();
        }
        self.heard = Instant::now();
        self.pinged = self.heard;
        let ending = self.run(registration).await;
        tracing::info!("control connection ended");
        if let Err(error) = self.state.store.saw_host(self.host, unix_now()).await {
            tracing::error!(%error, "when the host was last seen could not be stored");
        }
        ending
    }

    async fn run(&mut self, mut registration: Registration) -> Ending {
        loop {
            // What it does is on the heap, as far as it waits for anything: mostly the connection waits for something to do.
            let done = match self.next(&mut registration).await {
                Next::End(ending) => return ending,
                Next::Obey(command) => Box::pin(self.obey(command)).await,
                Next::Answer(frame) => Box::pin(self.answer(&frame)).await,
                Next::Alive => Ok(()),
                Next::Time => Box::pin(self.look_at_the_clock()).await,
            };
            if let Err(ending) = done {
                return ending;
            }
        }
    }

    /// Waits for what is to be done next.
    async fn next(&mut self, registration: &mut Registration) -> Next {
        let state = self.state;
        let dead = self.heard + ms(state.limits().silence_ms);
        let time = self.next_ping().min(dead);
        let time = state.directory.next_expiry(self.host).map_or(time, |expiry| expiry.min(time));
        let item = tokio::select! {
            // Ends come first: a flood of frames must not keep a replaced connection alive. What the
            // host sends comes before the clock, so that a frame which is here counts as heard.
            biased;
            why = registration.end.ended() => return Next::End(why.into()),
            () = state.lifecycle.soft().cancelled() => return Next::End(Ending::Restarting),
            Some(command) = registration.commands.recv() => return Next::Obey(command),
            item = self.link.next() => item,
            () = sleep_until(time) => return Next::Time,
        };
        self.heard = Instant::now();
        match item {
            Some(Ok(Received::Bytes(frame))) => Next::Answer(frame),
            Some(Ok(Received::Alive)) => Next::Alive,
            Some(Ok(Received::Closed)) | None => Next::End(Ending::Gone),
            Some(Err(error)) => Next::End(error.into()),
        }
    }

    /// When the host is asked for a sign of life unless it gives one before.
    fn next_ping(&self) -> Instant {
        self.heard.max(self.pinged) + ms(self.state.limits().control_ping_ms)
    }

    async fn look_at_the_clock(&mut self) -> Result<(), Ending> {
        self.expire().await?;
        let now = Instant::now();
        if now >= self.heard + ms(self.state.limits().silence_ms) {
            return Err(Refusal::timeout(Limit::Silence).into());
        }
        if now >= self.next_ping() {
            self.ping().await?;
        }
        Ok(())
    }

    /// Does what the directory asks.
    async fn obey(&mut self, command: Command) -> Result<(), Ending> {
        match command {
            Command::CircuitWanted => self.send(RelayToPeer::CircuitWanted).await,
            Command::Conflict => self.send(RelayToPeer::Conflict).await,
            Command::Probe(reply) => {
                self.ping().await?;
                self.probes.retain(|(_, waiting)| !waiting.is_closed());
                self.probes.push((self.pings, reply));
                Ok(())
            }
        }
    }

    async fn answer(&mut self, frame: &[u8]) -> Result<(), Ending> {
        match PeerToRelay::decode(frame).map_err(Refusal::from)? {
            PeerToRelay::Ping { id } => self.send(RelayToPeer::Pong { id }).await,
            PeerToRelay::Pong { id } => {
                for (_, reply) in self.probes.extract_if(.., |(asked, _)| *asked == id) {
                    // The newcomer may have given up meanwhile.
                    let _gone = reply.send(());
                }
                Ok(())
            }
            PeerToRelay::DeviceList { version, keys } => self.put_devices(version, keys).await,
            PeerToRelay::PairingOpen { rendezvous, seconds } => self.open_pairing(rendezvous, seconds).await,
            PeerToRelay::PairingClose { rendezvous } => {
                self.state.directory.close_pairing(self.host, rendezvous).await?;
                self.send(RelayToPeer::PairingClosed { rendezvous, code: CloseCode::Normal.number() }).await
            }
            _ => Err(Refusal::malformed("a hello is only the first frame").into()),
        }
    }

    /// Stores the list, ends the links of devices that are not on it or were revoked before, and says which version is
    /// in force.
    ///
    /// For an older list than the stored one the answer names the stored version: a host whose disk was restored
    /// learns what it has to go beyond. It is told which keys are not in force whatever its list says.
    async fn put_devices(&mut self, version: u64, mut keys: Vec<PublicKey>) -> Result<(), Ending> {
        let put = self.state.store.put_devices(self.host, version, keys.clone()).await;
        let SentList { outcome, revoked } = put.map_err(Refusal::from)?;
        if !revoked.is_empty() {
            tracing::warn!(keys = revoked.len(), "the host's list names devices that it had revoked");
            keys.retain(|key| !revoked.contains(key));
            if self.tells_revoked {
                self.send(RelayToPeer::DevicesRevoked { keys: revoked }).await?;
            }
        }
        let version = match outcome {
            ListOutcome::Stored => {
                self.state.directory.enforce(self.host, keys).await?;
                version
            }
            ListOutcome::Older { stored } => stored,
        };
        self.send(RelayToPeer::DeviceListStored { version }).await
    }

    async fn open_pairing(&mut self, rendezvous: RendezvousId, seconds: u32) -> Result<(), Ending> {
        if seconds == 0 || seconds > MAX_RENDEZVOUS_SECONDS {
            let code = CloseCode::Malformed.number();
            return self.send(RelayToPeer::PairingClosed { rendezvous, code }).await;
        }
        let lasts = Duration::from_secs(seconds.into());
        let place = (self.host, self.boot);
        let refused = match self.state.directory.open_pairing(place, rendezvous, lasts, Instant::now()).await? {
            Opening::Open => return self.send(RelayToPeer::PairingOpened { rendezvous }).await,
            Opening::TooMany => {
                self.state.metrics.limit(Limit::PairingsPerHost);
                CloseCode::Limited
            }
            Opening::Taken => CloseCode::Conflict,
        };
        self.send(RelayToPeer::PairingClosed { rendezvous, code: refused.number() }).await
    }

    /// Tells the host which rendezvous are over.
    async fn expire(&mut self) -> Result<(), Ending> {
        for rendezvous in self.state.directory.expired_pairings(self.host, Instant::now()).await? {
            self.send(RelayToPeer::PairingClosed { rendezvous, code: CloseCode::Timeout.number() }).await?;
        }
        Ok(())
    }

    async fn ping(&mut self) -> Result<(), Ending> {
        self.pings += 1;
        self.pinged = Instant::now();
        self.send(RelayToPeer::Ping { id: self.pings }).await
    }

    async fn send(&mut self, frame: RelayToPeer) -> Result<(), Ending> {
        Ok(send(&mut self.link, frame.encode(), ms(self.state.limits().write_ms)).await?)
    }
}
