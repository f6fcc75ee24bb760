//! The one place that knows how an app-server speaks WebSocket: one JSON-RPC message per text frame.
//!
//! The server takes frames up to 16 MiB and messages up to 64 MiB, so larger
//! messages leave in fragments. What it sends has no limit of its own: see
//! [`oversize`]. It never completes a closing handshake: after
//! our close, and when it drops a reader that is too slow, the stream just ends.

mod oversize;
#[cfg(test)]
pub(super) mod testing;

use std::io;
use std::iter;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::Either;
use futures_util::stream::{self, SplitStream};
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use http::HeaderValue;
use http::header::AUTHORIZATION;
use reachback_relay::bursts::Bursts;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::{Allowance, CodexConnection, Instance, ReceiveError, SendError};
use oversize::{Sieve, TooLarge};

/// The text of one message: bytes that are known to be UTF-8, cheap to clone.
///
/// Becomes [`Bytes`] without a copy, and is made of them by one look through. It is the type in which the WebSocket
/// library gives and takes messages, so that nothing is copied or looked through again on their way.
pub type Text = Utf8Bytes;

/// The largest message that the app-server takes.
pub const MAX_MESSAGE: usize = 64 << 20;

/// The largest frame the app-server takes (`x-codex-websocket-max-unfragmented-message-bytes`).
pub const MAX_FRAME: usize = 16 << 20;

/// A local server answers the handshake in milliseconds; one that is frozen never does.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// One per channel and connection, so small: a delta is about 200 bytes. Where more comes than it holds, [`Bursts`] reads
/// it in larger pieces, and a larger message grows the buffer while it needs it.
const READ_BUFFER: usize = 8 << 10;

/// A WebSocket could not be opened over a stream to an app-server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// No answer in time.
    #[error("codex did not answer the websocket handshake within {} s", HANDSHAKE_DEADLINE.as_secs())]
    TimedOut,
    /// It speaks HTTP, and opens no WebSocket. What else it said is not kept: it heard a secret perhaps.
    #[error("what listens there answered with HTTP status {status}, not with a websocket")]
    Answered {
        /// The status.
        status: u16,
    },
    /// Something else answered, or nothing did.
    #[error("codex's socket does not speak websocket")]
    Refused(#[source] Box<Error>),
}

/// Opens a connection over a stream that reaches an app-server: its unix socket, or a channel of an SSH link.
pub(crate) async fn connect<S>(
    stream: S,
    instance: Instance,
    allowance: Allowance,
) -> Result<CodexConnection, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    connect_with(stream, instance, allowance, None).await
}

/// The same, to a server that lets in who says this in `Authorization`.
pub(super) async fn connect_with<S>(
    stream: S,
    instance: Instance,
    allowance: Allowance,
    authorization: Option<HeaderValue>,
) -> Result<CodexConnection, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let stream = Sieve::new(Bursts::new(stream), READ_BUFFER, allowance);
    connect_within(HANDSHAKE_DEADLINE, stream, instance, authorization).await
}

async fn connect_within<S>(
    deadline: Duration,
    stream: S,
    instance: Instance,
    authorization: Option<HeaderValue>,
) -> Result<CodexConnection, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_message_size(None)
        .max_frame_size(None);
    // The name is only a header: the server has one client address and no virtual hosts. No
    // other header is sent: asking for Codex's stream compression would change the frames.
    let mut request = "ws://localhost/".into_client_request().expect("it is an address");
    request.headers_mut().extend(authorization.map(|value| (AUTHORIZATION, value)));
    let opening = tokio_tungstenite::client_async_with_config(request, stream, Some(config));
    let (socket, _) =
        tokio::time::timeout(deadline, opening).await.map_err(|_| HandshakeError::TimedOut)?.map_err(refused)?;
    let (sink, frames) = socket.split();
    let sink = sink.sink_map_err(send_error).with_flat_map(outgoing);
    Ok(CodexConnection::new(sink, Messages { frames }, instance))
}

fn refused(error: Error) -> HandshakeError {
    match error {
        Error::Http(answer) => HandshakeError::Answered { status: answer.status().as_u16() },
        error => HandshakeError::Refused(Box::new(error)),
    }
}

/// The frames of one message, where the server takes it.
fn outgoing(text: Text) -> impl Stream<Item = Result<Message, SendError>> {
    let length = text.len();
    if length > MAX_MESSAGE {
        return Either::Left(stream::iter([Err(SendError::TooLong { length, limit: MAX_MESSAGE })]));
    }
    Either::Right(stream::iter(frames(text).map(Ok)))
}

/// One message in frames that Codex takes, be it the server or its terminal UI.
fn frames(text: Text) -> impl Iterator<Item = Message> {
    let mut rest = Some(Bytes::from(text));
    let mut opcode = Data::Text;
    iter::from_fn(move || {
        let mut piece = rest.take()?;
        if piece.len() > MAX_FRAME {
            rest = Some(piece.split_off(MAX_FRAME));
        }
        let frame = Frame::message(piece, OpCode::Data(opcode), rest.is_none());
        opcode = Data::Continue;
        Some(Message::Frame(frame))
    })
}

/// Hands a sink one message in frames that Codex takes, be it the server or its terminal UI. They leave with the next flush.
///
/// Not to be cancelled: the rest of a message cut in fragments would be missing.
pub(crate) async fn feed_text<S>(sink: &mut S, message: Text) -> Result<(), Error>
where
    S: Sink<Message, Error = Error> + Unpin,
{
    for frame in frames(message) {
        sink.feed(frame).await?;
    }
    Ok(())
}

/// What an app-server sends, until its end.
struct Messages<S> {
    frames: SplitStream<WebSocketStream<S>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for Messages<S> {
    type Item = Result<Text, ReceiveError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            return Poll::Ready(match ready!(self.frames.poll_next_unpin(cx)) {
                Some(Ok(Message::Text(text))) => Some(Ok(text)),
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
                Some(Ok(Message::Close(_))) | None => None,
                Some(Ok(Message::Binary(_))) => Some(Err(ReceiveError::Protocol)),
                Some(Err(error)) if ended(&error) => None,
                Some(Err(error)) => Some(Err(receive_error(error))),
            });
        }
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

fn receive_error(error: Error) -> ReceiveError {
    match error {
        Error::Io(error) if error.get_ref().is_some_and(|inner| inner.is::<TooLarge>()) => ReceiveError::TooLong,
        Error::Io(error) => ReceiveError::Io(error),
        _ => ReceiveError::Protocol,
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
            connect(ours, instance, Allowance::new(MAX_MESSAGE)),
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
        assert!(matches!(refused, Err(SendError::TooLong { length, .. }) if length == MAX_MESSAGE + 1), "{refused:?}");
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
        let (connection, server) =
            tokio::join!(connect(ours, instance, Allowance::new(1000)), tokio_tungstenite::accept_async(theirs));
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
        let refused = connect(ours, instance, Allowance::new(MAX_MESSAGE)).await;
        assert!(matches!(refused, Err(HandshakeError::Refused(_))), "{refused:?}");
    }

    #[tokio::test]
    async fn a_server_that_answers_without_a_websocket_is_named_by_its_status_and_not_quoted() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (ours, mut theirs) = tokio::io::duplex(4096);
        let instance = Instance::random(&ring::rand::SystemRandom::new()).unwrap();
        let mut value = HeaderValue::from_static("Bearer the-secret");
        value.set_sensitive(true);
        let server = async {
            let mut head = vec![0; 4096];
            let length = theirs.read(&mut head).await.unwrap();
            head.truncate(length);
            let head = String::from_utf8(head).unwrap();
            assert!(head.contains("\r\nauthorization: Bearer the-secret\r\n"), "{head}");
            let answer = "HTTP/1.1 401 Unauthorized\r\ncontent-length: 10\r\n\r\nthe-secret";
            theirs.write_all(answer.as_bytes()).await.unwrap();
        };
        let (refused, ()) = tokio::join!(connect_with(ours, instance, Allowance::default(), Some(value)), server);
        assert!(matches!(refused, Err(HandshakeError::Answered { status: 401 })), "{refused:?}");
        assert!(!format!("{refused:?}").contains("the-secret"));
    }

    #[tokio::test]
    async fn a_frozen_server_is_given_up() {
        let (ours, _theirs) = tokio::io::duplex(4096);
        let instance = Instance::random(&ring::rand::SystemRandom::new()).unwrap();
        let frozen = connect_within(Duration::from_millis(20), ours, instance, None).await;
        assert!(matches!(frozen, Err(HandshakeError::TimedOut)), "{frozen:?}");
    }
}
