//! Codex on a machine that is reached over SSH: which one is there, and what keeps it from being used.
//!
//! ```text
//! Connection ── inspect() ── login shell ── where is codex, does it run, does its server listen
//!        ├───── start() ──────── an app-server that outlives the link, and a record of it
//!        ├───── open_server() ── a socket, led to by the SSH server, else `codex app-server proxy`
//!        └───── stop() ───────── the recorded one ends, and no other
//! ```
//!
//! What the machine says is taken for what it says of itself, and for nothing else:
//! it is bounded, it is text, and it is shown in quotation marks.

mod inspection;
mod record;
mod start;

use std::time::Duration;

use reachback_proto::words::{quote, shell_word};

pub use inspection::Inspection;
pub use record::Record;
pub use start::{Started, Stopped};

use super::connection::Connection;
use super::install::CODEX_VERSION;
use super::marker::{Facts, Marker, Unclear};
use super::shell::{FarStream, Ran, RunError, SocketError, word};

/// The most of a machine's own words that an error holds, in characters.
const MAX_SAID: usize = 400;

/// Codex can't be used there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BootstrapError {
    /// Nothing runs there.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Something else ran than what was asked for: a forced command, or a shell that is none.
    #[error("the machine does not run what it is asked to{}", says(said))]
    NoAnswer {
        /// The last line that it said.
        said: Option<String>,
    },
    /// The same where the SSH server is the one of Windows, whose shell (`cmd` or PowerShell) is not asked in its own words.
    #[error("the machine runs Windows, and Reachback speaks to POSIX shells only{}", says(said))]
    Windows {
        /// The last line that it said.
        said: Option<String>,
    },
    /// It says something that has no meaning here.
    #[error("what the machine says of itself can't be read: {} {why}", quote(what))]
    Unclear {
        /// What.
        what: String,
        /// Why not.
        why: &'static str,
    },
    /// There is no Codex.
    #[error("there is no codex on the search path of {}'s login shell, and none in ~/.local/bin", quote(home))]
    Missing {
        /// The home folder of whoever one is there.
        home: String,
    },
    /// There is one, and it may not be run.
    #[error("{} may not be run there: its file is not executable", quote(program))]
    NotExecutable {
        /// Its file.
        program: String,
    },
    /// There is one, and it does not run.
    #[error("{} does not run there{}", quote(program), says(said))]
    Broken {
        /// Its file.
        program: String,
        /// The last line that it said.
        said: Option<String>,
    },
    /// There is one without what is needed of it.
    #[error("codex{} there is too old: it has no `app-server proxy`", version.as_ref().map(|v| format!(" {v}")).unwrap_or_default())]
    TooOld {
        /// Its version.
        version: Option<String>,
    },
    /// Nobody has signed in to it.
    #[error("codex there is not signed in")]
    SignedOut,
    /// Its folder is not there, and somebody named it: Codex makes only its default by itself.
    #[error("CODEX_HOME there names {}, which is no folder, and codex makes none that is named", quote(folder))]
    NoHome {
        /// The folder.
        folder: String,
    },
    /// Its disk is full.
    #[error("the disk with {} is full: {} MiB are left", quote(folder), room >> 20)]
    NoRoom {
        /// The folder of Codex's state.
        folder: String,
        /// What there is, in bytes.
        room: u64,
    },
    /// Somebody else listens in its place.
    #[error("the socket of codex there belongs to another user: {}", quote(socket))]
    NotTheirs {
        /// The socket.
        socket: String,
    },
    /// Its server runs, and nothing leads there.
    #[error(
        "an app-server runs there and can't be reached: the SSH server leads to no socket, and `codex app-server proxy` does not run ({reason})"
    )]
    NoWay {
        /// Why the latter does not.
        reason: String,
    },
    /// Its server has ended meanwhile.
    #[error("no app-server of codex runs there any more")]
    Ended,
    /// One was started, and ended before it listened.
    #[error("codex there ended at once{}", says(said))]
    NotStarted {
        /// Its error, or the last line that it said.
        said: Option<String>,
    },
    /// One was started, and does not listen yet.
    #[error("an app-server was started there, and does not listen yet")]
    Slow,
    /// Another link starts or ends one.
    #[error("another link is starting or ending codex there (process {pid})")]
    Busy {
        /// The process of the other one.
        pid: u64,
    },
    /// What is started can't be recorded.
    #[error("{} can't be made or written there", quote(folder))]
    ClosedFolder {
        /// The folder of the record.
        folder: String,
    },
    /// It was ended in every way, and runs.
    #[error("the app-server there does not end (process {pid})")]
    NotEnded {
        /// Its process.
        pid: u64,
    },
}

/// What was said, as the end of a sentence.
fn says(said: &Option<String>) -> String {
    said.as_ref().map(|said| format!("; it says {}", quote(said))).unwrap_or_default()
}

impl From<Unclear> for BootstrapError {
    fn from(Unclear(what, why): Unclear) -> Self {
        Self::Unclear { what, why }
    }
}

impl BootstrapError {
    /// Whether a Codex that is installed there would help.
    pub fn wants_codex(&self) -> bool {
        matches!(self, Self::Missing { .. } | Self::TooOld { .. })
    }

    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Run(_) => "ssh_run",
            Self::NoAnswer { .. } => "ssh_shell",
            Self::Windows { .. } => "ssh_windows",
            Self::Unclear { .. } => "ssh_unclear",
            Self::Missing { .. } => "codex_missing",
            Self::NotExecutable { .. } => "codex_not_executable",
            Self::Broken { .. } => "codex_broken",
            Self::TooOld { .. } => "codex_too_old",
            Self::SignedOut => "codex_signed_out",
            Self::NoHome { .. } => "codex_no_home",
            Self::NoRoom { .. } => "codex_disk_full",
            Self::NotTheirs { .. } => "codex_socket",
            Self::NoWay { .. } => "ssh_no_way",
            Self::Ended => "codex_ended",
            Self::NotStarted { .. } => "codex_not_started",
            Self::Slow => "codex_slow",
            Self::Busy { .. } => "codex_busy",
            Self::ClosedFolder { .. } => "codex_folder",
            Self::NotEnded { .. } => "codex_not_ended",
        }
    }

    /// What a person can do about it; `name` is the machine's in the SSH configuration.
    pub fn fix(&self, name: &str) -> String {
        let there = |command: &str| format!("ssh -t {} {}", shell_word(name), shell_word(at_login(command)));
        match self {
            Self::Run(_) => format!("see whether ssh runs a command there: ssh {} true", shell_word(name)),
            Self::NoAnswer { .. } => format!(
                "see what it answers: ssh {} echo hello; a key or a server with a forced command (`command=`, ForceCommand) can't be used",
                shell_word(name)
            ),
            Self::Windows { .. } => {
                "run Codex in its WSL, with an SSH server there, and name that in the SSH configuration; or start \
                 `reachback host` on a computer with Linux or macOS that holds the project"
                    .to_owned()
            }
            Self::Unclear { .. } => "give it a name of letters without line ends, in UTF-8".to_owned(),
            Self::Missing { .. } | Self::TooOld { .. } => format!(
                "install one there: reachback ssh bootstrap {} --install; or by yourself: {}",
                shell_word(name),
                there(&format!("npm install -g @openai/codex@{CODEX_VERSION}"))
            ),
            Self::NotExecutable { program } => {
                format!("ssh {} {}", shell_word(name), shell_word(format!("chmod u+x {}", shell_word(program))))
            }
            Self::Broken { .. } => format!("see what it says: {}", there("codex --version")),
            Self::SignedOut => there("codex login --device-auth"),
            Self::NoHome { folder } => {
                format!("ssh {} {}", shell_word(name), shell_word(format!("mkdir -p {}", shell_word(folder))))
            }
            Self::NoRoom { .. } => format!("make room there: ssh {} df -h", shell_word(name)),
            Self::NotTheirs { socket } => {
                format!(
                    "ask whoever runs the machine whose it is: ssh {} ls -l {}",
                    shell_word(name),
                    shell_word(shell_word(socket))
                )
            }
            Self::NoWay { .. } => {
                "have the machine's sshd_config allow it: AllowStreamLocalForwarding local".to_owned()
            }
            Self::Ended | Self::Slow | Self::Busy { .. } => {
                format!("try again in a moment; see how it is: reachback ssh check {}", shell_word(name))
            }
            Self::NotStarted { .. } => format!(
                "see what it says: ssh {} {}",
                shell_word(name),
                shell_word("cat \"${CODEX_HOME:-$HOME/.codex}/reachback/app-server.log\"")
            ),
            Self::ClosedFolder { folder } => format!(
                "see whose it is and how full the disk is: ssh {} {}",
                shell_word(name),
                shell_word(format!("ls -ld {0}; df -h {0}", shell_word(folder)))
            ),
            Self::NotEnded { pid } => format!("see what it waits for: ssh {} ps -l -p {pid}", shell_word(name)),
        }
    }
}

/// A command as a person types it for the login shell: Codex is often on the path of that alone.
fn at_login(command: &str) -> String {
    format!("exec \"$SHELL\" -lc \"{command}\"")
}

/// How a server of Codex is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The SSH server leads to its socket.
    Socket,
    /// `codex app-server proxy` does.
    Proxy,
}

impl Reach {
    /// A stable word for programs.
    pub fn code(self) -> &'static str {
        match self {
            Self::Socket => "socket",
            Self::Proxy => "proxy",
        }
    }
}

impl Connection {
    /// The facts of a script that runs in the environment of the login shell.
    pub(super) async fn facts_at_login(&self, script: &str, patience: Duration) -> Result<Facts, BootstrapError> {
        let no_randomness = RunError::NoSession { reason: "no randomness".to_owned() };
        let marker = Marker::random().ok_or(no_randomness)?;
        let ran = self.run_at_login(&format!("{}{script}", marker.script()), patience).await?;
        Ok(marker.facts(&ran.stdout).ok_or_else(|| match no_answer(&ran) {
            // One whose shell there is bash answers.
            BootstrapError::NoAnswer { said } if self.is_windows() => BootstrapError::Windows { said },
            error => error,
        })??)
    }

    /// A stream to the app-server that was found listening there: the SSH server leads to it, else Codex does.
    ///
    /// It carries what the server's socket does: a WebSocket, from its handshake on.
    pub async fn open_server(&self, found: &Inspection) -> Result<(FarStream, Reach), BootstrapError> {
        let socket = found.socket.as_deref().filter(|_| found.is_listening).ok_or(BootstrapError::Ended)?;
        match self.open_socket(socket).await {
            Ok(stream) => Ok((stream, Reach::Socket)),
            Err(SocketError::NotListening { .. }) => Err(BootstrapError::Ended),
            Err(SocketError::Run(error)) => Err(error.into()),
            Err(SocketError::NotForwarded { .. }) => {
                let (path, program) = (word(&found.path), word(&found.program));
                let script =
                    format!("PATH={path}\nexport PATH\nexec {program} app-server proxy --sock {}", word(socket));
                let stream = self.stream(&script).await;
                let stream = stream.map_err(|error| BootstrapError::NoWay { reason: error.to_string() })?;
                Ok((stream, Reach::Proxy))
            }
        }
    }
}

/// The last line of what somebody said.
pub(super) fn last_line(said: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(said);
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    Some(line.chars().take(MAX_SAID).collect())
}

/// The last line that something said in place of an answer.
fn no_answer(ran: &Ran) -> BootstrapError {
    BootstrapError::NoAnswer { said: last_line(&ran.stdout).or_else(|| last_line(&ran.stderr)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fix_is_a_command_whatever_is_in_the_names() {
        let program = "/opt/it's $(id)/codex".to_owned();
        let fix = BootstrapError::NotExecutable { program }.fix("dev; box");
        assert_eq!(fix, r"ssh 'dev; box' 'chmod u+x '\''/opt/it'\''\'\'''\''s $(id)/codex'\'''");
        assert_eq!(
            BootstrapError::SignedOut.fix("devbox"),
            r#"ssh -t devbox 'exec "$SHELL" -lc "codex login --device-auth"'"#
        );
    }

    #[test]
    fn what_a_machine_says_stands_in_quotation_marks_and_is_bounded() {
        let said = [b"Welcome\n\x1b[2J\xff\" and then\r\n\n".as_slice(), b"  \n"].concat();
        let ran = Ran { status: Some(0), stdout: said, stderr: b"other".to_vec() };
        assert_eq!(
            no_answer(&ran).to_string(),
            "the machine does not run what it is asked to; it says “?[2J\u{fffd}' and then”"
        );
        let long = Ran { status: None, stdout: Vec::new(), stderr: b"x".repeat(2000) };
        assert!(no_answer(&long).to_string().len() < 500);
    }
}
