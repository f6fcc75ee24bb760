//! A host's control connection.
//!
//! The host is known by its key, or makes itself known with an enrolment key.
//! Then one task owns the connection: it answers the host's frames in order and
//! passes on what the directory asks of the host. It ends when the host is silent for
//! too long, when a newer connection takes its place, or with the relay.

use std::time::Duration;

use futures_util::StreamExt;
use reachback_proto::close::CloseCode;
use reachback_proto::control::{MAX_RENDEZVOUS_SECONDS, PeerToRelay, RelayToPeer};
use reachback_proto::ids::{BootId, HostId, PublicKey, RendezvousId};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::Instrument;

use super::ending::Ending;
use super::greet::{HostHello, welcome};
use crate::directory::{Command, Opening, Registered, Registration};
use crate::limits::{Limit, ms};
use crate::link::{Link, Received, send};
use crate::refusal::Refusal;
use crate::state::{State, unix_now};
use crate::store::{EnrollHash, ListOutcome, SentList};

/// Serves a host from its checked hello on.
pub(super) async fn serve(state: &State, link: &mut Link, hello: HostHello) -> Result<(), Ending> {
    let host = HostId::of(&hello.key);
    let span = tracing::info_span!("host", id = %host.short());
    async {
        admit(state, &hello).await?;
        let registration = register(state, host, hello.boot).await?;
        welcome(state, link, &hello.greeting).await?;
        let _open = state.metrics.link("host");
        tracing::info!("online");
        state.store.saw_host(host, unix_now()).await.map_err(Refusal::from)?;
        let now = Instant::now();
        let mut control = ControlConnection {
            state,
            link,
            host,
            boot: hello.boot,
            tells_revoked: hello.greeting.tells_revoked(),
            heard: now,
            pinged: now,
            pings: 0,
            probes: vec![],
        };
        let result = control.run(registration).await;
        tracing::info!("control connection ended");
        if let Err(error) = state.store.saw_host(host, unix_now()).await {
            tracing::error!(%error, "when the host was last seen could not be stored");
        }
        result
    }
    .instrument(span)
    .await
}

/// Lets in a host that enrolled before, or that brings an enrolment key.
async fn admit(state: &State, hello: &HostHello) -> Result<(), Refusal> {
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

struct ControlConnection<'a> {
    state: &'a State,
    link: &'a mut Link,
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

impl ControlConnection<'_> {
    async fn run(&mut self, mut registration: Registration) -> Result<(), Ending> {
        let soft = self.state.lifecycle.soft().clone();
        let limits = self.state.limits();
        loop {
            let dead = self.heard + ms(limits.silence_ms);
            let ping = (self.heard.max(self.pinged) + ms(limits.control_ping_ms)).min(dead);
            let expiry = self.state.directory.next_expiry(self.host);
            tokio::select! {
                // Ends come first: a flood of frames must not keep a replaced connection alive. What the
                // host sends comes before the clock, so that a frame which is here counts as heard.
                biased;
                why = registration.end.ended() => return Err(why.into()),
                () = soft.cancelled() => return Err(Ending::Restarting),
                Some(command) = registration.commands.recv() => self.obey(command).await?,
                item = self.link.next() => {
                    self.heard = Instant::now();
                    match item {
                        Some(Ok(Received::Bytes(frame))) => self.answer(&frame).await?,
                        Some(Ok(Received::Alive)) => {}
                        Some(Ok(Received::Closed)) | None => return Err(Ending::Gone),
                        Some(Err(error)) => return Err(error.into()),
                    }
                }
                () = sleep_until(expiry.unwrap_or(dead)), if expiry.is_some() => self.expire().await?,
                () = sleep_until(ping) => {
                    if Instant::now() >= dead {
                        return Err(Refusal::timeout(Limit::Silence).into());
                    }
                    self.ping().await?;
                }
            }
        }
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
        Ok(send(self.link, frame.encode(), ms(self.state.limits().write_ms)).await?)
    }
}
