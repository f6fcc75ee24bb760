//! One client connection to an app-server: a WebSocket, one JSON-RPC message per text frame.
//!
//! The server takes frames up to 16 MiB and messages up to 64 MiB, so larger
//! messages leave in fragments. What it sends has no limit of its own: see
//! [`super::oversize`]. It never completes a closing handshake: after
//! our close, and when it drops a reader that is too slow, the stream just ends.

use std::fmt;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{Sink, SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::Instance;
use super::oversize::{Allowance, Sieve, TooLarge};

/// The largest message that the app-server takes.
pub const MAX_MESSAGE: usize = 64 << 20;

/// The largest frame the app-server takes (`x-codex-websocket-max-unfragmented-message-bytes`).
pub const MAX_FRAME: usize = 16 << 20;

/// A local server answers the handshake in milliseconds; one that is frozen never does.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// One per channel and connection, so small: a delta is about 200 bytes, and
/// larger messages grow the buffer while they need it.
const READ_BUFFER: usize = 8 << 10;

/// A WebSocket could not be opened over a stream to an app-server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// No answer in time.
    #[error("codex did not answer the websocket handshake within {} s", HANDSHAKE_DEADLINE.as_secs())]
    TimedOut,
    /// Something else answered, or nothing did.
    #[error("codex's socket does not speak websocket")]
    Refused(#[source] Box<Error>),
}

/// A message did not reach Codex.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// Larger than the server takes; nothing was sent, and the connection goes on.
    #[error("message of {length} bytes is over codex's limit of {MAX_MESSAGE}")]
    TooLong {
        /// The message's length.
        length: usize,
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
    /// Not a text frame, or not a WebSocket frame at all.
    #[error("codex broke the websocket protocol")]
    Protocol,
    /// The stream failed.
    #[error("could not read from codex")]
    Io(#[source] io::Error),
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

type Socket = WebSocketStream<Box<dyn Stream>>;

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
    /// Opens a connection over a stream that reaches an app-server: its unix socket, or a channel of an SSH link.
    pub async fn over<S>(stream: S, instance: Instance, allowance: Allowance) -> Result<Self, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Self::within(HANDSHAKE_DEADLINE, Box::new(Sieve::new(stream, READ_BUFFER, allowance)), instance).await
    }

    async fn within(deadline: Duration, stream: Box<dyn Stream>, instance: Instance) -> Result<Self, HandshakeError> {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_message_size(None)
            .max_frame_size(None);
        // The name is only a header: the server has one client address and no virtual hosts. No
        // other header is sent: asking for Codex's stream compression would change the frames.
        let opening = tokio_tungstenite::client_async_with_config("ws://localhost/", stream, Some(config));
        let (socket, _) = tokio::time::timeout(deadline, opening)
            .await
            .map_err(|_| HandshakeError::TimedOut)?
            .map_err(|e| HandshakeError::Refused(Box::new(e)))?;
        let (sink, stream) = socket.split();
        Ok(Self { sender: CodexSender { sink }, receiver: CodexReceiver { stream }, instance })
    }
}

/// The half of a connection that sends.
pub struct CodexSender {
    sink: SplitSink<Socket, Message>,
}

impl CodexSender {
    /// Sends one message and waits until the stream has taken it.
    ///
    /// Not to be cancelled: the rest of a message cut in fragments would be missing.
    pub async fn send(&mut self, message: impl Into<Utf8Bytes>) -> Result<(), SendError> {
        let message: Utf8Bytes = message.into();
        let length = message.len();
        if length > MAX_MESSAGE {
            return Err(SendError::TooLong { length });
        }
        send_text(&mut self.sink, message).await.map_err(send_error)
    }
}

/// Sends one message in frames that Codex takes, be it the server or its terminal UI.
///
/// Not to be cancelled: the rest of a message cut in fragments would be missing.
pub(crate) async fn send_text<S>(sink: &mut S, message: Utf8Bytes) -> Result<(), Error>
where
    S: Sink<Message, Error = Error> + Unpin,
{
    if message.len() <= MAX_FRAME {
        return sink.send(Message::Text(message)).await;
    }
    let mut rest = Bytes::from(message);
    let mut opcode = Data::Text;
    while !rest.is_empty() {
        let piece = rest.split_to(rest.len().min(MAX_FRAME));
        let frame = Frame::message(piece, OpCode::Data(opcode), rest.is_empty());
        sink.send(Message::Frame(frame)).await?;
        opcode = Data::Continue;
    }
    Ok(())
}

/// The half of a connection that receives.
pub struct CodexReceiver {
    stream: SplitStream<Socket>,
}

impl CodexReceiver {
    /// The next message; `None` once the server or the stream has ended. Safe to cancel.
    pub async fn next(&mut self) -> Option<Result<Utf8Bytes, ReceiveError>> {
        loop {
            match self.stream.next().await? {
                Ok(Message::Text(text)) => return Some(Ok(text)),
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
                Ok(Message::Close(_)) => return None,
                Ok(Message::Binary(_)) => return Some(Err(ReceiveError::Protocol)),
                Err(error) if ended(&error) => return None,
                Err(Error::Io(error)) if error.get_ref().is_some_and(|inner| inner.is::<TooLarge>()) => {
                    return Some(Err(ReceiveError::TooLong));
                }
                Err(Error::Io(error)) => return Some(Err(ReceiveError::Io(error))),
                Err(_) => return Some(Err(ReceiveError::Protocol)),
            }
        }
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

/// The ways in which this server ends a connection, none of them by the closing handshake.
fn ended(error: &Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    match error {
        Error::ConnectionClosed | Error::AlreadyClosed => true,
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake | ProtocolError::SendAfterClosing) => true,
        Error::Io(e) => matches!(e.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof),
        _ => false,
    }
}

fn send_error(error: Error) -> SendError {
    match error {
        error if ended(&error) => SendError::Closed,
        Error::Io(error) => SendError::Io(error),
        // What is left are errors of reading, which a write does not give.
        _ => SendError::Closed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::DuplexStream;

    const PATIENCE: Duration = Duration::from_secs(30);

    async fn pair() -> (CodexConnection, WebSocketStream<DuplexStream>) {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        // As the real server: frames of 16 MiB, messages of 64.
        let limits = WebSocketConfig::default().max_frame_size(Some(MAX_FRAME)).max_message_size(Some(MAX_MESSAGE));
        let instance = Instance::random(&ring::rand::SystemRandom::new()).unwrap();
        let (connection, server) = tokio::join!(
            CodexConnection::over(ours, instance, Allowance::new(MAX_MESSAGE)),
            tokio_tungstenite::accept_async_with_config(theirs, Some(limits))
        );
        (connection.unwrap(), server.unwrap())
    }

    #[tokio::test]
    async fn messages_pass_both_ways_in_order() {
        let (mut codex, mut server) = pair().await;
        for n in 0..3 {
            codex.sender.send(format!("{{\"id\":{n}}}")).await.unwrap();
            let mut got = server.next().await.unwrap().unwrap();
            while got.is_pong() {
                got = server.next().await.unwrap().unwrap();
            }
            assert_eq!(got.to_text().unwrap(), format!("{{\"id\":{n}}}"));
            server.send(Message::text(format!("answer {n}"))).await.unwrap();
            server.send(Message::Ping(Bytes::new())).await.unwrap();
            assert_eq!(codex.receiver.next().await.unwrap().unwrap(), format!("answer {n}"));
        }
    }

    #[tokio::test]
    async fn a_message_above_a_frame_leaves_in_fragments() {
        let (mut codex, mut server) = pair().await;
        // Multi-byte characters, so that a cut falls inside one.
        let long = "€".repeat(MAX_FRAME / 3 + 1000);
        let (sent, got) =
            tokio::time::timeout(PATIENCE, async { tokio::join!(codex.sender.send(long.clone()), server.next()) })
                .await
                .unwrap();
        sent.unwrap();
        assert!(got.unwrap().unwrap().to_text().unwrap() == long, "the fragments don't join to the message");
    }

    #[tokio::test]
    async fn a_message_above_the_limit_is_refused_and_the_connection_goes_on() {
        let (mut codex, mut server) = pair().await;
        let refused = codex.sender.send("x".repeat(MAX_MESSAGE + 1)).await;
        assert!(matches!(refused, Err(SendError::TooLong { length }) if length == MAX_MESSAGE + 1), "{refused:?}");
        codex.sender.send("next").await.unwrap();
        assert_eq!(server.next().await.unwrap().unwrap().to_text().unwrap(), "next");
    }

    #[tokio::test]
    async fn an_end_without_a_close_frame_is_an_end() {
        let (mut codex, server) = pair().await;
        drop(server);
        assert!(codex.receiver.next().await.is_none());
        assert!(matches!(codex.sender.send("late").await, Err(SendError::Closed)));
    }

    #[tokio::test]
    async fn binary_is_refused() {
        let (mut codex, mut server) = pair().await;
        server.send(Message::binary(vec![0x28, 0xb5, 0x2f, 0xfd])).await.unwrap();
        assert!(matches!(codex.receiver.next().await, Some(Err(ReceiveError::Protocol))));
    }

    #[tokio::test]
    async fn a_message_above_the_allowance_that_answers_nothing_is_an_end() {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let instance = Instance::random(&ring::rand::SystemRandom::new()).unwrap();
        let (connection, server) = tokio::join!(
            CodexConnection::over(ours, instance, Allowance::new(1000)),
            tokio_tungstenite::accept_async(theirs)
        );
        let (mut codex, mut server) = (connection.unwrap(), server.unwrap());
        server.send(Message::text("x".repeat(5000))).await.unwrap();
        assert!(matches!(codex.receiver.next().await, Some(Err(ReceiveError::TooLong))));
    }

    #[tokio::test]
    async fn something_else_behind_the_socket_is_refused() {
        use tokio::io::AsyncWriteExt;
        let (ours, mut theirs) = tokio::io::duplex(4096);
        theirs.write_all(b"SSH-2.0-OpenSSH_9.2\r\n\r\n").await.unwrap();
        let instance = Instance::random(&ring::rand::SystemRandom::new()).unwrap();
        let refused = CodexConnection::over(ours, instance, Allowance::new(MAX_MESSAGE)).await;
        assert!(matches!(refused, Err(HandshakeError::Refused(_))), "{refused:?}");
    }

    #[tokio::test]
    async fn a_frozen_server_is_given_up() {
        let (ours, _theirs) = tokio::io::duplex(4096);
        let instance = Instance::random(&ring::rand::SystemRandom::new()).unwrap();
        let frozen = CodexConnection::within(Duration::from_millis(20), Box::new(ours), instance).await;
        assert!(matches!(frozen, Err(HandshakeError::TimedOut)), "{frozen:?}");
    }
}
