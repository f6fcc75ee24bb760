//! `cargo xtask bench`: how fast Reachback is, measured on this machine.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use anyhow::Context;

use crate::{process, up};

/// Build Reachback as it is released, and measure it beside processes that only copy bytes.
///
/// Takes some minutes; nothing else should run meanwhile. Everything goes to
/// `reachback-bench run`; `cargo xtask bench -- --help` shows what that takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Arguments of `reachback-bench run`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    rest: Vec<OsString>,
}

/// Builds, and becomes the measuring program.
pub(crate) fn bench(repository: &Path, args: &Args) -> anyhow::Result<()> {
    let packages = ["reachback-host", "reachback-relay", "reachback-bench"];
    let mut build = Command::new("cargo");
    build.current_dir(repository).args(["build", "--release", "--bins"]);
    process::run(build.args(packages.iter().flat_map(|package| ["--package", package])))?;
    // This program may be a debug build: theirs lie in the folder of the others.
    let profile = up::beside_this_one("")?;
    let target = profile.parent().and_then(Path::parent).context("no folder of the built programs")?;
    let program = target.join("release").join("reachback-bench");
    let mut command = Command::new(&program);
    command.arg("run").args(&args.rest);
    eprintln!("$ {}", process::line(&command));
    Err(process::become_program(&mut command)).with_context(|| format!("could not start {}", program.display()))
}
