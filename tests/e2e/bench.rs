//! `reachback-bench`, with little of everything: that it measures what it says it does, not how fast that is.

use std::collections::BTreeSet;
use std::time::Duration;

use e2e::process::{binary, finished_within};
use serde_json::Value;
use tokio::process::Command;

/// A dozen ways, all parts but the crowd, and programs that are not optimised.
const PATIENCE: Duration = Duration::from_secs(240);

/// The lines of a quick run of these parts, each of which is in its table.
async fn figures_of(parts: &[&str]) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let lines = folder.path().join("lines");
    let mut command = Command::new(binary("reachback-bench"));
    command.args(["run", "--quick", "--rounds", "1", "--lines"]).arg(&lines);
    command.args(parts.iter().flat_map(|part| ["--only", part]));
    let table = finished_within(PATIENCE, command, "").await.ok().out;

    let lines = std::fs::read_to_string(lines).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for line in &lines {
        assert!(line["value"].as_f64().is_some_and(|value| value >= 0.0), "{line}");
        assert!(table.contains(line["what"].as_str().unwrap()), "{line} is not in the table:\n{table}");
    }
    lines
}

/// Tunnels of others, which are measured where somebody has them.
const PEERS: [&str; 3] = ["rathole, noise", "wstunnel, wss", "iroh, relayed"];

/// Which other ways have this figure.
fn ways<'a>(lines: &'a [Value], what: &str) -> BTreeSet<&'a str> {
    let ways = lines.iter().filter(|line| line["what"] == what).map(|line| line["way"].as_str().unwrap());
    ways.filter(|way| !PEERS.contains(way)).collect()
}

#[tokio::test]
async fn each_way_has_its_figures() {
    let lines = figures_of(&["round-trips", "streams", "opening", "many", "flood", "link", "starts"]).await;
    let ways = |what| ways(&lines, what);
    let sockets = BTreeSet::from([
        "direct",
        "two copies",
        "three copies",
        "three sealed copies",
        "three bare hops, wss",
        "three bare hops, quic",
        "laptop, wss",
        "laptop, quic",
    ]);
    let here = ["device, wss", "device, quic", "two bare hops, wss", "two bare hops, quic"];
    let all: BTreeSet<_> = sockets.iter().copied().chain(here).collect();
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

#[tokio::test]
async fn an_ssh_host_has_its_times() {
    let lines = figures_of(&["ssh"]).await;
    for what in [
        "fifty SSH machines listed, after a change",
        "fifty SSH machines listed, again",
        "SSH host picked until its threads, nothing runs there",
        "SSH host picked until its threads, Codex runs there",
        "SSH host picked until its threads, connected",
    ] {
        assert_eq!(ways(&lines, what), BTreeSet::from(["device, wss"]), "{what}");
    }
    let took = |what: &str| lines.iter().find(|line| line["what"] == what).unwrap()["value"].as_f64().unwrap();
    let picked = |before: &str| took(&format!("SSH host picked until its threads, {before}"));
    assert!(picked("nothing runs there") > picked("connected"), "nothing was started: {lines:?}");
}

#[tokio::test]
async fn a_crowd_has_its_memory_and_comes_back() {
    let lines = figures_of(&["crowd"]).await;
    for what in [
        "relay's memory, idle host",
        "relay's memory, device that watches its host",
        "relay's memory, device with an idle circuit",
        "bare server's memory, connections of an idle host",
        "bare server's memory, connection of a device",
        "hosts back after a stop, p50",
        "hosts back after a stop, most within 100 ms",
    ] {
        assert_eq!(ways(&lines, what), BTreeSet::from(["device, wss", "device, quic"]), "{what}");
    }
    assert_eq!(ways(&lines, "hosts back after a kill, last"), BTreeSet::from(["device, wss"]));
    for line in lines.iter().filter(|line| line["what"].as_str().unwrap().contains("'s memory, ")) {
        assert!(line["value"].as_f64().is_some_and(|kibibytes| (1.0..1000.0).contains(&kibibytes)), "{line}");
    }
    let memory = |way: &str, what: &str| {
        let line = lines.iter().find(|line| line["way"] == way && line["what"] == what).unwrap();
        line["value"].as_f64().unwrap()
    };
    for way in ["device, wss", "device, quic"] {
        let host = memory(way, "bare server's memory, connections of an idle host");
        let device = memory(way, "bare server's memory, connection of a device");
        assert!(device < host, "two links of a host take no more than one of a device, {way}: {lines:?}");
        assert!(
            host < memory(way, "relay's memory, idle host"),
            "a relay takes less than its libraries, {way}: {lines:?}"
        );
    }
}
