//! Tasks without which a program is of no use.
//!
//! A relay that accepts nobody, or an agent whose tunnel is gone, looks alive to
//! whoever supervises it, and is not. So such a task may not end, and may not panic,
//! before its program stops: [`Vital`] remembers the first that does, says so in the
//! log, and the program, which waits for [`Vital::failed`] beside its signals, ends in
//! order and with an exit code that says so. Who started it starts it again.
//!
//! A task that is dropped has been dropped by its owner, and that is an order.
//! Panics of smaller tasks reach a vital one through [`raise`].

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// A vital task is gone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Gone {
    /// It came to an end.
    #[error("{task} has ended, which it must not: this is a bug")]
    Ended {
        /// Which one.
        task: &'static str,
    },
    /// It, or what it owns, panicked.
    #[error("{task} panicked, which is a bug: {message}")]
    Panicked {
        /// Which one.
        task: &'static str,
        /// What the panic said.
        message: String,
    },
}

/// The vital tasks of one program: how they are watched, and the first that is gone.
#[derive(Debug, Clone, Default)]
pub struct Vital {
    stopping: CancellationToken,
    first: Arc<watch::Sender<Option<Gone>>>,
}

impl Vital {
    /// For a program that is about to end, with all its tasks, once `stopping` is cancelled.
    pub fn new(stopping: CancellationToken) -> Self {
        Self { stopping, first: Arc::default() }
    }

    /// Spawns a task that may not end before the program stops.
    #[must_use = "the task ends when this is dropped"]
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) -> AbortOnDropHandle<()> {
        let vital = self.clone();
        AbortOnDropHandle::new(tokio::spawn(async move { vital.watch(name, task).await }))
    }

    /// Spawns a task that may end, after what it works for; only a panic is against the rules.
    #[must_use = "the task ends when this is dropped"]
    pub fn spawn_finite(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> AbortOnDropHandle<()> {
        let vital = self.clone();
        AbortOnDropHandle::new(tokio::spawn(async move { vital.watch_finite(name, task).await }))
    }

    /// Runs `task`, which may not end before the program stops.
    pub async fn watch(&self, name: &'static str, task: impl Future<Output = ()>) {
        self.run(name, task, false).await;
    }

    /// Runs `task`, which may end, and not panic.
    pub async fn watch_finite(&self, name: &'static str, task: impl Future<Output = ()>) {
        self.run(name, task, true).await;
    }

    async fn run(&self, task: &'static str, work: impl Future<Output = ()>, may_end: bool) {
        // What the work holds is dropped after it was told of: others end when it is gone, and are not to blame.
        let mut work = pin!(AssertUnwindSafe(work).catch_unwind());
        let gone = match work.as_mut().await {
            Ok(()) if may_end || self.stopping.is_cancelled() => return,
            Ok(()) => Gone::Ended { task },
            Err(panic) => Gone::Panicked { task, message: message(&*panic).to_owned() },
        };
        tracing::error!("{gone}");
        self.first.send_if_modified(|first| {
            let is_first = first.is_none();
            first.get_or_insert(gone);
            is_first
        });
    }

    /// Waits until a vital task is gone. Cancel-safe.
    pub async fn failed(&self) -> Gone {
        let mut first = self.first.subscribe();
        let gone = first.wait_for(Option::is_some).await.ok().and_then(|gone| gone.clone());
        gone.expect("the sender is ours, and some was waited for")
    }

    /// The first vital task that is gone.
    pub fn failure(&self) -> Option<Gone> {
        self.first.borrow().clone()
    }
}

/// Takes over the panic of a task that was waited for. One that was aborted is fine.
pub fn raise(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}

/// What a panic says: text, unless someone panics with a value of their own.
pub(crate) fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("it does not say why")
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::time::Duration;

    use tokio::task::JoinSet;
    use tokio::time::timeout;

    use super::*;

    async fn failed(vital: &Vital) -> Gone {
        timeout(Duration::from_secs(60), vital.failed()).await.expect("nothing is said to be gone")
    }

    fn panicked(task: &'static str, message: &str) -> Gone {
        Gone::Panicked { task, message: message.into() }
    }

    #[tokio::test]
    async fn a_vital_task_that_ends_or_panics_is_named() {
        let vital = Vital::default();
        let _task = vital.spawn("the tunnel", ready(()));
        assert_eq!(failed(&vital).await, Gone::Ended { task: "the tunnel" });

        let vital = Vital::default();
        let _task = vital.spawn("the tunnel", async { panic!("no {}", "way") });
        assert_eq!(failed(&vital).await, panicked("the tunnel", "no way"));
        assert_eq!(failed(&vital).await.to_string(), "the tunnel panicked, which is a bug: no way");
    }

    #[tokio::test]
    async fn the_first_that_is_gone_is_the_one_to_blame() {
        let vital = Vital::default();
        let (held, gone) = tokio::sync::oneshot::channel::<()>();
        let follower = vital.spawn("the follower", async { drop(gone.await) });
        let leader = vital.spawn("the leader", async {
            let _held = held;
            panic!("the reason")
        });
        follower.await.unwrap();
        leader.await.unwrap();
        assert_eq!(vital.failure(), Some(panicked("the leader", "the reason")));
    }

    #[tokio::test]
    async fn an_end_that_is_wanted_is_none() {
        let stop = CancellationToken::new();
        let vital = Vital::new(stop.clone());
        drop(vital.spawn("dropped", pending()));
        vital.spawn_finite("finite", ready(())).await.unwrap();
        let stopping = vital.spawn("stopping", stop.clone().cancelled_owned());
        stop.cancel();
        stopping.await.unwrap();
        assert_eq!(vital.failure(), None);
        vital.spawn_finite("finite", async { panic!("even so") }).await.unwrap();
        assert_eq!(vital.failure(), Some(panicked("finite", "even so")));
    }

    #[tokio::test]
    async fn a_panic_of_an_owned_task_reaches_its_owner() {
        let vital = Vital::default();
        let _task = vital.spawn("the owner", async {
            let mut owned = JoinSet::new();
            owned.spawn(pending());
            owned.abort_all();
            raise(owned.join_next().await.expect("it was aborted"));
            owned.spawn(async { panic!("below") });
            raise(owned.join_next().await.expect("it panicked"));
            pending().await
        });
        assert_eq!(failed(&vital).await, panicked("the owner", "below"));
    }
}
