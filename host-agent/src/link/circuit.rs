//! A circuit: bytes both ways through the relay, whatever carries them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use reachback_proto::close::CloseCode;
use reachback_proto::control::MAX_CIRCUIT_CHUNK;

/// A stream of bytes, polled by the one task that owns it.
pub trait Circuit: Send + Unpin {
    /// Appends what has arrived to `buf`; 0 at the end.
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut BytesMut) -> Poll<io::Result<usize>>;
    /// Whether [`Self::start_send`] may be called.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Takes bytes to send.
    fn start_send(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Ready once everything taken is written.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Ends the circuit politely.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// Any byte transport below a WebSocket.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// A WebSocket to the relay.
pub type RelaySocket = WebSocketStream<Box<dyn Transport>>;

/// Buffers small enough that an idle connection costs little: the library's default read buffer is 128 KiB
/// and measured no faster.
pub fn websocket_config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(4 * 1024)
        .write_buffer_size(0)
        .max_message_size(Some(MAX_CIRCUIT_CHUNK))
        .max_frame_size(Some(MAX_CIRCUIT_CHUNK))
}

/// The relay ended the circuit because it restarts. The source of the circuit's [`io::Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the relay restarts and wants us back in {} ms", reconnect_in.as_millis())]
pub struct Restarting {
    /// When to come back.
    pub reconnect_in: Duration,
}

impl Restarting {
    /// A restarting relay puts its delay, in milliseconds, into the close's reason.
    pub(super) fn read(frame: &CloseFrame) -> Option<Self> {
        let code = CloseCode::from_number(frame.code.into());
        let delay = frame.reason.parse().ok().filter(|_| code == CloseCode::Restarting)?;
        Some(Self { reconnect_in: Duration::from_millis(delay) })
    }
}

/// A circuit over a WebSocket: binary messages hold its bytes, their boundaries mean nothing.
pub struct WebSocketCircuit {
    socket: RelaySocket,
}

impl WebSocketCircuit {
    /// Goes on with a socket on which the circuit has started.
    pub fn new(socket: RelaySocket) -> Self {
        Self { socket }
    }
}

impl Circuit for WebSocketCircuit {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut BytesMut) -> Poll<io::Result<usize>> {
        loop {
            match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) if bytes.is_empty() => {}
                Some(Ok(Message::Binary(bytes))) => {
                    buf.extend_from_slice(&bytes);
                    return Poll::Ready(Ok(bytes.len()));
                }
                // The library answers pings itself.
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(frame))) => {
                    tracing::debug!(code = frame.as_ref().map(|f| u16::from(f.code)), "circuit closed by the relay");
                    return Poll::Ready(match frame.as_ref().and_then(Restarting::read) {
                        Some(restarting) => Err(io::Error::other(restarting)),
                        None => Ok(0),
                    });
                }
                Some(Ok(_)) => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "not a binary message")));
                }
                Some(Err(error)) => return Poll::Ready(Err(into_io(error))),
                None => return Poll::Ready(Ok(0)),
            }
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_ready(cx).map_err(into_io)
    }

    fn start_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        Pin::new(&mut self.socket).start_send(Message::Binary(Bytes::copy_from_slice(bytes))).map_err(into_io)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(into_io)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(cx).map_err(into_io)
    }
}

fn into_io(error: WsError) -> io::Error {
    match error {
        WsError::Io(error) => error,
        other => io::Error::other(other),
    }
}
