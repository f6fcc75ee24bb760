//! Who owns the relay's tasks, and how they end.
//!
//! Every task is spawned here and ends with one of two tokens. *Soft*: stop
//! accepting, tell peers when to come back, close. *Hard*: drop everything; it
//! follows when the grace period is over, at a second signal, or when the
//! [`Relay`](crate::Relay) is dropped.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The two tokens and the tasks.
#[derive(Debug, Default)]
pub(crate) struct Lifecycle {
    soft: CancellationToken,
    hard: CancellationToken,
    tasks: TaskTracker,
}

impl Lifecycle {
    /// Runs `task` until it ends or the hard token is cancelled.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let hard = self.hard.clone();
        self.tasks.spawn(async move {
            hard.run_until_cancelled_owned(task).await;
        });
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
