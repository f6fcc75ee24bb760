//! Why a machine is not there, as far as it decides when it is tried again.
//!
//! A server may count failed logins, and shut out who has too many: fail2ban as it comes after five within ten minutes. Then
//! the owner is shut out, too. So only what is out of reach is tried unasked; the rest waits until somebody wants it, and what
//! failed is told again from memory for a while, however often it is asked for. What the owner mended counts when that is over.

use std::time::Duration;

use tokio::time::Instant;

use super::connection::ConnectError;

/// A failure that another try may well mend.
const MOMENT: Duration = Duration::from_secs(2);
/// One that the owner mends, who looks again no sooner. No login was tried, and sshd's own penalty of a second for that
/// (`PerSourcePenalties`) never adds up.
const MENDING: Duration = Duration::from_secs(15);
/// After the first login that was refused. Each one that follows has [`GROWTH`] times as long.
const LOGIN: Duration = Duration::from_secs(30);
const GROWTH: u32 = 3;
const MOST: Duration = Duration::from_secs(300);
/// Refused logins count together within this: what fail2ban looks at.
const WINDOW: Duration = Duration::from_secs(600);

/// Kinds of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The machine is out of reach: no server has counted anything.
    OutOfReach,
    /// It was reached, and something there is not ready.
    Passing,
    /// The owner has to do something: about known_hosts, say, or the configuration.
    Lasting,
    /// A machine on the way refused a login.
    Login,
}

impl From<&ConnectError> for Trouble {
    fn from(error: &ConnectError) -> Self {
        match error {
            ConnectError::Dial { .. }
            | ConnectError::Jump { .. }
            | ConnectError::TimedOut { .. }
            | ConnectError::Lost { .. } => Self::OutOfReach,
            ConnectError::Protocol { .. } => Self::Passing,
            // A command may be an `ssh` that was refused somewhere: nobody but itself knows what it tried.
            ConnectError::Way(_)
            | ConnectError::Carrier { .. }
            | ConnectError::HostKey { .. }
            | ConnectError::KnownHosts(_)
            | ConnectError::Unsupported { .. }
            | ConnectError::Algorithms { .. } => Self::Lasting,
            ConnectError::Auth(_) | ConnectError::AuthTimedOut { .. } => Self::Login,
        }
    }
}

/// What is told again of the last failure, and until when.
#[derive(Debug, Default)]
pub(super) struct Memory {
    until: Option<Instant>,
    /// The last login that was refused, and how many there were by then.
    refused: Option<(Instant, u32)>,
}

impl Memory {
    /// A try has failed.
    pub(super) fn failed(&mut self, trouble: Trouble, now: Instant) {
        let told_for = match trouble {
            Trouble::OutOfReach | Trouble::Passing => MOMENT,
            Trouble::Lasting => MENDING,
            Trouble::Login => {
                let before = self.refused.filter(|(last, _)| now.duration_since(*last) < WINDOW);
                let before = before.map_or(0, |(_, count)| count);
                self.refused = Some((now, before.saturating_add(1)));
                LOGIN.saturating_mul(GROWTH.saturating_pow(before)).min(MOST)
            }
        };
        self.until = Some(now + told_for);
    }

    /// A try has succeeded.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether the last failure is still told.
    pub(super) fn tells(&self, now: Instant) -> bool {
        self.told_for(now).is_some()
    }

    /// For how long it is still told, where it is.
    pub(super) fn told_for(&self, now: Instant) -> Option<Duration> {
        self.until.map(|until| until.saturating_duration_since(now)).filter(|left| !left.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When tries are made in so many seconds, each as soon as it may be and refused like this.
    fn tries(trouble: Trouble, seconds: u64) -> Vec<u64> {
        let (mut memory, start) = (Memory::default(), Instant::now());
        let mut asked = |second: &u64| {
            let now = start + Duration::from_secs(*second);
            let is_tried = !memory.tells(now);
            if is_tried {
                memory.failed(trouble, now);
            }
            is_tried
        };
        (0..seconds).filter(|second| asked(second)).collect()
    }

    #[test]
    fn who_asks_without_end_has_fewer_logins_refused_in_ten_minutes_than_shut_this_host_out() {
        let tries = tries(Trouble::Login, 24 * 3600);
        assert_eq!(tries[..6], [0, 30, 120, 390, 690, 990]);
        assert!(tries.windows(5).all(|five| five[4] - five[0] > WINDOW.as_secs()), "{tries:?}");
    }

    #[test]
    fn what_the_owner_mended_counts_soon() {
        assert_eq!(tries(Trouble::Lasting, 31), [0, 15, 30]);
        assert_eq!(tries(Trouble::OutOfReach, 5), [0, 2, 4]);
        let (mut memory, start) = (Memory::default(), Instant::now());
        for second in [0, 30, 120] {
            memory.failed(Trouble::Login, start + Duration::from_secs(second));
        }
        memory.failed(Trouble::Login, start + Duration::from_secs(120) + WINDOW);
        assert!(!memory.tells(start + Duration::from_secs(120) + WINDOW + LOGIN), "a new day is counted anew");
        memory.clear();
        assert!(!memory.tells(start));
    }
}
