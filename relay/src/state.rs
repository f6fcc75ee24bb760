//! What every connection of a relay shares.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reachback_proto::crypto::keys::Identity;
use reachback_proto::ids::RelayId;
use ring::rand::SystemRandom;

use crate::attempts::Attempts;
use crate::config::Config;
use crate::directory::Directory;
use crate::enroll::Enrollment;
use crate::hub::Hub;
use crate::lifecycle::Lifecycle;
use crate::limits::{Limits, ms};
use crate::metrics::Metrics;
use crate::names::Names;
use crate::store::Store;

/// Peers wait no longer than that, whatever they are told (`host-agent/src/backoff.rs`, `web/src/link/backoff.ts`): who is
/// told more would come together with the others that were.
const LONGEST_DELAY_MS: u64 = 30_000;

/// Shared by every task of one relay.
pub(crate) struct State {
    pub(crate) config: Config,
    pub(crate) identity: Identity,
    pub(crate) relay_id: RelayId,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) attempts: Attempts,
    pub(crate) names: Names,
    pub(crate) enrollment: Enrollment,
    pub(crate) rng: SystemRandom,
    /// How many connections there were when the first was told to come back after a restart.
    pub(crate) at_restart: OnceLock<u64>,
}

impl State {
    pub(crate) fn limits(&self) -> &Limits {
        &self.config.limits
    }

    /// When a peer should come back after a restart: each one is told another delay, so that they don't all come at once.
    pub(crate) fn restart_delay(&self) -> Duration {
        let connections = *self.at_restart.get_or_init(|| self.metrics.connections());
        let chance = reachback_proto::crypto::keys::random(&self.rng).map_or(0, u64::from_be_bytes);
        let spread = restart_spread_ms(self.limits(), connections);
        ms(self.limits().restart_delay_ms.saturating_add(chance % spread.saturating_add(1)))
    }
}

/// Over how long so many connections come back.
fn restart_spread_ms(limits: &Limits, connections: u64) -> u64 {
    let spread = connections.saturating_mul(1_000) / u64::from(limits.restart_per_second.get());
    spread.min(LONGEST_DELAY_MS.saturating_sub(limits.restart_delay_ms))
}

/// Seconds since 1970.
pub(crate) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_back_at_once_and_many_are_spread_as_far_as_they_can_be() {
        let limits = Limits::default();
        let spreads = [0, 20, 2_000, 8_000, u64::MAX].map(|connections| restart_spread_ms(&limits, connections));
        assert_eq!(spreads, [0, 10, 1_000, 4_000, 29_500]);
        let slow = Limits { restart_delay_ms: 40_000, ..limits };
        assert_eq!(restart_spread_ms(&slow, 8_000), 0);
    }
}
