//! A crowd of hosts and devices at a relay of its own: what each costs the relay in memory while nothing happens, and how
//! soon all hosts are back after the relay was away.
//!
//! All of them are in this process. A host is the tunnel of the real agent, which comes back by its own rules; only Codex
//! and the sessions are missing. A device has proved its key, and watches its host or has a circuit to it. Before they come,
//! as many connections are at a server that only holds them: what the libraries take of that memory by themselves.

mod bare;
pub(super) mod held;
mod people;
mod relay;

use std::time::{Duration, Instant};

use anyhow::ensure;
use rustix::process::Signal;
use tokio::time::sleep;

use self::bare::Limit;
use self::people::Crowd;
use self::relay::Relay;
use super::figures::{Figures, Key, Unit};
use super::measure::Effort;
use super::stage::Transport;

/// Longest wait for anything that the relay or somebody of the crowd has to do. Also hosts whose connection fell silent are
/// back by then.
const PATIENCE: Duration = Duration::from_secs(180);

/// Hosts and devices that are there before anything is measured: the first ones bring what a relay has only once.
const FIRST: usize = 16;

/// Signs of life are counted for so long: each of them comes several times in it.
const WHILE: Duration = Duration::from_secs(60);

/// How long the moment is in which so many came back.
const MOMENT: Duration = Duration::from_millis(100);

/// How many there are beside the first ones.
#[derive(Debug, Clone, Copy)]
struct Size {
    hosts: usize,
    devices: usize,
}

impl Size {
    fn of(effort: Effort) -> Self {
        let devices = if effort.devices == 0 { 0 } else { effort.of(effort.devices) };
        Self { hosts: effort.of(effort.hosts) as usize, devices: devices as usize }
    }
}

/// A round over one transport.
pub(super) fn measure(transport: Transport, effort: Effort, figures: &mut Figures) -> anyhow::Result<()> {
    let Size { hosts, devices } = Size::of(effort);
    relay::allow_files(transport, hosts + FIRST, devices + FIRST)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let done = runtime.block_on(round(transport, effort, figures));
    // Those who still wait for a relay that does not come are not waited for.
    runtime.shutdown_background();
    done
}

/// It waits for the relay's process on the thread that it has to itself; the crowd is on others.
async fn round(transport: Transport, effort: Effort, figures: &mut Figures) -> anyhow::Result<()> {
    let size = Size::of(effort);
    let limit = bare::measure(transport, size).await?;
    let (mut relay, keys) = Relay::start(size.hosts + FIRST).await?;
    let mut crowd = Crowd::new(&relay, transport, keys);
    let first = 0..FIRST;
    crowd.hosts_come(FIRST).await?;
    crowd.devices_watch(first.clone()).await?;
    crowd.devices_attach(first).await?;

    costs(&relay, limit, &mut crowd, transport, effort, figures).await?;

    crowd.devices_leave();
    let mut endings = vec![("a stop", Signal::TERM)];
    // A relay that was killed is missed over QUIC only after a quarter of a minute of silence: too long for a quick look.
    if transport == Transport::Wss || !effort.is_quick() {
        endings.push(("a kill", Signal::KILL));
    }
    for (what, signal) in endings {
        relay.memory_at_rest().await?;
        let times = crowd.come_back(&mut relay, signal).await?;
        relay.memory_at_rest().await?;
        let key = Key::new(&format!("relay's processor, a host that is back after {what}"), Unit::Microseconds);
        figures.one(key, transport.device(), relay.cpu()?.as_secs_f64() * 1e6 / times.len() as f64);
        take_down(what, transport, times, figures)?;
    }
    Ok(())
}

/// What each costs the relay: hosts, then their devices, and circuits between them.
async fn costs(
    relay: &Relay,
    limit: Limit,
    crowd: &mut Crowd,
    transport: Transport,
    effort: Effort,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let size = Size::of(effort);
    let (memory, files, cpu) = (relay.memory_at_rest().await?, relay.open_files()?, relay.cpu()?);
    crowd.hosts_come(size.hosts).await?;
    let cpu = relay.cpu()? - cpu;
    let (hosts, count) = (relay.memory_at_rest().await?, size.hosts as f64);
    let mut one = |what: &str, unit, value| figures.one(Key::new(what, unit), transport.device(), value);
    one("relay's memory, idle host", Unit::Kibibytes, (hosts - memory) / count);
    one("bare server's memory, connections of an idle host", Unit::Kibibytes, limit.host);
    // Sockets of hosts that wait for a device may come and go.
    one("relay's open files, idle host", Unit::Files, (relay.open_files()? as f64 - files as f64) / count);
    one("relay's processor, a host that comes for the first time", Unit::Microseconds, cpu.as_secs_f64() * 1e6 / count);
    let alone = if effort.is_quick() { None } else { Some(signs_of_life(relay).await?) };
    if let Some(Life { kilobytes, cpu }) = alone {
        let all = (size.hosts + FIRST) as f64;
        one("a minute of an idle host, both ways", Unit::Kilobytes, kilobytes / all);
        one("relay's processor, a minute of an idle host", Unit::Microseconds, cpu / all);
    }
    if size.devices == 0 {
        return crowd.all_are_there();
    }

    let (all, count) = (FIRST..FIRST + size.devices, size.devices as f64);
    crowd.devices_watch(all.clone()).await?;
    let watching = relay.memory_at_rest().await?;
    one("relay's memory, device that watches its host", Unit::Kibibytes, (watching - hosts) / count);
    if let Some(limit) = limit.device {
        one("bare server's memory, connection of a device", Unit::Kibibytes, limit);
    }
    if let Some(alone) = alone {
        let Life { kilobytes, cpu } = signs_of_life(relay).await?;
        one(
            "a minute of a device that watches its host, both ways",
            Unit::Kilobytes,
            (kilobytes - alone.kilobytes) / count,
        );
        one(
            "relay's processor, a minute of a device that watches its host",
            Unit::Microseconds,
            (cpu - alone.cpu) / count,
        );
    }
    crowd.devices_attach(all).await?;
    let attached = relay.memory_at_rest().await?;
    one("relay's memory, device with an idle circuit", Unit::Kibibytes, (attached - watching) / count);
    crowd.all_are_there()
}

/// What a minute of nothing takes.
#[derive(Debug, Clone, Copy)]
struct Life {
    /// Both ways, with all headers, in thousands of bytes.
    kilobytes: f64,
    /// Of the relay's processor time, in microseconds.
    cpu: f64,
}

/// What keeps all of them while nothing happens.
async fn signs_of_life(relay: &Relay) -> anyhow::Result<Life> {
    let (cpu, bytes) = (relay.cpu()?, relay::loopback_bytes()?);
    sleep(WHILE).await;
    let (cpu, bytes) = (relay.cpu()? - cpu, relay::loopback_bytes()? - bytes);
    let minutes = WHILE.as_secs_f64() / 60.0;
    Ok(Life { kilobytes: bytes as f64 / 1e3 / minutes, cpu: cpu.as_secs_f64() * 1e6 / minutes })
}

/// When hosts were back, counted from the signal on.
fn take_down(what: &str, transport: Transport, mut times: Vec<Duration>, figures: &mut Figures) -> anyhow::Result<()> {
    ensure!(!times.is_empty(), "there are no hosts");
    times.sort_unstable();
    let last = times.len() - 1;
    for (name, at) in [("p50", last / 2), ("p90", last * 9 / 10), ("last", last)] {
        let key = Key::new(&format!("hosts back after {what}, {name}"), Unit::Milliseconds);
        figures.one(key, transport.device(), times[at].as_secs_f64() * 1e3);
    }
    let key = Key::new(&format!("hosts back after {what}, most within 100 ms"), Unit::Hosts);
    figures.one(key, transport.device(), most_within(MOMENT, &times) as f64);
    Ok(())
}

/// The largest number of these moments, which are in order, that lie in a window of this length.
fn most_within(window: Duration, times: &[Duration]) -> usize {
    let from = |at: usize| times[at..].partition_point(|time| *time < times[at] + window);
    (0..times.len()).map(from).max().unwrap_or(0)
}

/// The moment until which something is waited for.
fn patience() -> tokio::time::Instant {
    (Instant::now() + PATIENCE).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fullest_moment_is_found_wherever_it_begins() {
        let ms = |times: &[u64]| times.iter().copied().map(Duration::from_millis).collect::<Vec<_>>();
        assert_eq!(most_within(MOMENT, &ms(&[])), 0);
        assert_eq!(most_within(MOMENT, &ms(&[0, 100, 200])), 1);
        assert_eq!(most_within(MOMENT, &ms(&[0, 90, 95, 189, 190, 300])), 3);
    }
}
