//! Chores of this repository, as a program rather than as shell scripts, so
//! that they are the same on every platform and need nothing installed.
//!
//! * `cargo xtask up`: build, then become `reachback up` ([`up`]).
//! * `cargo xtask test`: every check there is, in order ([`suite`]); each test
//!   runs as a process of its own ([`runner`]), under a supervisor
//!   ([`supervise`]).
//! * `cargo xtask web`: build the web app, or work on it ([`web`]).
//! * `cargo xtask gen`: write the files that are made from code ([`generated`]).
//! * `cargo xtask bench`: measure how fast the programs are ([`bench`]).
//! * `cargo xtask soak`: the tests that take minutes each ([`soak`]).
//!
//! The first two fetch the one exact Codex that the demo and the tests run ([`codex`]).
//! Every command that changes something or takes long is printed before it
//! runs, so that a person can repeat it by hand.

mod bench;
mod codex;
mod debian;
#[cfg(test)]
mod docs;
mod generated;
#[cfg(test)]
mod lock;
mod process;
mod runner;
mod soak;
mod suite;
mod supervise;
mod up;
mod web;

use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Chores of this repository.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    Up(up::Args),
    Test(suite::Args),
    Web(web::Args),
    Gen(generated::Args),
    Bench(bench::Args),
    Soak(soak::Args),
    #[command(hide = true)]
    Supervise(supervise::Args),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().chore {
        Chore::Up(args) => up::up(repository(), &args).map(|()| ExitCode::SUCCESS),
        Chore::Test(args) => suite::test(repository(), &args).map(|()| ExitCode::SUCCESS),
        Chore::Web(args) => web::web(repository(), &args).map(|()| ExitCode::SUCCESS),
        Chore::Gen(generated::Args {}) => generated::write(repository()).map(|()| ExitCode::SUCCESS),
        Chore::Bench(args) => bench::bench(repository(), &args).map(|()| ExitCode::SUCCESS),
        Chore::Soak(args) => soak::soak(repository(), &args).map(|()| ExitCode::SUCCESS),
        Chore::Supervise(args) => supervise::supervise(&args),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The root of the repository.
fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask/ lies in the repository")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn chores_find_the_repository() {
        assert!(repository().join("Cargo.lock").is_file());
    }
}
