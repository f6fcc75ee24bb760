//! What is done on a machine that was reached: a script runs, a stream leads to a socket there.
//!
//! A script gets nothing of this machine: no terminal, no agent, no variable of its
//! environment, and no input. It is a word of the command that the server is asked
//! for, in quotation marks that sh, bash, zsh and fish read alike; so whatever the
//! person's shell is, a script is read by `sh`.

use std::time::Duration;

use reachback_proto::words::quote;
use russh::client::Msg;
use russh::{Channel, ChannelMsg, ChannelOpenFailure, ChannelStream};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use super::connection::Connection;
use super::marker::Marker;

/// What is read of a script's output, in bytes; ours say some 2 KiB, and what a login shell says comes before that.
const MAX_OUT: usize = 64 * 1024;
/// What is kept of its errors: the last of them, in bytes.
const MAX_ERR: usize = 2 * 1024;
/// The longest command, in bytes: Linux takes no longer word.
const MAX_COMMAND: usize = 128 * 1024 - 1;
/// How long a script may take.
const RUN_PATIENCE: Duration = Duration::from_secs(20);
/// How long a channel may take to be opened, and a stream to begin.
const OPEN_PATIENCE: Duration = Duration::from_secs(10);

/// A stream to something on the machine. Dropping it closes it.
pub type FarStream = ChannelStream<Msg>;

/// What a script did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// Its exit status; `None` when a signal ended it.
    pub status: Option<u32>,
    /// What it wrote.
    pub stdout: Vec<u8>,
    /// The last of what it wrote as errors.
    pub stderr: Vec<u8>,
}

/// A script did not run, or not to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The connection is gone.
    #[error("the connection has ended")]
    Ended,
    /// The server opens no session, as when there are too many.
    #[error("the machine opens no session: {reason}")]
    NoSession {
        /// Why not.
        reason: String,
    },
    /// The server runs no commands.
    #[error("the machine runs no command")]
    Refused,
    /// It is too long to be asked for.
    #[error("a command of {length} bytes is too long for the machine")]
    TooLong {
        /// Its length.
        length: usize,
    },
    /// It writes without end.
    #[error("the machine wrote more than {} KiB in answer", MAX_OUT / 1024)]
    TooMuch,
    /// It takes too long.
    #[error("the machine gave no answer within {} s", after.as_secs())]
    TimedOut {
        /// How long.
        after: Duration,
    },
}

/// There is no stream to a socket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// Nobody listens there.
    #[error("nothing listens on {}", quote(path))]
    NotListening {
        /// The socket.
        path: String,
    },
    /// Somebody does, and the server leads nobody to sockets.
    #[error("the machine's SSH server opens no way to {}", quote(path))]
    NotForwarded {
        /// The socket.
        path: String,
    },
    /// Neither could be found out.
    #[error(transparent)]
    Run(#[from] RunError),
}

impl Connection {
    /// Runs a script to its end. It is read by `sh`, in the environment that the server gives.
    ///
    /// Whoever drops this before it is done leaves the script to itself.
    pub async fn run(&self, script: &str) -> Result<Ran, RunError> {
        self.command(format!("exec sh -c {}", word(script)), RUN_PATIENCE).await
    }

    /// The same, in the environment of the person's login shell, after what that says by itself.
    pub(super) async fn run_at_login(&self, script: &str, patience: Duration) -> Result<Ran, RunError> {
        let script = format!("exec sh -c {}", word(script));
        self.command(format!("exec \"$SHELL\" -lc {}", word(&script)), patience).await
    }

    /// A stream to the input and output of what a script becomes. Its errors go nowhere.
    ///
    /// What the person's shell says before the script begins is not part of it.
    pub async fn stream(&self, script: &str) -> Result<FarStream, RunError> {
        let marker = Marker::random().ok_or(RunError::NoSession { reason: "no randomness".to_owned() })?;
        let script = format!("printf '%s\\n' {marker}\n{script}");
        let opening = async {
            let mut channel = self.session().await?;
            channel.exec(true, format!("exec sh -c {}", word(&script))).await.map_err(lost)?;
            begun(&mut channel).await?;
            let mut stream = channel.into_stream();
            skip(&mut stream, &format!("{marker}\n")).await?;
            Ok(stream)
        };
        timeout(OPEN_PATIENCE, opening).await.unwrap_or(Err(RunError::TimedOut { after: OPEN_PATIENCE }))
    }

    /// A stream to a subsystem of the SSH server.
    pub(super) async fn subsystem(&self, name: &str) -> Result<FarStream, RunError> {
        let opening = async {
            let mut channel = self.session().await?;
            channel.request_subsystem(true, name).await.map_err(lost)?;
            begun(&mut channel).await?;
            Ok(channel.into_stream())
        };
        timeout(OPEN_PATIENCE, opening).await.unwrap_or(Err(RunError::TimedOut { after: OPEN_PATIENCE }))
    }

    /// A stream to a socket on the machine, which its SSH server opens.
    ///
    /// The path is taken by the server as it is; longer than some 100 bytes it is refused, as the system does.
    pub async fn open_socket(&self, path: &str) -> Result<FarStream, SocketError> {
        let opening = self.handle.channel_open_direct_streamlocal(path);
        match timeout(OPEN_PATIENCE, opening).await {
            Ok(Ok(channel)) => Ok(channel.into_stream()),
            Ok(Err(russh::Error::ChannelOpenFailure(reason))) => Err(self.why_not(path, reason).await),
            Ok(Err(error)) => Err(lost(error).into()),
            Err(_) => Err(RunError::TimedOut { after: OPEN_PATIENCE }.into()),
        }
    }

    /// OpenSSH refuses in the same words whether nobody listens or it may not look (measured with 9.2).
    async fn why_not(&self, path: &str, reason: ChannelOpenFailure) -> SocketError {
        let path = path.to_owned();
        if !matches!(reason, ChannelOpenFailure::ConnectFailed) {
            return SocketError::NotForwarded { path };
        }
        match self.run(&format!("p={}\n{IS_LISTENING}", word(&path))).await {
            Ok(Ran { status: Some(0), .. }) => SocketError::NotForwarded { path },
            Ok(_) => SocketError::NotListening { path },
            Err(error) => error.into(),
        }
    }

    async fn command(&self, command: String, patience: Duration) -> Result<Ran, RunError> {
        if command.len() > MAX_COMMAND {
            return Err(RunError::TooLong { length: command.len() });
        }
        let late = RunError::TimedOut { after: patience };
        let opened = timeout(patience, self.session()).await;
        let Ok(opened) = opened else { return Err(late) };
        let mut channel = opened?;
        let running = async {
            channel.exec(true, command).await.map_err(lost)?;
            // A shell that reads its input while it starts does not wait for it.
            channel.eof().await.map_err(lost)?;
            output(&mut channel).await
        };
        let ran = timeout(patience, running).await.unwrap_or(Err(late));
        if ran.is_err() {
            let _ = channel.close().await;
        }
        ran
    }

    async fn session(&self) -> Result<Channel<Msg>, RunError> {
        self.handle.channel_open_session().await.map_err(|error| match error {
            russh::Error::ChannelOpenFailure(reason) => RunError::NoSession { reason: format!("{reason:?}") },
            error => lost(error),
        })
    }
}

/// Whether somebody listens on the socket `$p`: Linux says so; of other systems it is believed where there is a socket.
const IS_LISTENING: &str = r#"[ -S "$p" ] || exit 1
[ -r /proc/net/unix ] || exit 0
p=$(readlink -f "$p")
while read -r _ _ _ flags _ _ _ at; do
  if [ "$flags" = 00010000 ] && [ "$at" = "$p" ]; then exit 0; fi
done </proc/net/unix
exit 1"#;

/// The library fails in many words when the connection is gone.
fn lost(_: russh::Error) -> RunError {
    RunError::Ended
}

/// Waits until the server has begun what it was asked for.
async fn begun(channel: &mut Channel<Msg>) -> Result<(), RunError> {
    loop {
        match channel.wait().await {
            Some(ChannelMsg::Success) => return Ok(()),
            Some(ChannelMsg::WindowAdjusted { .. }) => {}
            Some(ChannelMsg::Failure) => return Err(RunError::Refused),
            Some(_) | None => return Err(RunError::Ended),
        }
    }
}

/// Reads until a line has gone by, and no further.
async fn skip(stream: &mut FarStream, line: &str) -> Result<(), RunError> {
    let (line, mut seen) = (line.as_bytes(), Vec::new());
    while !seen.ends_with(line) {
        if seen.len() == MAX_OUT {
            return Err(RunError::TooMuch);
        }
        seen.push(stream.read_u8().await.map_err(|_| RunError::Ended)?);
    }
    Ok(())
}

/// Everything until the channel is closed.
async fn output(channel: &mut Channel<Msg>) -> Result<Ran, RunError> {
    let mut ran = Ran { status: None, stdout: Vec::new(), stderr: Vec::new() };
    let mut is_over = false;
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Data { data } if ran.stdout.len() + data.len() > MAX_OUT => return Err(RunError::TooMuch),
            ChannelMsg::Data { data } => ran.stdout.extend_from_slice(&data),
            ChannelMsg::ExtendedData { data, .. } => {
                ran.stderr.extend_from_slice(&data);
                let over = ran.stderr.len().saturating_sub(MAX_ERR);
                ran.stderr.drain(..over);
            }
            ChannelMsg::ExitStatus { exit_status } => (ran.status, is_over) = (Some(exit_status), true),
            ChannelMsg::ExitSignal { .. } => is_over = true,
            ChannelMsg::Failure => return Err(RunError::Refused),
            _ => {}
        }
    }
    if is_over { Ok(ran) } else { Err(RunError::Ended) }
}

/// A text as one word of a command, for sh, bash, zsh and fish: in fish a backslash means something in quotation marks, too.
pub(super) fn word(text: &str) -> String {
    let mut word = String::from("'");
    for c in text.chars() {
        match c {
            '\'' => word += r"'\''",
            '\\' => word += r"'\\'",
            c => word.push(c),
        }
    }
    word + "'"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_reads_a_word_as_it_was_meant() {
        let texts =
            ["", "plain", "it's", r"a\'b", r"\\n\", "'\\", "$HOME `id` !x *\n#~", "ünï \u{1b}[2J\t", "-n", "%s\\n"];
        for shell in ["sh", "bash", "zsh", "fish"] {
            for text in texts {
                // Twice, as through a login shell.
                let command = format!("exec sh -c {}", word(&format!("printf %s {}", word(text))));
                let done = std::process::Command::new(shell).env("HOME", "/none").arg("-c").arg(&command).output();
                let done = done.unwrap_or_else(|error| panic!("{shell}: {error}"));
                assert_eq!(String::from_utf8_lossy(&done.stdout), text, "{shell}: {done:?}");
            }
        }
    }
}
