//! Processes that are measured: started, read by their lines, pinned to processors, and read for what they used.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::thread::CpuSet;
use serde_json::Value;

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

    /// Waits for a line that begins with `word`.
    pub(super) fn says(&mut self, word: &str) -> anyhow::Result<()> {
        self.find(word, |line| line.starts_with(word).then_some(()))
    }

    /// The next JSON line that is `wanted`, by its `event`.
    pub(super) fn event(&mut self, event: &str, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let parsed = |line: &str| serde_json::from_str::<Value>(line).ok();
        self.find(event, |line| parsed(line).filter(|line| line["event"] == event && wanted(line)))
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
