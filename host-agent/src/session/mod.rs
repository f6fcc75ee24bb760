//! Driving a [`Session`]: one task owns it and its link.
//!
//! Both roles use the same task. Its user holds a [`SessionHandle`], attaches
//! links as they come, and gets a [`ChannelHandle`] for each channel. The task
//! never waits for a consumer or for the link alone: it reads, writes, takes
//! commands and keeps time in one `select!`, so an absent device never stops
//! anyone from handing it messages (they are queued, and the queue is bounded in
//! [`reachback_proto::session`]).
//!
//! Ownership: dropping every `SessionHandle` and `ChannelHandle` ends the task.
//! [`SessionHandle::end`] ends it with a last word to the other side.

mod channel;
mod driver;
mod handled;
#[cfg(test)]
pub(crate) mod testing;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reachback_proto::frame::{ByeReason, GapReason};
use reachback_proto::session::{API_CHANNEL, Session};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::AbortOnDropHandle;

pub use channel::{ChannelHandle, ChannelSender, Incoming};
use driver::{Command, Driver};

use crate::link::SecureLink;

/// Commands waiting for the task: enough for a burst, little enough to bound what is in hand.
const COMMANDS: usize = 256;

/// What a channel is closed with when its session has ended: this side's own words, with a gap.
pub(crate) const ENDED: &str = "the session has ended";

/// How a session stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionState {
    /// No link carries it.
    Down {
        /// When the other side asked to come back.
        reconnect_in: Option<Duration>,
        /// Whether the link that was lost had carried the session.
        carried: bool,
        /// Whether that link was given up because nothing came over it any more.
        silent: bool,
    },
    /// A link is there, and the two sides compare what they have.
    Attaching,
    /// A link carries it.
    Up,
    /// It is over.
    Ended {
        /// The other side's last word, if it had one.
        reason: Option<ByeReason>,
    },
}

/// What the session's user has to know besides its channels.
#[derive(Debug)]
pub enum SessionEvent {
    /// The device opened a channel.
    ChannelOpened {
        /// The channel.
        channel: ChannelHandle,
        /// The environment it wants.
        environment: String,
    },
    /// The host no longer had the session; a new one takes its place, with a new API channel.
    Lost {
        /// Why.
        reason: GapReason,
        /// The new session's API channel.
        api: ChannelHandle,
    },
}

/// The way to a session's task.
#[derive(Debug, Clone)]
pub struct SessionHandle {
    commands: mpsc::Sender<Command>,
    state: watch::Receiver<SessionState>,
    held: Arc<AtomicUsize>,
}

/// A session that has just been started.
#[derive(Debug)]
pub struct StartedSession {
    /// The way to its task.
    pub handle: SessionHandle,
    /// Its API channel.
    pub api: ChannelHandle,
    /// What happens to it.
    pub events: mpsc::UnboundedReceiver<SessionEvent>,
    /// Its task; dropping it ends the session without a word.
    pub task: AbortOnDropHandle<()>,
}

/// Starts a session's task.
pub fn start(session: Session) -> StartedSession {
    let (commands, inbox) = mpsc::channel(COMMANDS);
    let (state_out, state) = watch::channel(SessionState::Down { reconnect_in: None, carried: false, silent: false });
    // Unbounded, yet bounded: a channel opened costs the peer one of the session's channels.
    let (events_out, events) = mpsc::unbounded_channel();
    let held = Arc::new(AtomicUsize::new(0));
    let mut driver = Driver::new(session, inbox, commands.downgrade(), events_out, state_out, Arc::clone(&held));
    let api = driver.channel(API_CHANNEL, commands.clone());
    let task = AbortOnDropHandle::new(tokio::spawn(driver.run()));
    StartedSession { handle: SessionHandle { commands, state, held }, api, events, task }
}

/// The session's task is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the session has ended")]
pub struct SessionEnded;

impl SessionHandle {
    /// Gives the session a new link; its old one is dropped first. `record` is what was already read from it.
    ///
    /// Returns once the session has taken it: what [`Self::state`] says from then on is about this link.
    pub async fn attach(&self, link: SecureLink, record: Option<Vec<u8>>) -> Result<(), SessionEnded> {
        let (taken, answer) = oneshot::channel();
        let command = Command::Attach { link: Box::new(link), record, taken };
        self.commands.send(command).await.map_err(|_| SessionEnded)?;
        answer.await.map_err(|_| SessionEnded)
    }

    /// Opens a channel to an environment; fails also when there are too many. Device only.
    pub async fn open_channel(&self, environment: &str) -> Result<ChannelHandle, SessionEnded> {
        let (reply, answer) = oneshot::channel();
        let environment = environment.to_owned();
        self.commands.send(Command::OpenChannel { environment, reply }).await.map_err(|_| SessionEnded)?;
        answer.await.map_err(|_| SessionEnded)
    }

    /// Ends the link, and keeps the session for the next one.
    pub async fn part(&self) {
        let (done, parted) = oneshot::channel();
        if self.commands.send(Command::Part { done }).await.is_ok() {
            let _ = parted.await;
        }
    }

    /// Ends the session with a last word.
    pub async fn end(&self, reason: ByeReason) {
        let (done, ended) = oneshot::channel();
        if self.commands.send(Command::End { reason, done }).await.is_ok() {
            let _ = ended.await;
        }
    }

    /// Bytes that the session holds for its device: queued, in flight, or received and not handled.
    pub fn held_bytes(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// How the session stands, and each change of it.
    pub fn state(&self) -> watch::Receiver<SessionState> {
        self.state.clone()
    }
}

#[cfg(test)]
mod tests;
