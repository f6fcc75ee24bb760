//! One program under supervision: it has so long to end, and whatever it
//! started ends with it.
//!
//! [`runner`](crate::runner) starts this program once more for each test, as
//! `xtask supervise`: a process whose family is that one test's. On Linux it is
//! their *subreaper*: who loses a parent becomes its child, so nobody gets out
//! of its sight by being left behind. Elsewhere it ends the program's process
//! group, and counts nobody.
//!
//! It says on its output what was wrong, line by line, and nothing when all was
//! well. Its input is held open by whoever started it: when that ends, by
//! Ctrl-C or by SIGKILL, this one ends the family.

use std::ffi::OsString;
use std::fs::File;
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use std::{io, thread};

use anyhow::Context;

/// How a line begins that names a process which outlived the program.
pub(crate) const LEFT_OVER: &str = "left over: ";

/// How a line begins that names one which is no fault of the program's.
pub(crate) const LEFT_BY_CODEX: &str = "left by Codex: ";

/// Between two looks at who is left.
const LOOK: Duration = Duration::from_millis(250);

/// Whether this is what Codex is known to leave, also when it ends in order: a bubblewrap that lost its parent while it
/// started, before it was told to end with that, and waits for it for ever (0.169.0, one end in a few). The agent
/// can't find it (`host-agent/src/codex/process.rs`); here it is found, counted, and ended.
fn is_codex_own(line: &str) -> bool {
    line.starts_with("bwrap ") && line.ends_with(" --codex-run-as-fs-helper")
}

/// Run one program, for so long, and end what it started.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Seconds after which the program is ended.
    #[arg(long, value_parser = seconds)]
    limit: Duration,

    /// Seconds that what it started has to end after it.
    #[arg(long, value_parser = seconds)]
    grace: Duration,

    /// Where its output goes.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,

    /// The program, and its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true, value_name = "PROGRAM")]
    program: Vec<OsString>,
}

/// A number of seconds, as it is typed.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| "wanted a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(number).map_err(|error| error.to_string())
}

/// What the supervisor hears.
enum Event {
    /// A process of the family ended; says how if not well.
    Ended(u32, Option<String>),
    /// Nobody of the family runs any more.
    Alone,
    /// Whoever started the supervisor is gone.
    Abandoned,
}

/// Runs the program; fails when that fails, does not end, or leaves something running.
pub(crate) fn supervise(args: &Args) -> anyhow::Result<ExitCode> {
    family::adopt().context("could not become the parent of orphans")?;
    let [program, rest @ ..] = args.program.as_slice() else { unreachable!("clap wants a program") };
    let mut command = family::program(program);
    let output = File::create(&args.output).with_context(|| format!("could not write {}", args.output.display()))?;
    command.args(rest).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    let child = command.spawn().with_context(|| format!("could not start {}", program.display()))?;

    let program = child.id();
    let (events_out, events) = mpsc::channel();
    let abandoned = events_out.clone();
    thread::spawn(move || {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        let _ = abandoned.send(Event::Abandoned);
    });
    thread::spawn(move || family::reap(child, &events_out));

    let (said, somebody) = until_its_end(&events, program, args);
    if somebody {
        end_family(&events, program);
    }
    for line in &said {
        println!("{line}");
    }
    let well = said.iter().all(|line| line.starts_with(LEFT_BY_CODEX));
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Waits for the program, and then for what it started; says what was wrong, and whether somebody still runs.
fn until_its_end(events: &Receiver<Event>, program: u32, args: &Args) -> (Vec<String>, bool) {
    let mut said = Vec::new();
    let limit = Instant::now() + args.limit;
    loop {
        match events.recv_timeout(limit.saturating_duration_since(Instant::now())) {
            Ok(Event::Ended(pid, how)) if pid == program => break said.extend(how),
            Ok(Event::Ended(..)) => {}
            Err(RecvTimeoutError::Timeout) => {
                said.push(format!("it did not end within {} s, and was ended; then ran:", args.limit.as_secs_f64()));
                said.extend(family::members().iter().map(|(pid, line)| format!("    {pid} {line}")));
                return (said, true);
            }
            Ok(Event::Abandoned | Event::Alone) | Err(RecvTimeoutError::Disconnected) => {
                return (vec!["whoever wanted it to run is gone".to_owned()], true);
            }
        }
    }
    let grace = Instant::now() + args.grace;
    loop {
        match events.recv_timeout(LOOK.min(grace.saturating_duration_since(Instant::now()))) {
            Ok(Event::Ended(..)) => continue,
            Ok(Event::Alone) => return (said, false),
            Ok(Event::Abandoned) | Err(RecvTimeoutError::Disconnected) => return (said, true),
            Err(RecvTimeoutError::Timeout) => {}
        }
        let left = family::members();
        if left.iter().all(|(_, line)| is_codex_own(line)) || Instant::now() >= grace {
            said.extend(left.iter().map(|(pid, line)| {
                let whose = if is_codex_own(line) { LEFT_BY_CODEX } else { LEFT_OVER };
                format!("{whose}{pid} {line}")
            }));
            return (said, true);
        }
    }
}

/// Ends everybody. Those that were just being started when the others were ended are met in the next round.
fn end_family(events: &Receiver<Event>, program: u32) {
    const ROUND: Duration = Duration::from_millis(50);
    const PATIENCE: Duration = Duration::from_secs(10);
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        family::end(program);
        if matches!(events.recv_timeout(ROUND), Ok(Event::Alone) | Err(RecvTimeoutError::Disconnected)) {
            return;
        }
    }
    // Waiting in the kernel for a disk that does not answer: nothing ends such a process.
    for (pid, line) in family::members() {
        println!("could not be ended: {pid} {line}");
    }
}

#[cfg(target_os = "linux")]
mod family {
    use std::ffi::OsStr;
    use std::process::{Child, Command};
    use std::sync::mpsc::Sender;
    use std::{fs, io};

    use rustix::io::Errno;
    use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, wait};

    use super::Event;

    /// From now on orphans among the descendants become children.
    pub(super) fn adopt() -> io::Result<()> {
        Ok(set_child_subreaper(Some(getpid()))?)
    }

    /// The program with signals as they usually are: what this was started to ignore (`nohup`, a shell's `&`) its tests send
    /// to programs that keep what they were started to ignore. Descendants are found wherever they are.
    pub(super) fn program(program: &OsStr) -> Command {
        let mut command = Command::new("env");
        command.arg("--default-signal=HUP,INT,QUIT").arg(program);
        command
    }

    /// Reports each child that ends, the program and orphans, until there is none.
    pub(super) fn reap(_: Child, events: &Sender<Event>) {
        loop {
            let event = match wait(WaitOptions::empty()) {
                Ok(Some((pid, status))) => {
                    let how = match (status.exit_status(), status.terminating_signal()) {
                        (Some(0), _) => None,
                        (Some(code), _) => Some(format!("its exit code is {code}")),
                        (_, signal) => Some(format!("signal {} ended it", signal.unwrap_or_default())),
                    };
                    Event::Ended(pid.as_raw_nonzero().get().cast_unsigned(), how)
                }
                Ok(None) | Err(Errno::INTR) => continue,
                Err(_) => Event::Alone,
            };
            let last = matches!(event, Event::Alone);
            if events.send(event).is_err() || last {
                return;
            }
        }
    }

    /// All descendants that run, with their command lines.
    pub(super) fn members() -> Vec<(u32, String)> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let running: Vec<(u32, u32)> = entries
            .filter_map(|entry| {
                let pid = entry.file_name().to_str()?.parse().ok()?;
                Some((pid, parent(&fs::read_to_string(entry.path().join("stat")).ok()?)?))
            })
            .collect();
        let mut family = vec![std::process::id()];
        let mut at = 0;
        while let Some(&one) = family.get(at) {
            family.extend(running.iter().filter(|(_, parent)| *parent == one).map(|(pid, _)| pid));
            at += 1;
        }
        family.into_iter().skip(1).map(|pid| (pid, line(pid))).collect()
    }

    /// The parent of a process that has not ended, by its `/proc/PID/stat`: `PID (any name) STATE PARENT …`.
    pub(super) fn parent(stat: &str) -> Option<u32> {
        let (_, after) = stat.rsplit_once(") ")?;
        let mut fields = after.split(' ');
        let state = fields.next()?;
        (state != "Z").then(|| fields.next()?.parse().ok()).flatten()
    }

    fn line(pid: u32) -> String {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).trim_end_matches('\0').replace('\0', " ")
    }

    /// Kills all descendants.
    pub(super) fn end(_: u32) {
        for (pid, _) in members() {
            if let Some(pid) = pid.try_into().ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod family {
    use std::ffi::OsStr;
    use std::io;
    use std::process::{Child, Command};
    use std::sync::mpsc::Sender;

    use super::Event;

    pub(super) fn adopt() -> io::Result<()> {
        Ok(())
    }

    /// The program in a process group of its own, where there is such a thing.
    pub(super) fn program(program: &OsStr) -> Command {
        #[cfg_attr(not(unix), expect(unused_mut, reason = "there are no groups"))]
        let mut command = Command::new(program);
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command
    }

    pub(super) fn reap(mut child: Child, events: &Sender<Event>) {
        let how = match child.wait() {
            Ok(status) if status.success() => None,
            Ok(status) => Some(status.to_string()),
            Err(error) => Some(error.to_string()),
        };
        let _ = events.send(Event::Ended(child.id(), how));
        let _ = events.send(Event::Alone);
    }

    /// Nobody is known here.
    pub(super) fn members() -> Vec<(u32, String)> {
        Vec::new()
    }

    /// Kills the program with its group.
    pub(super) fn end(program: u32) {
        #[cfg(unix)]
        if let Some(group) = program.try_into().ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        #[cfg(not(unix))]
        let _ = Command::new("taskkill").args(["/F", "/T", "/PID", &program.to_string()]).output();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_may_have_parts_and_are_never_negative() {
        assert_eq!(seconds("0.25"), Ok(Duration::from_millis(250)));
        assert!(seconds("-1").is_err() && seconds("soon").is_err() && seconds("inf").is_err());
    }

    #[test]
    fn only_the_bubblewrap_of_an_fs_helper_is_codex_own() {
        assert!(is_codex_own("bwrap --as-pid-1 --ro-bind / / -- /opt/codex --codex-run-as-fs-helper"));
        assert!(!is_codex_own("bwrap --as-pid-1 --ro-bind / / -- sleep 9"), "what a person's turn runs");
        assert!(!is_codex_own("/opt/codex --codex-run-as-fs-helper"));
        assert!(!is_codex_own("/opt/codex app-server --listen unix://"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_parent_is_read_whatever_the_process_is_called() {
        assert_eq!(family::parent("71 (a) R 5 (b) S 42 71 71 0"), Some(42));
        assert_eq!(family::parent("71 (sleep) Z 42 71 71 0"), None, "it has ended");
        assert_eq!(family::parent(""), None);
    }
}
