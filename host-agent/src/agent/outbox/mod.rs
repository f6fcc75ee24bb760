//! What a device's channel still has to be told.
//!
//! Codex cuts a client that is some 32,000 messages behind, and says nothing
//! of its own queue, so it is read without pause whatever the device's link can
//! carry. What the link does not take yet waits here: in memory, then in files
//! without a name, both bounded. A device that is there and reading gets all of
//! it; beyond the bounds its channel ends with a gap.
//!
//! Text that comes in small pieces waits for a moment at the end of it, and for
//! as long as the link takes nothing, and is put together ([`merge`]).

mod lean;
mod merge;
mod segment;
mod share;
mod short;

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::{Instant, timeout, timeout_at};

pub(super) use lean::lean;
use merge::Lanes;
pub(super) use merge::{MOST_WAIT, Text, adds_to_text};
use segment::Segment;
pub use share::{OutboxLimits, Outboxes, Share};
pub(super) use short::Shortener;

/// Messages from this size on take turns in a device's sessions, where their bytes stay until they are acknowledged.
const LARGE: usize = 1 << 20;

/// Longer a disk does not keep Codex waiting, but for what is large.
const DISK_PATIENCE: Duration = Duration::from_secs(2);
/// A slow disk takes so many bytes a second.
const SLOW_DISK: usize = 16 << 20;

/// A device is too far behind.
#[derive(Debug, thiserror::Error)]
pub enum Full {
    /// As much waits on disk as may.
    #[error("the device is more than {} MiB behind, which is all that the host keeps for it", limit >> 20)]
    Limit {
        /// The limit, in bytes.
        limit: u64,
    },
    /// The disk does not take what memory may not hold.
    #[error("the device is too far behind for the host's memory, and its disk takes no more: {0}")]
    Disk(#[source] io::Error),
}

/// One channel's messages to its device, oldest first. One task pushes, one takes.
#[derive(Debug)]
pub struct Outbox {
    share: Arc<Share>,
    inner: Mutex<Inner>,
    changed: Notify,
}

/// Order: `head`, then `segments`, then `tail`, then `lanes`.
#[derive(Debug, Default)]
struct Inner {
    head: Queue,
    segments: VecDeque<Segment>,
    tail: Queue,
    /// Text that may still grow.
    lanes: Lanes,
    /// Between `segments` and `tail`, on its way to the disk.
    is_writing: bool,
    /// Before `segments`, on its way from the disk.
    is_reading: bool,
    /// Before all of it: taken, and not yet with the session.
    is_handing: bool,
    is_finished: bool,
}

#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<Bytes>,
    bytes: usize,
}

enum Next {
    Message(Bytes),
    Segment(Segment),
    Nothing,
    /// Before this moment, unless something comes.
    Later(Instant),
    End,
}

impl Queue {
    fn push(&mut self, message: Bytes) {
        self.bytes += message.len();
        self.messages.push_back(message);
    }

    fn pop(&mut self) -> Option<Bytes> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.len();
        Some(message)
    }
}

impl Inner {
    fn is_idle(&self) -> bool {
        !self.waits() && self.lanes.is_empty()
    }

    /// Whether there is something before the text that may still grow.
    fn waits(&self) -> bool {
        self.is_handing || !self.head.messages.is_empty() || self.has_spilled()
    }

    fn has_spilled(&self) -> bool {
        !self.segments.is_empty() || !self.tail.messages.is_empty() || self.is_writing || self.is_reading
    }

    fn bytes(&self) -> usize {
        self.head.bytes + self.tail.bytes + self.lanes.bytes()
    }

    /// Puts a message behind what waits, except for text that may still grow.
    fn queue(&mut self, message: Bytes, share: &Share) {
        let (length, memory) = (message.len(), share.limits().memory);
        if !self.has_spilled() && self.bytes() + length <= memory && share.fits(length) {
            self.head.push(message);
        } else {
            self.tail.push(message);
        }
    }

    fn on_disk(&self) -> u64 {
        self.segments.iter().map(Segment::len).sum()
    }
}

impl Outbox {
    /// An empty one, for a channel of the device whose share this is.
    pub fn new(share: Arc<Share>) -> Self {
        Self { share, inner: Mutex::default(), changed: Notify::new() }
    }

    /// Whether a message may go past this: nothing waits, and nothing is on its way.
    pub fn is_idle(&self) -> bool {
        self.lock().is_idle()
    }

    /// Whether a message has to take its turn.
    pub fn is_large(message: &Bytes) -> bool {
        message.len() >= LARGE
    }

    /// Adds a message, behind all text that waits for more. Where it has to be written, this takes [`DISK_PATIENCE`] at most,
    /// and a second more for each [`SLOW_DISK`] bytes.
    pub async fn push(&self, message: Bytes) -> Result<(), Full> {
        self.add(|inner, share| {
            let now = Instant::now();
            while let Some(text) = inner.lanes.pop(now) {
                inner.queue(text, share);
            }
            inner.queue(message, share);
        })
        .await
    }

    /// Adds a piece of text, which waits for more: as long as `window`, as long as [`MOST_WAIT`] is not over since the item's
    /// text before it went, and as long as the device is behind.
    pub(super) async fn hold(&self, piece: Text, window: Duration) -> Result<(), Full> {
        self.add(|inner, share| {
            if let Some(text) = inner.lanes.add(piece, window, Instant::now()) {
                inner.queue(text, share);
            }
        })
        .await
    }

    async fn add(&self, what: impl FnOnce(&mut Inner, &Share)) -> Result<(), Full> {
        let Some((messages, before)) = self.added(what) else { return Ok(()) };
        let written = self.write(messages, before).await;
        let mut inner = self.lock();
        inner.is_writing = false;
        let outcome = written.map(|segment| inner.segments.push_back(segment));
        drop(inner);
        self.changed.notify_one();
        outcome
    }

    /// Adds to what is in memory; gives what has to leave it, and how much is on disk.
    fn added(&self, what: impl FnOnce(&mut Inner, &Share)) -> Option<(Queue, u64)> {
        let mut inner = self.lock();
        let before = inner.bytes();
        what(&mut inner, &self.share);
        self.share.hold(before, inner.bytes());
        if inner.tail.bytes < self.share.limits().segment {
            drop(inner);
            self.changed.notify_one();
            return None;
        }
        inner.is_writing = true;
        Some((std::mem::take(&mut inner.tail), inner.on_disk()))
    }

    async fn write(&self, queue: Queue, before: u64) -> Result<Segment, Full> {
        let bytes = queue.bytes;
        let limits = self.share.limits();
        // However this ends, also when the channel does meanwhile.
        let _counted = Counted { bytes, share: Arc::clone(&self.share) };
        if before + bytes as u64 > limits.disk || !self.share.fits_on_disk(bytes as u64) {
            return Err(Full::Limit { limit: limits.disk.min(limits.device_disk) });
        }
        let share = Arc::clone(&self.share);
        let write = tokio::task::spawn_blocking(move || Segment::write(&share, &queue.messages));
        let patience = DISK_PATIENCE + Duration::from_secs((bytes / SLOW_DISK) as u64);
        match timeout(patience, write).await {
            Ok(Ok(written)) => written.map_err(Full::Disk),
            Ok(Err(error)) => Err(Full::Disk(io::Error::other(error))),
            Err(_) => Err(Full::Disk(io::Error::new(io::ErrorKind::TimedOut, "it is too slow"))),
        }
    }

    /// Nothing more is pushed: [`Self::pop`] says so once everything is taken.
    pub fn finish(&self) {
        self.lock().is_finished = true;
        self.changed.notify_one();
    }

    /// The text that waits for more, unless something else waits before it. For a channel that ends.
    pub(super) fn rest(&self) -> Vec<Bytes> {
        let mut inner = self.lock();
        if inner.waits() {
            return Vec::new();
        }
        let before = inner.bytes();
        let now = Instant::now();
        let texts = std::iter::from_fn(|| inner.lanes.pop(now)).collect();
        self.share.hold(before, inner.bytes());
        texts
    }

    /// The next message, once there is one; `None` after the last. The one before counts as with the session now.
    ///
    /// An error is one of the disk: what was written can't be read.
    pub async fn pop(&self) -> io::Result<Option<Bytes>> {
        loop {
            match self.take() {
                Next::Message(message) => return Ok(Some(self.bounded(message).await)),
                Next::Segment(segment) => {
                    let read = tokio::task::spawn_blocking(move || segment.read());
                    self.refill(read.await.map_err(io::Error::other)??);
                }
                Next::Nothing => self.changed.notified().await,
                Next::Later(due) => drop(timeout_at(due, self.changed.notified()).await),
                Next::End => return Ok(None),
            }
        }
    }

    fn take(&self) -> Next {
        let mut inner = self.lock();
        (inner.is_reading, inner.is_handing) = (false, false);
        let bytes = inner.bytes();
        if inner.head.messages.is_empty() && inner.segments.is_empty() && !inner.is_writing {
            inner.head = std::mem::take(&mut inner.tail);
        }
        if let Some(message) = inner.head.pop() {
            self.share.hold(bytes, inner.bytes());
            inner.is_handing = true;
            return Next::Message(message);
        }
        if let Some(segment) = inner.segments.pop_front() {
            inner.is_reading = true;
            return Next::Segment(segment);
        }
        if inner.is_writing {
            return Next::Nothing;
        }
        let now = Instant::now();
        let text = if inner.is_finished { inner.lanes.pop(now) } else { inner.lanes.pop_due(now) };
        match (text, inner.lanes.due()) {
            (Some(text), _) => {
                self.share.hold(bytes, inner.bytes());
                inner.is_handing = true;
                Next::Message(text)
            }
            (None, Some(due)) => Next::Later(due),
            (None, None) if inner.is_finished => Next::End,
            (None, None) => Next::Nothing,
        }
    }

    fn refill(&self, messages: Vec<Bytes>) {
        let mut inner = self.lock();
        let bytes = inner.bytes();
        messages.into_iter().for_each(|message| inner.head.push(message));
        self.share.hold(bytes, inner.bytes());
    }

    /// Waits its turn, if it is large, and keeps it until the last of its bytes is acknowledged.
    async fn bounded(&self, message: Bytes) -> Bytes {
        if !Self::is_large(&message) {
            return message;
        }
        match self.share.turn(message.len()).await {
            Some(permit) => Bytes::from_owner(Bounded { message, _permit: permit }),
            None => message,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let bytes = self.lock().bytes();
        self.share.hold(bytes, 0);
    }
}

/// Bytes that are counted as in memory until this is dropped.
struct Counted {
    bytes: usize,
    share: Arc<Share>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.share.hold(self.bytes, 0);
    }
}

/// A large message, and its turn.
struct Bounded {
    message: Bytes,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Bounded {
    fn as_ref(&self) -> &[u8] {
        &self.message
    }
}

#[cfg(test)]
mod tests;
