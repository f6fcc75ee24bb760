//! A WebSocket to the relay, over whatever carries it: one binary message is one piece.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Sink, Stream};
use reachback_proto::close::CloseCode;
use reachback_proto::control::MAX_CIRCUIT_CHUNK;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use super::transport::{Closed, Received, Transport};

/// Opens a WebSocket at `url` over a stream that reaches the relay.
pub(super) async fn open<S>(url: &str, stream: S) -> io::Result<Box<dyn Transport>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let request = url.into_client_request().map_err(into_io)?;
    let opening = tokio_tungstenite::client_async_with_config(request, stream, Some(config()));
    let (socket, _) = opening.await.map_err(into_io)?;
    Ok(Box::new(WebSocket(socket)))
}

/// What is read at once: a record of TLS holds no more. All of it is zeroed before each read.
const READ_BUFFER: usize = 16 * 1024;

/// How an agent speaks it.
pub(super) fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_message_size(Some(MAX_CIRCUIT_CHUNK))
        .max_frame_size(Some(MAX_CIRCUIT_CHUNK))
}

pub(crate) struct WebSocket<S>(pub(crate) WebSocketStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for WebSocket<S> {
    type Item = io::Result<Received>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(ready!(Pin::new(&mut self.0).poll_next(cx)).map(|message| match message {
            Ok(Message::Binary(bytes)) => Ok(Received::Bytes(bytes)),
            // The library answers pings itself.
            Ok(Message::Ping(_) | Message::Pong(_)) => Ok(Received::Alive),
            Ok(Message::Close(frame)) => Ok(Received::Closed(closed(frame.as_ref()))),
            Ok(Message::Text(_) | Message::Frame(_)) => {
                Err(io::Error::new(io::ErrorKind::InvalidData, "a message is not binary"))
            }
            Err(error) => Err(into_io(error)),
        }))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Sink<Bytes> for WebSocket<S> {
    type Error = io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_ready(cx).map_err(into_io)
    }

    fn start_send(mut self: Pin<&mut Self>, bytes: Bytes) -> io::Result<()> {
        Pin::new(&mut self.0).start_send(Message::Binary(bytes)).map_err(into_io)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx).map_err(into_io)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx).map_err(into_io)
    }
}

/// A restarting relay puts its delay, in milliseconds, into the close's reason.
fn closed(frame: Option<&CloseFrame>) -> Closed {
    let Some(frame) = frame else { return Closed { code: CloseCode::PeerGone, reconnect_in: None } };
    let code = CloseCode::from_number(frame.code.into());
    let delay = frame.reason.parse().ok().filter(|_| code == CloseCode::Restarting);
    Closed { code, reconnect_in: delay.map(Duration::from_millis) }
}

fn into_io(error: WsError) -> io::Error {
    match error {
        WsError::Io(error) => error,
        other => io::Error::other(other),
    }
}
