//! A command that carries a connection (`ProxyCommand`), as a stream. It ends with it.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use reachback_proto::words::printable;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, Join, ReadBuf};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::platform::processes::Group;

/// What is kept of what it says, in bytes.
const MAX_SAID: usize = 2000;
/// How long what it says may take to arrive once the connection has failed.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The command, and both ends of it.
pub(super) struct Carrier {
    io: Join<ChildStdout, ChildStdin>,
    said: Said,
}

/// The command for as long as its connection is there, or somebody waits for its last words: it may close its output before
/// it has said them.
struct Running {
    child: Child,
    _listening: AbortOnDropHandle<()>,
}

/// What the command wrote for a person.
#[derive(Clone)]
pub(super) struct Said {
    text: Arc<Mutex<Vec<u8>>>,
    ended: watch::Receiver<bool>,
    _running: Arc<Running>,
}

impl Said {
    /// The last line of it, once it has ended or nothing more is waited for.
    pub(super) async fn last_line(mut self) -> Option<String> {
        let _ = tokio::time::timeout(LAST_WORDS, self.ended.wait_for(|ended| *ended)).await;
        let text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&text);
        text.lines().rev().map(str::trim).find(|line| !line.is_empty()).map(printable)
    }
}

impl Carrier {
    /// `None` for a command whose input and output are not at hand.
    pub(super) fn new(mut child: Child) -> Option<Self> {
        let (stdout, stdin, stderr) = (child.stdout.take()?, child.stdin.take()?, child.stderr.take()?);
        let (sender, ended) = watch::channel(false);
        let text = Arc::default();
        let _listening = AbortOnDropHandle::new(tokio::spawn(listen(stderr, Arc::clone(&text), sender)));
        let said = Said { text, ended, _running: Arc::new(Running { child, _listening }) };
        Some(Self { io: tokio::io::join(stdout, stdin), said })
    }

    pub(super) fn said(&self) -> Said {
        self.said.clone()
    }
}

async fn listen(mut stderr: ChildStderr, text: Arc<Mutex<Vec<u8>>>, ended: watch::Sender<bool>) {
    let mut some = [0; 512];
    while let Ok(read @ 1..) = stderr.read(&mut some).await {
        let mut text = text.lock().unwrap_or_else(PoisonError::into_inner);
        text.extend_from_slice(&some[..read]);
        let over = text.len().saturating_sub(MAX_SAID);
        text.drain(..over);
    }
    ended.send_replace(true);
}

impl Drop for Running {
    /// What it started ends with it.
    fn drop(&mut self) {
        if let Some(group) = self.child.id().and_then(Group::led_by) {
            group.kill();
        }
    }
}

impl AsyncRead for Carrier {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Carrier {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
