//! What systemd wants to hear of a service with `Type=notify` and `WatchdogSec`.
//!
//! `READY=1` once the program is of use, `WATCHDOG=1` three times within the time that
//! the unit allows, `STOPPING=1` when it ends. Started by anything else, nothing is said
//! to anybody: `NOTIFY_SOCKET` is not set then.
//!
//! A sign of life is given for the vital tasks, not for the process: when one of them
//! is gone, no more are given. The task that gives them runs where the others run, so a
//! runtime that is stuck gives none either, and systemd starts the program anew.

use std::future::pending;
use std::time::Duration;

use reachback_proto::words::printable;
use tokio::time::{MissedTickBehavior, interval};

use crate::vital::Vital;

/// Signs of life in the time after which systemd gives a service up: two may be late.
const SIGNS: u32 = 3;

/// Who started this program and listens to it: systemd, or nobody.
#[derive(Debug)]
pub struct Supervisor {
    /// How often it wants a sign of life, if it does.
    every: Option<Duration>,
}

impl Supervisor {
    /// The one that the environment names (`NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`), or nobody.
    pub fn from_env() -> Self {
        Self { every: imp::watchdog().map(between) }
    }

    /// The program is of use from now on; `status` is a line for `systemctl status`.
    pub fn ready(&self, status: &str) {
        imp::send(imp::Word::Ready);
        self.status(status);
    }

    /// What `systemctl status` shows from now on.
    pub fn status(&self, status: &str) {
        imp::send(imp::Word::Status(&printable(status)));
    }

    /// The program ends.
    pub fn stopping(&self) {
        imp::send(imp::Word::Stopping);
    }

    /// Gives signs of life for as long as all of `vital` are there; when one is gone, says that the program stops. Never
    /// ends, and may be dropped.
    pub async fn keep(&self, vital: &Vital) {
        self.give_signs(vital, || imp::send(imp::Word::Alive)).await;
        self.stopping();
        pending().await
    }

    /// Ends when a vital task is gone.
    async fn give_signs(&self, vital: &Vital, alive: impl Fn()) {
        let Some(every) = self.every else {
            vital.failed().await;
            return;
        };
        let mut times = interval(every);
        times.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // What is gone is gone before the next sign.
                biased;
                _ = vital.failed() => return,
                _ = times.tick() => alive(),
            }
        }
    }
}

/// The time between signs for a watchdog of this length, and no less than a timer can keep.
fn between(watchdog: Duration) -> Duration {
    (watchdog / SIGNS).max(Duration::from_millis(1))
}

#[cfg(target_os = "linux")]
mod imp {
    use std::time::Duration;

    use sd_notify::NotifyState;

    pub(super) enum Word<'a> {
        Ready,
        Status(&'a str),
        Alive,
        Stopping,
    }

    /// Says it. Who does not listen any more is no reason to end.
    pub(super) fn send(word: Word<'_>) {
        let state = match word {
            Word::Ready => NotifyState::Ready,
            Word::Status(text) => NotifyState::Status(text),
            Word::Alive => NotifyState::Watchdog,
            Word::Stopping => NotifyState::Stopping,
        };
        if let Err(error) = sd_notify::notify(&[state]) {
            tracing::warn!(%error, "systemd can't be told how this program is");
        }
    }

    /// After which silence systemd gives this process up.
    pub(super) fn watchdog() -> Option<Duration> {
        sd_notify::watchdog_enabled()
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use std::time::Duration;

    pub(super) enum Word<'a> {
        Ready,
        Status(&'a str),
        Alive,
        Stopping,
    }

    /// There is no systemd.
    pub(super) fn send(_word: Word<'_>) {}

    /// There is no systemd.
    pub(super) fn watchdog() -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn signs_of_life_come_three_times_in_the_watchdogs_time_and_end_with_a_vital_task() {
        let (vital, supervisor) = (Vital::default(), Supervisor { every: Some(between(Duration::from_secs(60))) });
        let signs = AtomicUsize::new(0);
        let give = supervisor.give_signs(&vital, || {
            signs.fetch_add(1, Ordering::Relaxed);
        });
        let mut give = std::pin::pin!(give);
        // At once, and after 20, 40 and 60 s.
        assert!(timeout(Duration::from_secs(61), &mut give).await.is_err(), "it ends although all is well");
        assert_eq!(signs.load(Ordering::Relaxed), 4);
        vital.watch("the test's task", async {}).await;
        timeout(Duration::from_secs(1), give).await.expect("a sign would be given for a task that is gone");
        assert_eq!(signs.load(Ordering::Relaxed), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn where_nobody_wants_signs_none_are_given() {
        let supervisor = Supervisor { every: None };
        let vital = Vital::default();
        let give = supervisor.give_signs(&vital, || panic!("a sign of life for nobody"));
        assert!(timeout(Duration::from_secs(600), give).await.is_err());
    }
}
