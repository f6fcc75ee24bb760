//! `cargo xtask bench`: how fast Reachback is, measured on this machine.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::process;

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
    let this = std::env::current_exe().context("could not find the folder of the built programs")?;
    let program = released(&this).context("this program does not lie where cargo puts it")?;
    let mut command = Command::new(&program);
    command.arg("run").args(&args.rest);
    eprintln!("$ {}", process::line(&command));
    Err(process::become_program(&mut command)).with_context(|| format!("could not start {}", program.display()))
}

/// Where cargo puts the measuring program, beside the folder that this one lies in, whatever `CARGO_TARGET_DIR` says.
fn released(this: &Path) -> Option<PathBuf> {
    Some(this.parent()?.parent()?.join("release").join("reachback-bench"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_released_program_is_run_whichever_build_this_one_is() {
        for build in ["debug", "release"] {
            let this = Path::new("target").join(build).join("xtask");
            assert_eq!(released(&this), Some("target/release/reachback-bench".into()), "{build}");
        }
    }
}
