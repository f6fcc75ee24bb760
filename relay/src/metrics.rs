//! What the relay counts, for `/metrics`.
//!
//! Counters come in pairs: how many of something are open now is
//! `…_opened_total` minus `…_closed_total`. No label holds an id or an address,
//! so the number of series is fixed.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use reachback_proto::close::CloseCode;

use crate::limits::Limit;

type Labels = [(&'static str, &'static str); 1];

/// The relay's counters. One per relay, shared.
pub(crate) struct Metrics {
    registry: Registry,
    connections_opened: Counter,
    connections_closed: Counter,
    links_opened: Family<Labels, Counter>,
    links_closed: Family<Labels, Counter>,
    circuits_opened: Family<Labels, Counter>,
    circuits_closed: Family<Labels, Counter>,
    circuit_bytes: Family<Labels, Counter>,
    refusals: Family<Labels, Counter>,
    limits: Family<Labels, Counter>,
}

/// Counts the closing half of a pair when dropped, so that no way out of a task forgets it.
pub(crate) struct Open(Counter);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.inc();
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("reachback_relay");
        let mut single = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let connections_opened = single("connections_opened", "Connections accepted, over TCP and over QUIC");
        let connections_closed = single("connections_closed", "Connections that ended");
        let mut family = |name: &str, help: &str| {
            let family = Family::<Labels, Counter>::default();
            registry.register(name, help, family.clone());
            family
        };
        let links_opened = family("links_opened", "Links that were welcomed, by role");
        let links_closed = family("links_closed", "Welcomed links that ended, by role");
        let circuits_opened = family("circuits_opened", "Circuits that started, by origin");
        let circuits_closed = family("circuits_closed", "Circuits that ended, by origin");
        let circuit_bytes = family("circuit_bytes", "Bytes forwarded on circuits, by direction");
        let refusals = family("refusals", "Peers refused or put out, by close code");
        let limits = family("limit_reached", "Times a limit was met, by the name of its setting");
        Self {
            registry,
            connections_opened,
            connections_closed,
            links_opened,
            links_closed,
            circuits_opened,
            circuits_closed,
            circuit_bytes,
            refusals,
            limits,
        }
    }

    /// A connection, until the guard is dropped.
    pub(crate) fn connection(&self) -> Open {
        self.connections_opened.inc();
        Open(self.connections_closed.clone())
    }

    /// How many connections there are.
    pub(crate) fn connections(&self) -> u64 {
        // Of two counters that move between the looks, the one that is never ahead is read first.
        let closed = self.connections_closed.get();
        self.connections_opened.get().saturating_sub(closed)
    }

    /// A welcomed link, until the guard is dropped.
    pub(crate) fn link(&self, role: &'static str) -> Open {
        self.links_opened.get_or_create(&[("role", role)]).inc();
        Open(self.links_closed.get_or_create_owned(&[("role", role)]))
    }

    /// A circuit, until the guard is dropped.
    pub(crate) fn circuit(&self, origin: &'static str) -> Open {
        self.circuits_opened.get_or_create(&[("origin", origin)]).inc();
        Open(self.circuits_closed.get_or_create_owned(&[("origin", origin)]))
    }

    /// The byte counter of one direction, `to_host` or `to_device`.
    pub(crate) fn bytes(&self, direction: &'static str) -> Counter {
        self.circuit_bytes.get_or_create_owned(&[("direction", direction)])
    }

    /// A peer was refused or put out.
    pub(crate) fn refused(&self, code: CloseCode) {
        self.refusals.get_or_create(&[("code", code.name())]).inc();
    }

    /// A limit was met.
    pub(crate) fn limit(&self, limit: Limit) {
        self.limits.get_or_create(&[("limit", limit.name())]).inc();
    }

    /// All of it as OpenMetrics text.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        encode(&mut out, &self.registry).expect("writing to a string does not fail");
        out
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_sample_dashboard_names_only_metrics_that_exist() {
        let sample = include_str!("../../deploy/compose/grafana/dashboards/relay.json");
        let dashboard: serde_json::Value = serde_json::from_str(sample).unwrap();
        let targets =
            dashboard["panels"].as_array().unwrap().iter().flat_map(|panel| panel["targets"].as_array().unwrap());
        let asked: Vec<_> = targets.map(|target| target["expr"].as_str().unwrap()).collect();
        let words = asked.iter().flat_map(|expr| expr.split(|c: char| c != '_' && !c.is_ascii_alphanumeric()));
        let named: BTreeSet<_> = words.filter(|word| word.starts_with("reachback_relay_")).collect();
        assert_eq!(named.len(), 9, "{named:?}");

        // Those with labels are shown once they have one. The text calls a counter by its name, and its samples by the name
        // with `_total`.
        let metrics = Metrics::new();
        let _open = (metrics.link("host"), metrics.circuit("device"), metrics.bytes("to_host"));
        metrics.refused(CloseCode::Malformed);
        metrics.limit(Limit::Connections);
        let text = metrics.text();
        let kinds = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"));
        let exist: BTreeSet<_> = kinds.map(|name| format!("{name}_total")).collect();
        let missing: Vec<_> = named.into_iter().filter(|name| !exist.contains(*name)).collect();
        assert!(missing.is_empty(), "{missing:?} are not among {exist:?}");
    }
}
