//! How often an address tried.
//!
//! Token buckets, asked before any work is done for a stranger. An address is one customer's: of IPv6 that is a network.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::limits::Limits;

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
