//! The product's binaries as processes, read by their `--json` lines.

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::dice::Dice;
use crate::tmux::Terminal;
use crate::{PATIENCE, codex};

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
    /// The home that it runs on, until it has ended in order.
    home: Option<PathBuf>,
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
        let home = command.as_std().get_envs().find(|(name, _)| *name == "HOME");
        let home = home.and_then(|(_, home)| home).map(PathBuf::from);
        disorder().extend(home.clone());
        Self { name: name.into(), child, lines, seen: VecDeque::new(), home }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    pub async fn type_line(&mut self, line: &str) {
        let stdin: &mut ChildStdin = self.child.stdin.as_mut().expect("it reads");
        stdin.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    /// The next line with this `event`; others are kept.
    pub async fn event(&mut self, event: &str) -> Value {
        self.line(event, |line| line["event"] == event).await
    }

    /// The next line with this `event`; `None` when the command ends instead.
    pub async fn try_event(&mut self, event: &str) -> Option<Value> {
        while let Ok(Some(line)) = timeout(PATIENCE, self.lines.recv()).await {
            if line["event"] == event {
                return Some(line);
            }
        }
        None
    }

    /// The lines that nobody waited for, to its end.
    pub async fn rest(&mut self) -> Vec<Value> {
        let mut rest: Vec<_> = self.seen.drain(..).collect();
        while let Ok(Some(line)) = timeout(PATIENCE, self.lines.recv()).await {
            rest.push(line);
        }
        rest
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
        self.signal("-TERM");
        self.exit().await
    }

    /// Ends it with a signal; it has to have this exit code.
    pub async fn signal_and_wait(mut self, signal: &str, code: i32) {
        self.signal(signal);
        assert_eq!(self.exit().await, Some(code), "the exit code of {} after {signal}", self.name);
    }

    /// Sends it a signal, in the words of `kill`.
    pub fn signal(&self, signal: &str) {
        let status = std::process::Command::new("kill").args([signal, &self.pid().to_string()]).status().unwrap();
        assert!(status.success(), "kill {signal}: {status}");
    }

    /// Waits for its end, and gives its exit code.
    pub async fn exit(&mut self) -> Option<i32> {
        let ended = timeout(PATIENCE, self.child.wait()).await;
        let code = ended.unwrap_or_else(|_| panic!("{} does not end", self.name)).unwrap().code();
        if let Some(home) = code.and_then(|_| self.home.take()) {
            let mut disorder = disorder();
            let at = disorder.iter().position(|other| *other == home);
            at.map(|at| disorder.swap_remove(at));
        }
        code
    }
}

/// The homes of those that have not ended in order, one for each: an agent that was killed leaves the Codex that it
/// started, and [`Home`] ends that.
fn disorder() -> MutexGuard<'static, Vec<PathBuf>> {
    static HOMES: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
    HOMES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A free port of loopback, given back for whoever is to listen there: those that are started twice need it twice.
///
/// Not one of those that systems give to who asks for any: another connection would have it in the meantime.
pub fn free_port() -> SocketAddr {
    let mut dice = Dice::new(Dice::seed());
    let ports = std::iter::repeat_with(|| SocketAddr::from(([127, 0, 0, 1], 20_000 + dice.roll(10_000) as u16)));
    ports.take(1000).find(|addr| TcpListener::bind(addr).is_ok()).expect("a port between 20000 and 30000 is free")
}

/// How a command ended, and what it printed.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code.
    pub code: i32,
    /// What it printed.
    pub out: String,
    /// What it said beside that.
    pub err: String,
}

impl Finished {
    /// Its lines of JSON.
    pub fn lines(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("`{line}` is not JSON in {self:?}"));
        self.out.lines().map(parse).collect()
    }

    /// Its one line of JSON with this `event`.
    pub fn event(&self, event: &str) -> Value {
        let mut found = self.lines().into_iter().filter(|line| line["event"] == event);
        match (found.next(), found.next()) {
            (Some(line), None) => line,
            _ => panic!("wanted one `{event}` in {self:?}"),
        }
    }

    /// The same, if it did what it was asked.
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }
}

/// A `REACHBACK_HOME`, with the `CODEX_HOME` of the same person, and the commands run on it. Removed when dropped.
pub struct Home {
    folder: TempDir,
}

impl Home {
    /// An empty one, below `target/e2e`: Codex does less in the temporary folder.
    pub fn new() -> Self {
        let e2e = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/e2e");
        std::fs::create_dir_all(&e2e).unwrap();
        let folder = tempfile::Builder::new().prefix("home-").tempdir_in(e2e.canonicalize().unwrap()).unwrap();
        std::fs::create_dir(folder.path().join("codex")).unwrap();
        std::fs::write(folder.path().join("codex/config.toml"), "check_for_update_on_startup = false\n").unwrap();
        Self { folder }
    }

    /// The `REACHBACK_HOME`.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// The project of a demo on it.
    pub fn project(&self) -> PathBuf {
        self.folder.path().join("state-project")
    }

    /// Starts `reachback` with `--json`.
    pub fn start(&self, args: &[&str]) -> Process {
        let mut command = self.command(args);
        command.arg("--json");
        Process::spawn(&format!("reachback {}", args.first().unwrap_or(&"")), command)
    }

    /// Starts `reachback` with `--json` from a shell that did `first` and becomes it.
    pub fn start_after(&self, first: &str, args: &[&str]) -> Process {
        let mut command = after(first, self.command(args));
        command.arg("--json");
        Process::spawn(&format!("reachback {}", args.first().unwrap_or(&"")), command)
    }

    /// Runs `reachback` to its end, for a person without a terminal.
    pub async fn run(&self, args: &[&str]) -> Finished {
        finished(self.command(args), "").await
    }

    /// Runs `reachback` with `--json` to its end.
    pub async fn json(&self, args: &[&str]) -> Finished {
        let mut command = self.command(args);
        command.arg("--json");
        finished(command, "").await
    }

    /// Runs `reachback` in a terminal.
    pub fn terminal(&self, args: &[&str]) -> Terminal {
        self.sized_terminal(crate::tmux::SIZE, args)
    }

    /// Runs `reachback` in a terminal of this many columns and rows.
    pub fn sized_terminal(&self, size: (u16, u16), args: &[&str]) -> Terminal {
        let env = self.terminal_env();
        let env: Vec<_> = env.iter().map(|(name, value)| (*name, value.to_str().unwrap())).collect();
        Terminal::sized(size, &binary("reachback"), args, &env)
    }

    /// Runs `reachback` in a terminal whose shell is in `folder`.
    pub fn terminal_in(&self, folder: &Path, args: &[&str]) -> Terminal {
        let (env, program) = (self.terminal_env(), binary("reachback"));
        let env: Vec<_> = env.iter().map(|(name, value)| (*name, value.to_str().unwrap())).collect();
        let there = ["-C", folder.to_str().unwrap(), program.to_str().unwrap()];
        Terminal::start(Path::new("env"), &[&there[..], args].concat(), &env)
    }

    pub fn codex_home(&self) -> PathBuf {
        self.folder.path().join("codex")
    }

    /// A new folder beside both.
    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    /// A command on this home, not started yet.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary("reachback"));
        command.args(args).env_remove("REACHBACK_CODEX_PROGRAM").env_remove("REACHBACK_LOG").envs(self.env());
        command
    }

    /// What runs in a terminal ends when that is closed, and nobody waits until it has.
    fn terminal_env(&self) -> [(&'static str, PathBuf); 5] {
        disorder().push(self.folder.path().into());
        self.env()
    }

    fn env(&self) -> [(&'static str, PathBuf); 5] {
        let folder = self.folder.path();
        [
            // The person's.
            ("HOME", folder.into()),
            ("REACHBACK_HOME", self.path()),
            ("CODEX_HOME", folder.join("codex")),
            // Sockets go with the folder, where its path is short enough for them.
            ("XDG_RUNTIME_DIR", folder.into()),
            // Where the homes are that nobody chose: `reachback`, and `reachback-demo` for a demo.
            ("XDG_STATE_HOME", folder.into()),
        ]
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // Who was killed left what it had started. Who ended in order left nothing, and if it did, `cargo xtask test`
        // is to find it.
        let in_order = !disorder().iter().any(|home| home == self.folder.path());
        if in_order && !std::thread::panicking() {
            return;
        }
        for (pid, _) in processes_with(self.folder.path()) {
            let _ = std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).output();
        }
    }
}

impl Default for Home {
    fn default() -> Self {
        Self::new()
    }
}

/// The same command, in place of a shell that does `first`, with hang-ups, interrupts and SIGQUIT as they usually are: who runs the
/// tests may have been started to ignore them, and a shell can't undo that.
pub fn after(first: &str, command: Command) -> Command {
    let command = command.as_std();
    let mut shell = Command::new("env");
    shell.args(["--default-signal=HUP,INT,QUIT", "/bin/sh", "-c", &format!("{first}; exec \"$@\""), "sh"]);
    shell.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}

/// Runs a command to its end; `input` is what it finds typed.
pub async fn finished(command: Command, input: &str) -> Finished {
    finished_within(PATIENCE, command, input).await
}

/// The same for one that may take so long.
pub async fn finished_within(patience: Duration, mut command: Command, input: &str) -> Finished {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let what = format!("{:?}", command.as_std());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{what} does not start: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    // One that ends without reading is as good.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let output = timeout(patience, child.wait_with_output()).await;
    let output = output.unwrap_or_else(|_| panic!("{what} does not end")).unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let code = output.status.code().unwrap_or_else(|| panic!("{what}: {}", output.status));
    Finished { code, out: text(output.stdout), err: text(output.stderr) }
}

/// `reachback up --demo --json`: relay, agent, the real Codex and a scripted model in one process.
pub struct Up {
    pub process: Process,
    /// Its state.
    pub home: Home,
    /// Where the relay listens.
    pub addr: SocketAddr,
    /// Its `ready` line.
    pub ready: Value,
    args: Vec<String>,
    has_paired: bool,
}

impl Up {
    /// Starts it on a free port, and waits until it is ready.
    pub async fn start() -> Self {
        Self::start_at(free_port(), &[]).await
    }

    /// Starts it with more arguments, and waits until it is ready.
    pub async fn start_at(addr: SocketAddr, more: &[&str]) -> Self {
        let (home, codex) = (Home::new(), codex::program());
        let listen = addr.to_string();
        let args = ["up", "--demo", "--listen", &listen, "--codex-program", codex.to_str().unwrap()];
        let args: Vec<_> = args.iter().chain(more).map(|&arg| arg.to_owned()).collect();
        let (process, ready) = Self::spawn(&home, &args).await;
        Self { process, home, addr, ready, args, has_paired: false }
    }

    /// Starts it again on the same home and port, after it ended.
    pub async fn restart(&mut self) {
        (self.process, self.ready) = Self::spawn(&self.home, &self.args).await;
    }

    async fn spawn(home: &Home, args: &[String]) -> (Process, Value) {
        let mut process = home.start(&args.iter().map(String::as_str).collect::<Vec<_>>());
        let ready = process.event("ready").await;
        process.line("codex ready", |line| line["event"] == "codex" && line["state"] == "ready").await;
        (process, ready)
    }

    /// Pairs a new device with this name; gives its home.
    pub async fn device(&mut self, name: &str) -> Home {
        let device = Home::new();
        // The first one is let in by `up --json` itself.
        let mut pair = self.has_paired.then(|| self.home.start(&["pair", "--yes"]));
        let url = pair.as_mut().unwrap_or(&mut self.process).event("pairing").await["url"].clone();
        device.json(&["join", url.as_str().unwrap(), "--name", name]).await.ok();
        if let Some(mut pair) = pair {
            assert_eq!(pair.exit().await, Some(0), "reachback pair");
        }
        self.has_paired = true;
        device
    }

    /// Ends it in order.
    pub async fn stop(mut self) {
        assert_eq!(self.process.stop().await, Some(0), "the exit code of reachback up");
    }
}

/// Sends a process a signal, in the words of `kill`.
pub fn signal(name: &str, pid: i32) {
    let status = std::process::Command::new("kill").args([name, &pid.to_string()]).status().unwrap();
    assert!(status.success(), "kill {name} {pid}: {status}");
}

/// When a process started, in clock ticks since the system did (proc_pid_stat(5)); `None` where it has ended. Their ids say less:
/// they begin anew after the last one.
pub fn started(pid: i32) -> Option<u64> {
    stat(pid, 22)
}

/// Who started it, or took it over; `None` where it has ended.
pub fn parent(pid: i32) -> Option<i32> {
    stat(pid, 4)
}

/// A field of what the system says of a process, numbered as in proc_pid_stat(5), after its name.
fn stat<T: std::str::FromStr>(pid: i32, field: usize) -> Option<T> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(field - 3)?.parse().ok()
}

/// Processes that were started with `path` in their environment or on their command line.
pub fn processes_with(path: &Path) -> Vec<(u32, String)> {
    let needle = path.to_str().unwrap();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let read =
            |file| std::fs::read(entry.path().join(file)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let (Ok(environment), Ok(line)) = (read("environ"), read("cmdline")) else { continue };
        if !line.is_empty() && (environment.contains(needle) || line.contains(needle)) {
            let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
            found.push((pid, line.replace('\0', " ")));
        }
    }
    found
}
