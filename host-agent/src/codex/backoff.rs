//! How long to wait before Codex is tried again.

use std::time::Duration;

use ring::rand::SecureRandom;

/// A child that dies at once should not burn a core; one that died once should be back before a person notices.
const FIRST: Duration = Duration::from_millis(250);

/// A missing program or a broken configuration is repaired by a person: half a minute is soon enough.
const LONGEST: Duration = Duration::from_secs(30);

/// A server that ran this long was healthy: the next failure is a first one.
pub(super) const HEALTHY: Duration = Duration::from_secs(60);

/// Exponential, with full jitter above half, so that several agents of one machine don't start Codex in step.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The delay after one more failure.
    pub(super) fn next(&mut self, rng: &dyn SecureRandom) -> Duration {
        let ceiling = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        // Without randomness the delay is only less fair.
        let fraction = reachback_proto::crypto::keys::random::<1>(rng).map_or(255, |byte| byte[0]);
        ceiling / 2 + (ceiling / 2) * u32::from(fraction) / 255
    }

    /// Forgets the failures so far.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_longest_and_start_again_after_a_reset() {
        let rng = ring::rand::SystemRandom::new();
        let mut backoff = Backoff::default();
        for failure in 0..40 {
            let ceiling = FIRST.saturating_mul(1 << failure.min(16)).min(LONGEST);
            let delay = backoff.next(&rng);
            assert!(delay >= ceiling / 2 && delay <= ceiling, "failure {failure}: {delay:?}");
        }
        backoff.reset();
        assert!(backoff.next(&rng) <= FIRST);
    }
}
