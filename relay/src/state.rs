//! What every connection of a relay shares.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use reachback_proto::crypto::keys::Identity;
use reachback_proto::ids::RelayId;
use ring::rand::SystemRandom;

use crate::config::Config;
use crate::enroll::Enrollment;
use crate::http::Names;
use crate::hub::Hub;
use crate::lifecycle::Lifecycle;
use crate::limits::{Limits, ms};
use crate::metrics::Metrics;
use crate::store::Store;

/// Shared by every task of one relay.
pub(crate) struct State {
    pub(crate) config: Config,
    pub(crate) identity: Identity,
    pub(crate) relay_id: RelayId,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) attempts: Attempts,
    pub(crate) names: Names,
    pub(crate) enrollment: Enrollment,
    pub(crate) rng: SystemRandom,
}

impl State {
    /// The limits.
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

/// Token buckets per address, asked before any work is done for a stranger.
pub(crate) struct Attempts {
    accepts: DefaultKeyedRateLimiter<IpAddr>,
    links: DefaultKeyedRateLimiter<IpAddr>,
    pairings: DefaultKeyedRateLimiter<IpAddr>,
    clock: DefaultClock,
}

impl Attempts {
    pub(crate) fn new(limits: &Limits) -> Self {
        let accepts = Quota::per_minute(limits.accepts_per_minute).allow_burst(limits.accepts_burst);
        let links = Quota::per_minute(limits.attempts_per_minute).allow_burst(limits.attempts_burst);
        let pairings = Quota::per_minute(limits.pairing_attempts_per_minute).allow_burst(limits.pairing_attempts_burst);
        Self {
            accepts: RateLimiter::keyed(accepts),
            links: RateLimiter::keyed(links),
            pairings: RateLimiter::keyed(pairings),
            clock: DefaultClock::default(),
        }
    }

    /// Takes a token for a connection; false where there is none.
    pub(crate) fn accept(&self, from: IpAddr) -> bool {
        self.accepts.check_key(&bucket(from)).is_ok()
    }

    /// Takes a token for a link; the error is how long to wait for one.
    pub(crate) fn link(&self, from: IpAddr) -> Result<(), Duration> {
        self.links.check_key(&bucket(from)).map_err(|not_until| not_until.wait_time_from(self.clock.now()))
    }

    /// Takes a token for a pairing attempt.
    pub(crate) fn pairing(&self, from: IpAddr) -> Result<(), Duration> {
        self.pairings.check_key(&bucket(from)).map_err(|not_until| not_until.wait_time_from(self.clock.now()))
    }

    /// Forgets addresses whose buckets are full again.
    pub(crate) fn prune(&self) {
        for buckets in [&self.accepts, &self.links, &self.pairings] {
            buckets.retain_recent();
            buckets.shrink_to_fit();
        }
    }
}

/// One customer has a /64 of IPv6: counting single addresses would count nothing.
pub(crate) fn bucket(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_network_shares_a_bucket_and_mapped_ipv4_is_ipv4() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(bucket(ip("2001:db8::1")), bucket(ip("2001:db8::ffff:1:2:3")));
        assert_ne!(bucket(ip("2001:db8::1")), bucket(ip("2001:db8:0:1::1")));
        assert_eq!(bucket(ip("::ffff:192.0.2.1")), ip("192.0.2.1"));
    }

    #[test]
    fn an_address_waits_once_its_burst_is_used_and_others_do_not() {
        let three = std::num::NonZeroU32::new(3).unwrap();
        let attempts =
            Attempts::new(&Limits { attempts_burst: three, attempts_per_minute: three, ..Limits::default() });
        let (a, b) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        assert_eq!((0..3).filter(|_| attempts.link(a).is_ok()).count(), 3);
        assert!(attempts.link(a).unwrap_err() > Duration::from_secs(10));
        assert!(attempts.link(b).is_ok() && attempts.pairing(a).is_ok());
    }
}
