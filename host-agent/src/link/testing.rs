//! Links in memory, for tests.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use reachback_proto::crypto::handshake::{Preamble, Purpose};
use reachback_proto::crypto::keys::{Secret, StaticKey};
use reachback_proto::ids::HostId;
use reachback_proto::version;
use ring::rand::SystemRandom;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};

use super::SecureLink;
use super::circuit::Circuit;
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

impl Circuit for Pipe {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut BytesMut) -> Poll<io::Result<usize>> {
        let mut bytes = [0; 4096];
        let mut read = ReadBuf::new(&mut bytes);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
        buf.extend_from_slice(read.filled());
        Poll::Ready(Ok(read.filled().len()))
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }

    fn start_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.out))?;
            self.out.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
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
