//! A stream that this end can end, whatever its other end does.
//!
//! A link that swallows what is sent, and says nothing, is not noticed by who waits until it has gone out: the session that
//! is carried by it would stand still until the operating system gives up, after a quarter of an hour.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// See the module's header. Who reads and who writes are woken when it is cut.
pub(super) struct Cuttable<S> {
    stream: S,
    reading: Cut,
    writing: Cut,
}

type Cut = Pin<Box<WaitForCancellationFutureOwned>>;

impl<S> Cuttable<S> {
    /// Until `cut` is cancelled it is what `stream` is.
    pub(super) fn new(stream: S, cut: &CancellationToken) -> Self {
        let wait = || Box::pin(cut.clone().cancelled_owned());
        Self { stream, reading: wait(), writing: wait() }
    }
}

/// Fails once it is cut.
fn whole(cut: &mut Cut, cx: &mut Context<'_>) -> io::Result<()> {
    match cut.as_mut().poll(cx) {
        Poll::Ready(()) => Err(io::Error::new(io::ErrorKind::TimedOut, "nothing is heard of the other end")),
        Poll::Pending => Ok(()),
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Cuttable<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        whole(&mut self.reading, cx)?;
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Cuttable<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        whole(&mut self.writing, cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        whole(&mut self.writing, cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        whole(&mut self.writing, cx)?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn who_reads_or_writes_where_nothing_moves_hears_that_it_is_cut() {
        let (near, _far) = tokio::io::duplex(8);
        let cut = CancellationToken::new();
        let (mut reads, mut writes) = tokio::io::split(Cuttable::new(near, &cut));
        writes.write_all(b"8 bytes.").await.unwrap();
        let cutting = async { cut.cancel() };
        let mut byte = [0];
        let (read, written, ()) = tokio::join!(reads.read(&mut byte), writes.write_all(b"more"), cutting);
        for kind in [read.map(drop), written].map(|done| done.unwrap_err().kind()) {
            assert_eq!(kind, io::ErrorKind::TimedOut);
        }
    }
}
