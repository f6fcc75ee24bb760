//! The parts of the program: the run itself, and the processes that it starts of itself.

mod bare;
mod carrying;
mod client;
mod crowd;
mod device;
mod figures;
mod hop;
mod measure;
mod peers;
mod picture;
mod process;
mod sealed;
mod ssh;
mod stage;
mod stand_in;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use figures::Figures;
use measure::Effort;
use stage::Stage;

/// How fast Reachback is.
#[derive(Debug, Parser)]
#[command(disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    part: Part,
}

#[derive(Debug, Subcommand)]
enum Part {
    Run(Args),
    StandIn(stand_in::Args),
    Hop(hop::Args),
    Sealed(sealed::Args),
    Bare(bare::Args),
    Held(crowd::held::Args),
}

/// Measure, and print a table; takes some minutes, and nothing else should run meanwhile.
#[derive(Debug, clap::Args)]
struct Args {
    /// How often each way has its turn
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    rounds: u8,
    /// A tenth of everything, to see that it works: not for figures that are quoted
    #[arg(long)]
    quick: bool,
    /// Measure only this; several times for several
    #[arg(long, value_name = "PART", value_enum)]
    only: Vec<measure::Part>,
    /// Measure only the ways of this name; several times for several. Where `direct` is missing, so are ratios to it
    #[arg(long, value_name = "WAY")]
    way: Vec<String>,
    /// Of `crowd`: hosts. Over WebSocket each takes two open files here and two at the relay, over QUIC one here
    /// (`ulimit -Hn`)
    #[arg(long, value_name = "COUNT", default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(10..))]
    hosts: u64,
    /// Of `crowd`: devices, each of another host; as many as hosts unless this says less. Each takes three open files more,
    /// over QUIC two
    #[arg(long, value_name = "COUNT")]
    devices: Option<u64>,
    /// Write a JSON line for each figure to this file
    #[arg(long, value_name = "FILE")]
    lines: Option<PathBuf>,
    /// Draw a picture, as SVG, into this file
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
}

/// The part that the command line names.
pub(super) fn main() -> ExitCode {
    // The host's agent takes it for Codex, and asks two things.
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    if words == ["--version"] {
        println!("codex-cli {}", stand_in::VERSION);
        return ExitCode::SUCCESS;
    }
    let done = match Cli::parse().part {
        Part::Run(args) => run(&args),
        Part::StandIn(args) => stand_in::serve(&args),
        Part::Hop(args) => hop::run(&args),
        Part::Sealed(args) => sealed::run(&args),
        Part::Bare(args) => bare::run(args),
        Part::Held(args) => crowd::held::run(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    let divisor = if args.quick { 10 } else { 1 };
    let devices = args.devices.unwrap_or(args.hosts);
    anyhow::ensure!(devices <= args.hosts, "--devices {devices} is more than one for each of {} hosts", args.hosts);
    let effort = Effort { rounds: args.rounds.into(), divisor, hosts: args.hosts, devices };
    let mut stage = Stage::start()?;
    if !args.way.is_empty() {
        let unknown = args.way.iter().find(|name| stage.ways.iter().all(|way| way.name != **name));
        anyhow::ensure!(
            unknown.is_none(),
            "no way is named {unknown:?}: {:?}",
            stage.ways.iter().map(|way| way.name).collect::<Vec<_>>()
        );
        stage.ways.retain(|way| args.way.iter().any(|name| name == way.name));
    }
    let mut figures = Figures::new(stage.ways.iter().map(|way| (way.name, way.floor)).collect());
    let parts = if args.only.is_empty() { measure::Part::value_variants() } else { &args.only };
    measure::all(&stage, parts, effort, &mut figures)?;
    println!("{}", figures.table());
    if let Some(file) = &args.lines {
        std::fs::write(file, figures.lines()?)?;
    }
    if let Some(file) = &args.picture {
        std::fs::write(file, picture::draw(&figures.bars())?)?;
    }
    Ok(())
}
