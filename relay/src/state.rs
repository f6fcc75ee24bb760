//! What every connection of a relay shares.

use std::sync::Arc;
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
}

impl State {
    pub(crate) fn limits(&self) -> &Limits {
        &self.config.limits
    }

    /// When a peer should come back after a restart: each one is told another delay, so that they don't all come at once.
    pub(crate) fn restart_delay(&self) -> Duration {
        let limits = self.limits();
        let chance = reachback_proto::crypto::keys::random(&self.rng).map_or(0, u64::from_be_bytes);
        ms(limits.restart_delay_ms + chance % limits.restart_spread_ms.saturating_add(1))
    }
}

/// Seconds since 1970.
pub(crate) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
