//! When to try again: at once, then later and later, with full jitter.
//!
//! Full jitter (a uniform draw from zero to the current bound) spreads 2,000
//! agents of a restarted relay over the whole interval instead of into waves.
//! The same rule starts Codex again: one that died once is back before a person
//! notices, one that dies at once does not burn a core.

use std::time::Duration;

use ring::rand::SecureRandom;

/// Bounds of a back-off. The first try is immediate.
#[derive(Debug, Clone, Copy)]
pub struct BackoffConfig {
    /// Bound of the first delay. Default 500 ms.
    pub first: Duration,
    /// Bound of any delay. Default 30 s.
    pub max: Duration,
}

impl Default for BackoffConfig {
    fn default() -> Self {
        Self { first: Duration::from_millis(500), max: Duration::from_secs(30) }
    }
}

/// Delays between tries.
#[derive(Debug)]
pub struct Backoff {
    config: BackoffConfig,
    failures: u32,
    /// What the relay asked for when it drained; taken once.
    suggested: Option<Duration>,
}

impl Backoff {
    /// Starts with an immediate try.
    pub fn new(config: BackoffConfig) -> Self {
        Self { config, failures: 0, suggested: None }
    }

    /// What was tried has been healthy: the next try is immediate again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// The relay named a delay.
    pub fn suggest(&mut self, delay: Duration) {
        self.suggested = Some(delay.min(self.config.max));
    }

    /// How long to wait before the next try.
    pub fn delay(&mut self, rng: &dyn SecureRandom) -> Duration {
        let bound = match self.failures {
            0 => Duration::ZERO,
            n => self.config.first.saturating_mul(1 << (n - 1).min(16)).min(self.config.max),
        };
        self.failures = self.failures.saturating_add(1);
        // The relay's delay is a floor; the jitter above it is a tenth of a second at least.
        let floor = self.suggested.take();
        let bound = if floor.is_some() { bound.max(Duration::from_millis(100)) } else { bound };
        floor.unwrap_or_default() + bound.mul_f64(unit(rng))
    }
}

/// Uniform in 0..1; the middle when the system has no randomness, which only costs the jitter.
fn unit(rng: &dyn SecureRandom) -> f64 {
    let mut bytes = [0; 4];
    match rng.fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 0.5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::rand::SystemRandom;

    #[test]
    fn delays_start_at_zero_grow_to_the_bound_and_reset() {
        let rng = SystemRandom::new();
        let mut backoff = Backoff::new(BackoffConfig::default());
        assert_eq!(backoff.delay(&rng), Duration::ZERO);
        for n in 0..40 {
            let bound = Duration::from_millis(500 << n.min(16)).min(Duration::from_secs(30));
            assert!(backoff.delay(&rng) <= bound);
        }
        backoff.reset();
        assert_eq!(backoff.delay(&rng), Duration::ZERO);
    }

    #[test]
    fn the_relays_delay_is_a_floor_and_bounded() {
        let rng = SystemRandom::new();
        let mut backoff = Backoff::new(BackoffConfig::default());
        backoff.suggest(Duration::from_secs(2));
        let delay = backoff.delay(&rng);
        assert!(delay >= Duration::from_secs(2) && delay <= Duration::from_millis(2100), "{delay:?}");
        backoff.suggest(Duration::from_secs(86_400));
        assert!(backoff.delay(&rng) <= Duration::from_secs(31));
    }
}
