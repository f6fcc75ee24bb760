//! Links in memory, for tests.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Sink, Stream};
use reachback_proto::crypto::handshake::{Preamble, Purpose};
use reachback_proto::crypto::keys::{Secret, StaticKey};
use reachback_proto::ids::HostId;
use reachback_proto::version;
use ring::rand::SystemRandom;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};

use super::SecureLink;
use super::handshake::{self, BlockStream};

/// Bytes that fit between the two ends of a pipe: less than a session likes to send.
const PIPE: usize = 64 * 1024;

/// A circuit that is one end of a pipe.
pub(crate) struct Pipe {
    stream: DuplexStream,
    out: BytesMut,
}

/// Both ends of a circuit.
pub(crate) fn pipes() -> (Pipe, Pipe) {
    let (a, b) = duplex(PIPE);
    (Pipe { stream: a, out: BytesMut::new() }, Pipe { stream: b, out: BytesMut::new() })
}

impl Stream for Pipe {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut bytes = [0; 4096];
        let mut read = ReadBuf::new(&mut bytes);
        let ended = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read)).err().map(Err);
        let filled = read.filled();
        Poll::Ready(ended.or_else(|| (!filled.is_empty()).then(|| Ok(Bytes::copy_from_slice(filled)))))
    }
}

impl Sink<Bytes> for Pipe {
    type Error = io::Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, bytes: Bytes) -> io::Result<()> {
        self.out.extend_from_slice(&bytes);
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, out } = &mut *self;
        while !out.is_empty() {
            let written = ready!(Pin::new(&mut *stream).poll_write(cx, out))?;
            out.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A device's and a host's end of one link.
pub(crate) async fn links() -> (SecureLink, SecureLink) {
    let rng = SystemRandom::new();
    let (device, host) = (StaticKey::generate(&rng).unwrap(), StaticKey::generate(&rng).unwrap());
    let (id, psk) = (HostId([7; 16]), Secret::new([9; 32]));
    let (device_end, host_end) = pipes();
    let preamble = Preamble { purpose: Purpose::Link, versions: version::SUPPORTED }.to_bytes();
    let accept = async {
        let mut stream = BlockStream::new(Box::new(host_end));
        assert_eq!(stream.preamble().await.unwrap(), preamble);
        handshake::accept(stream, preamble, id, &host, |_| Some((psk.clone(), ()))).await
    };
    let host_static = host.public();
    let initiate = handshake::initiate(Box::new(device_end), id, &host_static, &device, &psk);
    let (device, host) = tokio::join!(initiate, accept);
    (device.unwrap(), host.unwrap().0)
}
