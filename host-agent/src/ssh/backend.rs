//! Codex on a machine that is reached over SSH.
//!
//! One connection to the machine carries all clients, each on a channel of its own that leads to the app-server's socket there.
//! It is made when somebody wants it, made again when it is lost, and let go when it has [rested](SshBackend::rest): the server,
//! and what runs in it, outlives it. A server that runs there is joined; where there is none, one is started, which goes on until
//! the owner ends it (`reachback ssh stop`).
//!
//! ```text
//! client ── WebSocket ── SSH channel ─┐
//! client ── WebSocket ── SSH channel ─┴─ Connection ── sshd ── socket ── app-server
//! ```

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use reachback_proto::words::quote;
use ring::rand::SystemRandom;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::bootstrap::{BootstrapError, Inspection};
use super::connection::{ConnectError as NoConnection, Connection};
use super::discovery::Discovery;
use super::disk::SshDisk;
use super::person::{Nobody, Person};
use super::sftp::{Sftp, SftpError};
use super::shell::RunError;
use super::trouble::{Memory, Trouble};
use crate::backoff::{Backoff, BackoffConfig};
use crate::codex::{
    Adapter, Allowance, CONNECT_PATIENCE, CodexBackend, CodexConnection, CodexState, ConnectError, FailureCode,
    HandshakeError, Instance, Pulse, STARTED_ANEW, Sign, Silence, StartedBy, connect_over, is_answered, ready,
};
use crate::disk::Disk;

/// Between tries to get a lost connection back. A laptop that wakes up should not wait for long.
const TRIES: BackoffConfig = BackoffConfig { first: Duration::from_millis(250), max: Duration::from_secs(30) };
/// The longest wait after a connection that was had and lost on the way: devices wait for it.
const HAD: Duration = Duration::from_millis(500);
/// A connection that held for so long was a good one: the next failure is a first one.
const HEALTHY: Duration = Duration::from_secs(60);
/// How long a machine that was never reached is tried after somebody wanted it.
const TRIED_FOR: Duration = Duration::from_secs(120);
/// How long the owner waits for Codex on a machine that let them in: two looks, and a start.
const TAKEN: Duration = Duration::from_secs(90);
/// How long a machine may take to say that it is there.
const PROBED: Duration = Duration::from_secs(5);
/// How long a machine may take to hear that it is left.
const FAREWELL: Duration = Duration::from_secs(2);

/// There is no server to be reached on the machine.
#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error("{} is named no more in the SSH configuration of this host", quote(alias))]
    NotNamed { alias: String },
    #[error(transparent)]
    Connection(#[from] Box<NoConnection>),
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error("codex listens on its control socket there, but does not answer")]
    Silent,
    #[error("the operating system gave no randomness")]
    NoRandomness,
}

impl OpenError {
    /// What a person can do about it.
    fn fix(&self, alias: &str) -> Option<String> {
        match self {
            Self::NotNamed { .. } => {
                Some(format!("name it there again, or take it back: reachback ssh remove {alias}"))
            }
            Self::Connection(error) => Some(error.fix(alias)),
            Self::Bootstrap(error) => Some(error.fix(alias)),
            Self::Handshake(_) | Self::Silent => {
                Some(format!("restart the codex that runs there: ssh {alias} codex app-server daemon restart"))
            }
            Self::NoRandomness => None,
        }
    }

    /// What a program can do about it.
    fn code(&self) -> Option<FailureCode> {
        match self {
            Self::Connection(error) if error.wants_second_proof() => Some(FailureCode::Login),
            _ => None,
        }
    }

    /// Whether a server listens, and does nothing.
    fn is_silence(&self) -> bool {
        matches!(self, Self::Silent | Self::Handshake(HandshakeError::TimedOut))
    }

    /// When it may be tried again.
    fn trouble(&self) -> Trouble {
        match self {
            Self::NotNamed { .. } => Trouble::Lasting,
            Self::Connection(error) => Trouble::from(&**error),
            // It was lost after it had let this computer in.
            Self::Bootstrap(BootstrapError::Run(RunError::Ended | RunError::TimedOut { .. })) => Trouble::OutOfReach,
            Self::Bootstrap(_) | Self::Handshake(_) | Self::Silent | Self::NoRandomness => Trouble::Passing,
        }
    }
}

/// The [`CodexBackend`] for a machine of the SSH configuration. Dropping it closes the connection.
pub struct SshBackend {
    shared: Arc<Shared>,
    disk: Arc<SshDisk>,
    state: watch::Receiver<CodexState>,
    _supervisor: AbortOnDropHandle<()>,
}

pub(super) struct Shared {
    alias: String,
    state: watch::Sender<CodexState>,
    link: Mutex<Option<Arc<Link>>>,
    /// Somebody wants a connection.
    wanted: Notify,
    /// Nobody needs it any more.
    rests: Notify,
    /// The way there may be gone.
    probes: Notify,
    /// A connection that the owner made, to be taken in place of the next one.
    made: Mutex<Option<Connection>>,
    /// When somebody wanted one last.
    last_wanted: Mutex<Instant>,
    memory: Mutex<Memory>,
    /// The same of logins that a device wanted, and was asked for.
    logins: Mutex<Memory>,
    /// Each client holds one of these.
    clients: Arc<()>,
    stop: CancellationToken,
}

/// A connection to the machine, and what was found there.
pub(super) struct Link {
    connection: Connection,
    pub(super) found: Inspection,
    pub(super) instance: Instance,
    sftp: tokio::sync::Mutex<Option<Arc<Sftp>>>,
}

impl Link {
    fn new(connection: Connection, found: Inspection, instance: Instance) -> Self {
        Self { connection, found, instance, sftp: tokio::sync::Mutex::default() }
    }

    /// The machine's files, over a session that all share.
    pub(super) async fn sftp(&self) -> Result<Arc<Sftp>, SftpError> {
        let mut sftp = self.sftp.lock().await;
        if let Some(sftp) = &*sftp {
            return Ok(Arc::clone(sftp));
        }
        Ok(Arc::clone(sftp.insert(Arc::new(self.connection.sftp().await?))))
    }

    /// Ends that session: the next one to look opens another.
    pub(super) async fn end_sftp(&self) {
        self.sftp.lock().await.take();
    }
}

/// How a connection came to its end.
enum End {
    /// The way there is gone.
    Lost,
    /// The way is there, the server is not.
    Gone,
    /// The same, as one that was started from here has not answered for long.
    Dead,
    Rested,
    Stopped,
}

impl std::fmt::Debug for SshBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SshBackend").field("alias", &self.shared.alias).finish_non_exhaustive()
    }
}

impl SshBackend {
    /// For the machine that the configuration calls `alias`; connects to nothing yet. A server that is started there has these
    /// `settings` (`codex -c`), and is ended by `silence`. Needs a tokio runtime.
    pub fn new(discovery: Arc<Discovery>, alias: &str, settings: Vec<String>, silence: Silence) -> Self {
        let (sender, state) = watch::channel(CodexState::Idle);
        let shared = Arc::new(Shared {
            alias: alias.to_owned(),
            state: sender,
            link: Mutex::default(),
            wanted: Notify::new(),
            rests: Notify::new(),
            probes: Notify::new(),
            made: Mutex::default(),
            last_wanted: Mutex::new(Instant::now()),
            memory: Mutex::default(),
            logins: Mutex::default(),
            clients: Arc::default(),
            stop: CancellationToken::new(),
        });
        let disk = Arc::new(SshDisk::new(Arc::clone(&shared)));
        let supervisor = Supervisor {
            discovery,
            settings,
            silence,
            shared: Arc::clone(&shared),
            disk: Arc::clone(&disk),
            rng: SystemRandom::new(),
        };
        Self { shared, disk, state, _supervisor: AbortOnDropHandle::new(tokio::spawn(supervisor.run())) }
    }

    /// The machine's folders.
    pub fn disk(&self) -> Arc<SshDisk> {
        Arc::clone(&self.disk)
    }

    /// Goes on with a connection that the owner made, where there is none; waits until Codex can be reached over it, or why not.
    pub async fn take(&self, connection: Connection) -> Result<(), ConnectError> {
        if self.is_connected() {
            let _ = timeout(FAREWELL, connection.close()).await;
            return Ok(());
        }
        *lock(&self.shared.made) = Some(connection);
        let _cleared = Cleared(&self.shared.made);
        let mut state = self.state.clone();
        let taken = async {
            loop {
                self.shared.try_now();
                let ready = ready(&mut state).await;
                // A try that was under way has failed.
                if ready.is_ok() || lock(&self.shared.made).is_none() {
                    return ready.map(drop);
                }
            }
        };
        timeout(TAKEN, taken).await.unwrap_or(Err(ConnectError::Starting))
    }

    /// Whether it is connected.
    pub fn is_connected(&self) -> bool {
        self.shared.link().is_some_and(|link| !link.connection.is_closed())
    }

    /// A login that a device wants; or how long it has to wait, as the last one has failed. What becomes of it is told to what
    /// this gives, and counts as a login that was refused where nothing is.
    pub fn begin_login(&self) -> Result<LoginAttempt, Duration> {
        match self.login_waits() {
            Some(left) => Err(left),
            None => Ok(LoginAttempt { shared: Arc::clone(&self.shared), trouble: Some(Trouble::Login) }),
        }
    }

    /// How long it takes until a device may have one, where the last one has failed.
    pub fn login_waits(&self) -> Option<Duration> {
        lock(&self.shared.logins).told_for(Instant::now())
    }

    /// How many clients are connected, the agent's own among them.
    pub fn clients(&self) -> usize {
        Arc::strong_count(&self.shared.clients) - 1
    }

    /// How long ago somebody wanted a connection last.
    pub fn unwanted_for(&self) -> Duration {
        lock(&self.shared.last_wanted).elapsed()
    }

    /// Closes the connection until somebody wants it again.
    pub fn rest(&self) {
        self.shared.rests.notify_waiters();
    }

    /// Has the machine say that it is there, where it is connected: one that does not within seconds is connected anew. Where it
    /// waits to be tried again, it is tried at once.
    ///
    /// For when this computer slept, or its network may be another one: then nobody says that a connection is gone.
    pub fn probe(&self) {
        self.shared.probes.notify_one();
    }

    async fn open(&self, allowance: Allowance) -> Result<CodexConnection, ConnectError> {
        let opening = async {
            let mut state = self.state.clone();
            loop {
                // Each time: it may have been let go meanwhile.
                self.shared.want();
                let instance = ready(&mut state).await?;
                let link = lock(&self.shared.link).clone().filter(|link| link.instance == instance);
                if let Some(link) = link {
                    match self.open_over(&link, allowance.clone()).await {
                        // It is made anew, which is waited for.
                        Err(_) if link.connection.is_closed() => {}
                        opened => return opened,
                    }
                }
                let is_another =
                    |state: &CodexState| !matches!(state, CodexState::Ready { instance: now, .. } if *now == instance);
                state.wait_for(is_another).await.map_err(|_| ConnectError::Stopped)?;
            }
        };
        timeout(CONNECT_PATIENCE, opening).await.unwrap_or(Err(ConnectError::Starting))
    }

    async fn open_over(&self, link: &Link, allowance: Allowance) -> Result<CodexConnection, ConnectError> {
        let (stream, _) = link.connection.open_server(&link.found).await.map_err(|error| {
            let fix = Some(error.fix(&self.shared.alias));
            ConnectError::Failed { reason: error.to_string(), fix }
        })?;
        let connection = connect_over(stream, link.instance, allowance).await?;
        Ok(connection.holding(Arc::clone(&self.shared.clients)))
    }
}

/// A login that a device wants, until it has come to something.
#[derive(Debug)]
pub struct LoginAttempt {
    shared: Arc<Shared>,
    trouble: Option<Trouble>,
}

impl LoginAttempt {
    /// It was refused, or did not get there.
    pub fn failed(mut self, error: &NoConnection) {
        self.trouble = Some(Trouble::from(error));
    }

    /// The machine has let this host in.
    pub fn succeeded(mut self) {
        self.trouble = None;
    }
}

impl Drop for LoginAttempt {
    fn drop(&mut self) {
        let Some(trouble) = self.trouble else { return };
        let now = Instant::now();
        lock(&self.shared.logins).failed(trouble, now);
        // The machine counts the agent's own together with these.
        if trouble == Trouble::Login {
            lock(&self.shared.memory).failed(trouble, now);
        }
    }
}

/// What takes back what was not taken.
struct Cleared<'a>(&'a Mutex<Option<Connection>>);

impl Drop for Cleared<'_> {
    fn drop(&mut self) {
        lock(self.0).take();
    }
}

impl CodexBackend for SshBackend {
    fn adapter(&self) -> Adapter {
        Adapter::Ssh
    }

    fn state(&self) -> watch::Receiver<CodexState> {
        self.state.clone()
    }

    fn connect(&self, allowance: Allowance) -> BoxFuture<'_, Result<CodexConnection, ConnectError>> {
        self.open(allowance).boxed()
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        async {
            self.shared.stop.cancel();
            // An error says that the supervisor is gone.
            let _ = self.state.clone().wait_for(|state| matches!(state, CodexState::Stopped)).await;
        }
        .boxed()
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("alias", &self.alias).finish_non_exhaustive()
    }
}

impl Shared {
    /// What the machine is called.
    pub(super) fn alias(&self) -> &str {
        &self.alias
    }

    /// The connection, while there is one.
    pub(super) fn link(&self) -> Option<Arc<Link>> {
        lock(&self.link).clone()
    }

    /// Connects to the machine, where it is not connected.
    pub(super) async fn reach(&self) -> Result<(), ConnectError> {
        self.want();
        let mut state = self.state.subscribe();
        timeout(CONNECT_PATIENCE, ready(&mut state)).await.unwrap_or(Err(ConnectError::Starting)).map(drop)
    }

    /// Has the machine tried, where it is not connected.
    fn want(&self) {
        let is_told_again = lock(&self.memory).tells(Instant::now());
        self.begin(!is_told_again);
    }

    /// The same, whatever is told of the last failure.
    fn try_now(&self) {
        self.begin(true);
    }

    /// Has it tried where it rests, and `also_failed` where it has failed.
    fn begin(&self, also_failed: bool) {
        *lock(&self.last_wanted) = Instant::now();
        // What has failed is a server, which is asked whether it answers again.
        if self.link().is_some() {
            return;
        }
        let begins = self.state.send_if_modified(|state| {
            let begins =
                matches!(state, CodexState::Idle) || (matches!(state, CodexState::Failed { .. }) && also_failed);
            if begins {
                *state = CodexState::Starting;
            }
            begins
        });
        if begins {
            self.wanted.notify_one();
        }
    }
}

struct Supervisor {
    discovery: Arc<Discovery>,
    settings: Vec<String>,
    silence: Silence,
    shared: Arc<Shared>,
    disk: Arc<SshDisk>,
    rng: SystemRandom,
}

impl Supervisor {
    async fn run(self) {
        let shared = &self.shared;
        loop {
            tokio::select! {
                () = shared.stop.cancelled() => break,
                () = shared.wanted.notified() => {}
            }
            // What was wanted while it was tried has its answer.
            if matches!(*shared.state.borrow(), CodexState::Failed { .. }) {
                continue;
            }
            match self.hold().await {
                End::Rested => {
                    shared.state.send_replace(CodexState::Idle);
                }
                // It stays failed until somebody wants it, see [`super::trouble`].
                End::Lost | End::Gone | End::Dead => {}
                End::Stopped => break,
            }
        }
        shared.state.send_replace(CodexState::Stopped);
    }

    /// Keeps a connection there: until nobody needs it, or it can't be had.
    async fn hold(&self) -> End {
        let shared = &self.shared;
        let mut backoff = Backoff::new(TRIES);
        let mut before = None;
        loop {
            let opened = tokio::select! {
                () = shared.stop.cancelled() => return End::Stopped,
                opened = self.open(before.as_ref()) => opened,
            };
            let mut most = TRIES.max;
            match opened {
                Ok((link, probe)) => {
                    before = Some(link.found.clone());
                    let since = Instant::now();
                    match self.serve(link, probe).await {
                        End::Lost | End::Gone | End::Dead if since.elapsed() >= HEALTHY => backoff.reset(),
                        End::Lost => most = HAD,
                        End::Gone | End::Dead => {}
                        end => return end,
                    }
                }
                Err(error) => {
                    let (reason, fix, trouble) = (error.to_string(), error.fix(&shared.alias), error.trouble());
                    let code = error.code();
                    tracing::warn!(alias = shared.alias, reason, fix, "an SSH host is out of reach");
                    lock(&shared.memory).failed(trouble, Instant::now());
                    shared.state.send_replace(CodexState::Failed { reason, fix, code });
                    let is_wanted = before.is_some() || lock(&shared.last_wanted).elapsed() <= TRIED_FOR;
                    if trouble != Trouble::OutOfReach || !is_wanted {
                        return End::Lost;
                    }
                }
            }
            tokio::select! {
                () = shared.stop.cancelled() => return End::Stopped,
                () = shared.wanted.notified() => {}
                () = shared.rests.notified() => return End::Rested,
                () = shared.probes.notified() => {}
                () = sleep(backoff.delay(&self.rng, false).min(most)) => {}
            }
        }
    }

    /// Connects, and finds the server there, or starts one. One that was there `before` is joined where nothing has changed.
    async fn open(&self, before: Option<&Inspection>) -> Result<(Link, CodexConnection), OpenError> {
        let alias = &self.shared.alias;
        let made = lock(&self.shared.made).take();
        let connection = match made {
            Some(made) => made,
            None => {
                let nobody: Arc<dyn Person> = Arc::new(Nobody);
                let connection = self.discovery.connect(alias, &nobody).await.map_err(Box::new)?;
                connection.ok_or_else(|| OpenError::NotNamed { alias: alias.clone() })?
            }
        };
        if let Some(found) = before
            && connection.is_as_before(found).await
            && let Ok((instance, probe)) = self.join(&connection, found).await
        {
            return Ok((Link::new(connection, found.clone(), instance), probe));
        }
        let mut found = connection.inspect().await?;
        if found.is_listening {
            match self.join(&connection, &found).await {
                Err(error) if error.is_silence() && found.is_ours() => end_there(&connection, alias).await?,
                joined => {
                    let (instance, probe) = joined?;
                    return Ok((Link::new(connection, found, instance), probe));
                }
            }
        }
        found = connection.start(&found, &self.settings).await?.found;
        let (instance, probe) = self.join(&connection, &found).await?;
        Ok((Link::new(connection, found, instance), probe))
    }

    /// A first client of the server that was found.
    async fn join(&self, there: &Connection, found: &Inspection) -> Result<(Instance, CodexConnection), OpenError> {
        let instance = Instance::random(&self.rng).ok_or(OpenError::NoRandomness)?;
        let (stream, _) = there.open_server(found).await?;
        let mut probe = connect_over(stream, instance, Allowance::default()).await?;
        if !is_answered(&mut probe).await {
            return Err(OpenError::Silent);
        }
        Ok((instance, probe))
    }

    /// Says that the server is ready, and returns when it can't be reached any more, or need not.
    async fn serve(&self, link: Link, mut probe: CodexConnection) -> End {
        let shared = &self.shared;
        let (version, instance) = (link.found.version.clone(), link.instance);
        let link = Arc::new(link);
        *lock(&shared.link) = Some(Arc::clone(&link));
        lock(&shared.memory).clear();
        lock(&shared.logins).clear();
        self.disk.look(Vec::new()).await;
        let started_by = if link.found.is_ours() { StartedBy::Agent } else { StartedBy::Others };
        tracing::info!(adapter = %Adapter::Ssh, alias = shared.alias, %started_by, version, %instance, "codex is ready");
        let ready = CodexState::Ready { version, started_by, instance };
        shared.state.send_replace(ready.clone());
        let end = tokio::select! {
            () = shared.stop.cancelled() => End::Stopped,
            () = shared.rests.notified() => End::Rested,
            () = link.connection.closed() => End::Lost,
            () = self.unanswered(&link.connection) => End::Lost,
            end = self.attend(&mut probe, &ready, (started_by, &link.connection)) => if link.connection.is_closed() { End::Lost } else { end },
        };
        lock(&shared.link).take();
        if matches!(end, End::Lost | End::Gone | End::Dead) {
            tracing::info!(adapter = %Adapter::Ssh, alias = shared.alias, %instance, "codex is out of reach");
            shared.state.send_replace(CodexState::Starting);
        }
        if matches!(end, End::Dead) {
            // Why it can't be ended is told when it is found again.
            let _ = end_there(&link.connection, &shared.alias).await;
        }
        if matches!(end, End::Lost) {
            link.connection.cut();
        } else {
            let _ = timeout(FAREWELL, link.connection.close()).await;
        }
        end
    }

    /// Returns once the machine was asked for a word, because the way there may be gone, and said none.
    async fn unanswered(&self, connection: &Connection) {
        loop {
            self.shared.probes.notified().await;
            if !connection.answers(PROBED).await {
                return;
            }
        }
    }

    /// Says when the server falls silent and when it answers again; how it, or the way there, came to its end.
    async fn attend(
        &self,
        probe: &mut CodexConnection,
        ready: &CodexState,
        (started_by, there): (StartedBy, &Connection),
    ) -> End {
        let shared = &self.shared;
        let mut pulse = Pulse::new(self.silence, started_by);
        loop {
            let sign = pulse.sign(probe).await;
            // A server is silent, too, where the machine is out of reach and nobody has said so.
            if matches!(sign, Sign::Silent | Sign::Dead) && !there.answers(PROBED).await {
                return End::Lost;
            }
            match sign {
                Sign::Answers => {
                    tracing::info!(alias = shared.alias, "codex answers again");
                    shared.state.send_replace(ready.clone());
                }
                Sign::Silent => {
                    tracing::warn!(adapter = %Adapter::Ssh, alias = shared.alias, %started_by, "codex does not answer");
                    let fix = match started_by {
                        StartedBy::Agent => Some(STARTED_ANEW.to_owned()),
                        StartedBy::Others => OpenError::Silent.fix(&shared.alias),
                    };
                    let reason = OpenError::Silent.to_string();
                    shared.state.send_replace(CodexState::Failed { reason, fix, code: None });
                }
                Sign::Gone => return End::Gone,
                Sign::Dead => return End::Dead,
            }
        }
    }
}

/// Ends a server of Reachback's own that does not answer.
async fn end_there(connection: &Connection, alias: &str) -> Result<(), BootstrapError> {
    tracing::warn!(adapter = %Adapter::Ssh, alias, "codex does not answer: it is ended");
    connection.stop().await.map(drop)
}

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
