//! Who is at the relay: hosts, and a device of each.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use reachback_host::agent::tunnel::{IncomingCircuit, Tunnel, TunnelConfig, TunnelState};
use reachback_host::link::circuit::Circuit;
use reachback_host::link::relay::{Caller, RelayAddress, RelayConnection, RelayError, RelayTrust};
use reachback_host::link::transports::Transports;
use reachback_host::state::devices::{Device, DeviceList};
use reachback_host::state::timestamp::Timestamp;
use reachback_proto::control::{EnrollKey, RelayToPeer};
use reachback_proto::crypto::keys::{self, Identity, Secret};
use reachback_proto::ids::{BootId, DeviceId, HostId, PublicKey};
use reachback_proto::scope::Scope;
use ring::rand::SystemRandom;
use rustix::process::Signal;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{timeout, timeout_at};

use super::relay::Relay;
use super::{PATIENCE, patience};
use crate::linux::stage::Transport;

/// How many come in at once: they are not what is measured then.
pub(super) const AT_ONCE: usize = 64;

/// Hosts, their devices, and the circuits between them.
pub(super) struct Crowd {
    relay: RelayAddress,
    keys: std::vec::IntoIter<EnrollKey>,
    hosts: Vec<Host>,
    /// A task for each device that watches. It ends with its connection.
    watching: JoinSet<RelayError>,
    /// The devices' ends of circuits.
    attached: Vec<Box<dyn Circuit>>,
    /// The hosts' ends.
    taken: Vec<IncomingCircuit>,
    circuits: mpsc::Receiver<IncomingCircuit>,
    to_hosts: mpsc::Sender<IncomingCircuit>,
}

/// A host, and the keys of its device.
struct Host {
    id: HostId,
    tunnel: Tunnel,
    device: Arc<Identity>,
    /// The tunnel ends without it.
    _devices: watch::Sender<Arc<DeviceList>>,
}

impl Crowd {
    /// Nobody yet; there may be as many hosts as there are keys.
    pub(super) fn new(relay: &Relay, transport: Transport, keys: Vec<EnrollKey>) -> Self {
        let (to_hosts, circuits) = mpsc::channel(AT_ONCE);
        let (origin, trust) = (relay.origin.clone(), RelayTrust::Pinned(relay.id));
        Self {
            relay: RelayAddress { origin, trust, transports: Transports::new(transport.into()) },
            keys: keys.into_iter(),
            hosts: Vec::new(),
            watching: JoinSet::new(),
            attached: Vec::new(),
            taken: Vec::new(),
            circuits,
            to_hosts,
        }
    }

    /// So many more hosts, each of which has enrolled and made its device known.
    pub(super) async fn hosts_come(&mut self, count: usize) -> anyhow::Result<()> {
        let all = self.hosts.len() + count;
        while self.hosts.len() < all {
            let known = self.hosts.len();
            for _ in known..all.min(known + AT_ONCE) {
                let host = self.host()?;
                self.hosts.push(host);
            }
            let deadline = patience();
            for host in &self.hosts[known..] {
                let mut stored = host.tunnel.stored();
                let is_known = timeout_at(deadline, stored.wait_for(|version| *version > 0)).await;
                ensure!(matches!(is_known, Ok(Ok(_))), "a host is not let in: {:?}", *host.tunnel.state().borrow());
            }
        }
        Ok(())
    }

    fn host(&mut self) -> anyhow::Result<Host> {
        let rng = SystemRandom::new();
        let (identity, device) = (Identity::generate(&rng)?, Identity::generate(&rng)?);
        let (_devices, devices) = watch::channel(Arc::new(list(&device)?));
        let id = HostId::of(&identity.public());
        let tunnel = Tunnel::start(TunnelConfig {
            relay: self.address(),
            identity: Arc::new(identity),
            boot: BootId(keys::random(&rng)?),
            enroll_key: Some(self.keys.next().context("there is no key left to enrol with")?),
            devices,
            circuits: self.to_hosts.clone(),
            sessions: Default::default(),
            backoff: Default::default(),
            vital: Default::default(),
        });
        Ok(Host { id, tunnel, device: Arc::new(device), _devices })
    }

    /// The relay, for one who knows nothing of the others' connections to it.
    fn address(&self) -> RelayAddress {
        RelayAddress { transports: Transports::new(self.relay.transports.choice()), ..self.relay.clone() }
    }

    /// Devices of these hosts hear from now on whether they are there.
    pub(super) async fn devices_watch(&mut self, of: Range<usize>) -> anyhow::Result<()> {
        for connection in self.devices_enter(of, true).await? {
            self.watching.spawn(listen(connection));
        }
        Ok(())
    }

    /// Devices of these hosts have circuits to them.
    pub(super) async fn devices_attach(&mut self, of: Range<usize>) -> anyhow::Result<()> {
        let attached = self.devices_enter(of, false).await?;
        self.attached.extend(attached.into_iter().map(RelayConnection::into_circuit));
        Ok(())
    }

    async fn devices_enter(&mut self, of: Range<usize>, watch_only: bool) -> anyhow::Result<Vec<RelayConnection>> {
        let mut entered = Vec::with_capacity(of.len());
        for some in self.hosts[of].chunks(AT_ONCE) {
            let mut entering = JoinSet::new();
            for host in some {
                entering.spawn(enter(self.address(), Arc::clone(&host.device), host.id, watch_only));
            }
            while let Some(device) = entering.join_next().await {
                entered.push(device??);
                if !watch_only {
                    let taken = timeout(PATIENCE, self.circuits.recv()).await;
                    self.taken.extend(taken.context("a host does not take the circuit of its device")?);
                }
            }
        }
        Ok(entered)
    }

    /// Nobody was put out meanwhile.
    pub(super) fn all_are_there(&mut self) -> anyhow::Result<()> {
        if let Some(ended) = self.watching.try_join_next() {
            bail!("the connection of a device that watches has ended: {}", ended?);
        }
        for host in &self.hosts {
            let state = host.tunnel.state().borrow().clone();
            ensure!(matches!(state, TunnelState::Connected { .. }), "a host is not there any more: {state:?}");
        }
        Ok(())
    }

    /// All devices, and the circuits to them.
    pub(super) fn devices_leave(&mut self) {
        self.watching.abort_all();
        self.watching = JoinSet::new();
        self.attached.clear();
        self.taken.clear();
    }

    /// Ends the relay with this signal and starts it again: when each host was back.
    pub(super) async fn come_back(&self, relay: &mut Relay, signal: Signal) -> anyhow::Result<Vec<Duration>> {
        let mut coming = JoinSet::new();
        let begin = Instant::now();
        for host in &self.hosts {
            let mut state = host.tunnel.state();
            // From now on each word that it is connected is about a new connection.
            state.mark_unchanged();
            coming.spawn(async move {
                state.changed().await.context("a tunnel has ended")?;
                state.wait_for(|state| matches!(state, TunnelState::Connected { .. })).await?;
                anyhow::Ok(begin.elapsed())
            });
        }
        relay.restart(signal)?;
        let (deadline, mut times) = (patience(), Vec::with_capacity(self.hosts.len()));
        while let Ok(Some(back)) = timeout_at(deadline, coming.join_next()).await {
            times.push(back??);
        }
        let states = self.hosts.iter().map(|host| host.tunnel.state().borrow().clone());
        let away: Vec<_> = states.filter(|state| !matches!(state, TunnelState::Connected { .. })).collect();
        let (missing, all) = (self.hosts.len() - times.len(), self.hosts.len());
        ensure!(
            missing == 0,
            "{missing} of {all} hosts are not back {PATIENCE:?} after {signal:?}: {:?}",
            away.first()
        );
        Ok(times)
    }
}

/// What a host tells the relay of its one device. Nobody gets as far as the keys that only the two know.
fn list(device: &Identity) -> anyhow::Result<DeviceList> {
    let identity = device.public();
    let device = Device {
        device_id: DeviceId::of(&identity),
        identity,
        static_key: PublicKey([0; 32]),
        psk: Secret::random(&SystemRandom::new())?,
        name: "device".into(),
        platform: "bench".into(),
        scope: Scope::View,
        paused: false,
        expired: false,
        revoked_at_relay: false,
        unseen_hours: 0,
        added_at: Timestamp::now(),
        last_seen: Timestamp::now(),
    };
    Ok(DeviceList { version: 1, paused: false, devices: vec![device] })
}

/// A device that is let in, and knows that its host is there or has a circuit to it.
async fn enter(
    relay: RelayAddress,
    identity: Arc<Identity>,
    host: HostId,
    watch_only: bool,
) -> anyhow::Result<RelayConnection> {
    let caller = Caller::Device { identity: &identity, host, watch_only };
    let mut connection = relay.connect(&caller).await.context("a device is not let in")?;
    let deadline = patience();
    loop {
        let frame = timeout_at(deadline, connection.receive()).await;
        match frame.context("a device does not reach its host")?.context("the connection of a device has ended")? {
            RelayToPeer::Presence { online: true, .. } if watch_only => return Ok(connection),
            RelayToPeer::Attached { .. } if !watch_only => return Ok(connection),
            RelayToPeer::Presence { .. } | RelayToPeer::Ping { .. } => {}
            other => bail!("a device hears {other:?}"),
        }
    }
}

/// Listens to the relay, and so answers when it is asked for a sign of life; why that came to an end.
async fn listen(mut connection: RelayConnection) -> RelayError {
    loop {
        if let Err(error) = connection.receive_or_sign().await {
            return error;
        }
    }
}
