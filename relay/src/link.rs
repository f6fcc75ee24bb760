//! A connection to a peer, whatever carries it.
//!
//! A [`Link`] is a stream of [`Received`] and a sink of [`Sent`], boxed so that
//! tasks can hand links to each other. Only a transport (`tunnel/ws.rs`) knows
//! what one is made of.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Sink, SinkExt, Stream};
use reachback_proto::close::CloseCode;
use tokio::time::timeout;

/// A connection to a peer.
pub(crate) type Link = Box<dyn Transport>;

/// What carries a link: a stream of what arrives, a sink for what is sent.
pub(crate) trait Transport:
    Stream<Item = Result<Received, LinkError>> + Sink<Sent, Error = LinkError> + Send + Unpin
{
    /// Lifts the limits of a stranger: what it may send, and for whom it has to make room.
    fn welcome(&mut self);

    /// After a close was sent: waits, for a bounded time, until the peer has seen it.
    fn linger(&mut self) -> futures_util::future::BoxFuture<'_, ()>;
}

/// What arrives on a link.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// A frame, or some of a circuit's bytes.
    Bytes(Bytes),
    /// A sign of life of the transport itself.
    Alive,
    /// The peer ended the link in an orderly way.
    Closed,
}

/// What is sent on a link.
#[derive(Debug)]
pub(crate) enum Sent {
    /// A frame, or some of a circuit's bytes.
    Bytes(Bytes),
    /// Asks the peer's transport for a sign of life.
    Ping,
    /// Ends the link. Nothing can be sent after it.
    Close {
        /// Why.
        code: CloseCode,
        /// Text of the close frame.
        reason: String,
    },
}

/// Why a link failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// The connection broke.
    #[error("the connection broke")]
    Gone,
    /// A message was over the limit that holds now.
    #[error("a message was too large")]
    TooLarge,
    /// Bytes that the transport does not allow.
    #[error("the peer broke the transport's rules")]
    Malformed,
    /// The peer did not take what was sent.
    #[error("the peer did not take what was sent in time")]
    Stalled,
}

/// Ends a link within the write limit, with a last frame in front of it if there is one.
pub(crate) async fn close(
    link: &mut Link,
    frame: Option<Vec<u8>>,
    code: CloseCode,
    reason: String,
    within: Duration,
) -> Result<(), LinkError> {
    if let Some(frame) = frame {
        send(link, frame, within).await?;
    }
    timeout(within, link.send(Sent::Close { code, reason })).await.map_err(|_| LinkError::Stalled)?
}

/// Sends one frame within the write limit.
pub(crate) async fn send(link: &mut Link, frame: Vec<u8>, within: Duration) -> Result<(), LinkError> {
    timeout(within, link.send(Sent::Bytes(frame.into()))).await.map_err(|_| LinkError::Stalled)?
}

/// Asks for a sign of life within the write limit.
pub(crate) async fn ping(link: &mut Link, within: Duration) -> Result<(), LinkError> {
    timeout(within, link.send(Sent::Ping)).await.map_err(|_| LinkError::Stalled)?
}
