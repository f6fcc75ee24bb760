//! Driving handshakes over a circuit.

use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use reachback_proto::crypto::blocks::{BlockDecoder, BlockError};
use reachback_proto::crypto::handshake::{Ephemeral, HandshakeError, LinkInitiator, LinkResponder};
use reachback_proto::crypto::keys::{KeyError, Secret, StaticKey};
use reachback_proto::ids::{HostId, PublicKey};
use reachback_proto::version;
use ring::rand::SystemRandom;
use tokio::time::timeout;

use super::SecureLink;
use super::circuit::{Circuit, Restarting};

/// A handshake takes a round trip; beyond this the other side is not there.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A handshake did not end in a link.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeFailed {
    /// The circuit failed.
    #[error("circuit failed: {0}")]
    Circuit(#[from] io::Error),
    /// The other side closed the circuit.
    #[error("circuit was closed")]
    Closed,
    /// The other side is silent.
    #[error("no answer within {} s", HANDSHAKE_TIMEOUT.as_secs())]
    TimedOut,
    /// Bytes that are not blocks.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// The handshake itself.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// No randomness, or a weak key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The key is not one of this host's devices.
    #[error("the device is not on this host's list")]
    UnknownDevice,
}

impl HandshakeFailed {
    /// When to try again, where the relay said so.
    pub fn reconnect_in(&self) -> Option<Duration> {
        let Self::Circuit(error) = self else { return None };
        let restarting = error.get_ref()?.downcast_ref::<Restarting>()?;
        Some(restarting.reconnect_in)
    }
}

/// A circuit cut into blocks.
pub struct BlockStream {
    circuit: Box<dyn Circuit>,
    decoder: BlockDecoder,
}

impl BlockStream {
    /// From the circuit's first byte on.
    pub fn new(circuit: Box<dyn Circuit>) -> Self {
        Self { circuit, decoder: BlockDecoder::new() }
    }

    /// The circuit itself, for writing.
    pub fn circuit(&mut self) -> &mut dyn Circuit {
        &mut *self.circuit
    }

    /// The next block; `None` at the end of the circuit.
    pub fn poll_block(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, HandshakeFailed>> {
        loop {
            if let Some(block) = self.decoder.next_block()? {
                return Poll::Ready(Ok(Some(block)));
            }
            if !ready!(self.poll_more(cx))? {
                return Poll::Ready(Ok(None));
            }
        }
    }

    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let read = ready!(self.circuit.poll_next_unpin(cx)).transpose()?;
        let has_more = read.is_some();
        self.decoder.push(read.unwrap_or_default());
        Poll::Ready(Ok(has_more))
    }

    /// The preamble.
    pub async fn preamble(&mut self) -> Result<[u8; 4], HandshakeFailed> {
        loop {
            if let Some(preamble) = self.decoder.take_preamble() {
                return Ok(preamble);
            }
            if !std::future::poll_fn(|cx| self.poll_more(cx)).await? {
                return Err(HandshakeFailed::Closed);
            }
        }
    }

    /// The next block.
    pub async fn block(&mut self) -> Result<Bytes, HandshakeFailed> {
        std::future::poll_fn(|cx| self.poll_block(cx)).await?.ok_or(HandshakeFailed::Closed)
    }

    /// Writes bytes.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), HandshakeFailed> {
        Ok(self.circuit.send(Bytes::copy_from_slice(bytes)).await?)
    }
}

/// A device's link to its host, over a circuit that has just started.
pub async fn initiate(
    circuit: Box<dyn Circuit>,
    host: HostId,
    host_static: &PublicKey,
    own: &StaticKey,
    psk: &Secret,
) -> Result<SecureLink, HandshakeFailed> {
    within(async {
        let ephemeral = Ephemeral::generate(&SystemRandom::new())?;
        let mut stream = BlockStream::new(circuit);
        let (initiator, hello) = LinkInitiator::start(host, host_static, own, psk, version::SUPPORTED, ephemeral)?;
        stream.write(&hello).await?;
        let (records, _version) = initiator.finish(&stream.block().await?)?;
        Ok(SecureLink::new(stream, records))
    })
    .await
}

/// A host's side of a link: `find` gives the psk of the device with a static key, and whatever else the caller keeps of it.
///
/// Nothing may change because of this alone: message 1 can be replayed.
pub async fn accept<D>(
    mut stream: BlockStream,
    preamble: [u8; 4],
    host: HostId,
    own: &StaticKey,
    find: impl FnOnce(&PublicKey) -> Option<(Secret, D)>,
) -> Result<(SecureLink, D), HandshakeFailed> {
    within(async {
        let ephemeral = Ephemeral::generate(&SystemRandom::new())?;
        let message1 = stream.block().await?;
        let (responder, device) = LinkResponder::read(preamble, host, own, &message1, ephemeral)?;
        let (psk, found) = find(&device).ok_or(HandshakeFailed::UnknownDevice)?;
        let (records, message2) = responder.accept(&psk)?;
        stream.write(&message2).await?;
        Ok((SecureLink::new(stream, records), found))
    })
    .await
}

async fn within<T>(handshake: impl Future<Output = Result<T, HandshakeFailed>>) -> Result<T, HandshakeFailed> {
    timeout(HANDSHAKE_TIMEOUT, handshake).await.unwrap_or(Err(HandshakeFailed::TimedOut))
}
