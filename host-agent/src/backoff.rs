//! When to try again: at once, then later and later, with full jitter.
//!
//! Full jitter (a uniform draw from zero to the current bound) spreads 2,000
//! agents of a restarted relay over the whole interval instead of into waves.
//! While a person waits they are not left waiting: tries then stay within a second of each other.
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

/// Bound of any delay while somebody waits.
const AWAITED: Duration = Duration::from_secs(1);

/// What lasted at least this long may be tried again at once; what did not is not tried in a tight loop.
const LASTING: Duration = Duration::from_secs(1);

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

    /// What was tried has worked for this long. The next try is immediate, or after a first delay when that was short.
    pub fn worked(&mut self, lasted: Duration) {
        self.failures = u32::from(lasted < LASTING);
    }

    /// The relay named a delay.
    pub fn suggest(&mut self, delay: Duration) {
        self.suggested = Some(delay.min(self.config.max));
    }

    /// How long to wait before the next try, while somebody waits for it or nobody does.
    pub fn delay(&mut self, rng: &dyn SecureRandom, is_awaited: bool) -> Duration {
        let most = if is_awaited { self.config.max.min(AWAITED) } else { self.config.max };
        let bound = match self.failures {
            0 => Duration::ZERO,
            n => self.config.first.saturating_mul(1 << (n - 1).min(16)).min(most),
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
        assert_eq!(backoff.delay(&rng, false), Duration::ZERO);
        for n in 0..40 {
            let bound = Duration::from_millis(500 << n.min(16)).min(Duration::from_secs(30));
            assert!(backoff.delay(&rng, false) <= bound);
        }
        backoff.reset();
        assert_eq!(backoff.delay(&rng, false), Duration::ZERO);
    }

    #[test]
    fn nobody_is_kept_waiting_for_more_than_a_second() {
        let rng = SystemRandom::new();
        let mut backoff = Backoff::new(BackoffConfig::default());
        for _ in 0..40 {
            assert!(backoff.delay(&rng, true) <= AWAITED);
        }
        assert!((0..40).any(|_| backoff.delay(&rng, false) > AWAITED), "nobody waits");
    }

    #[test]
    fn what_worked_is_tried_again_soon_and_not_in_a_tight_loop() {
        let rng = SystemRandom::new();
        let mut backoff = Backoff::new(BackoffConfig::default());
        for _ in 0..10 {
            backoff.delay(&rng, false);
        }
        backoff.worked(LASTING);
        assert_eq!(backoff.delay(&rng, false), Duration::ZERO);
        let mut waited = Duration::ZERO;
        for _ in 0..40 {
            backoff.worked(Duration::ZERO);
            let delay = backoff.delay(&rng, false);
            assert!(delay <= BackoffConfig::default().first);
            waited += delay;
        }
        assert!(waited > Duration::from_secs(2), "{waited:?} for 40 tries");
    }

    #[test]
    fn the_relays_delay_is_a_floor_and_bounded() {
        let rng = SystemRandom::new();
        let mut backoff = Backoff::new(BackoffConfig::default());
        backoff.suggest(Duration::from_secs(2));
        let delay = backoff.delay(&rng, false);
        assert!(delay >= Duration::from_secs(2) && delay <= Duration::from_millis(2100), "{delay:?}");
        backoff.suggest(Duration::from_secs(86_400));
        assert!(backoff.delay(&rng, false) <= Duration::from_secs(31));
    }
}
