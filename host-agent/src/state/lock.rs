//! One agent per home.
//!
//! The operating system keeps the lock and lets it go when the process ends,
//! however it ends; the file is never removed, because removing it while
//! another process opens it would let both in. Who holds it, and where its
//! socket is, stands in a second file: a locked file can't be read on Windows,
//! and the environment of a service names other runtime folders than a shell's.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use reachback_proto::words::quote;
use serde::{Deserialize, Serialize};

use super::atomic::{self, Document, FileError};
use crate::platform::files;

/// How long the lock may be held by what is left of an agent that has ended.
const PATIENCE: Duration = Duration::from_millis(500);

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another agent runs on this home.
    #[error(
        "an agent already runs on {}{}: use it (`reachback pair`, `reachback devices`), stop it, or set REACHBACK_HOME to another folder",
        quote(home.display()),
        pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    Held {
        home: PathBuf,
        /// The agent, where it said so.
        pid: Option<u32>,
    },
    /// A file is in the way.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The agent that holds a home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process.
    pub pid: u32,
    /// Where it listens for local requests.
    pub socket: Option<PathBuf>,
}

impl Document for Holder {
    const VERSION: u32 = 1;
}

/// The right to be the agent of a home, until dropped.
#[derive(Debug)]
pub struct HomeLock {
    home: PathBuf,
    // Never read: the lock lasts as long as the file is open.
    _file: File,
}

impl HomeLock {
    /// Makes or checks `home`, takes its lock, and clears what a crash left there.
    pub fn acquire(home: &Path) -> Result<Self, LockError> {
        files::state_dir(home).map_err(FileError::from)?;
        let path = home.join("agent.lock");
        let open = || -> io::Result<File> { OpenOptions::new().create(true).truncate(false).write(true).open(&path) };
        let file = open().map_err(FileError::io("write", &path))?;
        files::restrict(&path).map_err(FileError::from)?;
        match try_lock(&file) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let pid = Self::holder(home).ok().flatten().map(|holder| holder.pid);
                return Err(LockError::Held { home: home.to_owned(), pid });
            }
            Err(TryLockError::Error(source)) => return Err(FileError::io("lock", &path)(source).into()),
        }
        for folder in [home, &super::host_dir(home)] {
            atomic::sweep(folder, Duration::ZERO, SystemTime::now());
        }
        let lock = Self { home: home.to_owned(), _file: file };
        lock.announce(None)?;
        Ok(lock)
    }

    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Tells other processes of this user where the agent listens, in place of what an earlier one said, whichever build that was.
    pub fn announce(&self, socket: Option<&Path>) -> Result<(), FileError> {
        let holder = Holder { pid: std::process::id(), socket: socket.map(Path::to_owned) };
        atomic::save(&holder_path(&self.home), &holder)
    }

    /// The agent that holds `home`, or held it when it crashed; only connecting to its socket tells which.
    pub fn holder(home: &Path) -> Result<Option<Holder>, FileError> {
        atomic::load(&holder_path(home))
    }
}

/// Tries for [`PATIENCE`]: a process that an agent starts shares its lock until it runs its own program, and may do so for a
/// moment after that agent has ended.
#[expect(clippy::disallowed_methods, reason = "the system tells nobody when a lock is let go; this has a deadline")]
fn try_lock(file: &File) -> Result<(), TryLockError> {
    let until = Instant::now() + PATIENCE;
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if Instant::now() < until => std::thread::sleep(PATIENCE / 10),
            tried => return tried,
        }
    }
}

impl Drop for HomeLock {
    fn drop(&mut self) {
        // Before the lock goes, so that it is not the next agent's that is removed.
        let _ = std::fs::remove_file(holder_path(&self.home));
    }
}

fn holder_path(home: &Path) -> PathBuf {
    home.join("agent.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_agent_is_refused_with_the_pid_of_the_first() {
        let temp = tempfile::tempdir().unwrap();
        let home = temp.path().join("home");
        let first = HomeLock::acquire(&home).unwrap();
        first.announce(Some(Path::new("/run/agent.sock"))).unwrap();
        let error = HomeLock::acquire(&home).unwrap_err();
        assert!(matches!(error, LockError::Held { pid: Some(pid), .. } if pid == std::process::id()), "{error}");
        assert!(error.to_string().contains("REACHBACK_HOME"), "{error}");
        let holder = HomeLock::holder(&home).unwrap().unwrap();
        assert_eq!(holder.socket.as_deref(), Some(Path::new("/run/agent.sock")));

        drop(first);
        assert_eq!(HomeLock::holder(&home).unwrap(), None);
        HomeLock::acquire(&home).unwrap();
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the time for which the lock is held is what is tested")]
    fn a_lock_that_is_let_go_in_a_moment_is_waited_for() {
        let temp = tempfile::tempdir().unwrap();
        let home = temp.path().join("home");
        let first = HomeLock::acquire(&home).unwrap();
        // What a program that is being started holds.
        let shared = first._file.try_clone().unwrap();
        drop(first);
        let letting_go = std::thread::spawn(move || {
            std::thread::sleep(PATIENCE / 5);
            drop(shared);
        });
        HomeLock::acquire(&home).unwrap();
        letting_go.join().unwrap();
    }

    #[test]
    fn an_agent_that_starts_after_a_crash_clears_up() {
        let temp = tempfile::tempdir().unwrap();
        let home = temp.path().join("home");
        drop(HomeLock::acquire(&home).unwrap());
        let host = crate::state::host_dir(&home);
        std::fs::create_dir(&host).unwrap();
        let leftovers = [home, host].map(|folder| folder.join(".reachback-tmp-abc"));
        for leftover in &leftovers {
            std::fs::write(leftover, "half a key").unwrap();
        }
        let _lock = HomeLock::acquire(&temp.path().join("home")).unwrap();
        assert!(leftovers.iter().all(|leftover| !leftover.exists()));
    }
}
