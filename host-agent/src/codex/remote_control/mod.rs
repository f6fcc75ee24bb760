//! An unmodified `codex remote-control`, which comes to the agent by itself.
//!
//! It takes the agent for its maker's service, which `chatgpt_base_url` names:
//! it enrols there, and keeps one WebSocket open.
//!
//! ```text
//! CodexConnection ─┐                                              ┌─ control: enrol, pair, devices
//!        …         ├─ Clients ─ envelopes ─ WebSocket ─ http ─────┤
//! CodexConnection ─┘                                    127.0.0.1 └─ upstream: everything else
//! ```
//!
//! In that socket go many connections, each message in an [`envelope`];
//! [`clients::Clients`] makes a [`CodexConnection`] of each. [`supervisor`] starts
//! the Codex, and begins again when it ends; or it waits for one that the person starts, which [`redirect`] leads here.

mod callers;
mod clients;
pub(crate) mod control;
mod enrolment;
mod envelope;
mod http;
mod inbox;
mod joining;
mod outbox;
mod reception;
pub(crate) mod redirect;
mod setting;
mod silence;
mod supervisor;
mod upstream;

use std::path::PathBuf;
use std::sync::{Arc, Weak};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use ring::rand::SystemRandom;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::supervision::{ready, stopped};
use super::{
    Adapter, Allowance, CONNECT_PATIENCE, CodexBackend, CodexConfig, CodexConnection, CodexState, ConnectError,
};
use clients::Clients;
use control::Host;
use reception::Reception;
use redirect::Redirect;
use supervisor::Supervisor;

/// What Codex calls the agent's connections among those of one remote control.
const CLIENT: &str = "reachback";

/// What a backend needs to know.
#[derive(Debug)]
pub struct RemoteControlConfig {
    /// Which Codex to start, and how.
    pub codex: CodexConfig,
    /// The agent's home, for the address that Codex enrols at.
    pub home: PathBuf,
    /// What Codex's configuration says of where it goes, and whether it leads here. `None` has nothing of it: what is not
    /// remote control is answered with that there is nothing.
    pub redirect: Option<Arc<Redirect>>,
}

/// The [`CodexBackend`] for a Codex with its remote control on.
///
/// Dropping it kills the Codex that it started; [`CodexBackend::stop`] ends it gently.
pub struct RemoteControl {
    codex: CodexConfig,
    clients: Clients,
    reception: Reception,
    state: watch::Receiver<CodexState>,
    stop: CancellationToken,
    _supervisor: AbortOnDropHandle<()>,
}

impl RemoteControl {
    /// Starts a Codex, and keeps it running. Needs a tokio runtime. `None` when the operating system gives no randomness.
    pub fn start(config: RemoteControlConfig) -> Option<Self> {
        let clients = Clients::new(&SystemRandom::new())?;
        let (sender, state) = watch::channel(CodexState::Starting);
        let stop = CancellationToken::new();
        let reception = Reception::default();
        let codex = config.codex.clone();
        let supervisor = Supervisor::new(config, clients.clone(), reception.clone(), sender, stop.clone());
        let _supervisor = AbortOnDropHandle::new(tokio::spawn(supervisor.run()));
        Some(Self { codex, clients, reception, state, stop, _supervisor })
    }

    async fn open(&self, allowance: Allowance) -> Result<CodexConnection, ConnectError> {
        let mut state = self.state.clone();
        let instance =
            tokio::time::timeout(CONNECT_PATIENCE, ready(&mut state)).await.map_err(|_| ConnectError::Starting)??;
        Ok(self.clients.open(CLIENT, allowance, instance))
    }
}

impl CodexBackend for RemoteControl {
    fn adapter(&self) -> Adapter {
        Adapter::RemoteControl
    }

    fn state(&self) -> watch::Receiver<CodexState> {
        self.state.clone()
    }

    fn config(&self) -> Option<&CodexConfig> {
        Some(&self.codex)
    }

    fn connect(&self, allowance: Allowance) -> BoxFuture<'_, Result<CodexConnection, ConnectError>> {
        self.open(allowance).boxed()
    }

    fn introduce(&self, host: Weak<dyn Host>) {
        self.reception.open(host);
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        stopped(&self.stop, &self.state).boxed()
    }
}
