//! Messages of Codex that are larger than a device takes.
//!
//! Codex answers without a limit of its own. A WebSocket library that meets a
//! frame over its limit can only end the connection, and with it the channel of
//! a device that asked for one thread too large. So the stream is read here
//! first: an answer that is too large is read past, without being held, and an
//! error takes its place, under the id that it would have answered. The library
//! above sees a stream of frames that it takes.
//!
//! What is no answer has nobody to tell: there the stream ends with an error, and
//! the device loads anew what it missed.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use tokio_util::sync::PollSemaphore;

use super::super::connection::{Allowance, UNIT};
use super::super::refusal::{HEAD, LARGE, Why, refusal};

/// How long a large message waits for that room. Codex must be read on, so it can't be long.
const ROOM_PATIENCE: Duration = Duration::from_secs(2);

/// A message was too large, and no answer to anybody's request.
#[derive(Debug, thiserror::Error)]
#[error("a message of {length} bytes, over the limit of {limit}, which answers no request")]
pub(super) struct TooLarge {
    /// The message's length.
    pub(super) length: u64,
    /// The most that is let through.
    pub(super) limit: u64,
}

/// See the module's header. Writes pass as they are.
pub(super) struct Sieve<S> {
    stream: BufReader<S>,
    allowance: Allowance,
    room: PollSemaphore,
    state: State,
    /// To be given out before anything else.
    out: Vec<u8>,
    given: usize,
    /// Bytes of the message so far, in the frames before.
    message: u64,
    /// Held until more is asked for: by then the message before was taken.
    permit: Option<OwnedSemaphorePermit>,
    /// Met behind bytes that had to go out first.
    failed: Option<io::Error>,
}

#[derive(Debug)]
enum State {
    /// The answer to the upgrade, up to its empty line; how much of that was seen.
    Upgrade(usize),
    /// A frame's header.
    Header { bytes: [u8; 10], have: usize },
    /// A large message waits for room.
    Waiting { header: Header, patience: Pin<Box<Sleep>> },
    /// The rest of a frame that passes.
    Passing(u64),
    /// The head of an answer that does not.
    Reading { header: Header, head: Vec<u8>, why: Why },
    /// What follows it.
    Skipping(u64),
}

const NEXT: State = State::Header { bytes: [0; 10], have: 0 };

#[derive(Debug, Clone, Copy)]
struct Header {
    bytes: [u8; 10],
    have: usize,
    length: u64,
    is_last: bool,
    is_data: bool,
}

impl Header {
    /// Reads a header, once it is whole.
    fn parse(bytes: [u8; 10], have: usize) -> Option<Self> {
        let length = match (have, bytes[1] & 0x7f) {
            (..2, _) | (..4, 126) | (..10, 127) => return None,
            (_, 126) => u64::from(u16::from_be_bytes([bytes[2], bytes[3]])),
            (_, 127) => u64::from_be_bytes(bytes[2..].try_into().expect("eight bytes")),
            (_, length) => u64::from(length),
        };
        Some(Self { bytes, have, length, is_last: bytes[0] & 0x80 != 0, is_data: bytes[0] & 0x08 == 0 })
    }
}

impl<S: AsyncRead> Sieve<S> {
    /// Reads a stream on which nothing was read yet: the answer to the upgrade comes first.
    pub(super) fn new(stream: S, buffer: usize, allowance: Allowance) -> Self {
        let room = PollSemaphore::new(Arc::clone(&allowance.room));
        let stream = BufReader::with_capacity(buffer, stream);
        Self {
            stream,
            allowance,
            room,
            state: State::Upgrade(0),
            out: Vec::new(),
            given: 0,
            message: 0,
            permit: None,
            failed: None,
        }
    }
}

impl<S: AsyncRead + Unpin> Sieve<S> {
    /// Gives out what is ready.
    fn give(&mut self, buf: &mut ReadBuf<'_>) {
        let ready = &self.out[self.given..];
        let length = ready.len().min(buf.remaining());
        buf.put_slice(&ready[..length]);
        self.given += length;
        if self.given == self.out.len() {
            self.out.clear();
            self.given = 0;
        }
    }

    fn pass(&mut self, header: Header) {
        self.out.extend_from_slice(&header.bytes[..header.have]);
        if header.is_data {
            self.message = if header.is_last { 0 } else { self.message + header.length };
        }
        self.state = if header.length == 0 { NEXT } else { State::Passing(header.length) };
    }

    /// Decides about a frame whose header is there.
    fn judge(&mut self, header: Header) -> io::Result<()> {
        let limit = self.allowance.largest.load(Ordering::Relaxed) as u64;
        // Frames of control are bounded by the library.
        if !header.is_data || self.message.saturating_add(header.length) <= limit {
            if header.is_data && header.length >= LARGE {
                self.state = State::Waiting { header, patience: Box::pin(tokio::time::sleep(ROOM_PATIENCE)) };
            } else {
                self.pass(header);
            }
            return Ok(());
        }
        // Codex sends each message in one frame (measured on 0.169.0, up to 120 MiB). Of one in several, the first
        // are gone already.
        if self.message > 0 || !header.is_last {
            let length = self.message.saturating_add(header.length);
            return Err(io::Error::new(io::ErrorKind::InvalidData, TooLarge { length, limit }));
        }
        self.state = State::Reading { header, head: Vec::new(), why: Why::TooLarge { limit } };
        Ok(())
    }

    /// Puts an error in the place of an answer.
    fn replace(&mut self, header: Header, head: &[u8], why: Why) -> io::Result<()> {
        let length = header.length;
        let limit = self.allowance.largest.load(Ordering::Relaxed) as u64;
        let Some(error) = refusal(head, length, why) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, TooLarge { length, limit }));
        };
        // A text frame of a server: at most 64 KiB, for head and message are bounded.
        self.out.push(0x81);
        match error.len() {
            short @ ..126 => self.out.push(short as u8),
            longer => {
                self.out.push(126);
                self.out.extend_from_slice(&(longer as u16).to_be_bytes());
            }
        }
        self.out.extend_from_slice(error.as_bytes());
        let rest = length - head.len() as u64;
        self.state = if rest == 0 { NEXT } else { State::Skipping(rest) };
        Ok(())
    }

    /// Waits for room for a message whose header is read, and gives it up when that takes too long.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let State::Waiting { header, patience } = &mut self.state else { return Poll::Ready(Ok(true)) };
        let header = *header;
        let units = u32::try_from(header.length.div_ceil(UNIT)).unwrap_or(u32::MAX);
        match self.room.poll_acquire_many(cx, units) {
            Poll::Ready(permit) => {
                self.permit = permit;
                self.pass(header);
            }
            Poll::Pending => {
                ready!(patience.as_mut().poll(cx));
                self.room = PollSemaphore::new(Arc::clone(&self.allowance.room));
                self.state = State::Reading { header, head: Vec::new(), why: Why::NoRoom };
            }
        }
        Poll::Ready(Ok(true))
    }

    /// Reads a message past the buffer here, which is empty, to where there is room for more than it holds.
    fn pass_by(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        let State::Passing(rest) = &mut self.state else { return Poll::Ready(Ok(true)) };
        let wanted = usize::try_from(*rest).unwrap_or(usize::MAX).min(buf.remaining());
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(wanted));
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut part))?;
        let read = part.filled().len();
        buf.advance(read);
        *rest -= read as u64;
        if *rest == 0 {
            self.state = NEXT;
        }
        Poll::Ready(Ok(read > 0))
    }

    /// Takes what has been read one step further; `Ready(false)` at the stream's end.
    fn step(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        match self.state {
            State::Waiting { .. } => return self.wait(cx),
            State::Passing(_) if buf.remaining() > 0 => return self.pass_by(cx, buf),
            _ => {}
        }
        let ready = ready!(Pin::new(&mut self.stream).poll_fill_buf(cx))?;
        if ready.is_empty() {
            return Poll::Ready(Ok(false));
        }
        let used = match &mut self.state {
            State::Upgrade(seen) => {
                let used = to_blank_line(ready, seen);
                self.out.extend_from_slice(&ready[..used]);
                if *seen == BLANK_LINE {
                    self.state = NEXT;
                }
                used
            }
            State::Header { bytes, have } => {
                let mut used = 0;
                let mut header = None;
                while let (None, Some(byte)) = (&header, ready.get(used)) {
                    bytes[*have] = *byte;
                    *have += 1;
                    used += 1;
                    header = Header::parse(*bytes, *have);
                }
                Pin::new(&mut self.stream).consume(used);
                return Poll::Ready(header.map_or(Ok(()), |header| self.judge(header)).map(|()| true));
            }
            State::Reading { header, head, why } => {
                let wanted = header.length.min(HEAD as u64) as usize - head.len();
                let used = ready.len().min(wanted);
                head.extend_from_slice(&ready[..used]);
                if used == wanted {
                    let (header, head, why) = (*header, std::mem::take(head), *why);
                    Pin::new(&mut self.stream).consume(used);
                    return Poll::Ready(self.replace(header, &head, why).map(|()| true));
                }
                used
            }
            State::Skipping(rest) => {
                let used = ready.len().min(usize::try_from(*rest).unwrap_or(usize::MAX));
                *rest -= used as u64;
                if *rest == 0 {
                    self.state = NEXT;
                }
                used
            }
            State::Waiting { .. } | State::Passing(_) => 0,
        };
        Pin::new(&mut self.stream).consume(used);
        Poll::Ready(Ok(true))
    }
}

/// How many characters of it have been seen once a blank line is whole.
const BLANK_LINE: usize = 4;

/// How much of `bytes` belongs to an HTTP head, which ends with a blank line; `seen` counts on from what came before.
fn to_blank_line(bytes: &[u8], seen: &mut usize) -> usize {
    let mut used = 0;
    while let Some(byte) = bytes.get(used).filter(|_| *seen < BLANK_LINE) {
        used += 1;
        *seen = match (*seen, byte) {
            (0 | 2, b'\r') | (1 | 3, b'\n') => *seen + 1,
            (_, b'\r') => 1,
            _ => 0,
        };
    }
    used
}

impl<S: AsyncRead + Unpin> AsyncRead for Sieve<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Err(error));
        }
        loop {
            self.give(buf);
            if buf.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            if self.permit.is_some() && matches!(self.state, State::Header { have: 0, .. }) {
                if buf.filled().len() > before {
                    return Poll::Ready(Ok(()));
                }
                // What was let in has been taken, also where nothing follows for long.
                self.permit = None;
            }
            match self.step(cx, buf) {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false)) => return Poll::Ready(Ok(())),
                Poll::Ready(Err(error)) if buf.filled().len() > before => {
                    self.failed = Some(error);
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if buf.filled().len() > before => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Sieve<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
