//! The Codex process that the agent starts: its environment, its group, its end.
//!
//! The npm package's `codex` is a script that runs the real program as a child,
//! so signals go to a process group of its own. That also keeps a Ctrl-C at the
//! agent's terminal from reaching Codex before the agent has let go of it.
//!
//! Codex outlives an agent that is killed, so it is noted what was started
//! ([`crate::state::codex`]), and the next agent of the home ends it. What runs
//! in the sandbox ends with Codex, and bubblewrap with it (measured with
//! 0.169.0). Not found and not ended: a bubblewrap (of an fs-helper) that lost
//! its parent while it started. It waits for ever, holds next to nothing, and is
//! no descendant of Codex any more when that is asked to end.
//!
//! Not used, although the kernel of Linux would end a child with its parent
//! (`PR_SET_PDEATHSIG`): it counts as the parent's end when the *thread* that
//! started the child ends, which may be any of the runtime's; it reaches the
//! package's script and not the program below; it can only be set between fork
//! and exec, which takes `unsafe` or one more program in between; and no other
//! system has it.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reachback_proto::words::quote;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio_util::task::AbortOnDropHandle;

use super::CodexConfig;
use super::ground::Hold;
use crate::platform::processes::Group;
use crate::platform::programs;
use crate::ssh::CODEX_VERSION;

/// Codex closes its database and its turns within a second; after this it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// The system ends what is killed at once, but for a process that waits for a disk.
const KILL_GRACE: Duration = Duration::from_secs(2);

/// `--version` answers in a fraction of a second, or not at all.
const VERSION_DEADLINE: Duration = Duration::from_secs(10);

/// What is kept of one line that Codex writes while it starts, to explain a failure.
const MAX_SAID: u64 = 400;

/// What is read of an answer to `login status`.
const MAX_STATUS: u64 = 16 * 1024;

/// What repairs a missing program, with the version that this Reachback was tested with.
pub(super) fn install() -> String {
    format!("npm install -g @openai/codex@{CODEX_VERSION}")
}

/// The program could not be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// No such program on the search path.
    #[error("{} was not found", quote(program.display()))]
    NotFound {
        /// What was looked for.
        program: PathBuf,
    },
    /// It is there, and does not run.
    #[error("could not run {}", quote(program.display()))]
    Io {
        /// What was run.
        program: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl CodexConfig {
    fn command(&self) -> Command {
        self.run(&self.program)
    }

    /// `program` as it is run for Codex, or by it: the same environment, folder and group.
    pub(super) fn run(&self, program: &Path) -> Command {
        // Whatever Codex runs can read its environment.
        let mut command = programs::command(program);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(home) = &self.home {
            command.env("CODEX_HOME", home);
        }
        if let Some(ground) = &self.ground {
            command.current_dir(ground.empty());
        }
        command.stdin(Stdio::null()).kill_on_drop(true);
        Group::own(&mut command);
        command
    }

    /// The same where Codex goes past any proxy of the environment to what listens on this machine.
    #[must_use]
    pub fn past_proxies(mut self) -> Self {
        let direct = direct(&self);
        self.env.extend(direct);
        self
    }

    /// A variable of the environment that Codex gets.
    pub(super) fn variable(&self, name: &str) -> Option<OsString> {
        let chosen = self.env.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        chosen.or_else(|| std::env::var_os(name))
    }

    fn spawn_error(&self, source: io::Error) -> SpawnError {
        let program = self.program.clone();
        // A missing working folder is reported as "not found", too.
        let folder_is_there = self.ground.as_ref().is_none_or(|ground| ground.empty().is_dir());
        match source.kind() {
            io::ErrorKind::NotFound if folder_is_there => SpawnError::NotFound { program },
            _ => SpawnError::Io { program, source },
        }
    }

    /// The file that is run, as far as it is found; a link is followed.
    pub(crate) fn program_file(&self) -> Option<PathBuf> {
        let is_name = self.program.parent().is_none_or(|parent| parent.as_os_str().is_empty());
        let program = match self.program.to_str().filter(|_| is_name) {
            Some(name) => programs::find(name)?,
            None => self.program.clone(),
        };
        program.canonicalize().ok()
    }

    /// Whether Codex is signed in with ChatGPT, as remote control needs it; `None` when it can't be asked.
    pub async fn signed_in_with_chatgpt(&self) -> Option<bool> {
        let mut command = self.command();
        command.args(["login", "status"]).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = Process::new(command.spawn().ok()?);
        let stderr = process.child.stderr.take()?;
        let mut said = Vec::new();
        tokio::time::timeout(VERSION_DEADLINE, stderr.take(MAX_STATUS).read_to_end(&mut said)).await.ok()?.ok()?;
        Some(memchr::memmem::find(&said, WITH_CHATGPT).is_some())
    }

    /// The installed program's version, `0.169.0`; `None` when it says something else.
    pub async fn version(&self) -> Result<Option<String>, SpawnError> {
        let mut command = self.command();
        command.arg("--version").stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = Process::new(command.spawn().map_err(|e| self.spawn_error(e))?);
        let Some(stdout) = process.child.stdout.take() else { return Ok(None) };
        let mut said = Vec::new();
        let answer = tokio::time::timeout(VERSION_DEADLINE, stdout.take(MAX_SAID).read_to_end(&mut said)).await;
        Ok(answer.is_ok().then(|| parse_version(&said)).flatten())
    }
}

/// What `codex login status` of version 0.169.0 says of a sign-in with ChatGPT, among warnings, on standard error.
const WITH_CHATGPT: &[u8] = b"Logged in using ChatGPT";

/// What keeps a proxy of the environment from between Codex and this agent. Codex takes one for loopback too, and with it
/// would show its sign-in and the secret address to whoever runs that (measured with 0.169.0).
fn direct(config: &CodexConfig) -> [(OsString, OsString); 2] {
    let except = |name: &str, other: &str| {
        let mut hosts = config.variable(name).or_else(|| config.variable(other)).unwrap_or_default();
        hosts.push(if hosts.is_empty() { "127.0.0.1" } else { ",127.0.0.1" });
        (name.into(), hosts)
    };
    [except("NO_PROXY", "no_proxy"), except("no_proxy", "NO_PROXY")]
}

/// The version in `codex-cli 0.169.0`.
fn parse_version(said: &[u8]) -> Option<String> {
    parse_plain_version(std::str::from_utf8(said).ok()?.trim().strip_prefix("codex-cli ")?)
}

/// A version as it is, if it is one.
pub(crate) fn parse_plain_version(version: &str) -> Option<String> {
    let plain = version.len() <= 64 && version.chars().all(|c| c.is_ascii_alphanumeric() || ".-+".contains(c));
    (plain && version.starts_with(|c: char| c.is_ascii_digit())).then(|| version.to_owned())
}

/// The last line that Codex wrote before it answered, or the error that it ended with: a backtrace or a hint at `--help` may
/// follow that.
type Said = Arc<Mutex<Option<String>>>;

/// An app-server that the agent started. Dropping it kills the whole group.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    /// The group that the child leads; it may outlive the child. `None` once it has ended.
    group: Option<Group>,
    /// Read what it writes, or it would stop when the pipes are full.
    drains: Vec<AbortOnDropHandle<()>>,
    said: Said,
}

impl Process {
    /// Starts `codex app-server` on the default control socket, with settings that win over its `config.toml`.
    pub(super) fn app_server(config: &CodexConfig, hold: &Hold) -> Result<Self, SpawnError> {
        Self::spawn(config, hold, &[], &["app-server", "--listen", "unix://"])
    }

    /// Starts `codex remote-control` in the foreground, with the agent in the place of its maker's service.
    ///
    /// Other users of the machine see the address in the process's arguments, with the secret in it: it admits nobody
    /// by itself ([`super::remote_control::http`]).
    pub(super) fn remote_control(config: &CodexConfig, hold: &Hold, base_url: &str) -> Result<Self, SpawnError> {
        let settings = [format!("chatgpt_base_url={base_url:?}")];
        let mut config = config.clone();
        config.env.extend(direct(&config));
        Self::spawn(&config, hold, &settings, &["remote-control", "--no-daemon", "--json"])
    }

    /// Starts Codex with these words, and `settings` beside those of the configuration.
    fn spawn(config: &CodexConfig, hold: &Hold, settings: &[String], words: &[&str]) -> Result<Self, SpawnError> {
        let mut command = config.command();
        command.envs(hold.env.iter().map(|(name, value)| (name, value)));
        command
            .args(config.settings().iter().chain(&hold.settings).chain(settings).flat_map(|setting| ["-c", setting]));
        command.args(words);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Self::new(command.spawn().map_err(|e| config.spawn_error(e))?);
        let said = &process.said;
        if let Some(stdout) = process.child.stdout.take() {
            process.drains.push(AbortOnDropHandle::new(tokio::spawn(drain("stdout", stdout, said.clone()))));
        }
        if let Some(stderr) = process.child.stderr.take() {
            process.drains.push(AbortOnDropHandle::new(tokio::spawn(drain("stderr", stderr, said.clone()))));
        }
        Ok(process)
    }

    fn new(child: Child) -> Self {
        Self { group: child.id().and_then(Group::led_by), child, drains: Vec::new(), said: Said::default() }
    }

    /// Waits until the started program has ended. Safe to cancel.
    pub(super) async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// The last line it wrote, for an error; waits for what is still in the pipes.
    pub(super) async fn last_words(&mut self) -> Option<String> {
        for drain in self.drains.drain(..) {
            // A grandchild may hold the pipe open.
            let _ = tokio::time::timeout(Duration::from_millis(200), drain).await;
        }
        self.said.lock().ok().and_then(|mut said| said.take())
    }

    /// The started program's; `None` once it has ended.
    pub(super) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// All of its processes.
    pub(super) fn group(&self) -> Option<Group> {
        self.group
    }

    /// Asks the group to end, and kills what is left of it after [`GRACE`].
    pub(super) async fn end(mut self) {
        if let Some(group) = self.group {
            // Its status is of no interest any more.
            let child = async { drop(self.child.wait().await) };
            end_group(group, child).await;
        }
        // Where there are no groups it still runs.
        let _ = self.child.kill().await;
        self.group = None;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(group) = self.group {
            group.kill();
        }
    }
}

/// Asks a group to end, and kills what is left of it after [`GRACE`]; whether it is gone. `waited` ends when those of it that
/// are children of this process have ended and were waited for.
pub(super) async fn end_group(group: Group, waited: impl Future<Output = ()>) -> bool {
    group.terminate();
    let gone = async {
        waited.await;
        group.gone().await;
    };
    if tokio::time::timeout(GRACE, gone).await.is_ok() {
        return true;
    }
    tracing::warn!(grace_s = GRACE.as_secs(), "codex did not end when asked; killing it");
    group.kill();
    tokio::time::timeout(KILL_GRACE, group.gone()).await.is_ok()
}

/// Reads until the end. Only lengths are logged: what Codex writes may quote prompts and paths.
async fn drain(name: &'static str, pipe: impl AsyncRead + Unpin, said: Said) {
    let mut pipe = BufReader::new(pipe);
    loop {
        let mut line = Vec::new();
        match (&mut pipe).take(MAX_SAID).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(bytes) => tracing::debug!(pipe = name, bytes, "codex wrote"),
        }
        let text = plain(&line);
        if !text.is_empty()
            && let Ok(mut said) = said.lock()
            && !said.as_ref().is_some_and(|said| said.starts_with("Error:") || said.starts_with("error:"))
        {
            *said = Some(text);
        }
    }
}

/// A line without control characters and colours, so that it can stand in an error.
pub(crate) fn plain(line: &[u8]) -> String {
    let mut out = String::new();
    let text = String::from_utf8_lossy(line);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            // A colour is ESC [ … m.
            chars.by_ref().find(|c| c.is_ascii_alphabetic());
        } else if !c.is_control() {
            out.push(c);
        }
    }
    out.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codex::ground::Ground;

    #[test]
    fn versions_are_read_and_anything_else_is_not() {
        assert_eq!(parse_version(b"codex-cli 0.169.0\n").as_deref(), Some("0.169.0"));
        assert_eq!(parse_version(b"codex-cli 0.170.0-alpha.2\n").as_deref(), Some("0.170.0-alpha.2"));
        for other in [&b"codex 1"[..], b"", b"\xff", b"codex-cli ", b"codex-cli latest", b"codex-cli 1\nsecond line"] {
            assert_eq!(parse_version(other), None, "{other:?}");
        }
    }

    #[test]
    fn lines_lose_colours_and_control_characters() {
        assert_eq!(plain(b"\x1b[31mERROR\x1b[0m no\x07 good\r\n"), "ERROR no good");
        assert_eq!(plain(b"\x1b"), "");
        assert_eq!(plain(b"\xff\n"), "\u{fffd}");
    }

    #[test]
    fn codex_goes_past_any_proxy_to_this_agent() {
        let env = |env: &[(&str, &str)]| {
            let env = env.iter().map(|(name, value)| (name.into(), value.into())).collect();
            let [(capitals, here), (small, there)] = direct(&CodexConfig { env, ..CodexConfig::default() });
            assert_eq!((capitals.to_str(), small.to_str()), (Some("NO_PROXY"), Some("no_proxy")));
            [here, there].map(|hosts| hosts.into_string().unwrap())
        };
        let none = ["127.0.0.1", "127.0.0.1"];
        assert_eq!(env(&[("NO_PROXY", ""), ("no_proxy", "")]), none);
        assert_eq!(env(&[("NO_PROXY", "a"), ("no_proxy", "b, c")]), ["a,127.0.0.1", "b, c,127.0.0.1"]);
    }

    #[tokio::test]
    async fn a_missing_program_and_a_missing_folder_are_told_apart() {
        let missing = CodexConfig { program: "no-such-codex".into(), ..CodexConfig::default() };
        assert!(matches!(missing.version().await, Err(SpawnError::NotFound { .. })));

        let dir = tempfile::tempdir().unwrap();
        let ground = Arc::new(Ground::prepare(dir.path()).unwrap());
        std::fs::remove_dir(ground.empty()).unwrap();
        let nowhere = CodexConfig { program: "sh".into(), ground: Some(ground), ..CodexConfig::default() };
        assert!(matches!(nowhere.version().await, Err(SpawnError::Io { .. })));
    }
}
