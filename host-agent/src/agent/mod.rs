//! The host agent: everything that makes this machine reachable.
//!
//! ```text
//!   relay ── tunnel ── acceptor ─┬─ pairing            (a device that wants in)
//!                                └─ session ─┬─ api     (channel 0)
//!                                            └─ bridge ── firewall ── Codex
//!   reachback pair, devices … ── local socket ── control
//! ```
//!
//! Ownership: [`Agent`] owns the tunnel, the acceptor (which owns sessions and
//! their channels), the local socket and the watchers. [`Agent::shutdown`] ends
//! them in this order: local socket, tunnel, sessions with a last word, Codex if
//! the agent started it. Dropping the agent ends all at once.
//!
//! All of them are [vital](reachback_relay::vital): the program waits for
//! [`Vital::failed`] beside its signals, and ends when one of them is gone. What a
//! device's session, a circuit or a channel panics with comes up through its owners to
//! the acceptor, and so ends the agent too: this side judges what devices may do, and
//! must not go on with something broken.

pub(crate) mod acceptor;
pub(crate) mod api;
pub(crate) mod attention;
pub(crate) mod awake;
pub(crate) mod bridge;
pub(crate) mod changes;
mod chatgpt;
mod codex_requests;
pub(crate) mod codex_use;
mod desk;
pub mod environments;
mod errand;
pub(crate) mod host_session;
mod housekeeping;
pub mod outbox;
pub mod owner;
pub(crate) mod pages;
pub(crate) mod pairing;
pub(crate) mod prompts;
mod relay_list;
pub(crate) mod requests;
pub(crate) mod sessions;
mod sleep;
pub mod ssh_hosts;
pub mod tunnel;
mod turns;
pub(crate) mod withheld;
mod work;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reachback_proto::control::EnrollKey;
use reachback_proto::crypto::keys::{self, Identity, KeyError};
use reachback_proto::ids::{BootId, HostId, RelayId};
use reachback_proto::pairing::{Name, Origin};
use reachback_proto::session::SessionLimits;
use reachback_relay::vital::Vital;
use ring::rand::SystemRandom;
use tokio::sync::{broadcast, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::audit::{AuditError, AuditLog};
use crate::backoff::BackoffConfig;
use crate::codex::keys::Keys;
use crate::codex::remote_control::control;
use crate::codex::{Adapter, CodexState, StartedBy};
use crate::firewall::folders::Folders;
use crate::link::relay::{RelayAddress, RelayTrust};
use crate::link::transports::{TransportKind, Transports};
use crate::local_api::events::{
    CODEX_FAILED, ChatgptRemote, CodexState as CodexWord, TunnelState as TunnelWord, TunnelTransport,
};
use crate::local_api::{self, CodexStatus, Event, Failure, Past, TunnelStatus};
use crate::platform::awake::Machine;
use crate::platform::dirs::RuntimeDir;
use crate::platform::socket::{LocalListener, SocketError};
use crate::ssh::Discovery;
use crate::state::answers::Answers;
use crate::state::atomic::FileError;
use crate::state::devices::{ChangeError, DeviceStore};
use crate::state::host::{HostState, HostStateError, RelayPin};
use crate::state::journal::Journal;
use crate::state::lock::{HomeLock, LockError};
use crate::state::ssh_hosts::SshHostStore;
use crate::state::timestamp::Timestamp;
use crate::state::work::WorkStore;
use crate::state::workspaces::WorkspaceStore;
use acceptor::Acceptor;
use api::{ApiContext, Disk, EnvironmentInfo, Notice, Notices};
use awake::KeepAwake;
use changes::DeviceChanges;
use codex_requests::CodexRequests;
use environments::changes::Changes;
use environments::troubles::Trouble;
use environments::workspaces::{ChangeError as WorkspaceError, NotOpen};
use environments::{Environment, Environments, LocalEnvironment, keeper, troubles};
use host_session::SessionContext;
use housekeeping::Housekeeping;
use outbox::{OutboxLimits, Outboxes};
use owner::OwnerRequests;
use pages::Readers;
use pairing::{HostIntroduction, Pairings};
use prompts::Prompts;
use relay_list::RelayList;
use sessions::Sessions;
use sleep::Sleeps;
use ssh_hosts::{Rest, SshHosts};
use tunnel::{IncomingCircuit, Tunnel, TunnelConfig, TunnelState};
use work::Ender;

/// Circuits waiting for the acceptor; the relay holds the rest.
const CIRCUITS: usize = 16;
/// Events that a slow listener may be behind before it misses some.
const EVENTS: usize = 256;
/// How long the sessions' last words may take.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// What an agent needs to know.
pub struct AgentConfig {
    /// Where its state is.
    pub home: PathBuf,
    /// Where its socket goes; `None` for no local socket.
    pub runtime: Option<RuntimeDir>,
    /// What people call this host, when it is set up for the first time.
    pub name: String,
    /// Where the agent reaches the relay.
    pub relay: Origin,
    /// Where devices reach the relay, if elsewhere.
    pub public_relay: Option<Origin>,
    /// Where the web app is, if not at the relay.
    pub web_origin: Option<Origin>,
    /// Whether a relay with another key than before is taken. For `--new-relay`.
    pub new_relay: bool,
    /// What may carry the tunnel.
    pub transports: Transports,
    /// The one-time key, for a relay that does not know this host yet.
    pub enroll_key: Option<EnrollKey>,
    /// Codex on this machine, and its folders.
    pub local: LocalEnvironment,
    /// What finds the machines of the SSH configuration; `None` where there is no `ssh`.
    pub ssh: Option<Arc<Discovery>>,
    /// When machines that are reached over SSH are let go.
    pub ssh_rest: Rest,
    /// Between tries to reach the relay.
    pub backoff: BackoffConfig,
    /// Bounds of each device's session.
    pub session_limits: SessionLimits,
    /// Bounds of what waits for each device.
    pub outbox_limits: OutboxLimits,
}

/// The agent could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Another agent has the home.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The host's own file.
    #[error(transparent)]
    Host(#[from] HostStateError),
    /// Another state file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The audit log.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The device list.
    #[error(transparent)]
    Devices(#[from] ChangeError),
    /// A folder that was to be opened to devices.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    /// The local socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The runtime directory.
    #[error(transparent)]
    Dirs(#[from] crate::platform::dirs::DirsError),
    /// Keys could not be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// No usable name.
    #[error("this host needs a name with something visible in it: use --name")]
    Name,
}

/// Where everyone hears what happens.
#[derive(Debug, Clone)]
pub struct AgentEvents {
    heard: broadcast::Sender<Event>,
    past: Arc<Mutex<VecDeque<Past>>>,
}

/// Failures that are remembered for `reachback status`.
const PAST: usize = 5;

impl From<broadcast::Sender<Event>> for AgentEvents {
    fn from(heard: broadcast::Sender<Event>) -> Self {
        Self { heard, past: Arc::default() }
    }
}

impl AgentEvents {
    /// Nobody hears anything.
    pub(crate) fn unheard() -> Self {
        broadcast::Sender::new(1).into()
    }

    /// Tells everyone who listens.
    pub fn send(&self, event: Event) {
        if let Some(failure) = failure_in(&event) {
            self.note(Past { at: Timestamp::now(), failure });
        }
        // Nobody listening is fine.
        let _ = self.heard.send(event);
    }

    /// Listens from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.heard.subscribe()
    }

    /// What went wrong last, the newest first.
    pub(crate) fn past(&self) -> Vec<Past> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// What is told again is there once.
    fn note(&self, new: Past) {
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        past.retain(|old| old.failure != new.failure);
        past.truncate(PAST - 1);
        past.push_front(new);
    }
}

/// What went wrong, where an event says so: an error, or a relay that was lost.
fn failure_in(event: &Event) -> Option<Failure> {
    match event {
        Event::Error(failure) => Some(failure.clone()),
        Event::Tunnel(TunnelStatus {
            state: TunnelWord::Reconnecting | TunnelWord::Down,
            reason: Some(reason),
            ..
        }) => Some(Failure::new("tunnel", reason.clone())),
        _ => None,
    }
}

/// See the module's header.
pub struct Agent {
    control: Arc<OwnerRequests>,
    events: AgentEvents,
    from_start: Option<broadcast::Receiver<Event>>,
    environments: Arc<Environments>,
    devices: Arc<DeviceStore>,
    host: HostId,
    stop: CancellationToken,
    vital: Vital,
    acceptor: AbortOnDropHandle<()>,
    local: Option<AbortOnDropHandle<()>>,
    _watchers: Vec<AbortOnDropHandle<()>>,
    tunnel: Arc<Tunnel>,
    _lock: HomeLock,
}

impl Agent {
    /// Starts everything; the relay and Codex may come later.
    pub async fn start(config: AgentConfig) -> Result<Self, StartError> {
        let lock = HomeLock::acquire(&config.home)?;
        Self::start_locked(lock, config).await
    }

    /// The same for who needed the home's lock before.
    pub async fn start_locked(lock: HomeLock, config: AgentConfig) -> Result<Self, StartError> {
        let rng = SystemRandom::new();
        let state = HostState::load_or_create(&config.home, &rng, &config.name, Timestamp::now())?;
        let name = Name::cleaned(state.name()).ok_or(StartError::Name)?;
        let (events, from_start) = broadcast::channel(EVENTS);
        let shared = Shared::open(&config.home, config.local, AgentEvents::from(events))?;
        let host = state.id();

        let stop = CancellationToken::new();
        let vital = Vital::new(stop.clone());
        let trust = match config.new_relay {
            true => RelayTrust::Learn,
            false => trust(state.relay(), &config.relay, config.enroll_key.is_some()),
        };
        let relay = RelayAddress { origin: config.relay.clone(), trust, transports: config.transports };
        let identity = Identity::from_seed(state.identity().seed().clone());
        let boot = BootId(keys::random(&rng)?);
        let (tunnel, circuits) = shared.tunnel(relay, identity, boot, config.enroll_key, config.backoff, &vital);
        let introduction = HostIntroduction {
            identity: state.identity().public(),
            static_key: state.static_key().clone(),
            name: name.clone(),
            relay: config.public_relay.unwrap_or_else(|| config.relay.clone()),
            web: config.web_origin,
        };
        let relay_url = introduction.relay.to_string();
        let Shared { devices, audit, environments, sessions, events, .. } = shared.clone();
        let reachable = Reachable { host, name: name.as_str().to_owned(), relay_url, tunnel: Arc::clone(&tunnel) };
        let pairings = Pairings::new(introduction, Arc::clone(&tunnel), Arc::clone(&devices), Arc::clone(&audit));
        let journal = Journal::open(&config.home, &rng, prompts::now_ms())?;
        let (prompts, runner) =
            Prompts::new(journal, Arc::clone(&environments), Arc::clone(&devices), Arc::clone(&audit));
        let notices = Notices::default();
        let ssh_store = SshHostStore::open(&config.home)?;
        let ssh_hosts =
            SshHosts::start((config.ssh, config.ssh_rest), ssh_store, shared.clone(), vital.clone(), notices.clone());
        let ssh_hosts = Arc::new(ssh_hosts);
        let answers = Arc::new(Answers::open(&config.home, prompts::now_ms())?);
        let api = Arc::new(shared.api(&reachable, (prompts, answers), notices.clone(), Arc::clone(&ssh_hosts)));
        let acceptor = Acceptor {
            host,
            static_key: state.static_key().clone(),
            devices: Arc::clone(&devices),
            sessions,
            pairings: Arc::clone(&pairings),
            session_limits: config.session_limits,
            context: shared.for_sessions(
                Outboxes::new(config.outbox_limits, config.home.clone()),
                Arc::clone(&api),
                Arc::clone(&tunnel),
            ),
        };
        let for_codex = Arc::new(CodexRequests::new(shared.changes(), Arc::clone(&pairings)));
        let host_for_codex: Arc<dyn control::Host> = for_codex.clone();
        environments.own().codex.introduce(Arc::downgrade(&host_for_codex));
        let on_machine = shared.watch_machine(&vital, &tunnel, &notices, &ssh_hosts);
        let control = Arc::new(shared.owner(&reachable, pairings, for_codex, ssh_hosts));
        let serve = |runtime| serve_owner(runtime, &lock, Arc::clone(&control), &vital, stop.clone());
        let local = config.runtime.as_ref().map(serve).transpose()?;
        let home = config.home.to_string_lossy().into_owned();
        let ready = Ready { host, name: reachable.name, relay_url: reachable.relay_url, home };
        let telling = watch_tunnel(Arc::clone(&tunnel), events.clone(), ready, state, config.relay.to_string());
        let heard = events.subscribe();
        let telling_devices = async move { api.tell_of_devices(heard).await };
        let mut watchers = vec![
            vital.spawn("what tells devices of devices", telling_devices),
            // Ends with the tunnel.
            vital.spawn_finite("the watch of the tunnel", telling),
            vital.spawn("what carries out prompts", runner.run()),
        ];
        watchers.push(shared.tell_what_was_withheld(&vital));
        watchers.extend(shared.watch_devices(&vital, &tunnel));
        watchers.extend(on_machine);
        watchers.extend(shared.watch_environment(&vital, environments.own(), &notices));
        Ok(Self {
            control,
            events,
            from_start: Some(from_start),
            environments,
            devices,
            host,
            stop,
            acceptor: vital.spawn("the acceptor of circuits", acceptor.run(circuits)),
            vital,
            local,
            _watchers: watchers,
            tunnel,
            _lock: lock,
        })
    }

    /// This host.
    pub fn host(&self) -> HostId {
        self.host
    }

    /// What happens, from the start on: a relay that is near is connected before [`Self::start`] returns. Given out
    /// once; who asks later hears what comes later.
    pub fn events_from_start(&mut self) -> broadcast::Receiver<Event> {
        self.from_start.take().unwrap_or_else(|| self.events.subscribe())
    }

    /// What happens.
    pub fn events(&self) -> &AgentEvents {
        &self.events
    }

    /// What commands can do with the agent.
    pub fn control(&self) -> &Arc<OwnerRequests> {
        &self.control
    }

    /// The tasks without which it is no agent. End it when one is gone.
    pub fn vital(&self) -> &Vital {
        &self.vital
    }

    /// Ends everything, with a last word to devices. See the module's header for the order.
    pub async fn shutdown(self) {
        let Self { control, environments, devices, stop, acceptor, local, _watchers, tunnel, _lock, .. } = self;
        let audit = Arc::clone(&control.changes.audit);
        stop.cancel();
        if let Some(local) = local {
            let _ = local.await;
        }
        tracing::debug!("the local socket is closed");
        // Tasks that hold the tunnel end first: then dropping it here ends it, and with it the acceptor's circuits.
        drop(_watchers);
        tunnel.stop();
        if timeout(SHUTDOWN_TIMEOUT, acceptor).await.is_err() {
            tracing::warn!("sessions did not end in time");
        }
        drop((control, tunnel));
        tracing::debug!("sessions have ended");
        environments.stop().await;
        tracing::debug!("codex has ended");
        if let Err(error) = audit.flush_all() {
            tracing::error!(%error, "how often refusals came was not recorded");
        }
        if let Err(error) = devices.flush() {
            tracing::warn!(%error, "when devices were last seen could not be written");
        }
    }
}

/// Which relay is accepted. The key that was pinned stays so under another spelling of the relay's address: whoever answers there
/// might be another. A key to enrol with is the owner's word that this is a new relay, at an address that is new.
fn trust(pin: Option<&RelayPin>, relay: &Origin, enrols: bool) -> RelayTrust {
    let pin = pin.filter(|pin| !enrols || pin.url == relay.to_string());
    pin.map_or(RelayTrust::Learn, |pin| RelayTrust::Pinned(pin.id()))
}

struct Ready {
    host: HostId,
    name: String,
    relay_url: String,
    home: String,
}

/// Tells the tunnel's state, and keeps the relay's key once it is known.
async fn watch_tunnel(tunnel: Arc<Tunnel>, events: AgentEvents, ready: Ready, mut host: HostState, relay: String) {
    let mut state = tunnel.state();
    let relay_key = tunnel.relay_key();
    let mut announced = false;
    loop {
        let now = state.borrow_and_update().clone();
        events.send(Event::Tunnel(tunnel_status(&now)));
        if let TunnelState::Down { reason, fix } = &now {
            events.send(Event::Error(Failure::new("relay_refused", reason).fix(fix)));
        }
        if matches!(now, TunnelState::Connected { .. })
            && let Some(key) = *relay_key.borrow()
        {
            let pin = RelayPin { url: relay.clone(), key };
            if host.relay() != Some(&pin)
                && let Err(error) = host.set_relay(Some(pin))
            {
                tracing::error!(%error, "the relay's key could not be kept");
            }
            if !announced {
                announced = true;
                events.send(Event::Ready {
                    relay_url: ready.relay_url.clone(),
                    host_id: ready.host,
                    host_name: ready.name.clone(),
                    fingerprint: RelayId::of(&key),
                    home: ready.home.clone(),
                });
            }
        }
        if state.changed().await.is_err() {
            return;
        }
    }
}

/// The tunnel's state, in the words of the public format.
fn tunnel_status(state: &TunnelState) -> TunnelStatus {
    let (state, transport, reason) = match state {
        TunnelState::Connected { transport, without_quic } => {
            let transport = match transport {
                TransportKind::Wss => TunnelTransport::Wss,
                TransportKind::Quic => TunnelTransport::Quic,
            };
            (TunnelWord::Connected, Some(transport), without_quic.clone())
        }
        TunnelState::Reconnecting { reason } => {
            (TunnelWord::Reconnecting, None, Some(reason.clone()).filter(|reason| !reason.is_empty()))
        }
        TunnelState::Down { reason, .. } => (TunnelWord::Down, None, Some(reason.clone())),
    };
    TunnelStatus { state, transport, reason }
}

/// The environments of a home, with the folders that are to be opened now.
/// Who this host is for devices, and how they reach it.
struct Reachable {
    host: HostId,
    name: String,
    relay_url: String,
    tunnel: Arc<Tunnel>,
}

/// What most parts of the agent work with.
#[derive(Clone)]
struct Shared {
    devices: Arc<DeviceStore>,
    audit: Arc<AuditLog>,
    environments: Arc<Environments>,
    sessions: Arc<Sessions>,
    awake: Arc<KeepAwake>,
    events: AgentEvents,
}

impl Shared {
    /// Opens what the home holds.
    fn open(home: &Path, local: LocalEnvironment, events: AgentEvents) -> Result<Self, StartError> {
        let devices = Arc::new(DeviceStore::open(home, Timestamp::now())?);
        let told = events.clone();
        let audit = AuditLog::open(home)?.telling(move |error| told.send(Event::Error(changes::unrecorded(error))));
        let audit = Arc::new(audit);
        let environments = Arc::new(open_environments(home, &audit, local)?);
        let awake = Arc::new(KeepAwake::open(home, Machine::this())?);
        if let Some(notice) = without_workspace(&environments) {
            events.send(notice);
        }
        Ok(Self { devices, audit, environments, sessions: Arc::default(), awake, events })
    }

    fn changes(&self) -> DeviceChanges {
        let Self { devices, audit, sessions, events, .. } = self.clone();
        DeviceChanges { devices, sessions, audit, events }
    }

    fn tunnel(
        &self,
        relay: RelayAddress,
        identity: Identity,
        boot: BootId,
        enroll_key: Option<EnrollKey>,
        backoff: BackoffConfig,
        vital: &Vital,
    ) -> (Arc<Tunnel>, mpsc::Receiver<IncomingCircuit>) {
        let (circuits, incoming) = mpsc::channel(CIRCUITS);
        let tunnel = Tunnel::start(TunnelConfig {
            relay,
            identity: Arc::new(identity),
            boot,
            enroll_key,
            devices: self.devices.subscribe(),
            circuits,
            sessions: Arc::clone(&self.sessions),
            backoff,
            vital: vital.clone(),
        });
        (Arc::new(tunnel), incoming)
    }

    fn api(
        &self,
        reachable: &Reachable,
        (prompts, answers): (Arc<Prompts>, Arc<Answers>),
        notices: Notices,
        ssh_hosts: Arc<SshHosts>,
    ) -> ApiContext {
        let Self { devices, audit, environments, awake, .. } = self.clone();
        ApiContext {
            host: reachable.host,
            name: reachable.name.clone(),
            relay_url: reachable.relay_url.clone(),
            relay_key: reachable.tunnel.relay_key(),
            environments: Arc::clone(&environments),
            changes: self.changes(),
            disk: Disk::default(),
            awake,
            ssh_hosts,
            notices,
            answers,
            prompts,
            readers: Readers::new(environments, devices, audit),
        }
    }

    fn owner(
        &self,
        reachable: &Reachable,
        pairings: Arc<Pairings>,
        for_codex: Arc<CodexRequests>,
        ssh_hosts: Arc<SshHosts>,
    ) -> OwnerRequests {
        OwnerRequests {
            host: reachable.host,
            name: reachable.name.clone(),
            relay_url: reachable.relay_url.clone(),
            started_at: Timestamp::now(),
            changes: self.changes(),
            pairings,
            for_codex,
            tunnel: Arc::clone(&reachable.tunnel),
            environments: Arc::clone(&self.environments),
            ssh_hosts,
            awake: Arc::clone(&self.awake),
            stop_wanted: CancellationToken::new(),
        }
    }

    fn for_sessions(&self, outboxes: Outboxes, api: Arc<ApiContext>, tunnel: Arc<Tunnel>) -> SessionContext {
        let Self { devices, audit, environments, sessions, events, .. } = self.clone();
        SessionContext { sessions, devices, environments, outboxes: Arc::new(outboxes), audit, api, tunnel, events }
    }

    /// What devices were not told is for the owner.
    fn tell_what_was_withheld(&self, vital: &Vital) -> AbortOnDropHandle<()> {
        let (withheld, events) = (Arc::clone(self.environments.withheld()), self.events.clone());
        vital.spawn("what tells the owner what devices were not told", async move { withheld.tell(events).await })
    }

    /// What happens to devices without anybody asking.
    fn watch_devices(&self, vital: &Vital, tunnel: &Tunnel) -> [AbortOnDropHandle<()>; 2] {
        let Self { devices, audit, sessions, events, .. } = self.clone();
        let present = Arc::clone(&sessions);
        let housekeeping = Housekeeping { devices, sessions, tunnel: tunnel.state(), audit, events };
        let Self { devices, audit, sessions, events, .. } = self.clone();
        let relay_list = RelayList { devices, sessions, audit, events };
        [
            vital.spawn("the agent's housekeeping", housekeeping.run(move || present.presence(), Timestamp::now)),
            // Ends with the tunnel.
            vital.spawn_finite(
                "the watch of the relay's device list",
                relay_list.run(tunnel.stored(), tunnel.revoked()),
            ),
        ]
    }

    /// What keeps the machine awake, and what is done when it sleeps or comes to another network.
    fn watch_machine(
        &self,
        vital: &Vital,
        tunnel: &Arc<Tunnel>,
        notices: &Notices,
        ssh_hosts: &Arc<SshHosts>,
    ) -> [AbortOnDropHandle<()>; 3] {
        let awake = Arc::clone(&self.awake);
        let sleeps = Sleeps {
            machine: Machine::this(),
            sessions: Arc::clone(&self.sessions),
            tunnel: Arc::clone(tunnel),
            notices: notices.clone(),
            ssh_hosts: Arc::clone(ssh_hosts),
        };
        [
            // Ends with the tunnel.
            vital.spawn_finite("what probes SSH hosts", Arc::clone(ssh_hosts).probe_with(tunnel.state())),
            vital.spawn_finite(
                "what keeps this machine awake",
                awake.run(self.devices.subscribe(), tunnel.state(), self.events.clone()),
            ),
            // Ends at once on systems where nobody tells it.
            vital.spawn_finite("what tells devices that this machine sleeps", sleeps.run()),
        ]
    }

    /// What an environment needs besides its channels.
    fn watch_environment(
        &self,
        vital: &Vital,
        environment: &Arc<Environment>,
        notices: &Notices,
    ) -> [AbortOnDropHandle<()>; 5] {
        let Self { devices, audit, events, .. } = self.clone();
        let watching = watch_codex(Arc::clone(environment), events.clone(), notices.clone());
        let telling = api::tell_of_workspaces(Arc::clone(environment), notices.clone());
        let ender = Ender { environment: Arc::clone(environment), devices, audit, events };
        [
            // Ends when nobody supervises Codex any more.
            vital.spawn("the supervisor of Codex", watching),
            vital.spawn("what tells devices of workspaces", telling),
            vital.spawn_finite("what ends the work of devices", ender.run()),
            // Ends at once where Codex is not on this machine.
            vital.spawn_finite("what looks after Codex", troubles::look_after(Arc::clone(environment))),
            // Ends with Codex.
            vital.spawn_finite("the keeper of Codex's threads", keeper::run(Arc::clone(environment))),
        ]
    }
}

/// Lets the owner's commands ask the agent.
fn serve_owner(
    runtime: &RuntimeDir,
    lock: &HomeLock,
    requests: Arc<OwnerRequests>,
    vital: &Vital,
    stop: CancellationToken,
) -> Result<AbortOnDropHandle<()>, StartError> {
    let socket = runtime.socket(local_api::SOCKET)?;
    let listener = LocalListener::bind(&socket)?;
    lock.announce(Some(&socket))?;
    Ok(vital.spawn("the local socket", local_api::serve(listener, requests, stop)))
}

fn open_environments(home: &Path, audit: &AuditLog, mut local: LocalEnvironment) -> Result<Environments, StartError> {
    let store = Arc::new(WorkspaceStore::open(home)?);
    let open = std::mem::take(&mut local.open);
    let work = Arc::new(WorkStore::open(home, prompts::now_ms())?);
    let environments = Environments::local(local, &store, work);
    for folder in open {
        let changes = Changes { workspaces: &environments.own().workspaces, audit };
        match changes.open(&folder, Timestamp::now()) {
            // Said once more.
            Err(WorkspaceError::NotOpen { not: NotOpen::Already, .. }) => {}
            other => drop(other?),
        }
    }
    Ok(environments)
}

/// What to know when there is no folder for devices to work in.
fn without_workspace(environments: &Environments) -> Option<Event> {
    let has_one = environments.all().iter().any(|environment| !environment.workspaces.workspaces().is_empty());
    let notice = Failure::new("no_workspace", "no folder of this host is open to devices");
    (!has_one).then(|| Event::Notice(notice.fix("open one: reachback workspace add DIR")))
}

async fn watch_codex(environment: Arc<Environment>, events: AgentEvents, notices: Notices) {
    let mut state = environment.codex.state();
    let mut account = environment.account.subscribe();
    let mut chatgpt = environment.chatgpt_remote.subscribe();
    let mut troubles = environment.troubles.subscribe();
    let mut told: Vec<Trouble> = Vec::new();
    let mut is_on = false;
    // One that fails is tried again and again, and told once for as long as it fails the same way.
    let mut failed: Option<Failure> = None;
    loop {
        let now = state.borrow_and_update().clone();
        events.send(Event::Codex(codex_status(&environment, &now)));
        notices.tell(Notice::EnvironmentChanged(EnvironmentInfo::of(&environment)));
        match now.clone() {
            CodexState::Failed { reason, fix, .. } => {
                let failure = Failure { fix, ..Failure::new(CODEX_FAILED, reason) };
                if failed.as_ref() != Some(&failure) {
                    events.send(Event::Error(failure.clone()));
                    failed = Some(failure);
                }
            }
            CodexState::Waiting { reason, fix } => {
                events.send(Event::Notice(Failure::new("waiting_for_codex", reason).fix(fix)));
            }
            CodexState::Ready { .. } => failed = None,
            CodexState::Idle | CodexState::Starting | CodexState::Stopped => {}
        }
        loop {
            tokio::select! {
                changed = state.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                // The environment has the sender.
                _ = account.changed() => notices.tell(Notice::EnvironmentChanged(EnvironmentInfo::of(&environment))),
                _ = troubles.changed() => {
                    let known = std::mem::replace(&mut told, troubles.borrow_and_update().clone());
                    events.send(Event::Codex(codex_status(&environment, &now)));
                    notices.tell(Notice::EnvironmentChanged(EnvironmentInfo::of(&environment)));
                    let new = told.iter().filter(|trouble| !known.contains(trouble));
                    new.for_each(|trouble| events.send(Event::Notice(trouble.clone().into())));
                }
                _ = chatgpt.changed() => {
                    let was_on = std::mem::replace(&mut is_on, chatgpt.borrow_and_update().is_some_and(ChatgptRemote::is_on));
                    events.send(Event::Codex(codex_status(&environment, &now)));
                    if is_on && !was_on {
                        events.send(Event::Notice(chatgpt::is_on_notice()));
                    }
                }
            }
        }
    }
}

/// Codex's state, in the words of the public format.
fn codex_status(environment: &Environment, state: &CodexState) -> CodexStatus {
    let is_not = |state| CodexStatus {
        environment: environment.name.clone(),
        state,
        adapter: environment.codex.adapter().to_string(),
        address: environment.codex.address(),
        version: None,
        joined: None,
        keys: None,
        keys_reason: None,
        chatgpt_remote: None,
        troubles: environment.troubles.current().into_iter().map(Failure::from).collect(),
        reason: None,
        fix: None,
    };
    match state {
        CodexState::Idle => is_not(CodexWord::Idle),
        CodexState::Starting => is_not(CodexWord::Starting),
        CodexState::Ready { version, started_by, .. } => {
            let adapter = environment.codex.adapter();
            // The keys are not on another machine.
            let keys = (adapter != Adapter::Ssh).then(|| Keys::of(&environment.profiles, adapter, *started_by));
            CodexStatus {
                version: version.clone(),
                joined: Some(*started_by == StartedBy::Others),
                keys: keys.map(|(keys, _)| keys),
                keys_reason: keys.and_then(|(_, why)| why).map(str::to_owned),
                chatgpt_remote: environment.chatgpt_remote.current(),
                ..is_not(CodexWord::Ready)
            }
        }
        CodexState::Waiting { .. } => is_not(CodexWord::Waiting),
        CodexState::Failed { reason, fix, .. } => {
            CodexStatus { reason: Some(reason.clone()), fix: fix.clone(), ..is_not(CodexWord::Failed) }
        }
        CodexState::Stopped => is_not(CodexWord::Stopped),
    }
}

#[cfg(test)]
mod tests;
