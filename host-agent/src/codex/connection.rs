//! One client connection to an app-server: text messages both ways, whatever carries them.
//!
//! An adapter makes one of a sink and a stream of text, and turns what goes
//! wrong in what carries them into the errors here. On this machine that is
//! a WebSocket: [`super::ws`]. Nobody else has to know.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use futures_util::stream::BoxStream;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use reachback_proto::session::MAX_MESSAGE_TO_DEVICE;
use tokio::sync::Semaphore;

use super::{Instance, Text};

/// The JSON-RPC error code of an answer that is too large.
pub const TOO_LARGE: i32 = -32011;

/// The unit in which [`Allowance::room`] is counted, in bytes.
pub(super) const UNIT: u64 = 1 << 20;

/// What a connection to Codex lets through.
#[derive(Debug, Clone)]
pub struct Allowance {
    /// The largest message, in bytes. May change while the connection lives.
    pub largest: Arc<AtomicUsize>,
    /// MiB of large messages that may be in hand at once, on all connections that share it.
    pub room: Arc<Semaphore>,
}

impl Default for Allowance {
    /// What a device takes.
    fn default() -> Self {
        Self::new(MAX_MESSAGE_TO_DEVICE)
    }
}

impl Allowance {
    /// Messages of up to this many bytes, one of the largest at a time.
    pub fn new(largest: usize) -> Self {
        let units = largest.div_ceil(UNIT as usize).min(Semaphore::MAX_PERMITS);
        Self { largest: Arc::new(AtomicUsize::new(largest)), room: Arc::new(Semaphore::new(units)) }
    }
}

/// A message did not reach Codex.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// Larger than the server takes; nothing was sent, and the connection goes on.
    #[error("message of {length} bytes is over codex's limit of {limit}")]
    TooLong {
        /// The message's length.
        length: usize,
        /// The longest that the server takes.
        limit: usize,
    },
    /// The connection ended.
    #[error("codex closed the connection")]
    Closed,
    /// The stream failed.
    #[error("could not write to codex")]
    Io(#[source] io::Error),
}

/// A message from Codex could not be taken; the connection is over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// Larger than the connection's [`Allowance`], and no answer, in whose place an error could stand.
    #[error("codex sent a message that is too large")]
    TooLong,
    /// Not text, or not in the form in which messages are carried.
    #[error("codex broke the protocol that carries its messages")]
    Protocol,
    /// Messages are missing between those that came and those that would come; whoever needs them loads anew.
    #[error("messages of codex were lost on their way")]
    Gap,
    /// The stream failed.
    #[error("could not read from codex")]
    Io(#[source] io::Error),
}

/// One client connection to an app-server, in two halves for two tasks.
///
/// Dropping both halves closes it; the server then forgets this client, and
/// its turns go on.
#[derive(Debug)]
pub struct CodexConnection {
    /// Messages to Codex.
    pub sender: CodexSender,
    /// Messages from Codex. Must be read without pause: Codex cuts a client
    /// that is some 32,000 messages behind.
    pub receiver: CodexReceiver,
    /// The run of the server this connection belongs to.
    pub instance: Instance,
}

impl CodexConnection {
    /// The same, with something that is let go when nothing more is received.
    pub(crate) fn holding(self, held: impl Send + 'static) -> Self {
        let Self { sender, receiver: CodexReceiver { stream }, instance } = self;
        let stream = stream.inspect(move |_| {
            let _ = &held;
        });
        Self { sender, receiver: CodexReceiver { stream: stream.boxed() }, instance }
    }

    /// A connection over what carries messages to and from one client's place at an app-server.
    ///
    /// The sink has sent a message when it is flushed. The stream holds to an [`Allowance`], and ends with the
    /// connection, however that ends.
    pub fn new<O, I>(sink: O, stream: I, instance: Instance) -> Self
    where
        O: Sink<Text, Error = SendError> + Send + 'static,
        I: Stream<Item = Result<Text, ReceiveError>> + Send + 'static,
    {
        Self {
            sender: CodexSender { sink: Box::pin(sink) },
            receiver: CodexReceiver { stream: stream.boxed() },
            instance,
        }
    }
}

/// The half of a connection that sends.
pub struct CodexSender {
    sink: Pin<Box<dyn Sink<Text, Error = SendError> + Send>>,
}

impl CodexSender {
    /// Sends one message and waits until the stream has taken it.
    ///
    /// Not to be cancelled: the rest of a message that is sent in pieces would be missing.
    pub async fn send(&mut self, message: impl Into<Text>) -> Result<(), SendError> {
        self.sink.send(message.into()).await
    }
}

/// The half of a connection that receives.
pub struct CodexReceiver {
    stream: BoxStream<'static, Result<Text, ReceiveError>>,
}

impl CodexReceiver {
    /// The next message; `None` once the server or the stream has ended. Safe to cancel.
    pub async fn next(&mut self) -> Option<Result<Text, ReceiveError>> {
        self.stream.next().await
    }
}

impl fmt::Debug for CodexSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CodexSender")
    }
}

impl fmt::Debug for CodexReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CodexReceiver")
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[tokio::test]
    async fn messages_pass_both_ways_in_order_until_the_server_is_gone() {
        let (mut codex, mut server) = testing::connection(3);
        for n in 0..3 {
            codex.sender.send(format!("ask {n}")).await.unwrap();
            server.send(format!("answer {n}")).await.unwrap();
        }
        for n in 0..3 {
            assert_eq!(server.next().await.unwrap(), format!("ask {n}"));
        }
        drop(server);
        for n in 0..3 {
            assert_eq!(codex.receiver.next().await.unwrap().unwrap(), format!("answer {n}"));
        }
        assert!(codex.receiver.next().await.is_none());
        assert!(matches!(codex.sender.send("late").await, Err(SendError::Closed)));
    }
}
