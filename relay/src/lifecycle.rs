//! Who owns the relay's tasks, and how they end.
//!
//! Every task is spawned here and ends with one of two tokens. *Soft*: stop
//! accepting, tell peers when to come back, close. *Hard*: drop everything; it
//! follows when the grace period is over, at a second signal, or when the
//! [`Relay`](crate::Relay) is dropped.
//!
//! A task is vital, and then its program ends with it, or it is one peer's: if that
//! one panics, it is a bug, the log says so, and other peers go on. Whoever finds
//! such a bug would else end the relay for everybody, again and again.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::vital::{self, Vital};

/// The two tokens and the tasks.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    soft: CancellationToken,
    hard: CancellationToken,
    tasks: TaskTracker,
    vital: Vital,
}

impl Default for Lifecycle {
    fn default() -> Self {
        let soft = CancellationToken::new();
        let vital = Vital::new(soft.clone());
        Self { soft, hard: CancellationToken::new(), tasks: TaskTracker::new(), vital }
    }
}

impl Lifecycle {
    /// Runs the task of one peer until it ends or the hard token is cancelled.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let hard = self.hard.clone();
        // By itself on the heap: each layer around it would else have room for it once more, for as long as the peer is there.
        let task = Box::pin(task);
        self.tasks.spawn(async move {
            let ended = AssertUnwindSafe(hard.run_until_cancelled_owned(task)).catch_unwind().await;
            if let Err(panic) = ended {
                let message = vital::message(&*panic);
                tracing::error!(message, "the task of a peer panicked, which is a bug; the peer is cut off");
            }
        });
    }

    /// Runs a task without which there is no relay: until the soft token is cancelled, and the hard one at the latest.
    pub(crate) fn spawn_vital(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let (hard, vital) = (self.hard.clone(), self.vital.clone());
        self.tasks.spawn(async move {
            hard.run_until_cancelled_owned(vital.watch(name, task)).await;
        });
    }

    /// The vital ones.
    pub(crate) fn vital(&self) -> &Vital {
        &self.vital
    }

    /// Cancelled when peers should be told to go.
    pub(crate) fn soft(&self) -> &CancellationToken {
        &self.soft
    }

    /// Ends all tasks: softly for `grace`, then hard. Returns when none is left.
    pub(crate) async fn shutdown(&self, grace: Duration) {
        self.soft.cancel();
        self.tasks.close();
        if tokio::time::timeout(grace, self.tasks.wait()).await.is_err() {
            tracing::warn!(tasks = self.tasks.len(), "some links did not end in time; cutting them");
        }
        self.hard.cancel();
        self.tasks.wait().await;
    }

    /// Ends all tasks at their next step.
    pub(crate) fn abort(&self) {
        self.hard.cancel();
    }
}

/// The room in bytes that a task takes for as long as it is there, from what makes it of its arguments.
#[cfg(test)]
pub(crate) fn room<Arguments, Task: Future>(_: impl FnOnce(Arguments) -> Task) -> usize {
    size_of::<Task>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_of_one_peers_task_ends_nobody_else() {
        let lifecycle = Lifecycle::default();
        let (still_there, answer) = tokio::sync::oneshot::channel();
        let stop = lifecycle.soft().clone();
        lifecycle.spawn(async move {
            stop.cancelled().await;
            still_there.send(()).unwrap();
        });
        lifecycle.spawn(async { panic!("a bug") });
        lifecycle.shutdown(Duration::from_secs(60)).await;
        answer.await.expect("the other task was ended");
        assert_eq!(lifecycle.vital().failure(), None);
    }
}
