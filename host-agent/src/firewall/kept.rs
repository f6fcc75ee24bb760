//! Which loaded threads stay loaded.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Threads of one app-server that the agent itself follows.
///
/// A thread that nobody follows is unloaded after a minute, and until then Codex takes what a `thread/resume` says
/// as if it were loading it: profile, trust, programs. Nothing that a client can ask tells whether somebody follows
/// a thread. So only what the agent follows, or what is in the middle of a turn, is known to be joined and not loaded.
#[derive(Debug, Default)]
pub struct Kept(Mutex<HashSet<String>>);

impl Kept {
    /// Whether the agent follows this thread.
    pub fn holds(&self, thread: &str) -> bool {
        self.lock().contains(thread)
    }

    /// The agent follows it now.
    pub fn insert(&self, thread: String) {
        self.lock().insert(thread);
    }

    /// The agent is about to stop following it.
    pub fn remove(&self, thread: &str) {
        self.lock().remove(thread);
    }

    /// The agent follows none any more.
    pub fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
