//! When a link is dead.
//!
//! TCP takes minutes to notice a peer that vanished, and the stock TUI never
//! does. So each side judges by what it hears: a ping after 15 s without a word, dead
//! after 45 s; and when something sent is unacknowledged for 5 s, a ping at
//! once, dead 5 s later if still nothing at all was heard. A side that only
//! listens can't tell the end of a turn from the end of the link, so it probes
//! the same way when messages stop coming for 5 s, once. Slow is not dead: any
//! record counts as a sign of life.

use std::time::{Duration, Instant};

/// Ping after this long without hearing anything.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(15);
/// Dead after this long without hearing anything.
pub(super) const SILENCE_LIMIT: Duration = Duration::from_secs(45);
/// Probe when a sequenced frame is unacknowledged for this long, or this long after the last one came.
pub(super) const PROBE_AFTER: Duration = Duration::from_secs(5);
/// Dead this long after a probe without hearing anything.
pub(super) const PROBE_LIMIT: Duration = Duration::from_secs(5);

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Alive,
    Ping(u64),
    Dead,
}

#[derive(Debug)]
pub(super) struct Liveness {
    heard: Instant,
    pinged: Option<Instant>,
    /// The last time a probe went out that nothing has answered yet.
    probed: Option<Instant>,
    /// An unacknowledged frame is not probed again before this, after a sign of life.
    probe_not_before: Instant,
    /// Messages were coming, and nothing has shown since that the link outlived them.
    listening: bool,
    next_id: u64,
}

impl Liveness {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            heard: now,
            pinged: None,
            probed: None,
            probe_not_before: now + PROBE_AFTER,
            listening: false,
            next_id: 0,
        }
    }

    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.pinged = None;
        if self.probed.take().is_some() {
            self.probe_not_before = now + PROBE_AFTER;
            self.listening = false;
        }
    }

    /// A sequenced frame came.
    pub(super) fn heard_sequenced(&mut self) {
        self.listening = true;
    }

    /// When [`Self::check`] has something to say; `oldest` is the oldest unacknowledged frame's time of sending.
    pub(super) fn next(&self, oldest: Option<Instant>) -> Instant {
        let silence = match self.pinged {
            Some(_) => self.heard + SILENCE_LIMIT,
            None => self.heard + HEARTBEAT,
        };
        let probe = match self.probed {
            Some(probed) => Some(probed + PROBE_LIMIT),
            None => self.probe_due(oldest),
        };
        probe.map_or(silence, |probe| probe.min(silence))
    }

    fn probe_due(&self, oldest: Option<Instant>) -> Option<Instant> {
        let unacked = oldest.map(|oldest| (oldest + PROBE_AFTER).max(self.probe_not_before));
        let silent = self.listening.then_some(self.heard + PROBE_AFTER);
        [unacked, silent].into_iter().flatten().min()
    }

    pub(super) fn check(&mut self, oldest: Option<Instant>, now: Instant) -> Verdict {
        if now >= self.heard + SILENCE_LIMIT || self.probed.is_some_and(|probed| now >= probed + PROBE_LIMIT) {
            return Verdict::Dead;
        }
        if self.probed.is_none() && self.probe_due(oldest).is_some_and(|due| now >= due) {
            self.probed = Some(now);
            return self.ping(now);
        }
        if self.pinged.is_none() && now >= self.heard + HEARTBEAT {
            return self.ping(now);
        }
        Verdict::Alive
    }

    fn ping(&mut self, now: Instant) -> Verdict {
        self.pinged = Some(now);
        self.next_id += 1;
        Verdict::Ping(self.next_id)
    }
}
