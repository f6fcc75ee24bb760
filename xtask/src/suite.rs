//! `cargo xtask test`: every check there is, each as a step that can be run
//! alone. Continuous integration runs this and nothing else.
//!
//! Steps run in order and the first failure ends the run: each one is pointless
//! or misleading when an earlier one failed. Their output goes straight to the
//! terminal; at the end there is one line per step with the time it took.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use clap::ValueEnum;
use clap::builder::FalseyValueParser;

use crate::runner::Tests;
use crate::{codex, debian, process, supervise};

/// Run every check: set-up, formatting, lints, dependencies, tests.
///
/// Each test is a process of its own. One that does not end in time is ended and named; what a test started is ended
/// with it, and one that leaves a process behind has failed (on Linux). Output of failed tests: target/test-output.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run this step only (and what it needs). May be repeated.
    #[arg(long, value_name = "STEP", conflicts_with = "filter")]
    only: Vec<Step>,

    /// Run what is quick: formatting, lints, unit tests. Nothing that needs the real Codex.
    #[arg(long, conflicts_with = "only")]
    fast: bool,

    /// Run only the tests whose names contain this.
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,

    /// Run only the tests of this program, which is built.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["only", "fast"])]
    program: Option<PathBuf>,

    /// So many tests at a time; as many as there are cores by default.
    #[arg(long, value_name = "NUMBER")]
    jobs: Option<NonZero<usize>>,

    /// Seconds that a test may take; more helps under a debugger.
    #[arg(long, value_name = "SECONDS", default_value = "180", value_parser = supervise::seconds)]
    limit: Duration,

    /// Nobody is watching: Debian packages may be installed.
    #[arg(long, env = "CI", value_parser = FalseyValueParser::new())]
    ci: bool,
}

/// One step of the run, in the order in which they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Step {
    /// Formatting.
    Fmt,
    /// Programs that the tests drive.
    Packages,
    /// The pinned real Codex.
    Codex,
    /// The web app: lint, types, unit tests, and the app itself, which becomes part of the relay.
    Web,
    /// Lints, warnings are errors.
    Clippy,
    /// Licences, banned crates and sources, where cargo-deny is installed.
    Deny,
    /// The programs and the tests.
    Build,
    /// Examples in documentation.
    Doctests,
    /// The web app in Chromium, with the real relay, host and Codex.
    App,
    /// Unit tests, then end-to-end tests with the real Codex.
    Tests,
}

/// How a step ended when it did not fail.
enum Outcome {
    Done,
    /// Not run, and why.
    Skipped(&'static str),
}

/// Runs the steps asked for.
pub(crate) fn test(repository: &Path, args: &Args) -> anyhow::Result<()> {
    let start = Instant::now();
    let mut report = Vec::new();
    for step in plan(args) {
        let begin = Instant::now();
        eprintln!("\n==> {}", step.name());
        let outcome = step.run(repository, args).map_err(|error| {
            let again = step.rerun(args);
            anyhow!("step `{}`: {error:#}\nTo run it alone: {again}", step.name())
        })?;
        report.push(report_line(step, &outcome, begin.elapsed()));
    }
    eprintln!("\n==> all passed in {:.0} s", start.elapsed().as_secs_f64());
    eprintln!("{}", report.join("\n"));
    Ok(())
}

/// The steps to run, in order.
fn plan(args: &Args) -> Vec<Step> {
    let asked = match args.only.as_slice() {
        _ if args.filter.is_some() || args.program.is_some() => vec![Step::Tests],
        _ if args.fast => vec![Step::Fmt, Step::Web, Step::Clippy, Step::Tests],
        [] => Step::value_variants().to_vec(),
        only => only.to_vec(),
    };
    // Unit tests need nothing, and a program that is named is there.
    let needs = |step: Step| if args.fast || args.program.is_some() { &[] } else { step.needs() };
    let wanted = |step: &Step| asked.iter().any(|asked| asked == step || needs(*asked).contains(step));
    Step::value_variants().iter().copied().filter(wanted).collect()
}

fn report_line(step: Step, outcome: &Outcome, took: Duration) -> String {
    let ending = match outcome {
        Outcome::Done => "ok".to_owned(),
        Outcome::Skipped(why) => format!("skipped: {why}"),
    };
    format!("    {:<9} {:>4.0} s  {ending}", step.name(), took.as_secs_f64())
}

impl Step {
    /// The word used on the command line.
    fn name(self) -> &'static str {
        match self {
            Self::Fmt => "fmt",
            Self::Packages => "packages",
            Self::Codex => "codex",
            Self::Clippy => "clippy",
            Self::Deny => "deny",
            Self::Web => "web",
            Self::Build => "build",
            Self::Doctests => "doctests",
            Self::App => "app",
            Self::Tests => "tests",
        }
    }

    /// Steps without which this one cannot run. They are quick when there is nothing to do.
    fn needs(self) -> &'static [Self] {
        match self {
            Self::Tests => &[Self::Packages, Self::Codex, Self::Build],
            Self::App => &[Self::Packages, Self::Codex, Self::Web, Self::Build],
            _ => &[],
        }
    }

    /// How to run this step again by itself.
    fn rerun(self, args: &Args) -> String {
        match (self, &args.filter) {
            (Self::Tests, Some(filter)) => format!("cargo xtask test --filter {filter}"),
            (Self::Tests, None) if args.fast => "cargo xtask test --fast".to_owned(),
            (Self::Tests, None) => "cargo xtask test --only tests (or --filter NAME)".to_owned(),
            _ => format!("cargo xtask test --only {}", self.name()),
        }
    }

    fn run(self, repository: &Path, args: &Args) -> anyhow::Result<Outcome> {
        let cargo = |words: &[&str]| -> anyhow::Result<Outcome> {
            process::run(Command::new("cargo").current_dir(repository).args(words))?;
            Ok(Outcome::Done)
        };
        match self {
            Self::Fmt => cargo(&["fmt", "--all", "--check"]),
            Self::Packages => debian::ensure(args.ci).map(|()| Outcome::Done),
            Self::Codex => codex::ensure(repository).map(|_| Outcome::Done),
            Self::Clippy => cargo(&["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"]),
            Self::Deny if process::answer(Command::new("cargo").args(["deny", "--version"])).is_none() => {
                let why = "cargo-deny is not installed";
                eprintln!("{why} (`cargo install --locked cargo-deny` takes some minutes)");
                Ok(Outcome::Skipped(why))
            }
            Self::Deny => cargo(&["deny", "check", "bans", "licenses", "sources"]),
            Self::Web => {
                crate::web::check(repository).and_then(|()| crate::web::build(repository)).map(|()| Outcome::Done)
            }
            // The end-to-end tests run the programs, and cargo builds none for the tests of another package. Not this
            // program: it is running, and Windows does not replace what runs.
            Self::Build => cargo(&["build", "--workspace", "--exclude", "xtask", "--bins", "--tests"]),
            Self::Doctests => cargo(&["test", "--workspace", "--doc"]),
            Self::App => crate::web::test_app(repository).map(|()| Outcome::Done),
            Self::Tests => {
                let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
                let tests = Tests {
                    repository,
                    fast: args.fast,
                    program: args.program.as_deref(),
                    filters: args.filter.as_deref().into_iter().collect(),
                    soak: false,
                    jobs: args.jobs.map_or(cores, NonZero::get),
                    limit: args.limit,
                };
                tests.run().map(|()| Outcome::Done)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn args(words: &[&str]) -> Args {
        Args { ci: false, ..Line::try_parse_from([&["test"], words].concat()).expect("a command line").args }
    }

    #[test]
    fn everything_runs_by_default_and_the_tests_last() {
        let plan = plan(&args(&[]));
        assert_eq!(plan, Step::value_variants());
        assert_eq!(plan.last(), Some(&Step::Tests));
    }

    #[test]
    fn a_step_alone_brings_what_it_needs() {
        assert_eq!(plan(&args(&["--only", "clippy"])), [Step::Clippy]);
        let with_needs = [Step::Packages, Step::Codex, Step::Build, Step::Tests];
        assert_eq!(plan(&args(&["--only", "tests"])), with_needs);
        assert_eq!(plan(&args(&["--filter", "pairing"])), with_needs);
    }

    #[test]
    fn the_fast_run_needs_no_codex_and_builds_nothing_that_does() {
        assert_eq!(plan(&args(&["--fast"])), [Step::Fmt, Step::Web, Step::Clippy, Step::Tests]);
        assert_eq!(plan(&args(&["--fast", "--filter", "pairing"])), [Step::Tests]);
        assert_eq!(plan(&args(&["--program", "target/debug/deps/e2e-1"])), [Step::Tests]);
    }

    #[test]
    fn a_test_has_three_minutes() {
        assert_eq!(args(&[]).limit, Duration::from_secs(180));
    }

    #[test]
    fn steps_run_in_their_order_and_once() {
        assert_eq!(plan(&args(&["--only", "clippy", "--only", "fmt", "--only", "clippy"])), [Step::Fmt, Step::Clippy]);
    }

    #[test]
    fn needs_come_before_the_step() {
        for step in Step::value_variants() {
            assert!(step.needs().iter().all(|needed| needed < step), "{step:?} needs a later step");
        }
    }

    #[test]
    fn a_failed_step_says_how_to_run_it_alone() {
        for step in Step::value_variants() {
            let said = step.rerun(&args(&[]));
            let word = said.split(' ').nth(4).unwrap();
            assert_eq!(Step::from_str(word, false), Ok(*step), "`{said}` does not run {step:?}");
        }
        assert_eq!(Step::Tests.rerun(&args(&["--filter", "pairing"])), "cargo xtask test --filter pairing");
        assert_eq!(Step::Tests.rerun(&args(&["--fast"])), "cargo xtask test --fast");
        assert_eq!(Step::Clippy.rerun(&args(&["--fast"])), "cargo xtask test --only clippy");
    }
}
