//! Links to hosts and devices, from the transport inwards.
//!
//! ```text
//!   ws.rs (later quic.rs)   a transport: messages in, messages out, a close with a code
//!   greet.rs                challenge, hello, welcome: the same for all
//!   host.rs data.rs         a host's control connection; its data connections
//!   device.rs               a device that waits for its host, or pairs
//!   circuit.rs              two links spliced
//! ```
//!
//! Only the transport knows what it is made of. The rest takes a [`Link`]: a
//! stream of [`Received`] and a sink of [`Sent`], boxed so that tasks can hand
//! links to each other whatever carries them.

mod circuit;
mod data;
mod device;
mod greet;
mod host;
pub(crate) mod ws;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Sink, SinkExt, Stream};
use reachback_proto::close::CloseCode;
use reachback_proto::control::RelayToPeer;
use tokio::time::timeout;

use crate::limits::{Limit, ms};
use crate::refusal::Refusal;
use crate::state::State;

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

/// Which endpoint a peer came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// `/v1/host`
    Host,
    /// `/v1/host/data`
    HostData,
    /// `/v1/device`
    Device,
}

/// How a peer's task ends when nothing is wrong with its link.
enum Ending {
    /// The peer is told why it is put out.
    Refused(Refusal),
    /// The relay stops; the peer is told when to come back.
    Restarting,
    /// There is nobody to tell.
    Gone,
}

impl From<Refusal> for Ending {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<LinkError> for Ending {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Gone => Self::Gone,
            LinkError::TooLarge => Self::Refused(Refusal::too_large(None)),
            LinkError::Malformed => Self::Refused(Refusal::malformed("binary messages only")),
            LinkError::Stalled => Self::Refused(Refusal::timeout(Limit::Write)),
        }
    }
}

/// Serves one peer from challenge to close.
pub(crate) async fn serve(state: Arc<State>, mut link: Link, endpoint: Endpoint, from: IpAddr) {
    let result = match greet::greet(&state, &mut link, endpoint, from).await {
        Ok(greet::Hello::Host(hello)) => host::serve(&state, &mut link, hello).await,
        // These hand their link on; what is left of it is closed where it ends.
        Ok(greet::Hello::Data(hello)) => return data::serve(&state, link, hello).await,
        Ok(greet::Hello::Device(hello)) => return device::serve(&state, link, hello).await,
        Ok(greet::Hello::Pairing(hello)) => return device::serve_pairing(&state, link, hello, from).await,
        Err(ending) => Err(ending),
    };
    if let Err(ending) = result {
        finish(&state, &mut link, ending).await;
    }
}

/// Tells the peer how its link ends, and closes it.
async fn finish(state: &State, link: &mut Link, ending: Ending) {
    let write = ms(state.limits().write_ms);
    let told = match ending {
        Ending::Gone => return,
        Ending::Refused(refusal) => {
            count(state, &refusal);
            let (frame, code) = (refusal.frame(), refusal.code);
            close(link, Some(frame), code, code.name().to_owned(), write).await
        }
        Ending::Restarting => {
            let delay = state.restart_delay().as_millis();
            let reconnect_in_ms = u32::try_from(delay).unwrap_or(u32::MAX);
            let frame = RelayToPeer::Restarting { reconnect_in_ms }.encode();
            close(link, Some(frame), CloseCode::Restarting, delay.to_string(), write).await
        }
    };
    if told.is_ok() {
        link.linger().await;
    }
}

fn count(state: &State, refusal: &Refusal) {
    state.metrics.refused(refusal.code);
    if let Some(limit) = refusal.limit {
        state.metrics.limit(limit);
    }
    tracing::debug!(code = refusal.code.name(), limit = refusal.limit.map(Limit::name), "peer refused or put out");
}

async fn close(
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
async fn send(link: &mut Link, frame: Vec<u8>, within: Duration) -> Result<(), LinkError> {
    timeout(within, link.send(Sent::Bytes(frame.into()))).await.map_err(|_| LinkError::Stalled)?
}

/// Asks for a sign of life within the write limit.
async fn ping(link: &mut Link, within: Duration) -> Result<(), LinkError> {
    timeout(within, link.send(Sent::Ping)).await.map_err(|_| LinkError::Stalled)?
}
