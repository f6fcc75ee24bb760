//! `cargo xtask bench`: how fast Reachback is, measured on this machine; `cargo xtask bench web`: how the web app feels.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::{codex, process, web};

/// Build Reachback as it is released, and measure it beside processes that only copy bytes.
///
/// Takes some minutes; nothing else should run meanwhile. Everything but `web`
/// goes to `reachback-bench run`; `cargo xtask bench -- --help` shows what that takes.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<What>,

    /// Arguments of `reachback-bench run`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    rest: Vec<OsString>,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Web(WebArgs),
}

/// Measure the web app in Chromium, with relay, host agent and the real Codex behind it.
///
/// Builds the app as it is released, and the programs as `cargo build` does, and
/// uses the app as a person does, on a screen as small as a phone's: frames that
/// are dropped while 5,000 pieces of text stream (at most 1 in 50), memory over
/// ten such turns (flat), bytes on the link for each (at most 60 kB), and the
/// time from the touch until a thread of 20,000 items is there (at most 1 s).
/// Before that, on a slow network and with a slow processor: the time until a
/// browser that was never there shows the app (at most 1.5 s, of 120 kB).
/// What misses its goal is said and fails nothing: this is no test, and other
/// work on the machine is measured with it. Takes some five minutes. Needs
/// /usr/bin/chromium (Debian: `apt-get install -y chromium`); CHROMIUM names another.
#[derive(Debug, clap::Args)]
struct WebArgs {
    /// Print lines of JSON: the machine, then each figure with its goal and its rounds
    #[arg(long)]
    json: bool,

    /// Measure little of everything, to see that it works
    #[arg(long)]
    quick: bool,
}

/// Builds, and becomes the measuring program.
pub(crate) fn bench(repository: &Path, args: &Args) -> anyhow::Result<()> {
    match &args.what {
        None => bench_programs(repository, args),
        Some(What::Web(args)) => bench_web(repository, args),
    }
}

/// Of the app: builds what it runs, and has npm measure it.
fn bench_web(repository: &Path, args: &WebArgs) -> anyhow::Result<()> {
    // The relay holds the app, so it comes first.
    web::build(repository)?;
    codex::ensure(repository)?;
    let packages = ["--package", "reachback-host", "--package", "reachback-relay"];
    process::run(Command::new("cargo").current_dir(repository).args(["build", "--bins"]).args(packages))?;
    let variables = [("BENCH_JSON", args.json), ("BENCH_QUICK", args.quick)];
    web::bench_app(repository, variables.into_iter().filter(|(_, is_set)| *is_set).map(|(name, _)| name))
}

/// Of the programs.
fn bench_programs(repository: &Path, args: &Args) -> anyhow::Result<()> {
    // Behind the SSH server is the real one.
    codex::ensure(repository)?;
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
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn args(words: &[&str]) -> Args {
        Line::try_parse_from([&["bench"], words].concat()).expect("a command line").args
    }

    #[test]
    fn the_app_is_measured_by_its_name_and_all_else_goes_to_the_measuring_program() {
        let Some(What::Web(web)) = args(&["web", "--json"]).what else { panic!("not of the app") };
        assert!(web.json && !web.quick);
        for words in [&["--quick", "--only", "crowd"][..], &["--only", "web"], &[]] {
            let args = args(words);
            assert!(args.what.is_none() && args.rest == words, "{args:?}");
        }
        assert_eq!(args(&["--", "--help"]).rest, ["--help"]);
    }

    #[test]
    fn what_the_measuring_of_the_app_does_not_know_is_refused() {
        for words in [&["web", "--only", "frames"][..], &["web", "20"]] {
            assert!(Line::try_parse_from([&["bench"], words].concat()).is_err(), "{words:?}");
        }
    }

    #[test]
    fn the_released_program_is_run_whichever_build_this_one_is() {
        for build in ["debug", "release"] {
            let this = Path::new("target").join(build).join("xtask");
            assert_eq!(released(&this), Some("target/release/reachback-bench".into()), "{build}");
        }
    }
}
