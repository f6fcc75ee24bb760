//! A connection to a machine, through all machines on the way there.
//!
//! The SSH library speaks the protocol; here stands what it is told: the way, the
//! keys by which machines are known, who one is, and that a machine gets nothing
//! of this one. It can't open a channel to here, and no agent is forwarded.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reachback_proto::words::{quote, shell_word};
use russh::Disconnect;
use russh::client::{self, Handle};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::algorithms::{self, Demands};
use super::carrier::Carrier;
use super::cut::Cuttable;
use super::host_key::{Guard, GuardError, HostKeyError, Outcome};
use super::identities::{self, AuthError, Own};
use super::known_hosts::{HostName, KnownHosts, KnownHostsError};
use super::options::{self, Position, Refusal};
use super::settings::Settings;
use super::way::{Hop, WayError, expand};
use crate::link::dial::{self, DialError};
use crate::platform::processes::Group;
use crate::platform::programs;

/// How long a machine may take to be reached and to show its key, where the configuration has no `ConnectTimeout`.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long it may take to let one in, without the time in which a person types.
const AUTH_PATIENCE: Duration = Duration::from_secs(120);
/// The same when a person is asked whether to trust its key.
const TRUST_PATIENCE: Duration = Duration::from_secs(120);
/// A link without a word for so long is asked for one, where the configuration has no `ServerAliveInterval`.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// Room for what is under way on a channel, in bytes.
const WINDOW: u32 = 1 << 20;

/// There is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Nobody knows how to get there.
    #[error(transparent)]
    Way(#[from] WayError),
    /// The machine does not answer.
    #[error("{} can't be reached: {source}", quote(machine))]
    Dial {
        /// Its name in the configuration.
        machine: String,
        /// Why not.
        source: DialError,
    },
    /// The machine before does not pass the connection on.
    #[error("{} can't be reached through the machine before it: {reason}", quote(machine))]
    Jump {
        /// Its name in the configuration.
        machine: String,
        /// Why not.
        reason: String,
    },
    /// The command that carries the connection does not run, or does not get there.
    #[error("{} can't be reached by its ProxyCommand: {reason}", quote(machine))]
    Carrier {
        /// Its name in the configuration.
        machine: String,
        /// Why not.
        reason: String,
    },
    /// The machine may be another one than is meant.
    #[error("{}: {source}", quote(machine))]
    HostKey {
        /// Its name in the configuration.
        machine: String,
        /// Why.
        source: Box<HostKeyError>,
    },
    /// Nobody knows which keys are good.
    #[error(transparent)]
    KnownHosts(#[from] KnownHostsError),
    /// The configuration asks for something that is not done here.
    #[error("{}: its configuration has {}, {}", quote(machine), refusal.option, refusal.why)]
    Unsupported {
        /// Its name in the configuration.
        machine: String,
        /// What it asks for.
        refusal: Refusal,
    },
    /// What is there speaks no SSH that is good enough.
    #[error("{} and this computer have no common {kind} (it offers {theirs})", quote(machine))]
    Algorithms {
        /// Its name in the configuration.
        machine: String,
        /// Of what kind.
        kind: String,
        /// What it has.
        theirs: String,
    },
    /// It did not answer in time.
    #[error("{} does not speak SSH, or not within {} s", quote(machine), after.as_secs())]
    TimedOut {
        /// Its name in the configuration.
        machine: String,
        /// How long it had.
        after: Duration,
    },
    /// The connection was gone before the machine had said yes or no.
    #[error("the connection to {} was lost before it had let this computer in: {reason}", quote(machine))]
    Lost {
        /// Its name in the configuration.
        machine: String,
        /// How.
        reason: String,
    },
    /// Something else in the protocol.
    #[error("{}: {reason}", quote(machine))]
    Protocol {
        /// Its name in the configuration.
        machine: String,
        /// What.
        reason: String,
    },
    /// It does not let one in.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// It has not said in time whether it does.
    #[error("{} has not let this computer in within {} s", quote(machine), after.as_secs())]
    AuthTimedOut {
        /// Its name in the configuration.
        machine: String,
        /// How long it had.
        after: Duration,
    },
}

impl ConnectError {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Way(_) => "ssh_config",
            Self::Dial { .. }
            | Self::Jump { .. }
            | Self::Carrier { .. }
            | Self::TimedOut { .. }
            | Self::Lost { .. } => "ssh_unreachable",
            Self::HostKey { source, .. } if source.is_of_unknown() => "ssh_host_unknown",
            Self::HostKey { .. } | Self::KnownHosts(_) => "ssh_host_key",
            Self::Unsupported { .. } => "ssh_unsupported",
            Self::Algorithms { .. } | Self::Protocol { .. } => "ssh_protocol",
            Self::Auth(_) | Self::AuthTimedOut { .. } => "ssh_auth",
        }
    }

    /// Whether a machine took a key, and asks for something beside it that nobody typed.
    pub fn wants_second_proof(&self) -> bool {
        matches!(self, Self::Auth(AuthError { second_proof: true, .. }))
    }

    /// What a person can do about it.
    ///
    /// `name` is the machine that was wanted.
    pub fn fix(&self, name: &str) -> String {
        match self {
            Self::Way(_) => "see what OpenSSH makes of the name: ssh -G NAME".to_owned(),
            Self::Dial { .. }
            | Self::Jump { .. }
            | Self::Carrier { .. }
            | Self::TimedOut { .. }
            | Self::Lost { .. } => {
                format!("see whether it is on, and whether ssh reaches it from here: ssh {} true", shell_word(name))
            }
            Self::HostKey { source, .. } => match &**source {
                HostKeyError::Unknown { .. } => format!(
                    "compare the fingerprint with the machine's own, and say yes at this host's terminal: reachback ssh check {name}"
                ),
                HostKeyError::Changed { host, known, .. } => format!(
                    "ask whoever runs the machine; if its key was changed on purpose: ssh-keygen -f {} -R {}",
                    shell_word(known.file.display()),
                    shell_word(host)
                ),
                HostKeyError::Unasked { .. } => format!(
                    "compare the fingerprint with the machine's own, and add its key to known_hosts; or set StrictHostKeyChecking ask and BatchMode no for it, and say yes at this host's terminal: reachback ssh check {name}"
                ),
                HostKeyError::Small { .. } => {
                    "ask whoever runs the machine for a larger key, or one of another kind".to_owned()
                }
                _ => "ask whoever runs the machine".to_owned(),
            },
            Self::KnownHosts(error) => {
                format!("make it readable for this user: {}", shell_word(error.path.display()))
            }
            Self::Unsupported { refusal, .. } => {
                format!("{}; see what holds for it: ssh -G {}", refusal.fix, shell_word(name))
            }
            Self::Algorithms { .. } => "bring its SSH server up to date".to_owned(),
            Self::Protocol { .. } | Self::AuthTimedOut { .. } => {
                "see what ssh says, and the machine's own log".to_owned()
            }
            Self::Auth(error) => error.fix(name),
        }
    }
}

const ON_WINDOWS: Refusal = Refusal {
    option: "a ProxyCommand",
    why: "which Reachback does not run on Windows",
    fix: "reach the machine by a ProxyJump, or directly",
};
const NAME_TO_BIND: Refusal = Refusal {
    option: "BindAddress with a name in place of an address",
    why: "which Reachback does not look up",
    fix: "write the address in its place",
};
const UNKNOWN_PLACE: Refusal = Refusal {
    option: "a file in UserKnownHostsFile or GlobalKnownHostsFile whose path has a token or variable that is not known here",
    why: "so what it says of keys can't be read",
    fix: "name the file without that token or variable",
};

/// A connection to a machine. Dropping it ends it.
pub struct Connection {
    pub(super) handle: Handle<Guard>,
    /// The connections that carry it, the last one first.
    _through: Vec<Handle<Guard>>,
    about: About,
    is_windows: bool,
    ended: CancellationToken,
    /// Ends what carries all of it.
    cut: CancellationToken,
}

/// How a machine was reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// Who one is there.
    pub user: String,
    /// SHA-256 of its key.
    pub fingerprint: Option<String>,
    /// What let one in.
    pub by: String,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("about", &self.about).finish_non_exhaustive()
    }
}

impl Connection {
    /// Goes the way, machine by machine.
    pub(super) async fn open(way: &[Hop], own: Own<'_>) -> Result<Self, ConnectError> {
        // Nothing is dialled, and no command run, for a way that can't be gone to its end.
        for (place, hop) in way.iter().enumerate() {
            let at = if place == 0 { Position::First } else { Position::Behind };
            if let Some(refusal) = options::refused(&hop.settings, at) {
                return Err(ConnectError::Unsupported { machine: hop.name.clone(), refusal });
            }
        }
        let mut through: Vec<Handle<Guard>> = Vec::new();
        let (mut last, cut) = (None, CancellationToken::new());
        for hop in way {
            let reached = Opening { hop, own, cut: &cut }.open(through.last()).await?;
            through.push(reached.handle);
            last = Some((reached.about, reached.is_windows, reached.ended));
        }
        let (Some(handle), Some((about, is_windows, ended))) = (through.pop(), last) else {
            let reason = "there is no machine on the way".to_owned();
            return Err(ConnectError::Protocol { machine: String::new(), reason });
        };
        through.reverse();
        Ok(Self { handle, _through: through, about, is_windows, ended, cut })
    }

    /// Whether its SSH server says that it runs on Windows.
    pub(super) fn is_windows(&self) -> bool {
        self.is_windows
    }

    /// How it was reached.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// Whether it has ended, from whichever side.
    pub fn is_closed(&self) -> bool {
        self.ended.is_cancelled() || self.handle.is_closed()
    }

    /// Waits until it has ended. A machine that is silent is asked for a word from time to time, and given up.
    pub async fn closed(&self) {
        self.ended.cancelled().await;
    }

    /// Whether the machine says a word within `limit`, when it is asked for one.
    pub async fn answers(&self, limit: Duration) -> bool {
        matches!(tokio::time::timeout(limit, self.handle.send_ping()).await, Ok(Ok(()))) && !self.is_closed()
    }

    /// Ends it in order.
    pub async fn close(&self) {
        let _ = self.handle.disconnect(Disconnect::ByApplication, "", "en").await;
    }

    /// Ends it at once, without a word to the machine: of one that is silent there is nothing to wait for.
    pub fn cut(&self) {
        self.cut.cancel();
    }
}

/// One machine that was reached.
struct Reached {
    handle: Handle<Guard>,
    about: About,
    is_windows: bool,
    ended: CancellationToken,
}

/// One machine that is being reached.
struct Opening<'a> {
    hop: &'a Hop,
    own: Own<'a>,
    /// Of the whole way.
    cut: &'a CancellationToken,
}

impl Opening<'_> {
    async fn open(&self, before: Option<&Handle<Guard>>) -> Result<Reached, ConnectError> {
        let settings = &self.hop.settings;
        let ended = CancellationToken::new();
        let guard = self.guard(ended.clone().drop_guard())?;
        let outcome = Arc::clone(&guard.outcome);
        let config = Arc::new(self.config(&guard)?);
        let patience = settings.seconds("connecttimeout").unwrap_or(PATIENCE);
        let deadline = Instant::now() + patience;
        let handle = match before {
            Some(before) => {
                let (host, port) = (settings.host_name(), settings.port().unwrap_or_default());
                let channel = before.channel_open_direct_tcpip(host, port.into(), "127.0.0.1", 0);
                let channel = timeout_at(deadline, channel).await.map_err(|_| self.late(patience))?;
                let failed =
                    |error: russh::Error| ConnectError::Jump { machine: self.machine(), reason: error.to_string() };
                self.shake_hands(config, channel.map_err(failed)?.into_stream(), guard, deadline).await
            }
            None => match settings.proxy_command() {
                Some(command) => {
                    let carrier = self.carry(command)?;
                    let said = carrier.said();
                    let shaken = self.shake_hands(config, Cuttable::new(carrier, self.cut), guard, deadline).await;
                    let is_refused = outcome.lock().unwrap_or_else(PoisonError::into_inner).refused.is_some();
                    if let Err(failed) = &shaken
                        && !is_refused
                        && let Some(said) = said.last_line().await.or_else(|| failed.as_ref().and_then(how_lost))
                    {
                        return Err(self.carrier(said));
                    }
                    shaken
                }
                None => {
                    let port = settings.port().unwrap_or_default();
                    let dialling = Dialling::of(settings).map_err(|refusal| self.unsupported(refusal))?;
                    let stream = dial::connect_by(settings.host_name(), port, deadline, |to| dialling.dial(to)).await;
                    let failed = |source| ConnectError::Dial { machine: self.machine(), source };
                    let stream = Cuttable::new(stream.map_err(failed)?, self.cut);
                    self.shake_hands(config, stream, guard, deadline).await
                }
            },
        };
        let mut handle = handle.map_err(|failed| self.explain(failed, &outcome, patience))?;
        let admitted = identities::authenticate(&mut handle, self.hop, self.own);
        let late = |_| ConnectError::AuthTimedOut { machine: self.machine(), after: AUTH_PATIENCE };
        let by = tokio::time::timeout(AUTH_PATIENCE, admitted).await.map_err(late)?;
        let by = by.map_err(|error| self.refused(error, &outcome))?;
        let (fingerprint, is_windows) = {
            let outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
            (outcome.fingerprint.clone(), outcome.is_windows)
        };
        Ok(Reached { handle, about: About { user: settings.user().to_owned(), fingerprint, by }, is_windows, ended })
    }

    /// `None` where the time was over. A person who looks at a fingerprint has more of it.
    async fn shake_hands<S>(
        &self,
        config: Arc<client::Config>,
        stream: S,
        guard: Guard,
        deadline: Instant,
    ) -> Result<Handle<Guard>, Option<russh::Error>>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let asking = Arc::clone(&guard.asking);
        let mut shaking = std::pin::pin!(client::connect_stream(config, stream, guard));
        let done = match timeout_at(deadline, &mut shaking).await {
            Ok(done) => done,
            Err(_) if *asking.lock().unwrap_or_else(PoisonError::into_inner) => {
                tokio::time::timeout(TRUST_PATIENCE, shaking).await.map_err(|_| None)?
            }
            Err(_) => return Err(None),
        };
        done.map_err(|GuardError(error)| Some(error))
    }

    fn machine(&self) -> String {
        self.hop.name.clone()
    }

    fn unsupported(&self, refusal: Refusal) -> ConnectError {
        ConnectError::Unsupported { machine: self.machine(), refusal }
    }

    fn late(&self, after: Duration) -> ConnectError {
        ConnectError::TimedOut { machine: self.machine(), after }
    }

    fn carrier(&self, reason: String) -> ConnectError {
        ConnectError::Carrier { machine: self.machine(), reason }
    }

    /// Why one was not let in. A server that counts failed logins has counted none where the link was lost before it said no.
    fn refused(&self, error: AuthError, outcome: &Mutex<Outcome>) -> ConnectError {
        let has_spoken = outcome.lock().unwrap_or_else(PoisonError::into_inner).last_words.is_some();
        if error.closed && error.refused == 0 && !error.unanswered && !has_spoken {
            return ConnectError::Lost { machine: self.machine(), reason: "it ended without a word".to_owned() };
        }
        error.into()
    }

    /// Why hands were not shaken. What the guard found comes first: the library only says that a key was refused.
    fn explain(&self, failed: Option<russh::Error>, outcome: &Mutex<Outcome>, patience: Duration) -> ConnectError {
        let machine = self.machine();
        let outcome = std::mem::take(&mut *outcome.lock().unwrap_or_else(PoisonError::into_inner));
        match (outcome.refused, failed) {
            (Some(source), _) => ConnectError::HostKey { machine, source: Box::new(source) },
            (None, None) => self.late(patience),
            (None, Some(russh::Error::NoCommonAlgo { kind, theirs, .. })) => ConnectError::Algorithms {
                machine,
                kind: format!("{kind:?}").to_lowercase(),
                theirs: theirs.join(", "),
            },
            (None, Some(error)) if outcome.last_words.is_none() && how_lost(&error).is_some() => {
                ConnectError::Lost { machine, reason: error.to_string() }
            }
            (None, Some(error)) => {
                let said = outcome.last_words.map(|words| format!("; it says {}", quote(words))).unwrap_or_default();
                ConnectError::Protocol { machine, reason: format!("{error}{said}") }
            }
        }
    }

    fn guard(&self, _ended: DropGuard) -> Result<Guard, ConnectError> {
        let settings = &self.hop.settings;
        // A file that can't be found may say that a key was revoked.
        let files = |keyword| {
            let paths = settings.paths(keyword).into_iter();
            let paths = paths.map(|path| expand(&path, self.hop, self.own.home).map(PathBuf::from));
            paths.collect::<Option<Vec<_>>>().ok_or_else(|| self.unsupported(UNKNOWN_PLACE))
        };
        let own = files("userknownhostsfile")?;
        let known = KnownHosts::read(&[own.clone(), files("globalknownhostsfile")?].concat())?;
        let host = match settings.host_key_alias() {
            Some(alias) => HostName::alias(alias),
            None => HostName::new(settings.host_name(), settings.port().unwrap_or_default()),
        };
        Ok(Guard {
            host,
            known,
            keep_in: own.into_iter().next(),
            hashed: settings.is_on("hashknownhosts"),
            unasked: options::asks_nobody(settings),
            demands: Demands::of(settings),
            person: Arc::clone(self.own.person),
            outcome: Arc::default(),
            asking: Arc::default(),
            _ended,
        })
    }

    fn config(&self, guard: &Guard) -> Result<client::Config, ConnectError> {
        let settings = &self.hop.settings;
        let (kinds, authority) = (guard.known.kinds(&guard.host), guard.known.has_authority(&guard.host));
        let preferred = algorithms::preferred(settings, &kinds, authority);
        let preferred = preferred.map_err(|refusal| self.unsupported(refusal))?;
        Ok(client::Config {
            preferred,
            window_size: WINDOW,
            keepalive_interval: Some(settings.seconds("serveraliveinterval").unwrap_or(KEEPALIVE)),
            keepalive_max: settings.one("serveralivecountmax").and_then(|max| max.parse().ok()).unwrap_or(3),
            nodelay: true,
            ..client::Config::default()
        })
    }

    /// A command of the person's own that carries the connection.
    fn carry(&self, command: &str) -> Result<Carrier, ConnectError> {
        let Some(command) = expand(command, self.hop, self.own.home) else {
            return Err(self.carrier("it names something that is not known here".to_owned()));
        };
        if cfg!(windows) {
            return Err(self.unsupported(ON_WINDOWS));
        }
        let mut shell = programs::command("/bin/sh");
        shell.arg("-c").arg(format!("exec {command}"));
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        Group::own(&mut shell);
        let child = shell.spawn().map_err(|error| self.carrier(error.to_string()))?;
        Carrier::new(child).ok_or_else(|| self.carrier("it has no input or output".to_owned()))
    }
}

/// From where, and to which of its addresses, a machine is dialled.
#[derive(Debug, Clone, Copy)]
struct Dialling {
    /// Only to addresses of IPv4 (`true`) or of IPv6.
    v4: Option<bool>,
    from: Option<IpAddr>,
}

impl Dialling {
    /// As `AddressFamily` and `BindAddress` have it.
    fn of(settings: &Settings) -> Result<Self, Refusal> {
        let from = settings.one("bindaddress").map(str::parse).transpose().map_err(|_| NAME_TO_BIND)?;
        let v4 = match settings.one("addressfamily") {
            Some("inet") => Some(true),
            Some("inet6") => Some(false),
            _ => None,
        };
        Ok(Self { v4, from })
    }

    async fn dial(self, to: SocketAddr) -> io::Result<TcpStream> {
        let unfit = |setting| io::Error::new(io::ErrorKind::Unsupported, format!("{setting} leaves {} out", to.ip()));
        if self.v4.is_some_and(|v4| v4 != to.is_ipv4()) {
            return Err(unfit("AddressFamily"));
        }
        if self.from.is_some_and(|from| from.is_ipv4() != to.is_ipv4()) {
            return Err(unfit("BindAddress"));
        }
        let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        if let Some(from) = self.from {
            socket.bind(SocketAddr::new(from, 0))?;
        }
        let stream = socket.connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// How a connection was lost, where that is the trouble.
fn how_lost(error: &russh::Error) -> Option<String> {
    let is_lost = matches!(error, russh::Error::IO(_) | russh::Error::HUP | russh::Error::Disconnect);
    is_lost.then(|| error.to_string())
}

#[cfg(unix)]
#[cfg(test)]
mod tests;
