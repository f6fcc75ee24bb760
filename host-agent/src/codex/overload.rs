//! A Codex that has too much to do: how that is said, and when the agent asks again.
//!
//! Codex's app-server holds some hundred requests of a connection. What comes on top is answered with an error
//! and not begun (measured with 0.169.0: of 20,000 requests at once, 17,856 were), so asking again does nothing twice,
//! whatever is asked. The agent does that for what it asks itself, later and later, so that many who were refused together
//! do not come back together. What a device asks goes back to the device: see `docs/adapters.md`.

use std::time::Duration;

use ring::rand::SecureRandom;
use serde::Deserialize;
use serde_json::Value;

use crate::backoff::{Backoff, BackoffConfig};

/// The JSON-RPC error code of a Codex with too much to do.
pub(crate) const OVERLOADED: i64 = -32001;

/// A request is asked so many times more. With the pauses below that is some five seconds on average, and eleven at most.
const MOST_RETRIES: u32 = 8;

/// Half of these on average, as each pause is drawn from zero to its bound. The first bound is some ten times what Codex takes
/// for what it holds.
const PAUSES: BackoffConfig = BackoffConfig { first: Duration::from_millis(100), max: Duration::from_secs(3) };

/// Whether a message's `error` says so.
pub(crate) fn is_overloaded(error: &Value) -> bool {
    error["code"] == OVERLOADED
}

/// The same of a whole message, of which nothing else is wanted.
pub(crate) fn says_overloaded(message: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Answer {
        error: Option<Code>,
    }
    #[derive(Deserialize)]
    struct Code {
        code: i64,
    }
    serde_json::from_slice::<Answer>(message).is_ok_and(|it| it.error.is_some_and(|error| error.code == OVERLOADED))
}

/// When one request is asked again.
#[derive(Debug)]
pub(crate) struct Retries {
    left: u32,
    backoff: Backoff,
}

impl Default for Retries {
    fn default() -> Self {
        let mut backoff = Backoff::new(PAUSES);
        // The first delay of a back-off is none, which is the wrong one for who has too much to do.
        backoff.worked(Duration::ZERO);
        Self { left: MOST_RETRIES, backoff }
    }
}

impl Retries {
    /// How long to wait before it is asked again; `None` when it was asked often enough.
    pub(crate) fn pause(&mut self, rng: &dyn SecureRandom) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        Some(self.backoff.delay(rng, false))
    }
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;
    use serde_json::json;

    use super::*;

    #[test]
    fn it_is_known_by_its_code_alone() {
        let busy = json!({ "id": 1, "error": { "code": -32001, "message": "in any words" } });
        assert!(is_overloaded(&busy["error"]) && says_overloaded(busy.to_string().as_bytes()));
        for other in [
            json!({ "id": 1, "error": { "code": -32600, "message": "Server overloaded; retry later." } }),
            json!({ "id": 1, "result": { "code": -32001 } }),
            json!({ "method": "error", "params": { "error": { "code": -32001 } } }),
        ] {
            assert!(!is_overloaded(&other["error"]) && !says_overloaded(other.to_string().as_bytes()), "{other}");
        }
    }

    #[test]
    fn the_pauses_grow_differ_and_have_an_end() {
        let rng = SystemRandom::new();
        let all = || {
            let mut retries = Retries::default();
            std::iter::from_fn(|| retries.pause(&rng)).collect::<Vec<_>>()
        };
        let (one, other) = (all(), all());
        assert_eq!(one.len() as u32, MOST_RETRIES);
        assert_ne!(one, other, "those that were refused together come back together");
        for (at, pause) in one.iter().enumerate() {
            assert!(*pause <= (PAUSES.first * (1 << at)).min(PAUSES.max), "{at}: {pause:?}");
        }
        assert!(one.iter().sum::<Duration>() < Duration::from_secs(12));
    }
}
