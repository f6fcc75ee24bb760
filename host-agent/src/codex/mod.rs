//! Codex on this machine: starting it, finding it, speaking to it.
//!
//! Codex serves JSON-RPC from an *app-server*: one connection per client, which
//! carries text both ways. A [`CodexBackend`] is one way to such a server; the
//! rest of the agent asks it for a [`CodexConnection`] per channel and for the
//! [`CodexState`] that people and `doctor` see. Nothing here reads the messages:
//! that is the firewall's business.
//!
//! ```text
//! channel ── firewall ── CodexConnection ── WebSocket ── unix socket ── app-server
//!                              │ connect()
//!                        CodexBackend ── supervisor: attach, else start; again when it ends
//! ```
//!
//! [`app_server::AppServer`] is the backend that goes to a server's socket,
//! [`remote_control::RemoteControl`] the one that Codex comes to, and [`attach::Attach`] the one that goes
//! where a person says. Each makes a [`CodexConnection`] of what carries its messages.

pub mod app_server;
pub mod attach;
mod config;
mod connection;
pub mod ground;
pub(crate) mod keys;
pub(crate) mod overload;
pub mod permissions;
mod process;
mod pulse;
mod refusal;
pub mod remote_control;
mod supervision;
#[cfg(test)]
pub(crate) mod testing;
mod ws;

use std::fmt;
use std::sync::Weak;

use futures_util::future::BoxFuture;
use tokio::sync::watch;

pub(crate) use config::FULL_DISK;
pub use config::{CodexConfig, Silence};
pub use connection::{Allowance, CodexConnection, CodexReceiver, CodexSender, ReceiveError, SendError, TOO_LARGE};
pub(crate) use process::{parse_plain_version, plain};
pub(crate) use pulse::{Pulse, Sign};
use remote_control::control::Host;
pub(crate) use supervision::{STARTED_ANEW, is_answered, ready};
pub use ws::{HandshakeError, MAX_FRAME, MAX_MESSAGE, Text};
pub(crate) use ws::{connect as connect_over, feed_text};

/// One way to an app-server. Shared as `Arc<dyn CodexBackend>`.
///
/// A backend keeps its server there by itself: it starts working when it is
/// made, tries again after a failure, and ends when [`stop`](Self::stop) is called or it is dropped.
pub trait CodexBackend: Send + Sync {
    /// How it reaches its server.
    fn adapter(&self) -> Adapter;

    /// Where its server listens, for people; `None` where that goes without saying.
    fn address(&self) -> Option<String> {
        None
    }

    /// How the server is; the receiver sees every later change too.
    fn state(&self) -> watch::Receiver<CodexState>;

    /// One new client connection, which lets through what `allowance` says; the caller starts with `initialize`.
    ///
    /// While the server is starting this waits for it, at most
    /// [`CONNECT_PATIENCE`]; when it has failed or stopped this says so at once.
    fn connect(&self, allowance: Allowance) -> BoxFuture<'_, Result<CodexConnection, ConnectError>>;

    /// Which Codex it starts, and where that has its state; `None` where it is not on this machine.
    fn config(&self) -> Option<&CodexConfig> {
        None
    }

    /// Whom a Codex asks that pairs and lists devices in ways of its own; others never do. Only the first one is taken.
    fn introduce(&self, host: Weak<dyn Host>) {
        drop(host);
    }

    /// Ends the server if this backend started it, and waits until it is gone. A second call does nothing.
    fn stop(&self) -> BoxFuture<'_, ()>;
}

/// How long [`CodexBackend::connect`] waits for a server that is starting: a cold start of the
/// 300 MB binary takes a few seconds on a slow disk.
pub const CONNECT_PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

/// How an app-server is, for people and for those who wait for it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CodexState {
    /// Ended, for good.
    Stopped,
    /// Not connected: it is when somebody wants it.
    Idle,
    /// Looking for a running one, or starting one.
    Starting,
    /// There is none, and none is started: it comes when somebody else starts it.
    Waiting {
        /// What is waited for, for people.
        reason: String,
        /// What makes it come.
        fix: String,
    },
    /// Answers.
    Ready {
        /// Of the installed program, `0.169.0`; `None` when it does not say. A server that was joined
        /// may be older until it is restarted: it tells its own version only in answer to
        /// `initialize`, and the first client to send that names the whole server
        /// (its `originator`), which is not for the agent to do.
        version: Option<String>,
        /// Whose server it is.
        started_by: StartedBy,
        /// Which run of the server this is.
        instance: Instance,
    },
    /// Does not answer; it is tried again from time to time.
    Failed {
        /// What went wrong, for people.
        reason: String,
        /// The command or the act that repairs it, where one is known.
        fix: Option<String>,
        /// What a program can do about it, where it can.
        code: Option<FailureCode>,
    },
}

/// What is wrong with a server, where a program can help a person to mend it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum FailureCode {
    /// It is on a machine that asks for something beside a key, and nobody was there to type it.
    Login,
}

/// How a backend reaches its server, whoever started that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Adapter {
    /// By the socket of an app-server on this machine.
    AppServer,
    /// By the remote control of a Codex that comes to the agent.
    RemoteControl,
    /// At an address of this machine that a person named, where somebody else's app-server listens.
    Attach,
    /// By the socket of an app-server on a machine that is reached over SSH.
    Ssh,
}

impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AppServer => "app-server",
            Self::RemoteControl => "remote-control",
            Self::Attach => "attach",
            Self::Ssh => "ssh",
        })
    }
}

/// Who started a server, however it is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartedBy {
    /// The agent, with its own settings; it ends it too.
    Agent,
    /// Somebody else, before it was joined: shared with the terminal, and left alone when the agent ends.
    Others,
}

impl fmt::Display for StartedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Agent => "agent",
            Self::Others => "others",
        })
    }
}

/// One run of an app-server, random. Request ids start at 0 with each run, so
/// an answer to a question of another run must never pass.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Instance([u8; 8]);

impl Instance {
    /// A new run. `None` when the operating system gives no randomness.
    pub fn random(rng: &dyn ring::rand::SecureRandom) -> Option<Self> {
        reachback_proto::crypto::keys::random(rng).ok().map(Self)
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Instance({self})")
    }
}

/// Why there is no connection to Codex.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The backend was stopped.
    #[error("codex was stopped with the agent")]
    Stopped,
    /// The server could not be reached or started.
    #[error("codex is not running: {reason}")]
    Failed {
        /// What went wrong.
        reason: String,
        /// What repairs it.
        fix: Option<String>,
    },
    /// Still starting after [`CONNECT_PATIENCE`].
    #[error("codex is still starting")]
    Starting,
    /// The server's socket could not be opened.
    #[error("could not open codex's socket")]
    Socket(#[source] crate::platform::socket::SocketError),
    /// The server's socket belongs to someone else.
    #[error("codex's socket belongs to user {owner}, not to this one")]
    ForeignSocket {
        /// Who owns it.
        owner: u32,
    },
    /// The WebSocket handshake failed.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The server was replaced while the connection was being made.
    #[error("codex restarted while connecting")]
    Restarted,
}

impl ConnectError {
    /// The same for a person at a device, with what the owner does about it.
    pub(crate) fn for_devices(&self) -> String {
        match self {
            Self::Failed { fix: Some(fix), .. } => format!("{self}; at the host: {fix}"),
            _ => self.to_string(),
        }
    }
}
