//! Links: from a TCP connection to sealed records.
//!
//! [`dial`] finds the address of a name that answers; [`way_out`] says through which [`proxy`], and whose
//! certificates count ([`authorities`]); [`relay`] dials the relay
//! and proves keys; [`circuit`] is the byte stream
//! that the relay then splices; [`SecureLink`] is the Noise handshake and its records over it. A
//! transport ([`ws`], over TCP or over a stream of [`quic`]) is one implementation of
//! [`transport::Transport`] and known nowhere else; [`transports`] says which is tried.
//!
//! A `SecureLink` belongs to one task, the session's, and is polled: the task
//! reads, writes and listens to everything else in a single `select!`.

pub(crate) mod authorities;
pub mod circuit;
pub(crate) mod dial;
pub mod handshake;
pub(crate) mod proxy;
pub(crate) mod quic;
pub mod relay;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod tls;
pub(crate) mod transport;
pub mod transports;
pub mod way_out;
pub(crate) mod ws;

use std::mem;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use reachback_proto::control::CIRCUIT_BATCH;
use reachback_proto::crypto::blocks::{BLOCK_HEADER, MAX_BLOCK};
use reachback_proto::crypto::records::{Opener, RecordError, Records, Sealer};

use tokio::io::{AsyncRead, AsyncWrite};

use handshake::{BlockStream, HandshakeFailed};

/// TCP, TLS over it, or another stream of bytes that a WebSocket runs over.
pub(crate) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// A link ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The circuit failed, or carried something that is not blocks.
    #[error(transparent)]
    Circuit(#[from] HandshakeFailed),
    /// A record that does not open, or a link that is spent.
    #[error("record does not open: {0}")]
    Record(#[from] RecordError),
}

impl LinkError {
    /// When to make another link, where the relay said so.
    pub fn reconnect_in(&self) -> Option<Duration> {
        match self {
            Self::Circuit(failed) => failed.reconnect_in(),
            Self::Record(_) => None,
        }
    }
}

/// Sealed, padded records over a circuit.
pub struct SecureLink {
    stream: BlockStream,
    opener: Opener,
    sealer: Sealer,
    outbound: Vec<u8>,
}

impl SecureLink {
    /// Goes on after a handshake.
    pub fn new(stream: BlockStream, records: Records) -> Self {
        let (sealer, opener) = records.split();
        Self { stream, opener, sealer, outbound: Vec::new() }
    }

    /// Reads the next record's plaintext into `record`.
    pub fn poll_record(&mut self, cx: &mut Context<'_>, record: &mut Vec<u8>) -> Poll<Result<(), LinkError>> {
        let block = ready!(self.stream.poll_block(cx))?.ok_or(HandshakeFailed::Closed)?;
        self.opener.open(&block, record)?;
        Poll::Ready(Ok(()))
    }

    /// Seals a record; it goes out with the next flush. `plaintext` is padded in place.
    pub fn start_send(&mut self, plaintext: &mut Vec<u8>) -> Result<(), LinkError> {
        // One record is often all of it. A second one says that there is more: then there is room for a whole batch.
        let room = match self.outbound.is_empty() {
            true => Sealer::sealed_len(plaintext.len()).unwrap_or_default(),
            false => CIRCUIT_BATCH.saturating_sub(self.outbound.len()),
        };
        self.outbound.reserve_exact(room);
        self.sealer.seal(plaintext, &mut self.outbound)?;
        Ok(())
    }

    /// Whether there is no room for another full record in what goes out at once.
    pub fn is_batch_full(&self) -> bool {
        self.outbound.len() + BLOCK_HEADER + MAX_BLOCK > CIRCUIT_BATCH
    }

    /// Writes what was sealed; ready once the circuit has taken all of it.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        let circuit = self.stream.circuit();
        if !self.outbound.is_empty() {
            ready!(circuit.poll_ready_unpin(cx)).map_err(HandshakeFailed::from)?;
            // Handed over as it is: the next batch gets a buffer of its own.
            circuit.start_send_unpin(Bytes::from(mem::take(&mut self.outbound))).map_err(HandshakeFailed::from)?;
        }
        Poll::Ready(Ok(ready!(circuit.poll_flush_unpin(cx)).map_err(HandshakeFailed::from)?))
    }

    /// The next record's plaintext.
    pub async fn record(&mut self) -> Result<Vec<u8>, LinkError> {
        let mut record = Vec::new();
        std::future::poll_fn(|cx| self.poll_record(cx, &mut record)).await?;
        Ok(record)
    }

    /// Writes what was sealed.
    pub async fn flush(&mut self) -> Result<(), LinkError> {
        std::future::poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Says goodbye to the relay, and waits for its own; the circuit is gone either way. Give it a limit.
    ///
    /// A socket that is dropped with something unread in it is reset, and a reset overtakes what was just written: the
    /// last word would be lost.
    pub async fn close(mut self) {
        let circuit = self.stream.circuit();
        if circuit.close().await.is_ok() {
            while let Some(Ok(_)) = circuit.next().await {}
        }
    }
}

impl std::fmt::Debug for SecureLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecureLink")
    }
}

#[cfg(test)]
mod tests {
    use reachback_proto::crypto::records::MAX_RECORD_PLAINTEXT;

    use super::*;

    #[tokio::test]
    async fn a_batch_is_full_with_as_many_full_records_as_go_in_one_message() {
        let (mut link, _far) = testing::links().await;
        while !link.is_batch_full() {
            link.start_send(&mut vec![0; MAX_RECORD_PLAINTEXT]).unwrap();
        }
        assert_eq!(link.outbound.len(), CIRCUIT_BATCH);
    }
}
