//! What may carry connections to a relay, and what is known of QUIC on the way there.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reachback_proto::pairing::Origin;
use tokio::time::Instant;

use super::quic::Tokens;
use super::way_out::WayOut;

/// After QUIC did not get through, connections are made over WebSockets at once for so long. Then it is tried again: a
/// few packets, and a machine that was carried out of the network which drops UDP has it back.
const AVOIDED_FOR: Duration = Duration::from_secs(600);

/// A link over QUIC that fell silent within so long never was much: the way lets the beginning of a connection pass and
/// drops what follows. It is twice what it takes to notice, in the worst case (45 s).
const SOON: Duration = Duration::from_secs(90);

/// What may carry a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TransportChoice {
    /// QUIC where it gets through, else a WebSocket.
    #[default]
    Auto,
    /// QUIC only.
    Quic,
    /// A WebSocket only.
    Wss,
}

/// What carries a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransportKind {
    /// A WebSocket.
    Wss,
    /// A stream of a QUIC connection.
    Quic,
}

/// The choice, and what is remembered for the next connection. Clones share what they remember.
#[derive(Debug, Clone)]
pub struct Transports {
    choice: TransportChoice,
    avoided_for: Duration,
    way_out: WayOut,
    memory: Arc<Memory>,
}

impl From<TransportChoice> for Transports {
    fn from(choice: TransportChoice) -> Self {
        Self::new(choice)
    }
}

#[derive(Debug, Default)]
struct Memory {
    tokens: Tokens,
    avoid_quic: Mutex<Option<Avoided>>,
}

#[derive(Debug, Clone)]
struct Avoided {
    until: Instant,
    why: String,
}

/// How a connection to this relay begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Plan {
    /// QUIC only.
    Quic,
    /// A WebSocket only; because QUIC did not get through, where it was wanted, or there is a proxy.
    Wss {
        /// What came of QUIC, or which proxy it is.
        without_quic: Option<String>,
    },
    /// QUIC first.
    Both,
}

impl Transports {
    /// Nothing is known yet.
    pub fn new(choice: TransportChoice) -> Self {
        Self { choice, avoided_for: AVOIDED_FOR, way_out: WayOut::default(), memory: Arc::default() }
    }

    /// QUIC that does not get through is left alone for so long. Default ten minutes.
    pub fn avoiding_quic_for(self, avoided_for: Duration) -> Self {
        Self { avoided_for, ..self }
    }

    /// Through the proxy that is named for a relay, and with the authorities that are. Default none, and the system's.
    pub fn through(self, way_out: WayOut) -> Self {
        Self { way_out, ..self }
    }

    /// Which proxy there is, and whose certificates count.
    pub(super) fn way_out(&self) -> &WayOut {
        &self.way_out
    }

    /// What may carry a connection.
    pub fn choice(&self) -> TransportChoice {
        self.choice
    }

    /// How to begin.
    pub(super) fn plan(&self, relay: &Origin) -> Plan {
        let through = self.way_out.proxy(relay).map(|proxy| format!("through the proxy {}", proxy.name()));
        match self.choice {
            // As a person asked for it, past any proxy: none of them carries it.
            TransportChoice::Quic => Plan::Quic,
            _ if through.is_some() => Plan::Wss { without_quic: through },
            // There is no QUIC without encryption.
            TransportChoice::Auto if relay.is_secure() => match self.avoided() {
                Some(avoided) if Instant::now() < avoided.until => Plan::Wss { without_quic: Some(avoided.why) },
                _ => Plan::Both,
            },
            TransportChoice::Auto | TransportChoice::Wss => Plan::Wss { without_quic: None },
        }
    }

    /// QUIC did not get through where a WebSocket did.
    pub(crate) fn avoid_quic(&self, why: String) {
        *self.lock() = Some(Avoided { until: Instant::now() + self.avoided_for, why });
    }

    /// A link that had been let in so long ago was given up, as nothing came over it any more.
    pub(crate) fn fell_silent(&self, kind: TransportKind, lived: Duration) {
        if kind == TransportKind::Quic && lived < SOON {
            self.avoid_quic("it began and then fell silent".into());
        }
    }

    /// It did.
    pub(super) fn quic_works(&self) {
        *self.lock() = None;
    }

    /// When a connection over a WebSocket should look for QUIC again; `None` where it was not wanted.
    pub(crate) fn quic_again(&self) -> Option<Instant> {
        Some(self.avoided()?.until)
    }

    pub(super) fn tokens(&self) -> &Tokens {
        &self.memory.tokens
    }

    fn avoided(&self) -> Option<Avoided> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Avoided>> {
        self.memory.avoid_quic.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Origin {
        text.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn quic_is_left_alone_for_a_while_after_it_failed_and_then_tried_again() {
        let relay = origin("https://relay.example");
        let transports = Transports::new(TransportChoice::Auto);
        assert_eq!(transports.plan(&relay), Plan::Both);
        transports.avoid_quic("silence".into());
        let clone = transports.clone();
        assert_eq!(clone.plan(&relay), Plan::Wss { without_quic: Some("silence".into()) });
        tokio::time::advance(AVOIDED_FOR).await;
        assert_eq!((clone.plan(&relay), clone.quic_again()), (Plan::Both, Some(Instant::now())));
        clone.avoid_quic("silence".into());
        clone.quic_works();
        assert_eq!((transports.plan(&relay), transports.quic_again()), (Plan::Both, None));
    }

    #[tokio::test(start_paused = true)]
    async fn quic_that_falls_silent_soon_after_it_began_is_left_alone() {
        let relay = origin("https://relay.example");
        let transports = Transports::new(TransportChoice::Auto);
        transports.fell_silent(TransportKind::Wss, Duration::ZERO);
        transports.fell_silent(TransportKind::Quic, SOON);
        assert_eq!(transports.plan(&relay), Plan::Both, "that may happen to any connection");
        transports.fell_silent(TransportKind::Quic, Duration::from_secs(10));
        assert!(matches!(transports.plan(&relay), Plan::Wss { without_quic: Some(_) }));
    }

    #[test]
    fn through_a_proxy_there_is_no_quic_unless_it_is_asked_for() {
        let environment = |name: &str| match name {
            "HTTPS_PROXY" => Some("http://me:secret@proxy.example:3128".into()),
            "NO_PROXY" => Some("near.example".into()),
            _ => None,
        };
        let plan = |choice, relay| Transports::new(choice).through(WayOut::of(environment)).plan(&origin(relay));
        let proxied = Plan::Wss { without_quic: Some("through the proxy proxy.example:3128".into()) };
        assert_eq!(plan(TransportChoice::Auto, "https://relay.example"), proxied);
        assert_eq!(plan(TransportChoice::Wss, "https://relay.example"), proxied);
        assert_eq!(plan(TransportChoice::Quic, "https://relay.example"), Plan::Quic);
        for direct in ["https://near.example", "https://localhost", "https://127.0.0.1:7420"] {
            assert_eq!(plan(TransportChoice::Auto, direct), Plan::Both, "{direct}");
        }
        // Without TLS a proxy could read along, and forge.
        let plain = plan(TransportChoice::Auto, "http://relay.example");
        assert_eq!(plain, Plan::Wss { without_quic: None });
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_chosen_is_what_is_used() {
        let (plain, secure) = (origin("http://127.0.0.1:1"), origin("https://relay.example"));
        let wss = Plan::Wss { without_quic: None };
        for (choice, for_plain, for_secure) in [
            (TransportChoice::Auto, &wss, &Plan::Both),
            (TransportChoice::Wss, &wss, &wss),
            (TransportChoice::Quic, &Plan::Quic, &Plan::Quic),
        ] {
            let transports = Transports::new(choice);
            assert_eq!((&transports.plan(&plain), &transports.plan(&secure)), (for_plain, for_secure));
        }
    }
}
