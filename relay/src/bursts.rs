//! What arrives in bursts, read in few large pieces.
//!
//! TLS asks its socket for 4 KiB at a time, and keeps no more than a record: 64 KiB
//! on their way take it a system call for each 4 KiB. A large buffer would spare them, but
//! most connections are idle, and what one costs is mostly buffers. So there is one
//! only while more comes than was asked for: from a read that was filled on, up to
//! one that was not.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use reachback_proto::control::CIRCUIT_TLS_BUFFER;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::poll_read_buf;

/// What is read at once: with the 4 KiB that TLS asked for, a full message of a circuit as it is on the wire.
const LARGE: usize = CIRCUIT_TLS_BUFFER - 2 * 1024;

/// See the module's header. Writes pass as they are.
#[derive(Debug)]
pub struct Bursts<S> {
    stream: S,
    /// Read and not given out yet. Without room while nothing is.
    ahead: BytesMut,
    /// The last read got all that it had room for: more may be there.
    is_filled: bool,
}

impl<S> Bursts<S> {
    /// Reads from `stream`.
    pub fn new(stream: S) -> Self {
        Self { stream, ahead: BytesMut::new(), is_filled: false }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bursts<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { stream, ahead, is_filled } = &mut *self;
        if ahead.is_empty() {
            if !*is_filled {
                let before = buf.filled().len();
                ready!(Pin::new(stream).poll_read(cx, buf))?;
                *is_filled = buf.remaining() == 0 && buf.filled().len() > before;
                return Poll::Ready(Ok(()));
            }
            ahead.reserve(LARGE);
            let read = poll_read_buf(Pin::new(stream), cx, ahead);
            *is_filled = matches!(read, Poll::Ready(Ok(LARGE..)));
            if !matches!(read, Poll::Ready(Ok(1..))) {
                *ahead = BytesMut::new();
            }
            ready!(read)?;
        }
        let length = ahead.len().min(buf.remaining());
        buf.put_slice(&ahead[..length]);
        ahead.advance(length);
        if ahead.is_empty() && !*is_filled {
            *ahead = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bursts<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Gives what is there, as a socket does, and counts how often it is asked.
    struct Socket {
        arrived: VecDeque<u8>,
        asked: usize,
    }

    impl AsyncRead for Socket {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            self.asked += 1;
            if self.arrived.is_empty() {
                return Poll::Pending;
            }
            let length = buf.remaining().min(self.arrived.len());
            let bytes: Vec<_> = self.arrived.drain(..length).collect();
            buf.put_slice(&bytes);
            Poll::Ready(Ok(()))
        }
    }

    /// A connection that is reset.
    struct Reset;

    impl AsyncRead for Reset {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
        }
    }

    fn socket(length: usize) -> (Bursts<Socket>, Vec<u8>) {
        let bytes: Vec<_> = (0..length).map(|n| (n % 251) as u8).collect();
        (Bursts::new(Socket { arrived: bytes.iter().copied().collect(), asked: 0 }), bytes)
    }

    /// All that comes in pieces of this size at most, until nothing does.
    fn read(bursts: &mut Bursts<Socket>, piece: usize) -> Vec<u8> {
        let mut all = Vec::new();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        loop {
            let mut room = vec![0; piece];
            let mut buf = ReadBuf::new(&mut room);
            match Pin::new(&mut *bursts).poll_read(&mut cx, &mut buf) {
                Poll::Ready(read) => read.expect("it does not fail"),
                Poll::Pending => return all,
            }
            all.extend_from_slice(buf.filled());
        }
    }

    #[test]
    fn everything_comes_out_in_its_order_in_pieces_of_any_size() {
        for length in [1, 4095, 4096, 4097, LARGE, LARGE + 4096, 3 * LARGE + 5000] {
            for piece in [1, 100, 4096, LARGE + 1] {
                let (mut bursts, bytes) = socket(length);
                assert!(read(&mut bursts, piece) == bytes, "{length} bytes in pieces of {piece}");
                assert_eq!(bursts.ahead.capacity(), 0, "{length} bytes in pieces of {piece} leave a buffer");
            }
        }
    }

    #[test]
    fn what_comes_at_once_is_asked_for_a_few_times_and_what_is_small_has_no_buffer() {
        let (mut bursts, _) = socket(4096 + 2 * LARGE - 1);
        read(&mut bursts, 4096);
        assert_eq!(bursts.stream.asked, 4);
        let (mut bursts, bytes) = socket(4095);
        let mut room = [0; 4096];
        let mut buf = ReadBuf::new(&mut room);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(Pin::new(&mut bursts).poll_read(&mut cx, &mut buf).is_ready());
        assert!(buf.filled() == bytes && !bursts.is_filled && bursts.ahead.capacity() == 0);
    }

    #[tokio::test]
    async fn its_end_and_its_errors_pass() {
        let (ours, mut theirs) = tokio::io::duplex(2 * LARGE);
        let mut bursts = Bursts::new(ours);
        theirs.write_all(&[7; LARGE]).await.expect("there is room");
        drop(theirs);
        let mut all = Vec::new();
        bursts.read_to_end(&mut all).await.expect("it ends in order");
        assert!(all == [7; LARGE]);
        let error = Bursts { is_filled: true, ..Bursts::new(Reset) }.read_u8().await.expect_err("it fails");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}
