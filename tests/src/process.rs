//! The product's binaries as processes, read by their `--json` lines.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::PATIENCE;

/// A binary of this build; `cargo xtask test` builds them, beside the folder of test binaries.
pub fn binary(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let path = tests.parent().and_then(|deps| deps.parent()).unwrap().join(name);
    assert!(path.exists(), "{} is not built; run: cargo build --workspace --bins", path.display());
    path
}

/// A running command. Killed when dropped.
pub struct Process {
    name: String,
    child: Child,
    lines: mpsc::UnboundedReceiver<Value>,
    seen: VecDeque<Value>,
}

impl Process {
    /// Starts a binary of this build; `--json` is among `args` where it prints lines.
    pub fn start(name: &str, args: &[&str], env: &[(&str, &str)]) -> Self {
        let mut command = Command::new(binary(name));
        command.args(args).envs(env.iter().copied());
        Self::spawn(name, command)
    }

    /// Starts any command.
    pub fn spawn(name: &str, mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let (out, lines) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(Some(line)) = stdout.next_line().await {
                let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                if out.send(value).is_err() {
                    return;
                }
            }
        });
        Self { name: name.into(), child, lines, seen: VecDeque::new() }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Types a line.
    pub async fn type_line(&mut self, line: &str) {
        let stdin: &mut ChildStdin = self.child.stdin.as_mut().expect("it reads");
        stdin.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    /// The next line with this `event`; others are kept.
    pub async fn event(&mut self, event: &str) -> Value {
        self.line(event, |line| line["event"] == event).await
    }

    /// The next line that is `wanted`.
    pub async fn line(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.seen.iter().position(&wanted) {
            return self.seen.remove(at).unwrap();
        }
        let (lines, seen) = (&mut self.lines, &mut self.seen);
        let waiting = async {
            while let Some(line) = lines.recv().await {
                if wanted(&line) {
                    return Some(line);
                }
                seen.push_back(line);
            }
            None
        };
        match timeout(PATIENCE, waiting).await {
            Ok(Some(line)) => line,
            Ok(None) => panic!("{} ended before it printed {what}; it printed {:?}", self.name, self.seen),
            Err(_) => panic!("{} did not print {what}; it printed {:?}", self.name, self.seen),
        }
    }

    /// Ends it with SIGKILL and waits until it is gone.
    pub async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Asks it to stop, and gives its exit code.
    pub async fn stop(&mut self) -> Option<i32> {
        let pid = self.pid().to_string();
        let status = std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        assert!(status.success());
        self.exit().await
    }

    /// Waits for its end, and gives its exit code.
    pub async fn exit(&mut self) -> Option<i32> {
        let ended = timeout(PATIENCE, self.child.wait()).await;
        ended.unwrap_or_else(|_| panic!("{} does not end", self.name)).unwrap().code()
    }
}
