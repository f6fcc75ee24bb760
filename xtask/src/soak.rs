//! `cargo xtask soak`: the tests that take minutes each or need a container engine, which `cargo xtask test` leaves out.
//!
//! They are in `tests/e2e/soak/`, each with `#[ignore = "soak"]`, and run one after another.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use clap::builder::FalseyValueParser;

use crate::runner::Tests;
use crate::{codex, debian, process, supervise};

/// Run the slow tests: `cargo xtask soak compose` brings the compose file up with podman and pairs a device through it.
///
/// What they need beyond what `cargo xtask test` needs is installed first (as root; podman and a tool that makes a Debian
/// folder). Pictures of systems that they make once are kept in target/soak.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only tests with one of these in their names
    #[arg(value_name = "NAME")]
    names: Vec<String>,

    /// Seconds that a test may take
    #[arg(long, value_name = "SECONDS", default_value = "1800", value_parser = supervise::seconds)]
    limit: Duration,

    /// Nobody is watching: Debian packages may be installed
    #[arg(long, env = "CI", value_parser = FalseyValueParser::new())]
    ci: bool,
}

/// Builds what the tests need, and runs them.
pub(crate) fn soak(repository: &Path, args: &Args) -> anyhow::Result<()> {
    debian::ensure(args.ci)?;
    debian::ensure_containers(args.ci)?;
    codex::ensure(repository)?;
    crate::web::build(repository)?;
    let build = ["build", "--workspace", "--exclude", "xtask", "--bins"];
    process::run(Command::new("cargo").current_dir(repository).args(build))?;
    let filters = args.names.iter().map(String::as_str).collect();
    Tests { repository, fast: false, program: None, filters, soak: true, jobs: 1, limit: args.limit }.run()
}
