//! One channel of a session, as its user sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use reachback_proto::frame::{ChannelCloseReason, ChannelNumber};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc};

use super::SessionEnded;
use super::driver::Command;
use super::handled::{HandledList, HandledMessage};

/// Something that came in on a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// A message. Say [`ChannelSender::handled`] with its number once it is taken.
    Message {
        /// Its number.
        seq: u64,
        /// The message.
        bytes: Bytes,
    },
    /// The other side closed the channel, or it was lost; nothing follows.
    Closed {
        /// Why.
        reason: ChannelCloseReason,
        /// For a person.
        text: String,
    },
}

/// Both directions of a channel.
#[derive(Debug)]
pub struct ChannelHandle {
    /// Sending, acknowledging, closing.
    pub sender: ChannelSender,
    /// What comes in. Unbounded here because the session bounds what is received and not handled.
    pub incoming: mpsc::UnboundedReceiver<Incoming>,
}

/// The sending half, cheap to clone.
#[derive(Debug, Clone)]
pub struct ChannelSender {
    pub(super) number: ChannelNumber,
    pub(super) generation: u64,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) backlog: Arc<Backlog>,
    pub(super) handled: Arc<HandledList>,
}

/// Bytes handed over and not yet acknowledged, and how long acknowledgements take.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// On their way to the session's task.
    handed: AtomicUsize,
    /// In the session, kept up to date by its task.
    bytes: AtomicUsize,
    fell: Notify,
    /// In microseconds; 0 while it is not known.
    delay: AtomicU64,
}

/// Bytes on their way to the session's task.
#[derive(Debug)]
pub(super) struct Handed {
    bytes: usize,
    backlog: Arc<Backlog>,
}

impl Drop for Handed {
    fn drop(&mut self) {
        self.backlog.handed.fetch_sub(self.bytes, Ordering::AcqRel);
        self.backlog.fell.notify_waiters();
    }
}

impl Backlog {
    fn hand(self: &Arc<Self>, bytes: usize) -> Handed {
        self.handed.fetch_add(bytes, Ordering::AcqRel);
        Handed { bytes, backlog: Arc::clone(self) }
    }

    fn total(&self) -> usize {
        self.handed.load(Ordering::Acquire) + self.bytes.load(Ordering::Acquire)
    }

    pub(super) fn set(&self, bytes: usize) {
        let before = self.bytes.swap(bytes, Ordering::AcqRel);
        if bytes < before {
            self.fell.notify_waiters();
        }
    }

    pub(super) fn set_delay(&self, delay: Option<Duration>) {
        let micros = delay.map_or(0, |delay| u64::try_from(delay.as_micros()).unwrap_or(u64::MAX));
        self.delay.store(micros, Ordering::Relaxed);
    }
}

impl ChannelSender {
    /// The channel's number.
    pub fn number(&self) -> ChannelNumber {
        self.number
    }

    /// Queues a message. If the queue is full the channel closes with a gap.
    pub async fn send(&self, bytes: Bytes) -> Result<(), SessionEnded> {
        let handed = self.backlog.hand(bytes.len());
        self.command(Command::Send { channel: self.number, generation: self.generation, bytes, handed }).await
    }

    /// Whether less than `limit` bytes are queued or unacknowledged.
    pub fn is_writable(&self, limit: usize) -> bool {
        self.backlog.total() < limit
    }

    /// How long the link's latest acknowledgement took; zero while there is none. See [`Session::delay`].
    ///
    /// [`Session::delay`]: reachback_proto::session::Session::delay
    pub fn delay(&self) -> Duration {
        Duration::from_micros(self.backlog.delay.load(Ordering::Relaxed))
    }

    /// The consumer has taken a message.
    pub fn handled(&self, seq: u64) -> Result<(), SessionEnded> {
        let message = HandledMessage { channel: self.number, generation: self.generation, seq };
        if self.handled.push(message) {
            return match self.commands.try_send(Command::Look) {
                // Before it waits again the task looks anyway.
                Ok(()) | Err(TrySendError::Full(_)) => Ok(()),
                Err(TrySendError::Closed(_)) => Err(SessionEnded),
            };
        }
        if self.commands.is_closed() { Err(SessionEnded) } else { Ok(()) }
    }

    /// Closes the channel after what is queued on it.
    pub async fn close(&self, reason: ChannelCloseReason, text: &str) -> Result<(), SessionEnded> {
        let (channel, generation, text) = (self.number, self.generation, text.to_owned());
        self.command(Command::CloseChannel { channel, generation, reason, text }).await
    }

    /// Closes the channel with a gap, and takes back what the other side does not have yet.
    pub async fn withdraw(&self, text: &str) -> Result<(), SessionEnded> {
        let (channel, generation, text) = (self.number, self.generation, text.to_owned());
        self.command(Command::WithdrawChannel { channel, generation, text }).await
    }

    /// Waits until less than `limit` bytes are queued or unacknowledged, for a sender that can wait.
    pub async fn writable(&self, limit: usize) {
        loop {
            let fell = self.backlog.fell.notified();
            if self.is_writable(limit) || self.commands.is_closed() {
                return;
            }
            fell.await;
        }
    }

    async fn command(&self, command: Command) -> Result<(), SessionEnded> {
        self.commands.send(command).await.map_err(|_| SessionEnded)
    }
}
