//! An app-server that somebody else runs, at an address that a person named.
//!
//! Nothing is looked for and nothing is started: `ws://` on this machine's loopback or a unix socket ([`Address`]), with
//! what lets the agent in there ([`Credential`]). The server is not the agent's. It is never ended and never started anew; while it is
//! away that is said, and it is tried again, later and later.
//!
//! One task supervises, as that of [`super::app_server`] does for a server that was joined: a connection of its own stays open, the
//! *probe*, whose end is the server's end. Before, another one asks who it is (`introduction`): what a person names may be
//! anything.
//!
//! A port of loopback is anybody's who takes it first. Where the system tells whose program took a connection, nothing is said to
//! that of another user (`platform::loopback`).

mod address;
mod credential;
mod introduction;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use reachback_proto::words::{quote, shell_word};
use ring::rand::SystemRandom;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::process::install;
use super::pulse::{Pulse, Sign};
use super::remote_control::redirect::is_same;
use super::supervision::{HEALTHY, RESTARTS, is_answered, ready, reason, stopped};
use super::{
    Adapter, Allowance, CONNECT_PATIENCE, CodexBackend, CodexConnection, CodexState, ConnectError, HandshakeError,
    Instance, Silence, StartedBy, ws,
};
use crate::backoff::{Backoff, BackoffConfig};
use crate::platform::loopback;
use crate::platform::socket::{self, SocketError};
use crate::state::timestamp::Timestamp;

use address::Place;
pub use address::{Address, AddressError};
pub use credential::{Credential, CredentialError};
use introduction::{Server, Stranger, introduce};

/// A port of loopback is reached at once or not at all, unless its queue is full.
const REACHED: Duration = Duration::from_secs(5);

/// A program takes a connection within moments; one that is stopped does not.
const TAKEN: Duration = Duration::from_secs(10);

/// Between two looks whether one has.
const TAKEN_POLL: Duration = Duration::from_millis(2);

/// Which server to attach to, and by what.
#[derive(Debug, Clone)]
pub struct AttachConfig {
    /// Where it listens.
    pub address: Address,
    /// What lets the agent in.
    pub credential: Credential,
    /// The `CODEX_HOME` from which devices are kept away, which has to be the server's; `None` where there is none.
    pub codex_home: Option<PathBuf>,
    /// How long the server may be silent.
    pub silence: Silence,
    /// Between two tries while it is away.
    pub retries: BackoffConfig,
}

impl AttachConfig {
    /// Usual times.
    pub fn new(address: Address, credential: Credential, codex_home: Option<PathBuf>) -> Self {
        Self { address, credential, codex_home, silence: Silence::default(), retries: RESTARTS }
    }
}

/// Why a server can't be attached to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
enum OpenError {
    #[error("nobody listens on {address}")]
    NotListening { address: Address },
    #[error("can't connect to {address}")]
    Connect { address: Address, source: std::io::Error },
    #[error("the program that listens on {address} runs as uid {owner}, not as this user: nothing was said to it")]
    Foreign { address: Address, owner: u32 },
    #[error("no program takes what is connected to {address}: nothing was said to it")]
    NotTaken { address: Address },
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error(transparent)]
    Credential(#[from] CredentialError),
    #[error("what listens on {address} does not let the agent in (HTTP status {status}): {}", let_in(*.has_credential))]
    NotLetIn { address: Address, status: u16, has_credential: bool },
    #[error("what listens on {address} is no app-server of codex")]
    NotCodex { address: Address, source: Option<HandshakeError> },
    #[error("codex listens on {address}, but does not answer")]
    Silent { address: Address },
    #[error("the codex at {address} has too much to do")]
    Overloaded { address: Address },
    #[error("the codex at {address} is version {version}, older than what this agent knows how to guard")]
    TooOld { address: Address, version: String },
    #[error(
        "the codex at {address} has its state in {}, which is not the folder that devices are kept away from{}",
        quote(home.display()), wanted.as_ref().map(|wanted| format!(" ({})", quote(wanted.display()))).unwrap_or_default()
    )]
    OtherHome { address: Address, home: PathBuf, wanted: Option<PathBuf> },
    #[error("the operating system gave no randomness")]
    NoRandomness,
}

fn let_in(has_credential: bool) -> &'static str {
    if has_credential { "it takes another token, secret, issuer or audience" } else { "it wants a token" }
}

impl OpenError {
    /// What a person can do about it.
    fn fix(&self) -> Option<String> {
        Some(match self {
            Self::NotListening { address } => {
                format!("start it: codex app-server --listen {}; it is tried again by itself", shell_word(address))
            }
            Self::Socket(SocketError::NotListening { path }) => {
                let address = format!("unix://{}", path.display());
                format!("start it: codex app-server --listen {}; it is tried again by itself", shell_word(address))
            }
            Self::Socket(_) => "name a socket of this user's or of root's".to_owned(),
            Self::Foreign { .. } => {
                "see who it is (ss -ltnp), and have your app-server listen on another port, or on a unix socket".to_owned()
            }
            Self::Credential(error) => error.fix(),
            Self::NotLetIn { has_credential: false, .. } => {
                "name the file that it was started with: --attach-token-file FILE or --attach-secret-file FILE".to_owned()
            }
            Self::NotLetIn { has_credential: true, .. } => {
                "name what it was started with: --ws-token-file goes with --attach-token-file; --ws-shared-secret-file, --ws-issuer and \
                 --ws-audience with --attach-secret-file, --attach-issuer and --attach-audience"
                    .to_owned()
            }
            Self::NotCodex { .. } => {
                "give the address of an app-server: codex app-server --listen says it when it starts".to_owned()
            }
            Self::Silent { .. } | Self::NotTaken { .. } => "restart the codex that listens there".to_owned(),
            Self::Overloaded { .. } => "wait: it is tried again by itself".to_owned(),
            Self::TooOld { .. } => {
                format!("update it, and start it anew: {}; or have the agent start one: --codex app-server", install())
            }
            Self::OtherHome { home, .. } => format!(
                "if that is a folder of this machine, start the agent with --codex-home {}",
                shell_word(home.display())
            ),
            Self::Connect { .. } | Self::NoRandomness => return None,
        })
    }
}

/// The [`CodexBackend`] for an app-server that somebody else runs.
#[derive(Debug)]
pub struct Attach {
    reach: Reach,
    state: watch::Receiver<CodexState>,
    stop: CancellationToken,
    _supervisor: AbortOnDropHandle<()>,
}

impl Attach {
    /// Begins to try the address. Needs a tokio runtime.
    pub fn start(config: AttachConfig) -> Self {
        Self::start_trusting(config, loopback::is_trusted)
    }

    /// The same, where `trusts` says whose program has the other end of a connection.
    fn start_trusting(config: AttachConfig, trusts: Trusts) -> Self {
        let (sender, state) = watch::channel(CodexState::Starting);
        let stop = CancellationToken::new();
        let reach = Reach { address: config.address.clone(), credential: config.credential.clone(), trusts };
        let supervisor =
            Supervisor { config, reach: reach.clone(), state: sender, stop: stop.clone(), rng: SystemRandom::new() };
        let _supervisor = AbortOnDropHandle::new(tokio::spawn(supervisor.run()));
        Self { reach, state, stop, _supervisor }
    }

    async fn open(&self, allowance: Allowance) -> Result<CodexConnection, ConnectError> {
        let mut state = self.state.clone();
        let instance = timeout(CONNECT_PATIENCE, ready(&mut state)).await.map_err(|_| ConnectError::Starting)??;
        let connection = self.reach.connect(instance, allowance).await.map_err(connect_error)?;
        // An address does not say which run answered.
        match &*self.state.borrow() {
            CodexState::Ready { instance: now, .. } if *now == instance => Ok(connection),
            _ => Err(ConnectError::Restarted),
        }
    }
}

impl CodexBackend for Attach {
    fn adapter(&self) -> Adapter {
        Adapter::Attach
    }

    fn address(&self) -> Option<String> {
        Some(self.reach.address.to_string())
    }

    fn state(&self) -> watch::Receiver<CodexState> {
        self.state.clone()
    }

    fn connect(&self, allowance: Allowance) -> BoxFuture<'_, Result<CodexConnection, ConnectError>> {
        self.open(allowance).boxed()
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        stopped(&self.stop, &self.state).boxed()
    }
}

fn connect_error(error: OpenError) -> ConnectError {
    match error {
        // The supervisor is about to notice.
        OpenError::NotListening { .. } | OpenError::Socket(SocketError::NotListening { .. }) => ConnectError::Restarted,
        error => ConnectError::Failed { reason: reason(&error), fix: error.fix() },
    }
}

/// Whether the program at the far end of a connection on loopback, which goes from here to there, is one to talk to; `None`
/// while there is none.
type Trusts = fn(SocketAddr, SocketAddr) -> Option<Result<(), u32>>;

/// The way to a server.
#[derive(Debug, Clone)]
struct Reach {
    address: Address,
    credential: Credential,
    trusts: Trusts,
}

impl Reach {
    /// One connection, on which nothing was said yet.
    async fn connect(&self, instance: Instance, allowance: Allowance) -> Result<CodexConnection, OpenError> {
        let opened = match self.address.place() {
            Place::Unix(path) => {
                let stream = socket::connect_named(path).await?;
                ws::connect_with(stream, instance, allowance, None).await
            }
            Place::Tcp(addresses) => {
                // First, so that nobody is disturbed for nothing.
                let bearer = self.credential.bearer(Timestamp::now())?;
                let stream = self.tcp(addresses).await?;
                let authorization = bearer.map(|bearer| bearer.header());
                ws::connect_with(stream, instance, allowance, authorization).await
            }
        };
        opened.map_err(|error| self.not_opened(error))
    }

    /// A connection that a program of this user, or of root, has taken.
    async fn tcp(&self, addresses: &[SocketAddr]) -> Result<TcpStream, OpenError> {
        let address = || self.address.clone();
        let late = || std::io::Error::from(std::io::ErrorKind::TimedOut);
        let connected = timeout(REACHED, TcpStream::connect(addresses)).await.unwrap_or_else(|_| Err(late()));
        let stream = connected.map_err(|source| match source.kind() {
            std::io::ErrorKind::ConnectionRefused => OpenError::NotListening { address: address() },
            _ => OpenError::Connect { address: address(), source },
        })?;
        let ends = stream.local_addr().and_then(|ours| Ok((ours, stream.peer_addr()?)));
        let (ours, theirs) = ends.map_err(|source| OpenError::Connect { address: address(), source })?;
        // Each piece of text is a message of its own.
        stream.set_nodelay(true).map_err(|source| OpenError::Connect { address: address(), source })?;
        let taken = async {
            loop {
                match (self.trusts)(ours, theirs) {
                    Some(trusted) => return trusted,
                    None => sleep(TAKEN_POLL).await,
                }
            }
        };
        match timeout(TAKEN, taken).await {
            Ok(Ok(())) => Ok(stream),
            Ok(Err(owner)) => Err(OpenError::Foreign { address: address(), owner }),
            Err(_) => Err(OpenError::NotTaken { address: address() }),
        }
    }

    fn not_opened(&self, error: HandshakeError) -> OpenError {
        let address = self.address.clone();
        match error {
            HandshakeError::TimedOut => OpenError::Silent { address },
            HandshakeError::Answered { status: status @ (401 | 403) } => {
                OpenError::NotLetIn { address, status, has_credential: self.credential != Credential::None }
            }
            error => OpenError::NotCodex { address, source: Some(error) },
        }
    }
}

struct Supervisor {
    config: AttachConfig,
    reach: Reach,
    state: watch::Sender<CodexState>,
    stop: CancellationToken,
    rng: SystemRandom,
}

impl Supervisor {
    async fn run(self) {
        let mut backoff = Backoff::new(self.config.retries);
        while !self.stop.is_cancelled() {
            let opened = tokio::select! {
                () = self.stop.cancelled() => break,
                opened = self.attach() => opened,
            };
            match opened {
                Ok((probe, server)) => {
                    let since = Instant::now();
                    self.serve(probe, server).await;
                    if since.elapsed() >= HEALTHY {
                        backoff.reset();
                    }
                }
                Err(error) => {
                    let (reason, fix) = (reason(&error), error.fix());
                    self.failed(reason, fix);
                }
            }
            let delay = backoff.delay(&self.rng, false);
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = sleep(delay) => {}
            }
        }
        self.state.send_replace(CodexState::Stopped);
    }

    /// Says it, once for as long as it stays so: a server that is away is tried again for ever.
    fn failed(&self, reason: String, fix: Option<String>) {
        let failed = CodexState::Failed { reason, fix, code: None };
        self.state.send_if_modified(|state| {
            let is_news = *state != failed;
            if is_news && let CodexState::Failed { reason, fix, .. } = &failed {
                tracing::warn!(adapter = %Adapter::Attach, reason, fix, "no codex is attached to");
                *state = failed;
            }
            is_news
        });
    }

    /// A probe, and what its server is.
    async fn attach(&self) -> Result<(CodexConnection, Server), OpenError> {
        let instance = Instance::random(&self.rng).ok_or(OpenError::NoRandomness)?;
        let address = self.reach.address.clone();
        let asking = self.reach.connect(instance, Allowance::default()).await?;
        let server = introduce(asking).await.map_err(|stranger| match stranger {
            Stranger::Silent => OpenError::Silent { address: address.clone() },
            Stranger::Overloaded => OpenError::Overloaded { address: address.clone() },
            Stranger::NotCodex => OpenError::NotCodex { address: address.clone(), source: None },
            Stranger::TooOld { version } => OpenError::TooOld { address: address.clone(), version },
        })?;
        let wanted = &self.config.codex_home;
        if !wanted.as_ref().is_some_and(|wanted| is_same(wanted, &server.home)) {
            return Err(OpenError::OtherHome { address, home: server.home, wanted: wanted.clone() });
        }
        let mut probe = self.reach.connect(instance, Allowance::default()).await?;
        if is_answered(&mut probe).await { Ok((probe, server)) } else { Err(OpenError::Silent { address }) }
    }

    /// Says that the server is ready, and returns when it has ended or we stop.
    async fn serve(&self, mut probe: CodexConnection, server: Server) {
        let (address, instance) = (&self.reach.address, probe.instance);
        tracing::info!(adapter = %Adapter::Attach, %address, version = server.version, %instance, "codex is ready");
        let ready = CodexState::Ready { version: server.version, started_by: StartedBy::Others, instance };
        self.state.send_replace(ready.clone());
        let mut pulse = Pulse::new(self.config.silence, StartedBy::Others);
        loop {
            let sign = tokio::select! {
                () = self.stop.cancelled() => return,
                sign = pulse.sign(&mut probe) => sign,
            };
            match sign {
                Sign::Answers => {
                    tracing::info!(%instance, "codex answers again");
                    self.state.send_replace(ready.clone());
                }
                Sign::Silent => {
                    let silent = OpenError::Silent { address: address.clone() };
                    self.failed(silent.to_string(), silent.fix());
                }
                Sign::Gone | Sign::Dead => {
                    tracing::warn!(adapter = %Adapter::Attach, %address, %instance, "codex ended");
                    self.state.send_replace(CodexState::Starting);
                    return;
                }
            }
        }
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests;
