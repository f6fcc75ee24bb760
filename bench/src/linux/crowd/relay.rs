//! The relay that a crowd is at: a process of its own, which can be stopped and started again.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use reachback_proto::control::EnrollKey;
use reachback_proto::ids::RelayId;
use reachback_proto::pairing::Origin;
use reachback_relay::Config;
use rustix::process::{Resource, Signal};
use tempfile::TempDir;

use super::PATIENCE;
use crate::linux::process::Process;
use crate::linux::stage::{Transport, beside, free_address};

/// All come from one address, at once if they like; and nothing goes through a circuit.
const LIMITS: &str = "[limits]\nconnections = 100000\nunproven = 100000\nunproven_per_address = 100000\n\
     accepts_burst = 1000000\nattempts_burst = 1000000\ncircuit_idle_ms = 3600000\n";

/// A relay with a folder of its own.
pub(super) struct Relay {
    /// Where it is.
    pub(super) origin: Origin,
    /// Its key.
    pub(super) id: RelayId,
    listen: String,
    folder: TempDir,
    process: Process,
}

impl Relay {
    /// Starts one, and makes so many keys to enrol with.
    pub(super) async fn start(keys: usize) -> anyhow::Result<(Self, Vec<EnrollKey>)> {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("relay.toml"), LIMITS)?;
        // In this process, as `reachback-relay enroll` would open the database anew for each.
        let listen = ([127, 0, 0, 1], 0).into();
        let config = Config { data: data(&folder), listen, ..Config::default() };
        let relay = reachback_relay::Relay::start(config).await?;
        let mut made = Vec::with_capacity(keys);
        for _ in 0..keys {
            made.push(relay.create_enroll_key().await?);
        }
        let id = relay.fingerprint();
        relay.shutdown().await;
        drop(relay);

        let listen = free_address()?;
        let process = launch(&listen, &folder)?;
        let origin = format!("https://{listen}").parse().context("an address is an origin")?;
        Ok((Self { origin, id, listen, folder, process }, made))
    }

    /// Ends it with this signal, and starts it again at the same place.
    pub(super) fn restart(&mut self, signal: Signal) -> anyhow::Result<()> {
        let status = self.process.end(signal, PATIENCE)?;
        ensure!(signal == Signal::KILL || status.success(), "the relay did not end in order: {status}");
        self.process = launch(&self.listen, &self.folder)?;
        Ok(())
    }

    /// Processor time that it used since it was started.
    pub(super) fn cpu(&self) -> anyhow::Result<Duration> {
        self.process.cpu()
    }

    /// How many files it has open, sockets among them.
    pub(super) fn open_files(&self) -> anyhow::Result<usize> {
        self.process.open_files()
    }

    /// Its resident memory in KiB, once it has nothing to do any more.
    pub(super) async fn memory_at_rest(&self) -> anyhow::Result<f64> {
        self.process.memory_at_rest(PATIENCE).await
    }
}

/// Bytes that went over the loopback interface of this network namespace so far: headers and all, and also what others
/// send there.
pub(super) fn loopback_bytes() -> anyhow::Result<u64> {
    // Not from /sys, which shows the namespace that it was mounted in.
    let interfaces = std::fs::read_to_string("/proc/self/net/dev")?;
    let lo =
        interfaces.lines().find_map(|line| line.trim_start().strip_prefix("lo:")).context("no loopback interface")?;
    // The ninth column of proc_net(5): bytes that were sent.
    lo.split_whitespace().nth(8).and_then(|sent| sent.parse().ok()).context("no count of bytes")
}

fn data(folder: &TempDir) -> PathBuf {
    folder.path().join("data")
}

fn launch(listen: &str, folder: &TempDir) -> anyhow::Result<Process> {
    let mut command: Command = beside("reachback-relay")?;
    // Address tokens from before a restart are of no use, and each is worth a warning to the library.
    command.args(["serve", "--json", "--log", "warn,quinn_proto=error", "--tls", "generated", "--quic", "on"]);
    command.args(["--listen", listen]);
    command.arg("--config").arg(folder.path().join("relay.toml")).arg("--data").arg(data(folder));
    let mut relay = Process::start("the crowd's relay", command)?;
    relay.event_within(PATIENCE, "ready")?;
    Ok(relay)
}

/// Lets this process, and those that it starts, have as many files as so many hosts and devices need.
pub(super) fn allow_files(transport: Transport, hosts: usize, devices: usize) -> anyhow::Result<()> {
    let needed = files(transport, hosts, devices);
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    ensure!(
        limit.maximum.is_none_or(|maximum| maximum >= needed),
        "{hosts} hosts and {devices} devices need {needed} open files, and `ulimit -Hn` says {:?}: \
         ask for fewer with --hosts or --devices",
        limit.maximum
    );
    if limit.current.is_some_and(|current| current < needed) {
        limit.current = limit.maximum.or(Some(needed));
        rustix::process::setrlimit(Resource::Nofile, limit).context("the limit of open files can't be raised")?;
    }
    Ok(())
}

/// How many files the end of the hosts and devices has open, which is the end that has more, and what a process has anyway.
fn files(transport: Transport, hosts: usize, devices: usize) -> u64 {
    let all = match transport {
        // A host has its tunnel and a connection that waits for the next device, and another one when that has come. A
        // device has one that watches, and one that is a circuit.
        Transport::Wss => 2 * hosts + 3 * devices,
        // A socket each, however many streams there are; a device that watches and has a circuit is two.
        Transport::Quic => hosts + 2 * devices,
    };
    all as u64 + 200
}
