//! A circuit: bytes both ways through the relay, whatever carries them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Sink, Stream};

use super::transport::{Received, Transport};

/// A stream and a sink of bytes, cut anywhere, polled by the one task that owns it. The stream ends with the circuit.
pub trait Circuit: Stream<Item = io::Result<Bytes>> + Sink<Bytes, Error = io::Error> + Send + Unpin {}
impl<T: Stream<Item = io::Result<Bytes>> + Sink<Bytes, Error = io::Error> + Send + Unpin> Circuit for T {}

/// The relay ended the circuit because it restarts. The source of the circuit's [`io::Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the relay restarts and wants us back in {} ms", reconnect_in.as_millis())]
pub struct Restarting {
    /// When to come back.
    pub reconnect_in: Duration,
}

/// A connection to the relay on which a circuit has started.
pub(super) struct RelayCircuit(pub(super) Box<dyn Transport>);

impl Stream for RelayCircuit {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            return Poll::Ready(match ready!(Pin::new(&mut self.0).poll_next(cx)) {
                Some(Ok(Received::Alive)) => continue,
                Some(Ok(Received::Bytes(bytes))) => Some(Ok(bytes)),
                Some(Ok(Received::Closed(closed))) => {
                    tracing::debug!(code = closed.code.name(), "circuit closed by the relay");
                    let restarting = closed.reconnect_in.map(|reconnect_in| Restarting { reconnect_in });
                    restarting.map(|restarting| Err(io::Error::other(restarting)))
                }
                Some(Err(error)) => Some(Err(error)),
                None => None,
            });
        }
    }
}

impl Sink<Bytes> for RelayCircuit {
    type Error = io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, bytes: Bytes) -> io::Result<()> {
        Pin::new(&mut self.0).start_send(bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}
