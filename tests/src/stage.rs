//! A relay, a host and devices, with trouble in between.
//!
//! ```text
//!   device ── device_side cutter ──┐
//!                                  ├── (recorder) ── relay, a process
//!   agent  ── host_side cutter  ───┘
//!     └── the real Codex, a scripted model
//! ```

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reachback_host::agent::environments::LocalEnvironment;
use reachback_host::agent::outbox::OutboxLimits;
use reachback_host::agent::owner::PairOptions;
use reachback_host::agent::ssh_hosts::Rest;
use reachback_host::agent::{Agent, AgentConfig, StartError};
use reachback_host::backoff::BackoffConfig;
use reachback_host::codex::app_server::AppServer;
use reachback_host::codex::permissions::Profiles;
use reachback_host::codex::remote_control::{RemoteControl, RemoteControlConfig};
use reachback_host::codex::{Adapter, CodexBackend, CodexConfig};
use reachback_host::connect::join::{self, Invitation};
use reachback_host::connect::remote::{RemoteConfig, RemoteHost};
use reachback_host::disk::Surroundings;
use reachback_host::firewall::ceiling::Ceiling;
use reachback_host::link::relay::{Caller, RelayConnection};
use reachback_host::link::transports::{TransportChoice, Transports};
use reachback_host::link::way_out::WayOut;
use reachback_host::local_api::{Confirm, Event, Exchange, Failure, Handler, Request, Response};
use reachback_host::ssh::Discovery;
use reachback_host::state::devices::Device;
use reachback_host::state::paired_hosts::{PairedHost, PairedHostStore};
use reachback_proto::control::{EnrollKey, RelayToPeer};
use reachback_proto::crypto::keys::Identity;
use reachback_proto::frame::LOCAL_ENVIRONMENT;
use reachback_proto::ids::DeviceId;
use reachback_proto::pairing::{Digits, Name, Origin, PairingUrl, Platform, TypedCode};
use reachback_proto::scope::Scope;
use reachback_proto::session::SessionLimits;
use serde_json::json;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::subscriber::DefaultGuard;

use crate::PATIENCE;
use crate::codex::{TestCodex, ready};
use crate::cutter::Cutter;
use crate::log::Log;
use crate::network::Network;
use crate::process::{Process, binary};
use crate::recorder::Recorder;
use crate::rpc::Client;

/// A relay of this build, as a process that can be killed and started again.
pub struct TestRelay {
    pub process: Process,
    /// Where it listens.
    pub addr: SocketAddr,
    /// Its first `ready` line.
    pub ready: serde_json::Value,
    folder: TempDir,
    setting: Setting,
}

/// What a relay is started with.
struct Setting {
    protection: Protection,
    /// Where it runs, if not beside the test.
    network: Option<Arc<Network>>,
}

/// How a relay is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protection {
    /// HTTP, for the same machine.
    Plain,
    /// TLS with a certificate of its own making, and QUIC.
    Generated,
}

impl TestRelay {
    /// Starts one with a fresh database.
    pub async fn start() -> Self {
        Self::set(Setting { protection: Protection::Plain, network: None }).await
    }

    /// The same, in this setting.
    async fn set(setting: Setting) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // All of a test comes from one address, and it comes back often.
        let limits = "[limits]\naccepts_burst = 100000\nattempts_burst = 10000\npairing_attempts_burst = 1000\n\
             restart_delay_ms = 400\n";
        std::fs::write(folder.path().join("relay.toml"), limits).unwrap();
        // Taken and given back: a restarted relay needs the same port.
        let addr = match &setting.network {
            None => TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap(),
            Some(network) => network.there(),
        };
        let (process, ready) = Self::spawn(folder.path(), addr, &setting).await;
        Self { process, addr, ready, folder, setting }
    }

    /// `kill -9`, at once.
    pub async fn kill(&mut self) {
        self.process.kill().await;
    }

    /// Starts it again on the same data and port.
    pub async fn restart(&mut self) {
        self.process = Self::spawn(self.folder.path(), self.addr, &self.setting).await.0;
    }

    /// Everything it has logged, at its most talkative.
    pub fn log(&self) -> Vec<u8> {
        std::fs::read(self.log_file()).unwrap_or_default()
    }

    /// Where that is.
    pub fn log_file(&self) -> PathBuf {
        self.folder.path().join(LOG)
    }

    /// The one-time key for the first host.
    pub fn enroll_key(&self) -> EnrollKey {
        let path = self.ready["enroll_file"].as_str().expect("a fresh relay names its enrolment file");
        EnrollKey(std::fs::read_to_string(path).unwrap().trim().to_owned())
    }

    async fn spawn(folder: &Path, addr: SocketAddr, setting: &Setting) -> (Process, serde_json::Value) {
        let log = std::fs::File::options().create(true).append(true).open(folder.join(LOG)).unwrap();
        let program = binary("reachback-relay");
        let mut command =
            setting.network.as_ref().map_or_else(|| Command::new(&program), |network| network.command(&program));
        command.args(["serve", "--json", "--log", "trace", "--listen", &addr.to_string()]);
        if setting.protection == Protection::Generated {
            command.args(["--tls", "generated", "--quic", "on"]);
        }
        command.arg("--data").arg(folder.join("data")).arg("--config").arg(folder.join("relay.toml")).stderr(log);
        let mut process = Process::spawn("reachback-relay", command);
        let ready = process.event("ready").await;
        (process, ready)
    }
}

impl Drop for TestRelay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = String::from_utf8_lossy(&self.log()).into_owned();
            let lines: Vec<_> = log.lines().filter(|line| !line.contains("sqlx")).collect();
            println!("the relay's last words:\n{}", lines[lines.len().saturating_sub(30)..].join("\n"));
        }
    }
}

/// The relay's log.
const LOG: &str = "relay.log";

/// See the module's header.
pub struct Stage {
    pub agent: Agent,
    /// Codex, as the agent reaches it.
    pub backend: Arc<dyn CodexBackend>,
    /// Codex's folders and model.
    pub codex: TestCodex,
    /// Between agent and relay.
    pub host_side: Cutter,
    /// Between devices and relay.
    pub device_side: Cutter,
    /// In front of the relay.
    pub recorder: Recorder,
    pub relay: TestRelay,
    tuning: Tuning,
    /// The agent's home, which Codex's commands are kept from.
    pub home: TempDir,
    /// What agent and devices log.
    pub log: Log,
    _logging: DefaultGuard,
}

/// Retries fast enough for tests that cut often.
pub const FAST: BackoffConfig = BackoffConfig { first: Duration::from_millis(20), max: Duration::from_millis(500) };

/// What the host calls itself.
pub const HOST_NAME: &str = "a host of the tests";
/// What devices call themselves.
pub const DEVICE_NAME: &str = "a device of the tests";

/// What a test may choose about a stage.
#[derive(Debug, Clone)]
pub struct Tuning {
    /// Bounds of the host's sessions.
    pub limits: SessionLimits,
    /// Bounds of what waits for devices.
    pub outbox: OutboxLimits,
    /// Between tries of the agent.
    pub backoff: BackoffConfig,
    /// How the agent reaches Codex.
    pub adapter: Adapter,
    /// The SSH configuration that names the agent's SSH hosts.
    pub ssh: Option<PathBuf>,
    /// When the agent lets SSH hosts go.
    pub ssh_rest: Rest,
    /// What carries the tunnel, and connections of devices. The relay has no TLS where it is a WebSocket.
    pub transports: Transports,
    /// Where the relay runs, reached without cutters, if not beside the test.
    pub network: Option<Arc<Network>>,
}

impl Default for Tuning {
    fn default() -> Self {
        let (limits, outbox) = (SessionLimits::default(), OutboxLimits::default());
        let (transports, ssh_rest) = (Transports::new(TransportChoice::Wss), Rest::default());
        Self {
            limits,
            outbox,
            backoff: FAST,
            adapter: Adapter::AppServer,
            ssh: None,
            ssh_rest,
            transports,
            network: None,
        }
    }
}

/// Over a `codex remote-control`.
pub fn remote_control() -> Tuning {
    Tuning { adapter: Adapter::RemoteControl, ..Tuning::default() }
}

/// Over QUIC alone, host and devices.
pub fn quic() -> Tuning {
    Tuning { transports: Transports::new(TransportChoice::Quic), ..Tuning::default() }
}

/// Little waits for devices: so many bytes handed to a channel's session, and as many behind it.
pub fn little_waits(bytes: usize) -> Tuning {
    let disk = 0;
    let outbox =
        OutboxLimits { session: bytes, memory: bytes, device_memory: 4 * bytes, disk, device_disk: disk, segment: 1 };
    Tuning { outbox, ..Tuning::default() }
}

/// Plain HTTP on loopback.
pub fn origin(addr: SocketAddr) -> Origin {
    format!("http://{addr}").parse().unwrap()
}

impl Tuning {
    fn protection(&self) -> Protection {
        match self.transports.choice() {
            TransportChoice::Wss => Protection::Plain,
            TransportChoice::Auto | TransportChoice::Quic => Protection::Generated,
        }
    }

    /// The relay at this address.
    fn origin(&self, addr: SocketAddr) -> Origin {
        match self.protection() {
            Protection::Plain => origin(addr),
            Protection::Generated => format!("https://{addr}").parse().unwrap(),
        }
    }
}

impl Stage {
    /// Everything up, nothing paired.
    pub async fn start() -> Self {
        Self::with(Tuning::default()).await
    }

    /// The same, tuned for a test.
    pub async fn with(tuning: Tuning) -> Self {
        Self::on(TestCodex::prepare().await, tuning).await
    }

    /// The same, on a Codex whose home holds something.
    pub async fn on(codex: TestCodex, tuning: Tuning) -> Self {
        let home = tempfile::tempdir().unwrap();
        let profiles = codex.profiles(vec![home.path().into()]);
        let backend = start_codex(&codex, &profiles, &tuning, home.path());
        Self::around(codex, backend, profiles, home, tuning).await
    }

    /// The same, around a backend on that Codex; its threads have `profiles`, and the agent's state is in `home`.
    pub async fn around(
        codex: TestCodex,
        backend: Arc<dyn CodexBackend>,
        profiles: Arc<Profiles>,
        home: TempDir,
        tuning: Tuning,
    ) -> Self {
        let log = Log::default();
        let _logging = log.start();
        let setting = Setting { protection: tuning.protection(), network: tuning.network.clone() };
        let relay = TestRelay::set(setting).await;
        let recorder = Recorder::start(relay.addr).await;
        let cutter = async || match tuning.protection() {
            Protection::Plain => Cutter::start(recorder.addr()).await,
            // What is encrypted is not for the recorder.
            Protection::Generated => Cutter::start_with_udp(relay.addr, relay.addr).await,
        };
        let (host_side, device_side) = (cutter().await, cutter().await);
        let relays = relays(&relay, &tuning, [&host_side, &device_side]);
        let config = agent_config(home.path(), relays, &codex, Arc::clone(&backend), profiles, &tuning);
        let config = AgentConfig { enroll_key: Some(relay.enroll_key()), ..config };
        let agent = Agent::start(config).await.unwrap();
        ready(&*backend).await;
        Self { agent, backend, codex, host_side, device_side, recorder, relay, tuning, home, log, _logging }
    }

    /// Ends the agent, and Codex with it, and starts both again on the same state.
    pub async fn restart_agent(self) -> Self {
        self.restart_agent_after(async |_| {}).await.0
    }

    /// The same, and does something while neither runs.
    pub async fn restart_agent_after<T>(self, meanwhile: impl AsyncFnOnce(&TestCodex) -> T) -> (Self, T) {
        self.agent.shutdown().await;
        let done = meanwhile(&self.codex).await;
        let profiles = self.codex.profiles(vec![self.home.path().into()]);
        let backend = start_codex(&self.codex, &profiles, &self.tuning, self.home.path());
        let relays = relays(&self.relay, &self.tuning, [&self.host_side, &self.device_side]);
        let config = || {
            let (backend, profiles) = (Arc::clone(&backend), Arc::clone(&profiles));
            agent_config(self.home.path(), relays, &self.codex, backend, profiles, &self.tuning)
        };
        let starting = async {
            loop {
                match Agent::start(config()).await {
                    // Another test is starting a process: until that runs its own program it holds our lock too.
                    Err(StartError::Lock(_)) => tokio::time::sleep(Duration::from_millis(10)).await,
                    started => return started.unwrap(),
                }
            }
        };
        let agent = tokio::time::timeout(PATIENCE, starting).await.expect("the home stayed locked");
        ready(&*backend).await;
        (Self { agent, backend, ..self }, done)
    }

    /// The agent's `REACHBACK_HOME`.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Pairs a device through its URL, without comparing digits.
    pub async fn pair(&self, scope: Scope) -> TestDevice {
        let (url, _) = self.offer(scope).await;
        TestDevice::join(&Invitation::Url(url)).await
    }

    /// Opens a pairing that lets in whoever has the code; gives both codes.
    pub async fn offer(&self, scope: Scope) -> (PairingUrl, Invitation) {
        self.offer_for(scope, PATIENCE).await.codes()
    }

    /// Opens a pairing for this long.
    pub async fn offer_for(&self, scope: Scope, patience: Duration) -> OpenOffer {
        self.offer_with(PairOptions { scope: Some(scope), confirm: Confirm::None, patience }).await
    }

    /// The same in another way; nobody types digits.
    pub async fn offer_with(&self, options: PairOptions) -> OpenOffer {
        let (events_out, mut events) = mpsc::channel(64);
        let (answers_out, answers) = mpsc::channel(1);
        let control = Arc::clone(self.agent.control());
        let pairing = tokio::spawn(async move {
            let _answers = answers_out;
            control.pair(options, Exchange { events: events_out, answers }).await
        });
        let event = tokio::time::timeout(PATIENCE, events.recv()).await.expect("no offer came").unwrap();
        let Event::Pairing { url, code, .. } = event else { panic!("wanted the codes, got {event:?}") };
        // Keep listening, so that the pairing is not taken back.
        tokio::spawn(async move { while events.recv().await.is_some() {} });
        let code = Invitation::Code {
            relay: self.tuning.origin(self.device_side.addr()),
            code: TypedCode::parse(&code.0).unwrap(),
        };
        OpenOffer { url: PairingUrl::parse(&url.0).unwrap(), code, pairing }
    }

    /// What a command asks of the agent.
    pub async fn ask(&self, request: Request) -> Response {
        self.try_ask(request).await.unwrap()
    }

    /// The same, which may fail.
    pub async fn try_ask(&self, request: Request) -> Result<Response, Failure> {
        let (events, _) = mpsc::channel(1);
        let (_answers, answers) = mpsc::channel(1);
        self.agent.control().handle(request, Exchange { events, answers }).await
    }

    /// What the agent tells on the way to its answer.
    pub async fn ask_for_events(&self, request: Request) -> Vec<Event> {
        let (events, mut heard) = mpsc::channel(64);
        let (_answers, answers) = mpsc::channel(1);
        let telling = async {
            let mut all = Vec::new();
            while let Some(event) = heard.recv().await {
                all.push(event);
            }
            all
        };
        let (done, all) = tokio::join!(self.agent.control().handle(request, Exchange { events, answers }), telling);
        done.unwrap();
        all
    }

    /// Ends everything in order.
    pub async fn stop(mut self) {
        self.agent.shutdown().await;
        assert_eq!(self.relay.process.stop().await, Some(0), "the relay's exit code");
    }
}

/// Codex as the agent starts it.
fn start_codex(codex: &TestCodex, profiles: &Arc<Profiles>, tuning: &Tuning, home: &Path) -> Arc<dyn CodexBackend> {
    let config = CodexConfig { profiles: Some(Arc::clone(profiles)), ..codex.config() };
    match tuning.adapter {
        Adapter::RemoteControl => {
            codex.home.sign_in().unwrap();
            let config = RemoteControlConfig { codex: config, home: home.to_owned(), redirect: None };
            Arc::new(RemoteControl::start(config).unwrap())
        }
        _ => Arc::new(AppServer::start(config)),
    }
}

/// The relay's addresses for the agent and for devices.
fn relays(relay: &TestRelay, tuning: &Tuning, cutters: [&Cutter; 2]) -> [SocketAddr; 2] {
    match tuning.network {
        None => cutters.map(Cutter::addr),
        Some(_) => [relay.addr; 2],
    }
}

/// `relays` are the relay's addresses for the agent and for devices.
fn agent_config(
    home: &Path,
    relays: [SocketAddr; 2],
    codex: &TestCodex,
    backend: Arc<dyn CodexBackend>,
    profiles: Arc<Profiles>,
    tuning: &Tuning,
) -> AgentConfig {
    AgentConfig {
        home: home.into(),
        runtime: None,
        name: HOST_NAME.into(),
        relay: tuning.origin(relays[0]),
        public_relay: Some(tuning.origin(relays[1])),
        web_origin: None,
        new_relay: false,
        transports: tuning.transports.clone(),
        enroll_key: None,
        local: LocalEnvironment {
            redirect: None,
            codex: backend,
            ceiling: Ceiling::default(),
            profiles,
            ground: Some(Arc::clone(&codex.ground)),
            surroundings: Surroundings {
                home: Some(codex.user_home().into()),
                state: vec![home.into(), codex.home.codex_home().into()],
                roots: vec![codex.user_home().into()],
                codex_config: Some(codex.home.codex_home().join("config.toml")),
                working_dir: Some(codex.home.project().into()),
            },
            open: Vec::new(),
        },
        ssh_rest: tuning.ssh_rest,
        ssh: tuning.ssh.clone().map(|config| Arc::new(Discovery::new(None, Some(config)).unwrap())),
        backoff: tuning.backoff,
        session_limits: tuning.limits.clone(),
        outbox_limits: tuning.outbox.clone(),
    }
}

/// A pairing that is open.
pub struct OpenOffer {
    /// The QR code.
    pub url: PairingUrl,
    /// The typed one.
    pub code: Invitation,
    /// How it ends.
    pub pairing: JoinHandle<Result<Device, Failure>>,
}

impl OpenOffer {
    /// Both codes.
    pub fn codes(self) -> (PairingUrl, Invitation) {
        (self.url, self.code)
    }
}

/// A device with a home of its own.
pub struct TestDevice {
    /// What it knows of the host.
    pub host: PairedHost,
    home: TempDir,
}

impl TestDevice {
    /// Pairs.
    pub async fn join(invitation: &Invitation) -> Self {
        Self::try_join(invitation).await.unwrap()
    }

    /// Pairs, or not.
    pub async fn try_join(invitation: &Invitation) -> Result<Self, join::JoinError> {
        Self::join_showing(invitation, |_| {}).await
    }

    /// The same; `show` gets the digits that are typed at the host.
    pub async fn join_showing(invitation: &Invitation, show: impl FnOnce(Digits)) -> Result<Self, join::JoinError> {
        let home = tempfile::tempdir().unwrap();
        let (name, platform) = (Name::new(DEVICE_NAME).unwrap(), Platform::new("test").unwrap());
        let host =
            join::join(invitation, WayOut::default(), name, platform, &PairedHostStore::new(home.path()), show).await?;
        Ok(Self { host, home })
    }

    /// How it reaches the host.
    pub fn config(&self) -> RemoteConfig {
        RemoteConfig {
            relay: join::relay_of(&self.host, TransportChoice::Wss).unwrap(),
            host: self.host.host_id(),
            host_static: self.host.host_static,
            identity: Identity::from_seed(self.host.identity.seed().clone()),
            static_key: self.host.static_key.clone(),
            psk: self.host.psk.clone(),
            backoff: FAST,
        }
    }

    /// What it keeps.
    pub fn store(&self) -> PairedHostStore {
        PairedHostStore::new(self.home.path())
    }

    /// Its id at the host.
    pub fn id(&self) -> DeviceId {
        self.host.device_id()
    }

    /// A connection to the relay, let in; nothing is said to the host yet.
    pub async fn dial(&self, watch_only: bool) -> RelayConnection {
        let config = self.config();
        let caller = Caller::Device { identity: &config.identity, host: config.host, watch_only };
        config.relay.connect(&caller).await.unwrap()
    }

    /// A circuit that has started; nothing is said on it yet.
    pub async fn circuit(&self) -> RelayConnection {
        let mut connection = self.dial(false).await;
        let attached = async { while !matches!(connection.receive().await.unwrap(), RelayToPeer::Attached { .. }) {} };
        tokio::time::timeout(PATIENCE, attached).await.expect("the host took no circuit");
        connection
    }

    /// A session.
    pub async fn connect(&self) -> RemoteHost {
        let remote = RemoteHost::start(self.config());
        let up = tokio::time::timeout(PATIENCE, remote.up()).await;
        up.unwrap_or_else(|_| panic!("no session: {:?}", remote.state().borrow())).unwrap();
        remote
    }
}

/// From now on text comes in this session as Codex sends it, piece by piece.
pub async fn every_piece(remote: &RemoteHost) {
    let mut api = Client::raw(remote.api().await.unwrap());
    api.request("host/read", json!({ "mergedText": false })).await.unwrap();
}

/// An app-server client on a new channel of a session.
pub async fn client(remote: &RemoteHost) -> Client {
    Client::over(remote.open_channel(LOCAL_ENVIRONMENT).await.unwrap()).await
}
