//! Processes that are measured: started, read by their lines, pinned to processors, and read for what they used.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::CpuSet;
use serde_json::Value;
use tokio::time::sleep;

/// How often it is looked whether a process is at rest, and how many looks in a row have to find it so.
const LOOK: Duration = Duration::from_millis(250);
const LOOKS: usize = 4;

/// How much the memory of a process at rest changes from look to look, in KiB. Signs of life come and go all the time.
const WAVERING: f64 = 256.0;

/// A process. Killed when dropped.
pub(super) struct Process {
    /// What a table calls it.
    pub(super) name: &'static str,
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Process {
    /// Starts a command whose standard output is read by lines.
    pub(super) fn start(name: &'static str, mut command: Command) -> anyhow::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("{name} does not start"))?;
        let stdout = child.stdout.take().context("a child has its output")?;
        Ok(Self { name, child, lines: BufReader::new(stdout) })
    }

    /// Waits for a line that begins with `word`, and gives what follows it.
    pub(super) fn says(&mut self, word: &str) -> anyhow::Result<String> {
        self.find(word, |line| line.strip_prefix(word).map(|rest| rest.trim_start().to_owned()))
    }

    /// The same, of a process that may be broken: one that does not say it in time is killed.
    pub(super) fn says_within(&mut self, limit: Duration, word: &str) -> anyhow::Result<String> {
        self.within(limit, |process| process.says(word))
    }

    /// The next JSON line that is `wanted`, by its `event`.
    pub(super) fn event(&mut self, event: &str, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let parsed = |line: &str| serde_json::from_str::<Value>(line).ok();
        self.find(event, |line| parsed(line).filter(|line| line["event"] == event && wanted(line)))
    }

    /// The next JSON line with this `event`, from a process that may be broken: one that does not say it in time is killed.
    pub(super) fn event_within(&mut self, limit: Duration, event: &str) -> anyhow::Result<Value> {
        self.within(limit, |process| process.event(event, |_| true))
    }

    /// Sends it a signal, and waits for its end; one that does not end in time is killed.
    pub(super) fn end(&mut self, signal: Signal, limit: Duration) -> anyhow::Result<ExitStatus> {
        let name = self.name;
        kill_process(Pid::from_child(&self.child), signal).with_context(|| format!("{name} takes no signal"))?;
        self.within(limit, |process| process.child.wait()).with_context(|| format!("{name} can't be waited for"))
    }

    /// Waits for something that it does; it is killed when that takes longer.
    fn within<T>(&mut self, limit: Duration, wait: impl FnOnce(&mut Self) -> T) -> T {
        let id = Pid::from_child(&self.child);
        let (done, is_done) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                if is_done.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                    // Gone already is as good.
                    let _ = kill_process(id, Signal::KILL);
                }
            });
            let waited = wait(self);
            drop(done);
            waited
        })
    }

    fn find<T>(&mut self, what: &str, wanted: impl Fn(&str) -> Option<T>) -> anyhow::Result<T> {
        let mut all = String::new();
        loop {
            let begin = all.len();
            if self.lines.read_line(&mut all)? == 0 {
                bail!("{} ended before it said {what}; it said: {all}", self.name);
            }
            if let Some(found) = wanted(all[begin..].trim_end()) {
                return Ok(found);
            }
        }
    }

    /// Lets it run on these processors only, with all the threads that it has now and begins later.
    pub(super) fn pin(&self, cpus: &[usize]) -> anyhow::Result<()> {
        pin(&format!("/proc/{}/task", self.child.id()), cpus)
    }

    /// Its resident memory, in KiB.
    pub(super) fn resident(&self) -> anyhow::Result<f64> {
        let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id()))?;
        let rss = rollup.lines().find_map(|line| line.strip_prefix("Rss:")?.strip_suffix("kB")?.trim().parse().ok());
        rss.with_context(|| format!("{} has no resident memory", self.name))
    }

    /// The same once it has nothing to do any more, which it may take so long for.
    pub(super) async fn memory_at_rest(&self, limit: Duration) -> anyhow::Result<f64> {
        let begin = Instant::now();
        let (mut memory, mut cpu, mut quiet) = (self.resident()?, self.cpu()?, 0);
        while quiet < LOOKS {
            ensure!(begin.elapsed() < limit, "{} does not come to rest", self.name);
            sleep(LOOK).await;
            let (memory_now, cpu_now) = (self.resident()?, self.cpu()?);
            let is_quiet = (memory_now - memory).abs() <= WAVERING && cpu_now - cpu <= LOOK / 5;
            quiet = if is_quiet { quiet + 1 } else { 0 };
            (memory, cpu) = (memory_now, cpu_now);
        }
        Ok(memory)
    }

    /// How many files it has open, sockets among them.
    pub(super) fn open_files(&self) -> anyhow::Result<usize> {
        Ok(std::fs::read_dir(format!("/proc/{}/fd", self.child.id()))?.count())
    }

    /// Processor time that it used so far, in user and system together.
    pub(super) fn cpu(&self) -> anyhow::Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // proc_pid_stat(5): utime and stime are the 14th and 15th, in clock ticks; the name before them may hold anything.
        let rest = stat.rsplit_once(") ").context("no name in stat")?.1;
        let ticks: u64 = rest.split(' ').skip(11).take(2).map(|field| field.parse().unwrap_or(0)).sum();
        Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lets this process run on these processors only.
pub(super) fn pin_self(cpus: &[usize]) -> anyhow::Result<()> {
    pin("/proc/self/task", cpus)
}

fn pin(tasks: &str, cpus: &[usize]) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        set.set(cpu);
    }
    for task in std::fs::read_dir(Path::new(tasks))? {
        let id = task?.file_name().to_string_lossy().parse()?;
        match rustix::thread::sched_setaffinity(rustix::thread::Pid::from_raw(id), &set) {
            // A thread that ended meanwhile.
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(error).context("could not choose the processors"),
        }
    }
    Ok(())
}
