//! `cargo xtask up`: from a clone to a running Reachback in one command.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::{codex, process, web};

/// Build Reachback, with its web app, and run `reachback up`.
///
/// With --demo also fetch the pinned real Codex, which then talks to a scripted
/// local model: no account, no network. Everything else goes to `reachback up`;
/// `cargo xtask up -- --help` shows what that takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Arguments of `reachback up`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    rest: Vec<OsString>,
}

/// Builds, fetches, and becomes `reachback up`.
pub(crate) fn up(repository: &Path, args: &Args) -> anyhow::Result<()> {
    // The relay holds the app, so it comes first.
    web::build(repository)?;
    process::run(Command::new("cargo").current_dir(repository).args(["build", "--package", "reachback-host"]))?;

    let mut rest = args.rest.clone();
    if wants_pinned_codex(&rest) {
        rest.push("--codex-program".into());
        rest.push(codex::ensure(repository)?.into());
    }
    let program = beside_this_one("reachback")?;
    let mut command = Command::new(&program);
    command.arg("up").args(rest);
    eprintln!("$ {}", process::line(&command));
    Err(process::become_program(&mut command)).with_context(|| format!("could not start {}", program.display()))
}

/// The demo runs the pinned Codex, unless the person names one.
fn wants_pinned_codex(rest: &[OsString]) -> bool {
    let named = |arg: &OsString| arg == "--codex-program" || arg.to_string_lossy().starts_with("--codex-program=");
    rest.iter().any(|arg| arg == OsStr::new("--demo")) && !rest.iter().any(named)
}

/// A program that cargo built: it lies where this one does, whatever
/// `CARGO_TARGET_DIR` says.
fn beside_this_one(name: &str) -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe().context("could not find the folder of the built programs")?;
    Ok(this.with_file_name(format!("{name}{}", std::env::consts::EXE_SUFFIX)))
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

    fn rest(words: &[&str]) -> Vec<OsString> {
        Line::try_parse_from([&["up"], words].concat()).expect("a command line").args.rest
    }

    #[test]
    fn everything_goes_to_reachback_in_its_order() {
        assert_eq!(rest(&["--listen", "[::1]:0", "--demo", "--json"]), ["--listen", "[::1]:0", "--demo", "--json"]);
        assert_eq!(rest(&["--", "--help"]), ["--help"]);
        assert!(rest(&[]).is_empty());
    }

    #[test]
    fn the_demo_gets_the_pinned_codex() {
        assert!(wants_pinned_codex(&rest(&["--demo"])));
        assert!(wants_pinned_codex(&rest(&["--json", "--demo"])));
    }

    #[test]
    fn without_the_demo_or_with_a_codex_named_nothing_is_fetched() {
        assert!(!wants_pinned_codex(&rest(&[])));
        assert!(!wants_pinned_codex(&rest(&["--json"])));
        assert!(!wants_pinned_codex(&rest(&["--demo", "--codex-program", "codex"])));
        assert!(!wants_pinned_codex(&rest(&["--demo", "--codex-program=codex"])));
    }
}
