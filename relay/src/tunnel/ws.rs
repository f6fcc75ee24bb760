//! WebSockets as links.
//!
//! A stranger may send a few KiB in all, frame headers and pings included. That
//! is counted below the WebSocket ([`Allowance`]), because the limit changes with
//! the welcome and a WebSocket's own limits are set once. Buffers are small: most
//! connections are idle, and what one costs is mostly buffers.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use reachback_proto::control::{MAX_CIRCUIT_CHUNK, MAX_CONTROL};
use reachback_proto::endpoint::Endpoint;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::link::{Link, LinkError, Received, Sent, Transport};
use crate::peer::Connection;

/// What is read at once, which each connection has room for as long as it is there: enough for most frames and small messages.
/// Of larger ones TLS has a whole record ready, so that less at once costs no throughput that could be measured beside 4 KiB.
const READ_BUFFER: usize = 1024;

/// What waits at most before it is handed to TLS.
const WRITE_BUFFER: usize = 4 * 1024;

/// What a frame header may add to a message of the size limit, masks and a ping or two included.
const FRAMING: usize = 64;

/// How long a closed link waits for its peer to read the close.
const LINGER: Duration = Duration::from_secs(1);

/// How much a closed link still reads in that time; unread bytes would turn the close into a reset that hides it.
const LINGER_BYTES: u64 = 1024 * 1024;

/// The answer to a request that asks for a WebSocket; an error where it does not.
pub(crate) fn upgrade(request: &Request) -> Result<Response, impl std::error::Error + use<>> {
    create_response_with_body(request, Body::empty)
}

/// The server's end, after the HTTP upgrade or a stream's first byte. Messages are as long as the endpoint needs, and
/// until [`Transport::welcome`] the peer may send `hello_bytes` in all.
///
/// `connection` counts as open for as long as the link lives.
pub(crate) fn accept<S>(
    stream: S,
    hello_bytes: usize,
    endpoint: Endpoint,
    connection: Arc<Connection>,
) -> BoxFuture<'static, Link>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    Box::pin(async move {
        let link: Link = Box::new(WsLink::accept(stream, hello_bytes, endpoint, connection).await);
        link
    })
}

/// A WebSocket over `S`.
struct WsLink<S> {
    socket: WebSocketStream<Allowance<S>>,
    /// The socket failed on reading and reads no more; bytes that still come are thrown away below it.
    failed: bool,
    connection: Arc<Connection>,
    /// Ready once a newcomer has taken this connection's place, as long as it may.
    put_out: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> WsLink<S> {
    async fn accept(stream: S, hello_bytes: usize, endpoint: Endpoint, connection: Arc<Connection>) -> Self {
        let max_message = match endpoint {
            Endpoint::Host => MAX_CONTROL,
            Endpoint::HostData | Endpoint::Device => MAX_CIRCUIT_CHUNK,
        };
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(WRITE_BUFFER)
            // What is written stays within one message and a buffer, because the sink waits for the
            // socket before it takes the next; this only catches a mistake.
            .max_write_buffer_size(2 * MAX_CIRCUIT_CHUNK)
            .max_message_size(Some(max_message))
            .max_frame_size(Some(max_message));
        let stream = Allowance { stream, left: Some(hello_bytes + FRAMING) };
        let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
        let put_out = Some(Box::pin(connection.place.put_out().clone().cancelled_owned()));
        Self { socket, failed: false, connection, put_out }
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for WsLink<S> {
    type Item = Result<Received, LinkError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.put_out.as_mut().is_some_and(|put_out| put_out.as_mut().poll(cx).is_ready()) {
            self.put_out = None;
            return Poll::Ready(Some(Err(LinkError::Gone)));
        }
        let item = match ready!(self.socket.poll_next_unpin(cx)) {
            None => return Poll::Ready(None),
            Some(Ok(Message::Binary(bytes))) => Ok(Received::Bytes(bytes)),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(Received::Alive),
            Some(Ok(Message::Close(_))) => Ok(Received::Closed),
            Some(Ok(Message::Text(_) | Message::Frame(_))) => Err(LinkError::Malformed),
            Some(Err(error)) => Err(link_error(&error)),
        };
        self.failed |= item.is_err();
        Poll::Ready(Some(item))
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Sink<Sent> for WsLink<S> {
    type Error = LinkError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        self.socket.poll_ready_unpin(cx).map_err(|error| link_error(&error))
    }

    fn start_send(mut self: Pin<&mut Self>, item: Sent) -> Result<(), LinkError> {
        let message = match item {
            Sent::Bytes(bytes) => Message::Binary(bytes),
            Sent::Ping => Message::Ping(Bytes::new()),
            Sent::Close { code, reason } => {
                Message::Close(Some(CloseFrame { code: code.number().into(), reason: reason.into() }))
            }
        };
        self.socket.start_send_unpin(message).map_err(|error| link_error(&error))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        self.socket.poll_flush_unpin(cx).map_err(|error| link_error(&error))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        self.socket.poll_close_unpin(cx).map_err(|error| link_error(&error))
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Transport for WsLink<S> {
    fn welcome(&mut self) {
        self.socket.get_mut().left = None;
        self.connection.welcome();
        // Who was put out in this very moment is out.
        if !self.connection.place.put_out().is_cancelled() {
            self.put_out = None;
        }
    }

    fn linger(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let seen = async {
                if !self.failed {
                    // Ends with the peer's answer to the close, or with its end.
                    while let Some(Ok(_)) = self.socket.next().await {}
                }
                let stream = &mut self.socket.get_mut().stream;
                let _gone = stream.shutdown().await;
                if self.failed {
                    let _gone = tokio::io::copy(&mut stream.take(LINGER_BYTES), &mut tokio::io::sink()).await;
                }
            };
            // Over time: the peer had its chance.
            let _late = timeout(LINGER, seen).await;
        })
    }
}

fn link_error(error: &Error) -> LinkError {
    match error {
        Error::Capacity(_) => LinkError::TooLarge,
        Error::Io(error) if error.kind() == io::ErrorKind::QuotaExceeded => LinkError::TooLarge,
        Error::Utf8(_) | Error::AttackAttempt => LinkError::Malformed,
        Error::Protocol(violation) => {
            use tokio_tungstenite::tungstenite::error::ProtocolError::{
                ResetWithoutClosingHandshake, SendAfterClosing,
            };
            match violation {
                ResetWithoutClosingHandshake | SendAfterClosing => LinkError::Gone,
                _ => LinkError::Malformed,
            }
        }
        _ => LinkError::Gone,
    }
}

/// A stream from which only so many bytes can be read, while it matters.
struct Allowance<S> {
    stream: S,
    left: Option<usize>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Allowance<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let Some(left) = &mut this.left else { return Pin::new(&mut this.stream).poll_read(cx, buf) };
        if *left == 0 {
            return Poll::Ready(Err(io::ErrorKind::QuotaExceeded.into()));
        }
        let size = buf.remaining().min(*left);
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(size));
        ready!(Pin::new(&mut this.stream).poll_read(cx, &mut part))?;
        let read = part.filled().len();
        *left -= read;
        buf.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Allowance<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
