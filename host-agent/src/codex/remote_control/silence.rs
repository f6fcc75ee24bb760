//! Connections that may be slow, and may not be silent for ever.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// A stream that breaks off with [`io::ErrorKind::TimedOut`] when nothing came and nothing went for too long.
///
/// It counts while something is waited for only: who reads slowly is not taken for one who hears nothing.
pub(super) struct Heard<S> {
    stream: S,
    patience: Duration,
    /// Runs while a read waits.
    silence: Option<Pin<Box<Sleep>>>,
}

impl<S> Heard<S> {
    pub(super) fn new(stream: S, patience: Duration) -> Self {
        Self { stream, patience, silence: None }
    }

    /// Something went. A read that waits goes on waiting, from now.
    fn heard(&mut self) {
        if let Some(silence) = &mut self.silence {
            silence.as_mut().reset(Instant::now() + self.patience);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Poll::Ready(read) = Pin::new(&mut this.stream).poll_read(cx, buf) {
            this.silence = None;
            return Poll::Ready(read);
        }
        let silence = this.silence.get_or_insert_with(|| Box::pin(sleep(this.patience)));
        silence.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if written.is_ready() {
            self.heard();
        }
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        if written.is_ready() {
            self.heard();
        }
        written
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::advance;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn what_is_silent_for_too_long_breaks_off_and_what_is_slow_does_not() {
        let (near, mut far) = duplex(16);
        let mut near = Heard::new(near, PATIENCE);
        let began = Instant::now();
        for _ in 0..5 {
            let late = async {
                sleep(PATIENCE - Duration::from_secs(1)).await;
                far.write_all(b"x").await.unwrap();
            };
            let (read, ()) = tokio::join!(near.read_u8(), late);
            assert_eq!(read.unwrap(), b'x');
        }
        // Nobody waited meanwhile.
        advance(3 * PATIENCE).await;
        far.write_all(b"y").await.unwrap();
        assert_eq!(near.read_u8().await.unwrap(), b'y');
        let since = Instant::now();
        assert_eq!(near.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(since.elapsed(), PATIENCE);
        assert!(began.elapsed() > 8 * PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn what_goes_counts_as_what_comes() {
        let (near, mut far) = duplex(16);
        let (mut reading, mut writing) = tokio::io::split(Heard::new(near, PATIENCE));
        let reading = async {
            let end = reading.read_u8().await.unwrap_err();
            (end.kind(), Instant::now())
        };
        let began = Instant::now();
        let writing = async {
            for _ in 0..4 {
                sleep(PATIENCE / 2).await;
                writing.write_all(b"x").await.unwrap();
                far.read_u8().await.unwrap();
            }
        };
        let ((end, at), ()) = tokio::join!(reading, writing);
        assert_eq!((end, at - began), (io::ErrorKind::TimedOut, 3 * PATIENCE));
    }
}
