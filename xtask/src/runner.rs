//! Runs tests, each as a process of its own under [`supervise`](crate::supervise):
//! one that hangs is ended and named, and what it started is gone when it ends.
//!
//! cargo builds the test programs and says which there are; each lists its
//! tests. They run as many at a time as there are cores, and are reported in
//! the words of the usual test program, which they are when run by hand.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::process;
use crate::supervise::{LEFT_BY_CODEX, LEFT_OVER};

/// How long what a test started has to end after it: an agent that lost its terminal ends in order.
const GRACE: Duration = Duration::from_secs(5);

/// How the names of tests begin that `cargo xtask soak` runs. They are ignored for everybody else.
const SOAK: &str = "soak::";

/// So much of a failed test's output is printed; the whole is in a file.
const SHOWN: usize = 64 * 1024;

/// So many lines of what its panics say are repeated at the end.
const SAID: usize = 60;

/// So many characters of each.
const WIDTH: usize = 2000;

/// Which tests to run, and how.
pub(crate) struct Tests<'a> {
    pub(crate) repository: &'a Path,
    /// Without those that need the real Codex.
    pub(crate) fast: bool,
    /// Only those of this program.
    pub(crate) program: Option<&'a Path>,
    /// Only those with one of these in their names; all when there is none.
    pub(crate) filters: Vec<&'a str>,
    /// The slow ones, which are left out otherwise, and no others.
    pub(crate) soak: bool,
    /// How many at a time.
    pub(crate) jobs: usize,
    /// How long each may take.
    pub(crate) limit: Duration,
}

/// A test program: the unit tests of a crate, or a file in its `tests/`.
#[derive(Debug, PartialEq)]
struct Program {
    file: PathBuf,
    /// Where tests expect to run.
    package: PathBuf,
}

/// How one test ended.
struct Ended {
    name: String,
    took: Duration,
    /// What was wrong, if anything; not what the test printed.
    wrong: Option<String>,
    /// How many processes Codex left.
    by_codex: usize,
    output: PathBuf,
}

impl Tests<'_> {
    /// Builds and runs them.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let mut ended = Vec::new();
        for program in self.programs()? {
            ended.extend(self.run_program(&program)?);
        }
        if ended.is_empty() && !self.filters.is_empty() {
            bail!("no test has `{}` in its name", self.filters.join("` or `"));
        }
        ended.sort_by_key(|test| std::cmp::Reverse(test.took));
        println!("\nslowest:");
        for test in ended.iter().take(5) {
            println!("    {:>5.1} s  {}", test.took.as_secs_f64(), test.name);
        }
        let by_codex: usize = ended.iter().map(|test| test.by_codex).sum();
        if by_codex > 0 {
            println!("\nhelpers that Codex left at its end, ended: {by_codex}");
        }
        match verdict(&ended) {
            Some(wrong) => bail!(wrong),
            None => Ok(()),
        }
    }

    /// Builds the test programs.
    fn programs(&self) -> anyhow::Result<Vec<Program>> {
        if let Some(file) = self.program {
            let file = file.canonicalize().with_context(|| format!("no test program {}", file.display()))?;
            return Ok(vec![Program { file, package: self.repository.to_owned() }]);
        }
        let mut cargo = Command::new("cargo");
        cargo.current_dir(self.repository).args(["test", "--tests", "--no-run"]);
        cargo.args(match (self.soak, self.fast) {
            (true, _) => &["--package", "e2e"][..],
            (false, true) => &["--workspace", "--exclude", "e2e"],
            (false, false) => &["--workspace"],
        });
        eprintln!("$ {}", process::line(&cargo));
        cargo.args(["--quiet", "--message-format", "json-render-diagnostics"]).stderr(Stdio::inherit());
        let output = cargo.output().context("could not run cargo")?;
        if !output.status.success() {
            bail!("the tests do not build");
        }
        let lines = String::from_utf8_lossy(&output.stdout);
        let programs: anyhow::Result<Vec<_>> = lines.lines().filter_map(|line| program(line).transpose()).collect();
        let mut programs = programs?;
        // What is quick first: the end-to-end tests are in `tests/`.
        programs.sort_by_key(|program| (program.package.ends_with("tests"), program.file.clone()));
        Ok(programs)
    }

    /// Runs the tests of one program.
    fn run_program(&self, program: &Program) -> anyhow::Result<Vec<Ended>> {
        let all = program.list(&[])?;
        let ignored = program.list(&["--ignored"])?;
        let wanted = |name: &&String| {
            let asked = self.filters.is_empty() || self.filters.iter().any(|filter| name.contains(filter));
            asked && (!self.soak || name.starts_with(SOAK))
        };
        let (run, skipped): (Vec<_>, Vec<_>) =
            all.iter().filter(wanted).partition(|name| ignored.contains(name) == self.soak);
        if run.is_empty() {
            return Ok(Vec::new());
        }
        let outputs = program.outputs();
        fs::create_dir_all(&outputs).with_context(|| format!("could not create {}", outputs.display()))?;

        let begin = Instant::now();
        println!("\n     Running {}", program.file.display());
        println!("running {} tests", run.len());
        let queue = Mutex::new(run.iter().copied().collect::<VecDeque<_>>());
        let (done, results) = mpsc::channel();
        let ended = thread::scope(|scope| {
            for _ in 0..self.jobs {
                let (queue, outputs, done) = (&queue, &outputs, done.clone());
                scope.spawn(move || {
                    loop {
                        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                        let Some(name) = next else { return };
                        let _ = done.send(self.run_test(program, name, outputs));
                    }
                });
            }
            drop(done);
            results.iter().inspect(print).collect::<Vec<_>>()
        });

        let failed: Vec<_> = ended.iter().filter(|test| test.wrong.is_some()).collect();
        print_failures(&failed);
        println!(
            "\ntest result: {}. {} passed; {} failed; {} ignored; 0 measured; {} filtered out; finished in {:.2}s",
            if failed.is_empty() { "ok" } else { "FAILED" },
            ended.len() - failed.len(),
            failed.len(),
            skipped.len(),
            all.len() - run.len() - skipped.len(),
            begin.elapsed().as_secs_f64()
        );
        Ok(ended)
    }

    /// Runs one test under a supervisor.
    fn run_test(&self, program: &Program, name: &str, outputs: &Path) -> Ended {
        let output = outputs.join(format!("{}.log", name.replace("::", ".")));
        let mut command = supervisor(self.limit, &output);
        // Not kept in memory by the test program: what was printed before a hang is wanted most.
        command.arg(&program.file).args(["--exact", name, "--nocapture"]);
        if self.soak {
            command.arg("--ignored");
        }
        command.current_dir(&program.package).env("CARGO_MANIFEST_DIR", &program.package);
        let begin = Instant::now();
        let (well, said) = supervised(command).unwrap_or_else(|error| (false, format!("{error:#}")));
        if well {
            let _ = fs::remove_file(&output);
        }
        let by_codex = said.lines().filter(|line| line.starts_with(LEFT_BY_CODEX)).count();
        Ended { name: name.to_owned(), took: begin.elapsed(), wrong: (!well).then_some(said), by_codex, output }
    }
}

impl Program {
    /// The names of its tests.
    fn list(&self, more: &[&str]) -> anyhow::Result<Vec<String>> {
        let mut command = Command::new(&self.file);
        command.current_dir(&self.package).args(["--list", "--format", "terse"]).args(more);
        let answer = process::answer(&mut command);
        let answer = answer.with_context(|| format!("{} does not list its tests", self.file.display()))?;
        Ok(answer.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
    }

    /// Where the output of its tests goes: `target/test-output/NAME`.
    fn outputs(&self) -> PathBuf {
        let name = self.file.file_stem().unwrap_or(OsStr::new("tests"));
        self.file.ancestors().nth(3).unwrap_or(&self.package).join("test-output").join(name)
    }
}

/// The test program that a line of cargo's tells of, if it tells of one.
fn program(line: &str) -> anyhow::Result<Option<Program>> {
    let message: Value = serde_json::from_str(line).context("cargo says something that is not JSON")?;
    if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
        return Ok(None);
    }
    let path = |key: &str| message[key].as_str().map(PathBuf::from);
    let package = path("manifest_path").and_then(|manifest| Some(manifest.parent()?.to_owned()));
    Ok(path("executable").zip(package).map(|(file, package)| Program { file, package }))
}

/// This program as a supervisor; the program to run is to follow.
fn supervisor(limit: Duration, output: &Path) -> Command {
    // cargo may have replaced the file since this program started.
    let this = if cfg!(target_os = "linux") { Ok("/proc/self/exe".into()) } else { std::env::current_exe() };
    let mut command = Command::new(this.unwrap_or_else(|_| "xtask".into()));
    command.args(["supervise", "--limit", &limit.as_secs_f64().to_string()]);
    command.args(["--grace", &GRACE.as_secs_f64().to_string()]);
    command.arg("--output").arg(output).arg("--");
    // Ctrl-C is for this program: the supervisors see it end, and clean up.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command
}

/// Runs a supervisor to its end; gives whether all was well, and what it says.
fn supervised(mut command: Command) -> anyhow::Result<(bool, String)> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().context("could not start a supervisor")?;
    // Open until it has ended: that is how it knows that it is wanted.
    let _wanted = child.stdin.take();
    let output = child.wait_with_output().context("could not wait for a supervisor")?;
    let said = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
    match output.status {
        status if !status.success() && said.is_empty() => bail!("its supervisor: {status}"),
        status => Ok((status.success(), said)),
    }
}

fn print(test: &Ended) {
    let took =
        if test.took < Duration::from_secs(1) { String::new() } else { format!(" <{:.1}s>", test.took.as_secs_f64()) };
    println!("test {} ... {}{took}", test.name, if test.wrong.is_some() { "FAILED" } else { "ok" });
}

fn print_failures(failed: &[&Ended]) {
    if failed.is_empty() {
        return;
    }
    println!("\nfailures:");
    for test in failed {
        let printed = fs::read(&test.output).unwrap_or_default();
        let from = printed.len().saturating_sub(SHOWN);
        println!("\n---- {} ----", test.name);
        if from > 0 {
            println!("[the first {from} bytes are in {} only]", test.output.display());
        }
        println!("{}", String::from_utf8_lossy(&printed[from..]));
        println!("{}: {}", test.name, test.wrong.as_deref().unwrap_or_default());
    }
    // The last of all: who sees only the end of a long log sees why.
    println!("\nfailures:");
    for test in failed {
        println!("    {}", test.name);
        let printed = fs::read(&test.output).unwrap_or_default();
        for line in panics(&String::from_utf8_lossy(&printed)) {
            println!("        {line}");
        }
    }
}

/// What a test's panics say, without their backtraces: the first [`SAID`] lines of it, each cut to [`WIDTH`] characters.
fn panics(printed: &str) -> Vec<String> {
    let mut is_panic = false;
    let said = printed.lines().filter(|line| {
        let is_behind = ["stack backtrace:", "note: "].iter().any(|begin| line.starts_with(begin));
        is_panic = line.contains(" panicked at ") || (is_panic && !is_behind);
        is_panic && !line.trim().is_empty()
    });
    said.take(SAID).map(|line| line.chars().take(WIDTH).collect()).collect()
}

/// What was wrong with the whole run, if anything.
fn verdict(ended: &[Ended]) -> Option<String> {
    let wrong: Vec<_> = ended.iter().filter_map(|test| Some((test.name.as_str(), test.wrong.as_deref()?))).collect();
    if wrong.is_empty() {
        return None;
    }
    let names: Vec<_> = wrong.iter().map(|(name, _)| *name).collect();
    let mut verdict = format!("{} of {} tests failed: {}", wrong.len(), ended.len(), names.join(", "));
    let left = wrong.iter().flat_map(|(_, said)| said.lines()).filter(|line| line.starts_with(LEFT_OVER)).count();
    if left > 0 {
        verdict.push_str(&format!("; processes left over: {left}"));
    }
    Some(verdict)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_is_understood_where_it_names_a_test_program() {
        let artifact = |test: bool, executable: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/r/proto/Cargo.toml","target":{{"name":"golden"}},
                "profile":{{"test":{test}}},"executable":{executable}}}"#
            )
        };
        let found = program(&artifact(true, r#""/r/target/debug/deps/golden-1""#)).unwrap();
        let golden = Program { file: "/r/target/debug/deps/golden-1".into(), package: "/r/proto".into() };
        assert_eq!(golden.outputs(), Path::new("/r/target/test-output/golden-1"));
        assert_eq!(found, Some(golden));
        assert_eq!(program(&artifact(false, r#""/r/target/debug/reachback""#)).unwrap(), None, "a program of ours");
        assert_eq!(program(&artifact(true, "null")).unwrap(), None);
        assert_eq!(program(r#"{"reason":"build-finished","success":true}"#).unwrap(), None);
        assert!(program("error: no").is_err());
    }

    #[test]
    fn what_panics_say_is_told_without_their_backtraces() {
        let printed = "running 1 test\n\nthread 'a' (7) panicked at tests/a.rs:1:5:\nassertion failed: no\n\n  left: 1\n\
                       stack backtrace:\n   0: begin_unwind\n\nthread 'b' panicked at b.rs:2:1:\nnot so\nnote: run with\n\
                       test a ... FAILED";
        let told = "thread 'a' (7) panicked at tests/a.rs:1:5:|assertion failed: no|  left: 1|\
                    thread 'b' panicked at b.rs:2:1:|not so";
        assert_eq!(panics(printed).join("|"), told);
        let long = format!("thread 'a' panicked at a.rs:1:1:\n{}\n{}", "ö".repeat(WIDTH + 1), "more\n".repeat(SAID));
        assert_eq!((panics(&long).len(), panics(&long)[1].chars().count()), (SAID, WIDTH));
    }

    #[test]
    fn the_verdict_names_what_failed_and_counts_what_was_left_over() {
        let ended = |name: &str, wrong: Option<&str>| Ended {
            name: name.into(),
            took: Duration::ZERO,
            wrong: wrong.map(str::to_owned),
            by_codex: 0,
            output: PathBuf::new(),
        };
        assert_eq!(verdict(&[ended("good", None)]), None);
        let left = format!("{LEFT_OVER}7 sleep 9\n{LEFT_OVER}8 sleep 9");
        let all = [ended("good", None), ended("bad", Some("its exit code is 101")), ended("untidy", Some(&left))];
        assert_eq!(verdict(&all).unwrap(), "2 of 3 tests failed: bad, untidy; processes left over: 2");
    }
}
