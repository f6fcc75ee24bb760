//! What is measured on each way, round after round: the ways take turns, so that a machine that slows down slows all of them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};

use super::client::{self, Client, Prepared};
use super::crowd;
use super::figures::{Figures, Key, Unit};
use super::ssh;
use super::stage::{Stage, Transport, Way};
use super::stand_in::Wish;

/// What can be measured by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Part {
    /// Requests and their answers, one after the other
    RoundTrips,
    /// As much as goes over one connection
    Streams,
    /// From nothing to the first answer
    Opening,
    /// As much as goes over 64 connections, on two processors
    Many,
    /// Round trips beside another device that is flooded
    Flood,
    /// Cuts, and the bytes of a turn
    Link,
    /// `reachback up` until it shows its code
    Starts,
    /// A machine behind an SSH server on the loopback, with the real Codex: from picking it to its threads, where nothing
    /// runs there, where Codex does, and where it is connected; and the list of fifty machines
    Ssh,
    /// Many hosts and devices at a relay of their own: its memory for each of them while they are idle, and how soon all
    /// hosts are back after it was stopped, and killed, and started again
    Crowd,
}

/// How much of everything.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effort {
    /// How often each way has its turn.
    pub(super) rounds: usize,
    /// A divisor of all numbers: 1 for figures that are quoted.
    pub(super) divisor: u64,
    /// Hosts of a crowd.
    pub(super) hosts: u64,
    /// Devices of a crowd, none of the same host as another.
    pub(super) devices: u64,
}

impl Effort {
    /// Of so many, how many there are.
    pub(super) fn of(self, count: u64) -> u64 {
        (count / self.divisor).max(1)
    }

    /// Whether it is only to be seen that it works.
    pub(super) fn is_quick(self) -> bool {
        self.divisor > 1
    }
}

/// Bytes of a request, its name, and how many round trips of it make a turn.
const SIZES: [(usize, &str, u64); 3] = [(200, "200 B", 10_000), (2 << 10, "2 KiB", 4_000), (64 << 10, "64 KiB", 1_000)];

/// Small messages of a stream.
const SMALL: u64 = 100_000;

/// Messages of 16 KB of a stream, and their text.
const LARGE: (u64, usize) = (4_000, 16_000);

/// Connections at once.
const MANY: usize = 64;

/// These parts, on one processor where it is about time, and on two where it is about how much passes.
pub(super) fn all(stage: &Stage, parts: &[Part], effort: Effort, figures: &mut Figures) -> anyhow::Result<()> {
    let one: [(Part, Measure); 3] =
        [(Part::RoundTrips, round_trips), (Part::Streams, streams), (Part::Opening, opening)];
    let two: [(Part, Measure); 2] = [(Part::Many, many), (Part::Flood, beside_a_flood)];
    stage.pin(&[0])?;
    in_turns(stage, parts, &one, effort, figures)?;
    stage.pin(&[0, 1])?;
    in_turns(stage, parts, &two, effort, figures)?;
    if parts.contains(&Part::Link) {
        troubles(stage, effort, figures)?;
    }
    if parts.contains(&Part::Starts) {
        starts(stage, effort, figures)?;
    }
    if parts.contains(&Part::Ssh) {
        ssh::measure(&stage.reachback, effort, figures).context("Ssh")?;
    }
    if parts.contains(&Part::Crowd) {
        crowds(stage, effort, figures)?;
    }
    Ok(())
}

/// One round of something on one way.
type Measure = fn(&Way, Effort, &mut Figures) -> anyhow::Result<()>;

fn in_turns(
    stage: &Stage,
    parts: &[Part],
    measures: &[(Part, Measure)],
    effort: Effort,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    for round in 0..effort.rounds {
        for (part, measure) in measures.iter().filter(|(part, _)| parts.contains(part)) {
            for way in &stage.ways {
                eprintln!("round {} of {}: {part:?}, {}", round + 1, effort.rounds, way.name);
                measure(way, effort, figures).with_context(|| format!("{part:?}, {}", way.name))?;
            }
        }
    }
    Ok(())
}

fn round_trips(way: &Way, effort: Effort, figures: &mut Figures) -> anyhow::Result<()> {
    let mut client = way.client()?;
    for (bytes, size, count) in SIZES {
        let (wish, count) = (Prepared::new(Wish::Echo, bytes), effort.of(count));
        for _ in 0..count / 10 {
            client.wish(&wish)?;
        }
        let times = on_processors(way, size, count, figures, || {
            (0..count).map(|_| timed(|| client.wish(&wish))).collect::<anyhow::Result<Vec<_>>>()
        })?;
        figures.times(&format!("round trip, {size}"), way.name, times);
    }
    Ok(())
}

/// Does something with `count` messages, and takes down what processor time that takes of each process on the way.
fn on_processors<T>(
    way: &Way,
    what: &str,
    count: u64,
    figures: &mut Figures,
    done: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let before = processor(way)?;
    let outcome = done()?;
    for ((name, after), (_, before)) in processor(way)?.into_iter().zip(before) {
        let seconds = (after - before).as_secs_f64() * 1e6 / count as f64;
        figures.one(Key::new(&format!("processor, {what}, {name}"), Unit::SecondsPerMillion), way.name, seconds);
    }
    Ok(outcome)
}

/// Processor time that the processes on a way have used, each by its name.
fn processor(way: &Way) -> anyhow::Result<Vec<(&'static str, Duration)>> {
    way.processes.iter().map(|process| Ok((process.name, process.cpu()?))).collect()
}

fn streams(way: &Way, effort: Effort, figures: &mut Figures) -> anyhow::Result<()> {
    let mut client = way.client()?;
    let small = effort.of(SMALL);
    for (name, wish) in [
        ("small messages", Wish::Notices(small)),
        ("small messages, many in a write", Wish::Batches(small)),
        ("pieces of text", Wish::Pieces(small)),
    ] {
        let wish_for = Prepared::with_text(wish, 4);
        let (came, took) = on_processors(way, name, small, figures, || counted(&mut client, &wish_for))?;
        // Pieces of a text may be put together on their way; nothing else may, and nothing may be lost.
        ensure!(came == small || matches!(wish, Wish::Pieces(_)), "{came} of {small} messages came over {}", way.name);
        figures.one(Key::new(name, Unit::PerSecond), way.name, small as f64 / took.as_secs_f64());
    }
    let (count, bytes) = (effort.of(LARGE.0), LARGE.1);
    let wish = Prepared::with_text(Wish::Notices(count), bytes);
    let (came, took) = on_processors(way, "16 KB", count, figures, || counted(&mut client, &wish))?;
    ensure!(came == count, "{came} of {count} messages came over {}", way.name);
    let megabytes = (count * bytes as u64) as f64 / 1e6;
    figures.one(Key::new("16 KB, 1 connection", Unit::MegabytesPerSecond), way.name, megabytes / took.as_secs_f64());
    Ok(())
}

/// Has a wish granted; how many messages came, and how long that took.
fn counted(client: &mut Client, wish: &Prepared) -> anyhow::Result<(u64, Duration)> {
    let begin = Instant::now();
    let came = client.wish(wish)?;
    Ok((came, begin.elapsed()))
}

fn opening(way: &Way, effort: Effort, figures: &mut Figures) -> anyhow::Result<()> {
    let times: anyhow::Result<Vec<_>> = (0..effort.of(200)).map(|_| timed(|| way.client())).collect();
    figures.times("opening a channel", way.name, times?);
    Ok(())
}

/// Only where clients may have threads of their own.
fn many(way: &Way, effort: Effort, figures: &mut Figures) -> anyhow::Result<()> {
    if way.sockets().is_empty() {
        return Ok(());
    }
    let sockets = way.sockets().iter().cycle().take(MANY);
    let clients: Result<Vec<_>, _> = sockets.map(|socket| Client::over(client::socket(socket)?)).collect();
    let (count, bytes) = (effort.of(LARGE.0 / 10), LARGE.1);
    let begin = Instant::now();
    std::thread::scope(|scope| {
        let threads: Vec<_> = clients?
            .into_iter()
            .map(|mut client| scope.spawn(move || client.wish(&Prepared::with_text(Wish::Notices(count), bytes))))
            .collect();
        threads.into_iter().try_for_each(|thread| {
            let came = thread.join().unwrap_or_else(|_| Err(anyhow!("a client's thread panicked")))?;
            ensure!(came == count, "{came} of {count} messages came over {}", way.name);
            Ok(())
        })
    })?;
    let megabytes = (MANY as u64 * count * bytes as u64) as f64 / 1e6;
    let key = Key::new("16 KB, 64 connections, two processors", Unit::MegabytesPerSecond);
    figures.one(key, way.name, megabytes / begin.elapsed().as_secs_f64());
    Ok(())
}

/// Round trips while another client takes all that it gets: of another device, where there are devices.
fn beside_a_flood(way: &Way, effort: Effort, figures: &mut Figures) -> anyhow::Result<()> {
    let Some(other) = way.sockets().last() else { return Ok(()) };
    let mut client = way.client()?;
    let mut flooded = Client::over(client::socket(other)?)?;
    let is_over = AtomicBool::new(false);
    let times = std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let wish = Prepared::with_text(Wish::Notices(50), LARGE.1);
            while !is_over.load(Ordering::Relaxed) {
                flooded.wish(&wish)?;
            }
            anyhow::Ok(())
        });
        let echo = Prepared::new(Wish::Echo, SIZES[0].0);
        let times: anyhow::Result<Vec<_>> = (0..effort.of(2_000)).map(|_| timed(|| client.wish(&echo))).collect();
        is_over.store(true, Ordering::Relaxed);
        flood.join().unwrap_or_else(|_| Err(anyhow!("a client's thread panicked")))?;
        times
    })?;
    figures.times("round trip beside a flood, 200 B", way.name, times);
    Ok(())
}

/// A link of this age that is cut is made anew at once.
const AGED: Duration = Duration::from_millis(1_200);

/// What a device's link costs and survives.
fn troubles(stage: &Stage, effort: Effort, figures: &mut Figures) -> anyhow::Result<()> {
    let device = stage.reachback.frail_device()?;
    let link = device.link.as_ref().context("its link can be cut")?;
    // As the app says it of itself.
    device.api()?.call("host/read", r#"{"mergedText":true}"#)?;
    let mut client = device.client()?;
    let echo = Prepared::new(Wish::Echo, SIZES[0].0);
    for round in 0..effort.rounds {
        eprintln!("round {} of {}: troubles", round + 1, effort.rounds);
        let mut times = Vec::new();
        for _ in 0..effort.of(10) {
            // As links are that were not just cut: a new one that is cut again is not made anew without a pause.
            std::thread::park_timeout(AGED);
            client.wish(&echo)?;
            link.reset();
            times.push(timed(|| client.wish(&echo))?);
        }
        figures.times("cut until it flows again", Transport::Wss.device(), times);

        let pieces = effort.of(5_000);
        let before = link.passed();
        client.wish(&Prepared::with_text(Wish::Turn(pieces), 4))?;
        let after = link.passed();
        let bytes = (after.0 - before.0) + (after.1 - before.1);
        figures.one(
            Key::new("link of a turn of 5,000 pieces", Unit::Kilobytes),
            Transport::Wss.device(),
            bytes as f64 / 1e3,
        );
    }
    Ok(())
}

/// `reachback up` until it shows its code.
fn starts(stage: &Stage, effort: Effort, figures: &mut Figures) -> anyhow::Result<()> {
    for round in 0..effort.rounds {
        eprintln!("round {} of {}: starts", round + 1, effort.rounds);
        let home = stage.reachback.root().join(format!("up-{round}"));
        for what in ["up until its code, first start", "up until its code, later start"] {
            let took = stage.reachback.up(&home)?.as_secs_f64() * 1e3;
            figures.one(Key::new(what, Unit::Milliseconds), Transport::Wss.device(), took);
        }
    }
    Ok(())
}

/// A crowd over each transport.
fn crowds(stage: &Stage, effort: Effort, figures: &mut Figures) -> anyhow::Result<()> {
    for round in 0..effort.rounds {
        for transport in [Transport::Wss, Transport::Quic] {
            let name = transport.device();
            if stage.ways.iter().all(|way| way.name != name) {
                continue;
            }
            eprintln!("round {} of {}: Crowd, {name}", round + 1, effort.rounds);
            crowd::measure(transport, effort, figures).with_context(|| format!("Crowd, {name}"))?;
        }
    }
    Ok(())
}

pub(super) fn timed<T>(what: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<Duration> {
    let begin = Instant::now();
    what()?;
    Ok(begin.elapsed())
}
