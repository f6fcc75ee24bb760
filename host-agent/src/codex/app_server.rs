//! The app-server of this machine: shared if one runs, else started and kept running.
//!
//! Codex's default control socket in `CODEX_HOME` is the meeting point: the
//! terminal's `codex` works through whatever server listens there, and a thread
//! has one writer process. So a running server is joined, and one that
//! the agent starts listens there too; phone and terminal then share live threads.
//!
//! One task supervises. It opens a connection of its own, the *probe*, which
//! stays open: the server's end is the probe's end, whoever
//! started it. Now and then it asks something that is refused, to see a server that runs and does nothing ([`Pulse`]).
//! After the end it waits a little and begins again: join, else start.
//! What an agent that was killed left running is no server to join: it is ended
//! first, by the note that its agent left ([`crate::state::codex`]).
//! The probe never initializes, because the first client to do so names the server towards the vendor.
//!
//! The vendor's remote control is never turned on from here.

use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{self, BoxFuture};
use reachback_proto::words::quote;
use ring::rand::SystemRandom;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::config::HomeError;
use super::ground::Hold;
use super::process::{Process, install};
use super::pulse::{Pulse, Sign};
use super::supervision::{
    HEALTHY, Ledger, RESTARTS, START_DEADLINE, STARTED_ANEW, idle_for_long, is_answered, ready, reason, stopped,
};
use super::{
    Adapter, Allowance, CONNECT_PATIENCE, CodexBackend, CodexConfig, CodexConnection, CodexState, ConnectError,
    HandshakeError, Instance, StartedBy,
};
use super::{config, ws};

pub use super::process::SpawnError;
use crate::backoff::Backoff;
use crate::platform::socket::{self, LocalStream, SocketError};

/// Between two looks for the socket of a server that is starting.
const START_POLL: Duration = Duration::from_millis(20);

/// What repairs a server of somebody else's that does not answer.
const RESTART: &str = "restart the codex that is running: codex app-server daemon restart";

/// The app-server could not be reached or started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
enum OpenError {
    #[error(transparent)]
    Home(#[from] HomeError),
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error("codex listens on its control socket, but does not answer")]
    Silent,
    #[error("codex did not listen on its control socket, and did nothing to be seen for {} s", START_DEADLINE.as_secs())]
    Late,
    #[error("codex ended while starting ({status}){}", said.as_ref().map(|s| format!(": {}", quote(s))).unwrap_or_default())]
    Ended { status: ExitStatus, said: Option<String> },
    #[error("the operating system gave no randomness")]
    NoRandomness,
}

impl OpenError {
    /// What a person can do about it.
    fn fix(&self) -> Option<String> {
        match self {
            Self::Spawn(SpawnError::NotFound { .. }) => Some(install()),
            Self::Home(error) => Some(error.fix()),
            Self::Socket(error) if error.stranger().is_some() => {
                Some("end the codex of the other user, or give this one another CODEX_HOME".to_owned())
            }
            Self::Silent | Self::Handshake(_) => Some(RESTART.to_owned()),
            Self::Ended { .. } => Some("see what it says: codex app-server --listen unix://".to_owned()),
            _ => None,
        }
    }
}

/// The [`CodexBackend`] for this machine's app-server.
///
/// Dropping it kills a server that it started; [`CodexBackend::stop`] ends it gently.
#[derive(Debug)]
pub struct AppServer {
    config: CodexConfig,
    state: watch::Receiver<CodexState>,
    stop: CancellationToken,
    _supervisor: AbortOnDropHandle<()>,
}

impl AppServer {
    /// Begins to look for a server, or to start one. Needs a tokio runtime.
    pub fn start(config: CodexConfig) -> Self {
        let (sender, state) = watch::channel(CodexState::Starting);
        let stop = CancellationToken::new();
        let ledger = Ledger::new(config.note.clone());
        let (config_of, stop_of) = (config.clone(), stop.clone());
        let supervisor =
            Supervisor { config: config_of, state: sender, stop: stop_of, rng: SystemRandom::new(), ledger };
        let _supervisor = AbortOnDropHandle::new(tokio::spawn(supervisor.run()));
        Self { config, state, stop, _supervisor }
    }

    async fn open(&self, allowance: Allowance) -> Result<CodexConnection, ConnectError> {
        let mut state = self.state.clone();
        let instance =
            tokio::time::timeout(CONNECT_PATIENCE, ready(&mut state)).await.map_err(|_| ConnectError::Starting)??;
        let Some(path) = self.config.control_socket() else {
            return Err(ConnectError::Stopped);
        };
        let stream = socket::connect(&path).await.map_err(connect_error)?;
        let connection = ws::connect(stream, instance, allowance).await?;
        // The socket's path does not say which run answered.
        match &*self.state.borrow() {
            CodexState::Ready { instance: now, .. } if *now == instance => Ok(connection),
            _ => Err(ConnectError::Restarted),
        }
    }
}

impl CodexBackend for AppServer {
    fn adapter(&self) -> Adapter {
        Adapter::AppServer
    }

    fn state(&self) -> watch::Receiver<CodexState> {
        self.state.clone()
    }

    fn config(&self) -> Option<&CodexConfig> {
        Some(&self.config)
    }

    fn connect(&self, allowance: Allowance) -> BoxFuture<'_, Result<CodexConnection, ConnectError>> {
        self.open(allowance).boxed()
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        stopped(&self.stop, &self.state).boxed()
    }
}

fn connect_error(error: SocketError) -> ConnectError {
    match error {
        // The supervisor is about to notice.
        SocketError::NotListening { .. } => ConnectError::Restarted,
        error => match error.stranger() {
            Some(owner) => ConnectError::ForeignSocket { owner },
            None => ConnectError::Socket(error),
        },
    }
}

/// A server that answers, and what is needed to see it end.
struct Server {
    probe: CodexConnection,
    /// Ours, unless it was there before.
    process: Option<Process>,
    version: Option<String>,
}

/// Why a server that runs is of no use, and what helps.
fn silent(started_by: StartedBy) -> (String, String) {
    let reason = OpenError::Silent.to_string();
    let fix = match started_by {
        StartedBy::Agent => STARTED_ANEW,
        StartedBy::Others => RESTART,
    };
    (reason, fix.to_owned())
}

/// Waits until a process of the agent's own has ended.
async fn ended(process: Option<&mut Process>) {
    match process {
        Some(process) => drop(process.ended().await),
        None => future::pending().await,
    }
}

struct Supervisor {
    config: CodexConfig,
    state: watch::Sender<CodexState>,
    stop: CancellationToken,
    rng: SystemRandom,
    ledger: Ledger,
}

impl Supervisor {
    async fn run(self) {
        let mut backoff = Backoff::new(RESTARTS);
        self.ledger.end_earlier().await;
        while !self.stop.is_cancelled() {
            self.state.send_replace(CodexState::Starting);
            // Dropping a start that is under way kills its child.
            let opened = tokio::select! {
                () = self.stop.cancelled() => break,
                opened = self.join_or_start() => opened,
            };
            match opened {
                Ok(server) => {
                    let since = Instant::now();
                    self.serve(server).await;
                    if since.elapsed() >= HEALTHY {
                        backoff.reset();
                    }
                }
                Err(error) => {
                    let (reason, fix) = self.config.or_full_disk(reason(&error), error.fix()).await;
                    tracing::info!(reason, fix, "codex is not running");
                    self.state.send_replace(CodexState::Failed { reason, fix, code: None });
                }
            }
            let delay = backoff.delay(&self.rng, false);
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = tokio::time::sleep(delay) => {}
            }
        }
        self.state.send_replace(CodexState::Stopped);
    }

    /// Says that the server is ready, and returns when it has ended or we stop.
    async fn serve(&self, mut server: Server) {
        let started_by = if server.process.is_some() { StartedBy::Agent } else { StartedBy::Others };
        let (version, instance) = (server.version.take(), server.probe.instance);
        tracing::info!(adapter = %Adapter::AppServer, %started_by, version, %instance, "codex is ready");
        let ready = CodexState::Ready { version, started_by, instance };
        self.state.send_replace(ready.clone());
        let mut pulse = Pulse::new(self.config.silence, started_by);
        loop {
            let sign = tokio::select! {
                () = self.stop.cancelled() => break,
                sign = pulse.sign(&mut server.probe) => sign,
                () = ended(server.process.as_mut()) => Sign::Gone,
            };
            match sign {
                Sign::Answers => {
                    tracing::info!(%instance, "codex answers again");
                    self.state.send_replace(ready.clone());
                }
                Sign::Silent => {
                    tracing::warn!(adapter = %Adapter::AppServer, %started_by, %instance, "codex does not answer");
                    let (reason, fix) = silent(started_by);
                    self.state.send_replace(CodexState::Failed { reason, fix: Some(fix), code: None });
                }
                Sign::Gone | Sign::Dead => {
                    tracing::warn!(adapter = %Adapter::AppServer, %started_by, %instance, "codex ended");
                    self.state.send_replace(CodexState::Starting);
                    break;
                }
            }
        }
        if let Some(process) = server.process {
            process.end().await;
            self.ledger.forget();
        }
    }

    /// Joins the server that listens on the control socket; without one, starts it.
    async fn join_or_start(&self) -> Result<Server, OpenError> {
        let home = self.config.usable_home()?;
        let socket = config::control_socket(&home);
        match socket::connect(&socket).await {
            Ok(stream) => {
                let (probe, version) = tokio::join!(self.probe(stream), self.config.version());
                // A server may run from a place that the search path does not know.
                return Ok(Server { probe: probe?, process: None, version: version.unwrap_or_default() });
            }
            Err(SocketError::NotListening { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        self.config.home_for_start()?;
        let hold = match &self.config.ground {
            Some(ground) => ground.hold(&self.config).await,
            None => Hold::default(),
        };
        let mut process = Process::app_server(&self.config, &hold)?;
        self.ledger.note(&process, None).await;
        let ((probe, listener), version) = tokio::select! {
            (listening, version) = async { tokio::join!(self.listening(&socket), self.config.version()) } => (listening?, version?),
            status = process.ended() => {
                let said = process.last_words().await;
                return Err(status.map_or(OpenError::Late, |status| OpenError::Ended { status, said }));
            }
            () = idle_for_long(&home) => return Err(OpenError::Late),
        };
        self.ledger.note(&process, listener).await;
        Ok(Server { probe, process: Some(process), version })
    }

    /// Waits until a server that is starting answers; it, and the process that listens.
    async fn listening(&self, socket: &Path) -> Result<(CodexConnection, Option<u32>), OpenError> {
        loop {
            match socket::connect(socket).await {
                Ok(stream) => {
                    let listener = socket::peer(&stream);
                    return Ok((self.probe(stream).await?, listener));
                }
                Err(SocketError::NotListening { .. }) => tokio::time::sleep(START_POLL).await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// A connection that has seen the server answer a request: refused, as it is not initialized, but answered.
    async fn probe(&self, stream: LocalStream) -> Result<CodexConnection, OpenError> {
        let instance = Instance::random(&self.rng).ok_or(OpenError::NoRandomness)?;
        let mut probe = ws::connect(stream, instance, Allowance::default()).await?;
        if is_answered(&mut probe).await { Ok(probe) } else { Err(OpenError::Silent) }
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests;
