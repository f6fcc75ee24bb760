//! The app-server of this machine: shared if one runs, else started and kept running.
//!
//! Codex's default control socket in `CODEX_HOME` is the meeting point: the
//! terminal's `codex` works through whatever server listens there, and a thread
//! has one writer process. So a running server is joined, and one that
//! the agent starts listens there too; phone and terminal then share live threads.
//!
//! One task supervises. It opens a connection of its own, the *probe*, which
//! asks nothing and stays open: the server's end is the probe's end, whoever
//! started it. Then it waits a little and begins again: join, else start.
//! What an agent that was killed left running is no server to join: it is ended
//! first, by the note that its agent left ([`crate::state::codex`]).
//! The probe never initializes, because the first client to do so names the server towards the vendor.
//!
//! The vendor's remote control is never turned on from here.

use std::error::Error as _;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use reachback_proto::words::quote;
use ring::rand::SystemRandom;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::ground::{Ground, Hold};
use super::permissions::Profiles;
use super::process::{self, INSTALL, Process};
use super::ws;
use super::{
    Adapter, Allowance, CONNECT_PATIENCE, CodexBackend, CodexConnection, CodexState, ConnectError, HandshakeError,
    Instance, StartedBy,
};

pub use super::process::SpawnError;
use crate::backoff::{Backoff, BackoffConfig};
use crate::platform::processes;
use crate::platform::socket::{self, LocalStream, SocketError};
use crate::state::codex::{Note, StartedCodex};

/// A cold start reads 300 MB; after this without a sign of work the child is given up and started again.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// Codex enters recordings that it does not know yet in its state database before it listens, and is waited for while it
/// writes there, up to this. Version 0.169.0 took 19 s for 30,000 recordings and up to 147 s for 70,000 on two cores.
const LONGEST_START: Duration = Duration::from_secs(15 * 60);

/// Between two looks at the state database.
const WORK_POLL: Duration = Duration::from_secs(1);

/// Between two looks for the socket of a server that is starting.
const START_POLL: Duration = Duration::from_millis(20);

/// A child that dies at once should not burn a core; a missing program or a broken configuration is repaired by a person,
/// for whom half a minute is soon enough.
const RESTARTS: BackoffConfig = BackoffConfig { first: Duration::from_millis(250), max: Duration::from_secs(30) };

/// A server that ran this long was healthy: the next failure is a first one.
const HEALTHY: Duration = Duration::from_secs(60);

/// A running server answers a request in milliseconds.
const PROBE_DEADLINE: Duration = Duration::from_secs(10);

/// A skill in a folder can make Codex ask whether to install an MCP server, and "Install" writes a command into the owner's
/// `config.toml`, which every later thread runs.
const NO_INSTALL: &str = "features.skill_mcp_dependency_install=false";

/// Which Codex to run, and how. Paths are taken as they are; the environment was read by the caller.
#[derive(Debug, Clone)]
pub struct CodexConfig {
    /// A path, or a name on the search path. Default: `codex`.
    pub program: PathBuf,
    /// `CODEX_HOME`. Default: `None`, the user's own `~/.codex`.
    pub home: Option<PathBuf>,
    /// More environment for Codex. Default: none. `REACHBACK_*` is never passed on.
    pub env: Vec<(OsString, OsString)>,
    /// Where it runs, and what holds its own git. Default: `None`, where the agent does, and nothing. A server that was
    /// already running is where it is.
    pub ground: Option<Arc<Ground>>,
    /// Settings that win over `config.toml`, as `key=value` (`codex -c`). Default: none. A server that was
    /// already running does not have them.
    pub overrides: Vec<String>,
    /// What threads may do that choose nothing. Default: `None`, what `config.toml` says. A server that was already
    /// running does not know of them.
    pub profiles: Option<Arc<Profiles>>,
    /// Where it is noted what was started, so that the next agent ends what this one could not. Default: `None`, nowhere.
    pub note: Option<Note>,
}

impl Default for CodexConfig {
    fn default() -> Self {
        Self {
            program: "codex".into(),
            home: None,
            env: Vec::new(),
            ground: None,
            overrides: Vec::new(),
            profiles: None,
            note: None,
        }
    }
}

impl CodexConfig {
    /// Where the app-server of this home listens; `None` when the user has no home folder.
    pub fn control_socket(&self) -> Option<PathBuf> {
        self.codex_home().map(|home| control_socket(&home))
    }

    /// `CODEX_HOME`, chosen or the user's own; `None` when the user has no home folder.
    pub fn codex_home(&self) -> Option<PathBuf> {
        self.home.clone().or_else(|| Some(std::env::home_dir()?.join(".codex")))
    }

    /// All settings for a server that we start.
    pub(super) fn settings(&self) -> Vec<String> {
        let mut settings = self.overrides.clone();
        settings.push(NO_INSTALL.to_owned());
        settings.extend(self.profiles.iter().flat_map(|profiles| profiles.for_process()));
        settings
    }
}

/// The app-server could not be reached or started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
enum OpenError {
    #[error("there is no home folder, and no CODEX_HOME")]
    NoHome,
    #[error("codex's own folder {} has a path that is not valid text (UTF-8), which codex can't use", quote(home.display()))]
    NotText { home: PathBuf },
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
            Self::Spawn(SpawnError::NotFound { .. }) => Some(INSTALL.to_owned()),
            Self::NoHome => Some("set CODEX_HOME".to_owned()),
            Self::NotText { .. } => Some("set CODEX_HOME, or --codex-home, to another folder".to_owned()),
            Self::Socket(error) if error.stranger().is_some() => {
                Some("end the codex of the other user, or give this one another CODEX_HOME".to_owned())
            }
            Self::Silent | Self::Handshake(_) => {
                Some("restart the codex that is running: codex app-server daemon restart".to_owned())
            }
            Self::Ended { .. } => Some("see what it says: codex app-server --listen unix://".to_owned()),
            _ => None,
        }
    }

    /// The message with its causes, for people.
    fn reason(&self) -> String {
        let mut reason = self.to_string();
        let mut source = self.source();
        while let Some(cause) = source {
            reason = format!("{reason}: {cause}");
            source = cause.source();
        }
        reason
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
        let supervisor =
            Supervisor { config: config.clone(), state: sender, stop: stop.clone(), rng: SystemRandom::new() };
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

    fn connect(&self, allowance: Allowance) -> BoxFuture<'_, Result<CodexConnection, ConnectError>> {
        self.open(allowance).boxed()
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        async {
            self.stop.cancel();
            // An error says that the supervisor is gone, and then so is its child.
            let _ = self.state.clone().wait_for(|state| matches!(state, CodexState::Stopped)).await;
        }
        .boxed()
    }
}

/// Ends when a server that is starting has done nothing for [`START_DEADLINE`], or has worked for [`LONGEST_START`].
async fn idle_for_long(home: &Path) {
    let start = tokio::time::Instant::now();
    let (mut at_work, mut written) = (start, state_written(home));
    while at_work.elapsed() < START_DEADLINE && start.elapsed() < LONGEST_START {
        tokio::time::sleep(WORK_POLL).await;
        let now = state_written(home);
        if now != written {
            (at_work, written) = (tokio::time::Instant::now(), now);
        }
    }
}

/// When Codex's state database was written last, and its size in bytes with its log's: another value is a sign of work.
fn state_written(home: &Path) -> (Option<SystemTime>, u64) {
    let files = std::fs::read_dir(home).into_iter().flatten().flatten();
    // Such as `state_5.sqlite`, `state_5.sqlite-wal`.
    let of_state = files.filter(|file| {
        let name = file.file_name();
        name.to_str().is_some_and(|name| name.starts_with("state_") && name.contains(".sqlite"))
    });
    let of_state = of_state.filter_map(|file| file.metadata().ok());
    of_state.fold((None, 0), |(last, size), file| (last.max(file.modified().ok()), size.wrapping_add(file.len())))
}

/// Waits out a start, and gives the run that is ready.
async fn ready(state: &mut watch::Receiver<CodexState>) -> Result<Instance, ConnectError> {
    loop {
        match &*state.borrow_and_update() {
            CodexState::Ready { instance, .. } => return Ok(*instance),
            CodexState::Failed { reason, fix } => {
                return Err(ConnectError::Failed { reason: reason.clone(), fix: fix.clone() });
            }
            CodexState::Stopped => return Err(ConnectError::Stopped),
            CodexState::Starting => {}
        }
        state.changed().await.map_err(|_| ConnectError::Stopped)?;
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

/// Where an app-server with this home listens by default.
///
/// Codex puts the socket in a short temporary path and a link to it in `CODEX_HOME`.
fn control_socket(codex_home: &Path) -> PathBuf {
    codex_home.join("app-server-control").join("app-server-control.sock")
}

/// A server that answers, and what is needed to see it end.
struct Server {
    probe: CodexConnection,
    /// Ours, unless it was there before.
    process: Option<Process>,
    version: Option<String>,
}

impl Server {
    /// Waits until the server has ended. Safe to cancel.
    async fn ended(&mut self) {
        let probe = async {
            // An uninitialized client hears nothing; whatever comes is drained.
            while let Some(Ok(_)) = self.probe.receiver.next().await {}
        };
        match &mut self.process {
            None => probe.await,
            Some(process) => tokio::select! {
                () = probe => {}
                _ = process.ended() => {}
            },
        }
    }
}

struct Supervisor {
    config: CodexConfig,
    state: watch::Sender<CodexState>,
    stop: CancellationToken,
    rng: SystemRandom,
}

impl Supervisor {
    async fn run(self) {
        let mut backoff = Backoff::new(RESTARTS);
        self.end_earlier().await;
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
                    let (reason, fix) = (error.reason(), error.fix());
                    tracing::warn!(reason, fix, "codex is not running");
                    self.state.send_replace(CodexState::Failed { reason, fix });
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
        self.state.send_replace(CodexState::Ready { version, started_by, instance });
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = server.ended() => {
                tracing::warn!(adapter = %Adapter::AppServer, %started_by, %instance, "codex ended");
                self.state.send_replace(CodexState::Starting);
            }
        }
        if let Some(process) = server.process {
            process.end().await;
            self.forget();
        }
    }

    /// Ends what an earlier agent was killed too fast to end: it would be joined for ever, and never be ended.
    async fn end_earlier(&self) {
        let Some(note) = &self.config.note else { return };
        let earlier = match note.read() {
            Ok(Some(earlier)) => earlier,
            Ok(None) => return,
            Err(error) => {
                // Nothing in it is worth refusing a start for. The next Codex that is started replaces it.
                tracing::warn!(
                    %error,
                    "what an earlier agent started is not known: if its codex still runs, it is joined now and does not end \
                     with this agent"
                );
                return;
            }
        };
        if let Some(group) = earlier.running().await {
            tracing::warn!(group = group.id(), "ending the codex of an earlier agent, which was killed");
            if !process::end_group(group, std::future::ready(())).await {
                tracing::warn!(group = group.id(), "the codex of an earlier agent could not be ended");
                return;
            }
        }
        self.forget();
    }

    /// Notes what was started, for the next agent if this one is killed; `server` is the process that listens.
    async fn note(&self, process: &Process, server: Option<u32>) {
        let (Some(note), Some(group)) = (&self.config.note, process.group()) else { return };
        let mut processes = Vec::new();
        for pid in [Some(group.id()), server].into_iter().flatten() {
            if let Some(process) = processes::Process::with_id(pid).await
                && !processes.contains(&process)
                && process.is_in(group).await
            {
                processes.push(process);
            }
        }
        if !processes.is_empty()
            && let Err(error) = note.write(&StartedCodex { group, processes })
        {
            tracing::warn!(%error, "the codex that was started can't be noted: it goes on if this agent is killed");
        }
    }

    fn forget(&self) {
        if let Some(note) = &self.config.note
            && let Err(error) = note.remove()
        {
            tracing::warn!(%error, "the note of a codex that has ended stays; it does no harm");
        }
    }

    /// Joins the server that listens on the control socket; without one, starts it.
    async fn join_or_start(&self) -> Result<Server, OpenError> {
        let home = self.config.codex_home().ok_or(OpenError::NoHome)?;
        if home.to_str().is_none() {
            // It would read the variable with other characters in place of those, and look in another folder.
            return Err(OpenError::NotText { home });
        }
        let socket = control_socket(&home);
        match socket::connect(&socket).await {
            Ok(stream) => {
                let (probe, version) = tokio::join!(self.probe(stream), self.config.version());
                // A server may run from a place that the search path does not know.
                return Ok(Server { probe: probe?, process: None, version: version.unwrap_or_default() });
            }
            Err(SocketError::NotListening { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let hold = match &self.config.ground {
            Some(ground) => ground.hold(&self.config).await,
            None => Hold::default(),
        };
        let mut process = Process::app_server(&self.config, &hold)?;
        self.note(&process, None).await;
        let ((probe, listener), version) = tokio::select! {
            (listening, version) = async { tokio::join!(self.listening(&socket), self.config.version()) } => (listening?, version?),
            status = process.ended() => {
                let said = process.last_words().await;
                return Err(status.map_or(OpenError::Late, |status| OpenError::Ended { status, said }));
            }
            () = idle_for_long(&home) => return Err(OpenError::Late),
        };
        self.note(&process, listener).await;
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
        let answered = async {
            probe.sender.send(r#"{"id":0,"method":"thread/loaded/list","params":{}}"#).await.ok()?;
            probe.receiver.next().await?.ok()
        };
        match tokio::time::timeout(PROBE_DEADLINE, answered).await {
            Ok(Some(_)) => Ok(probe),
            _ => Err(OpenError::Silent),
        }
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests;
