//! A relay, a host and devices, with trouble in between.
//!
//! ```text
//!   device ── device_side cutter ──┐
//!                                  ├── relay (a process)
//!   agent  ── host_side cutter  ───┘
//!     └── the real Codex, a scripted model
//! ```

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reachback_host::agent::control::PairOptions;
use reachback_host::agent::{Agent, AgentConfig};
use reachback_host::backoff::BackoffConfig;
use reachback_host::codex::CodexBackend;
use reachback_host::codex::app_server::AppServer;
use reachback_host::connect::join::{self, Invitation};
use reachback_host::connect::remote::{RemoteConfig, RemoteHost};
use reachback_host::firewall::ceiling::Ceiling;
use reachback_host::local_api::{Confirm, Event, Exchange};
use reachback_host::state::controller::{ControllerStore, PairedHost};
use reachback_proto::control::EnrollKey;
use reachback_proto::pairing::{Name, Origin, PairingUrl, Platform, TypedCode};
use reachback_proto::scope::Scope;
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::PATIENCE;
use crate::codex::{TestCodex, ready};
use crate::cutter::Cutter;
use crate::process::Process;
use crate::rpc::Client;

/// A relay of this build, as a process that can be killed and started again.
pub struct TestRelay {
    /// The process.
    pub process: Process,
    /// Where it listens.
    pub addr: SocketAddr,
    /// Its first `ready` line.
    pub ready: serde_json::Value,
    data: TempDir,
}

impl TestRelay {
    /// Starts one with a fresh database.
    pub async fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        // Taken and given back: a restarted relay needs the same port.
        let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (process, ready) = Self::spawn(data.path(), addr).await;
        Self { process, addr, ready, data }
    }

    /// `kill -9`, at once.
    pub async fn kill(&mut self) {
        self.process.kill().await;
    }

    /// Starts it again on the same data and port.
    pub async fn restart(&mut self) {
        self.process = Self::spawn(self.data.path(), self.addr).await.0;
    }

    /// The one-time key for the first host.
    pub fn enroll_key(&self) -> EnrollKey {
        let path = self.ready["enroll_file"].as_str().expect("a fresh relay names its enrolment file");
        EnrollKey(std::fs::read_to_string(path).unwrap().trim().to_owned())
    }

    async fn spawn(data: &Path, addr: SocketAddr) -> (Process, serde_json::Value) {
        let (data, addr) = (data.to_str().unwrap(), addr.to_string());
        let args = ["serve", "--json", "--data", data, "--listen", &addr];
        let mut process = Process::start("reachback-relay", &args, &[]);
        let ready = process.event("ready").await;
        (process, ready)
    }
}

/// See the module's header.
pub struct Stage {
    /// The agent.
    pub agent: Agent,
    /// Codex, as the agent reaches it.
    pub backend: Arc<dyn CodexBackend>,
    /// Codex's folders and model.
    pub codex: TestCodex,
    /// Between agent and relay.
    pub host_side: Cutter,
    /// Between devices and relay.
    pub device_side: Cutter,
    /// The relay.
    pub relay: TestRelay,
    /// The host's state.
    pub home: TempDir,
}

/// Retries fast enough for tests that cut often.
pub const FAST: BackoffConfig = BackoffConfig { first: Duration::from_millis(20), max: Duration::from_millis(500) };

/// Plain HTTP on loopback.
pub fn origin(addr: SocketAddr) -> Origin {
    format!("http://{addr}").parse().unwrap()
}

impl Stage {
    /// Everything up, nothing paired.
    pub async fn start() -> Self {
        let relay = TestRelay::start().await;
        let (host_side, device_side) = (Cutter::start(relay.addr).await, Cutter::start(relay.addr).await);
        let codex = TestCodex::prepare().await;
        let backend: Arc<dyn CodexBackend> = Arc::new(AppServer::start(codex.config()));
        let home = tempfile::tempdir().unwrap();
        let agent = Agent::start(AgentConfig {
            home: home.path().into(),
            runtime: None,
            name: "stage".into(),
            relay: origin(host_side.addr()),
            public_relay: Some(origin(device_side.addr())),
            new_relay: false,
            enroll_key: Some(relay.enroll_key()),
            codex: Arc::clone(&backend),
            ceiling: Ceiling { roots: vec![codex.home.project().into()], ..Ceiling::default() },
            backoff: FAST,
        })
        .await
        .unwrap();
        ready(&*backend).await;
        Self { agent, backend, codex, host_side, device_side, relay, home }
    }

    /// Pairs a device through its URL, without comparing digits.
    pub async fn pair(&self, scope: Scope) -> TestDevice {
        let (url, _) = self.offer(scope).await;
        TestDevice::join(&Invitation::Url(url)).await
    }

    /// Opens a pairing that lets in whoever has the code; gives both codes.
    pub async fn offer(&self, scope: Scope) -> (PairingUrl, Invitation) {
        let (events, mut told) = mpsc::channel(16);
        let (_answer, answers) = mpsc::channel(1);
        let control = Arc::clone(self.agent.control());
        let options = PairOptions { scope: Some(scope), confirm: Confirm::None, patience: PATIENCE };
        tokio::spawn(async move {
            let _keep = _answer;
            control.pair(options, Exchange { events, answers }).await
        });
        let event = tokio::time::timeout(PATIENCE, told.recv()).await.expect("no offer came").unwrap();
        // Keep listening, so that the pairing is not taken back.
        tokio::spawn(async move { while told.recv().await.is_some() {} });
        let Event::Pairing { url, code, .. } = event else { panic!("wanted the codes, got {event:?}") };
        let code =
            Invitation::Code { relay: origin(self.device_side.addr()), code: TypedCode::parse(&code.0).unwrap() };
        (PairingUrl::parse(&url.0).unwrap(), code)
    }

    /// Ends everything in order.
    pub async fn stop(self) {
        self.agent.shutdown().await;
        assert_eq!(self.relay.process.stop().await, Some(0), "the relay's exit code");
    }
}

/// A device with a home of its own.
pub struct TestDevice {
    /// What it knows of the host.
    pub host: PairedHost,
    _home: TempDir,
}

impl TestDevice {
    /// Pairs.
    pub async fn join(invitation: &Invitation) -> Self {
        Self::try_join(invitation).await.unwrap()
    }

    /// Pairs, or not.
    pub async fn try_join(invitation: &Invitation) -> Result<Self, join::JoinError> {
        let home = tempfile::tempdir().unwrap();
        let (name, platform) = (Name::new("test device").unwrap(), Platform::new("test").unwrap());
        let host = join::join(invitation, name, platform, &ControllerStore::new(home.path()), |_| {}).await?;
        Ok(Self { host, _home: home })
    }

    /// How it reaches the host.
    pub fn config(&self) -> RemoteConfig {
        RemoteConfig {
            relay: join::relay_of(&self.host).unwrap(),
            host: self.host.host_id(),
            host_static: self.host.host_static,
            identity: reachback_proto::crypto::keys::Identity::from_seed(self.host.identity.seed().clone()),
            static_key: self.host.static_key.clone(),
            psk: self.host.psk.clone(),
            backoff: FAST,
        }
    }

    /// A session.
    pub async fn connect(&self) -> RemoteHost {
        let remote = RemoteHost::start(self.config());
        let up = tokio::time::timeout(PATIENCE, remote.up()).await;
        up.unwrap_or_else(|_| panic!("no session: {:?}", remote.state().borrow())).unwrap();
        remote
    }
}

/// An app-server client on a new channel of a session.
pub async fn client(remote: &RemoteHost) -> Client {
    Client::over(remote.open_channel("local").await.unwrap()).await
}
