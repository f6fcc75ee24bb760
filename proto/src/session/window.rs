//! How much of a channel may be in flight.
//!
//! Everything in flight sits in socket and relay buffers, in front of the next
//! keystroke. So the window follows the delay it causes, as LEDBAT (RFC 6817)
//! does: it grows while acknowledgements come soon and shrinks when they come
//! [`TARGET_DELAY`] later than the best seen on this link.

use std::time::{Duration, Instant};

use super::TRICKLE_ACK_DELAY;

/// Never less, so that a slow consumer's channel keeps moving; two acknowledgement batches.
pub(super) const MIN: usize = 64 * 1024;
/// Where a link starts.
pub(super) const INITIAL: usize = 256 * 1024;
/// Never more: 4 MiB is 40 MB/s at a round trip of 100 ms, and bounds the replay buffer.
pub(super) const MAX: usize = 4 << 20;
/// Queueing delay that is still fine: RFC 6817's upper bound.
pub(super) const TARGET_DELAY: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Window {
    limit: usize,
    best: Option<Duration>,
    latest: Option<Duration>,
    /// Not shrunk again before what was sent before this is acknowledged.
    shrunk_at: Option<Instant>,
}

impl Default for Window {
    fn default() -> Self {
        Self { limit: INITIAL, best: None, latest: None, shrunk_at: None }
    }
}

impl Window {
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// How long the latest acknowledgement took; `None` before the first on this link.
    pub(super) fn delay(&self) -> Option<Duration> {
        self.latest
    }

    /// `bytes` sent at `sent` were acknowledged; `limited` says that the window held more back, `is_trickle` that so little was
    /// acknowledged that the other side may have waited for more.
    pub(super) fn acknowledged(
        &mut self,
        bytes: usize,
        sent: Instant,
        (limited, is_trickle): (bool, bool),
        now: Instant,
    ) {
        let waited = if is_trickle { TRICKLE_ACK_DELAY } else { Duration::ZERO };
        let delay = now.saturating_duration_since(sent);
        let best = self.best.map_or(delay, |best| best.min(delay));
        self.best = Some(best);
        self.latest = Some(delay);
        if delay > best + TARGET_DELAY + waited {
            if self.shrunk_at.is_none_or(|at| sent >= at) {
                self.limit = (self.limit / 2).max(MIN);
                self.shrunk_at = Some(now);
            }
        } else if limited {
            self.limit = (self.limit + bytes).min(MAX);
        }
    }
}
