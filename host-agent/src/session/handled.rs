//! Which messages were handled, on their way to the session's task.
//!
//! An acknowledgement waits up to [`ACK_DELAY`] for data to ride on, so the task need not be woken for each message that
//! was handled: what it takes in hand next, most often the answer, has it look here as well. Where it expects to hear of
//! messages it looks by itself in time ([`HandledList::expect`]); else the first that is handled wakes it.
//!
//! [`ACK_DELAY`]: reachback_proto::session::ACK_DELAY

use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use reachback_proto::frame::ChannelNumber;

/// A message that was handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HandledMessage {
    pub(super) channel: ChannelNumber,
    /// Of the session that the channel belongs to.
    pub(super) generation: u64,
    pub(super) seq: u64,
}

/// See the module's header. One for all channels of a session.
#[derive(Debug, Default)]
pub(super) struct HandledList(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    messages: Vec<HandledMessage>,
    /// The task looks without being woken: in time by itself, or because it was woken already.
    is_expected: bool,
}

impl HandledList {
    /// Adds one; `true` when the task must be woken for it.
    #[must_use]
    pub(super) fn push(&self, message: HandledMessage) -> bool {
        let mut inner = self.lock();
        inner.messages.push(message);
        !mem::replace(&mut inner.is_expected, true)
    }

    /// Moves them to `taken`, which is empty. From then on, does the task look by itself?
    pub(super) fn take(&self, taken: &mut Vec<HandledMessage>, is_expected: bool) {
        let mut inner = self.lock();
        inner.is_expected = is_expected;
        mem::swap(&mut inner.messages, taken);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_nobody_expects_wakes_the_task() {
        let list = HandledList::default();
        let message = |seq| HandledMessage { channel: 1, generation: 0, seq };
        let mut taken = Vec::new();
        assert!(list.push(message(0)), "nobody is woken");
        assert!(!list.push(message(1)), "who was woken is woken again");
        list.take(&mut taken, true);
        assert_eq!(taken, [message(0), message(1)]);
        taken.clear();
        assert!(!list.push(message(2)), "who looks by itself is woken");
        list.take(&mut taken, false);
        assert_eq!(taken, [message(2)]);
        taken.clear();
        assert!(list.push(message(3)), "nobody is woken after the last look");
    }
}
