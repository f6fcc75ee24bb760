//! What a connection has received and nobody has taken yet.
//!
//! The reader of the socket never waits for whoever takes it: all connections
//! are in that socket. One that is too far behind loses its place instead.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_util::Stream;
use tokio::sync::OwnedSemaphorePermit;

use super::joining::Arrived;
use crate::codex::{ReceiveError, Text};

/// Bytes that may wait. What has room of its device's is counted there.
const MAX_WAITING_BYTES: usize = 64 << 20;

/// Messages that may wait: where Codex cuts a client on a socket of its own.
const MAX_WAITING: usize = 32_000;

/// See the module's header.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Arrived>,
    bytes: usize,
    /// Set at the end of the connection; what it holds is told once.
    end: Option<Option<ReceiveError>>,
    taker: Option<Waker>,
}

/// The bytes of a message that count here.
fn counted(arrived: &Arrived) -> usize {
    if arrived.permit.is_some() { 0 } else { arrived.text.len() }
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a message; a gap when there is no room for it.
    pub(super) fn push(&self, arrived: Arrived) -> Result<(), ReceiveError> {
        let mut state = self.lock();
        let bytes = state.bytes + counted(&arrived);
        if state.waiting.len() >= MAX_WAITING || bytes > MAX_WAITING_BYTES {
            // Nobody needs the beginning of what has a hole.
            state.waiting.clear();
            state.bytes = 0;
            return Err(ReceiveError::Gap);
        }
        state.bytes = bytes;
        state.waiting.push_back(arrived);
        if let Some(taker) = state.taker.take() {
            taker.wake();
        }
        Ok(())
    }

    /// Ends it, after what waits.
    pub(super) fn end(&self, error: Option<ReceiveError>) {
        let mut state = self.lock();
        state.end.get_or_insert(error);
        if let Some(taker) = state.taker.take() {
            taker.wake();
        }
    }
}

/// Takes from an [`Inbox`], and keeps its connection open.
pub(super) struct Taker<H> {
    inbox: Arc<Inbox>,
    /// Of the message before: it is held until more is asked for.
    permit: Option<OwnedSemaphorePermit>,
    _handle: H,
}

impl<H> Taker<H> {
    pub(super) fn new(inbox: Arc<Inbox>, handle: H) -> Self {
        Self { inbox, permit: None, _handle: handle }
    }
}

impl<H: Unpin> Stream for Taker<H> {
    type Item = Result<Text, ReceiveError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.permit = None;
        let inbox = Arc::clone(&self.inbox);
        let mut state = inbox.lock();
        if let Some(arrived) = state.waiting.pop_front() {
            state.bytes -= counted(&arrived);
            self.permit = arrived.permit;
            return Poll::Ready(Some(Ok(arrived.text)));
        }
        if let Some(end) = &mut state.end {
            return Poll::Ready(end.take().map(Err));
        }
        state.taker = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt};

    use super::*;

    fn arrived(text: impl Into<Text>) -> Arrived {
        Arrived { text: text.into(), permit: None }
    }

    #[test]
    fn what_waits_comes_before_the_end_which_is_told_once() {
        let inbox = Arc::new(Inbox::default());
        let mut taker = Taker::new(Arc::clone(&inbox), ());
        assert!(taker.next().now_or_never().is_none());
        inbox.push(arrived("1")).unwrap();
        inbox.push(arrived("2")).unwrap();
        inbox.end(Some(ReceiveError::Gap));
        inbox.end(None);
        let mut next = || taker.next().now_or_never().expect("is ready");
        assert_eq!(next().unwrap().unwrap(), "1");
        assert_eq!(next().unwrap().unwrap(), "2");
        assert!(matches!(next(), Some(Err(ReceiveError::Gap))));
        assert!(next().is_none());
        assert!(next().is_none());
    }

    #[test]
    fn one_that_is_too_far_behind_has_a_gap_and_holds_nothing() {
        let inbox = Inbox::default();
        for _ in 0..MAX_WAITING {
            inbox.push(arrived("x")).unwrap();
        }
        assert!(matches!(inbox.push(arrived("x")), Err(ReceiveError::Gap)));
        assert!(inbox.lock().waiting.is_empty());

        let inbox = Inbox::default();
        let long = Text::from("x".repeat(MAX_WAITING_BYTES / 4));
        for _ in 0..4 {
            inbox.push(arrived(long.clone())).unwrap();
        }
        assert!(matches!(inbox.push(arrived("x")), Err(ReceiveError::Gap)));
    }

    #[test]
    fn what_is_taken_makes_room() {
        let inbox = Arc::new(Inbox::default());
        let mut taker = Taker::new(Arc::clone(&inbox), ());
        let long = Text::from("x".repeat(MAX_WAITING_BYTES));
        for _ in 0..3 {
            inbox.push(arrived(long.clone())).unwrap();
            assert!(taker.next().now_or_never().unwrap().unwrap().unwrap() == long);
        }
    }
}
