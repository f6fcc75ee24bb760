//! Whether something new is to be had of a link, or can be given to it: who reads it is woken for much else.
//!
//! A look at a link that has nothing goes through everything that carries it, as deep as its socket, and costs as much as
//! a small message. So a link is polled with a waker of its own, which wakes its reader and leaves a mark.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Wake, Waker, ready};

use futures_util::task::AtomicWaker;
use tokio::task::coop;

/// What the link has woken.
#[derive(Debug)]
struct Mark {
    is_set: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Mark {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_set.store(true, Ordering::Release);
        self.task.wake();
    }
}

/// See the module's header. The mark is set at first: a link is looked at once before it can wake anybody.
#[derive(Debug)]
pub struct LinkWaker {
    mark: Arc<Mark>,
    waker: Waker,
}

impl Default for LinkWaker {
    fn default() -> Self {
        let mark = Arc::new(Mark { is_set: AtomicBool::new(true), task: AtomicWaker::new() });
        Self { waker: Waker::from(Arc::clone(&mark)), mark }
    }
}

impl LinkWaker {
    /// What to poll the link with.
    pub fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Whom to wake from now on. Said before [`Self::take`], so that no mark is missed.
    pub fn wakes(&self, task: &Waker) {
        self.mark.task.register(task);
    }

    /// The link is to be polled, as if it had woken its reader.
    pub fn set(&self) {
        self.mark.is_set.store(true, Ordering::Release);
    }

    /// Whether the link is to be polled. After this it is not, until it wakes the task again.
    pub fn take(&self) -> bool {
        self.mark.is_set.load(Ordering::Acquire) && self.mark.is_set.swap(false, Ordering::AcqRel)
    }

    /// Waits until the link is to be polled.
    pub async fn woken(&self) {
        poll_fn(|cx| {
            self.wakes(cx.waker());
            if !self.mark.is_set.load(Ordering::Acquire) {
                return Poll::Pending;
            }
            // A task that has had its share finds nothing anywhere, and the mark is set again at once.
            let turn = ready!(coop::poll_proceed(cx));
            turn.made_progress();
            self.take();
            Poll::Ready(())
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wake_is_seen_once_whether_it_comes_before_or_after_the_task_is_known() {
        let link = LinkWaker::default();
        assert!(link.take() && !link.take(), "looked at once");
        link.waker().wake_by_ref();
        link.wakes(Waker::noop());
        assert!(link.take() && !link.take());
        link.waker().wake_by_ref();
        assert!(link.take() && !link.take());
        link.set();
        assert!(link.take() && !link.take());
    }

    #[tokio::test]
    async fn who_waits_is_woken() {
        let link = Arc::new(LinkWaker::default());
        link.woken().await;
        let waiting = tokio::spawn({
            let link = Arc::clone(&link);
            async move { link.woken().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        link.waker().wake_by_ref();
        waiting.await.unwrap();
    }
}
