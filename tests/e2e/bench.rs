//! `reachback-bench`, with little of everything: that it measures what it says it does, not how fast that is.

use std::collections::BTreeSet;
use std::time::Duration;

use e2e::process::{binary, finished_within};
use serde_json::Value;
use tokio::process::Command;

/// Seven ways, all parts, and programs that are not optimised.
const PATIENCE: Duration = Duration::from_secs(240);

#[tokio::test]
async fn each_way_has_its_figures() {
    let folder = tempfile::tempdir().unwrap();
    let lines = folder.path().join("lines");
    let mut command = Command::new(binary("reachback-bench"));
    command.args(["run", "--quick", "--rounds", "1", "--lines"]).arg(&lines);
    let table = finished_within(PATIENCE, command, "").await.ok().out;

    let lines = std::fs::read_to_string(lines).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for line in &lines {
        assert!(line["value"].as_f64().is_some_and(|value| value >= 0.0), "{line}");
        assert!(table.contains(line["what"].as_str().unwrap()), "{line} is not in the table:\n{table}");
    }
    let ways = |what: &str| -> BTreeSet<_> {
        lines.iter().filter(|line| line["what"] == what).map(|line| line["way"].as_str().unwrap()).collect()
    };
    let sockets = BTreeSet::from(["direct", "two copies", "three copies", "laptop, wss", "laptop, quic"]);
    let all: BTreeSet<_> = sockets.iter().copied().chain(["device, wss", "device, quic"]).collect();
    for what in [
        "round trip, 200 B, p50",
        "round trip, 64 KiB, p99",
        "small messages",
        "pieces of text",
        "16 KB, 1 connection",
        "opening a channel, p50",
    ] {
        assert_eq!(ways(what), all, "{what}");
    }
    for what in ["16 KB, 64 connections, two processors", "round trip beside a flood, 200 B, p50"] {
        assert_eq!(ways(what), sockets, "{what}");
    }
    let through = BTreeSet::from(["device, wss", "laptop, wss", "device, quic", "laptop, quic"]);
    assert_eq!(ways("processor, 200 B, host agent"), through);
    for what in ["cut until it flows again, p50", "link of a turn of 5,000 pieces", "up until its code, first start"] {
        assert_eq!(ways(what), BTreeSet::from(["device, wss"]), "{what}");
    }
}
