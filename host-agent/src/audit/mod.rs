//! The host's audit log: every changing action from afar, and every change of who may act, and where.
//!
//! One JSON object a line, for this user only. A line about what gives power or passes
//! is written *before* that takes hold; when it can't be written, that does not happen,
//! so nothing happens from afar without a trace. A line about what takes power away is
//! written after it was done. Lines hold methods, ids, decisions and folders, never text
//! of prompts, commands or files.
//!
//! ```text
//!   host/audit/owner.jsonl                what the owner did: devices, scopes, pauses, workspaces, the computer's sleep
//!              changes.<device>.jsonl     what a device changed about devices or the computer's sleep, and what was ended of
//!                                         its own work
//!              actions.<device>.jsonl     what passed for a device
//!              refusals.<device>.jsonl    what was refused to it
//!              audit.jsonl                of earlier builds: read first, never written
//! ```
//!
//! Each file rotates by itself, so a device pushes out nothing but its own lines of the same kind, whatever it sends: a
//! device with scope `admin` can pause another as often as it likes, and so ends its work as often. `repeats` says how often
//! the same refusal came, `files` where lines are and how they rotate, `reading` how they come together again.

mod files;
mod line;
mod reading;
mod repeats;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use reachback_proto::ids::DeviceId;
use reachback_proto::words::quote;

use files::{Book, Files, SIZES, Sizes};
pub use line::{AwakeChange, AwakeEntry, CodexChange, CodexEntry, Entry, FolderChange, FolderEntry, Line, What};
pub use reading::read;
use repeats::Repeats;

use crate::platform::files::AccessError;
use crate::state::timestamp::Timestamp;

/// The log could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// The folder.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// A file.
    #[error("the audit log {}: {source}", quote(path.display()))]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The log of one home. The agent writes it, under the home's lock.
#[derive(Debug)]
pub struct AuditLog {
    inner: Mutex<Inner>,
    missing: Missing,
}

/// Who hears of what was done and could not be written.
struct Missing(Box<dyn Fn(&AuditError) + Send + Sync>);

impl fmt::Debug for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Missing")
    }
}

#[derive(Debug)]
struct Inner {
    files: Files,
    repeats: Repeats,
}

impl AuditLog {
    /// Opens the log of a home, and makes it where there is none.
    pub fn open(home: &Path) -> Result<Self, AuditError> {
        Self::open_with(home, SIZES)
    }

    fn open_with(home: &Path, sizes: Sizes) -> Result<Self, AuditError> {
        let files = Files::open(home, sizes)?;
        let missing = Missing(Box::new(|error| tracing::error!(%error, "a change was not recorded")));
        Ok(Self { inner: Mutex::new(Inner { files, repeats: Repeats::default() }), missing })
    }

    /// Has `tell` hear of what was done and could not be written, in place of the program's own log.
    pub fn telling(self, tell: impl Fn(&AuditError) + Send + Sync + 'static) -> Self {
        Self { missing: Missing(Box::new(tell)), ..self }
    }

    /// How the line was `written` of a change that takes away: one that holds whether or not that is so.
    pub(crate) fn holds_anyway(&self, written: Result<(), AuditError>) {
        if let Err(error) = written {
            self.missing.0(&error);
        }
    }

    /// Writes a line. It has reached the system when this returns: a crash of the agent does not lose it. A refusal that came a
    /// moment ago is counted instead, and written by [`Self::flush`].
    ///
    /// Blocks for as long as one small write takes.
    pub fn write(&self, entry: &Entry) -> Result<(), AuditError> {
        let book = Book::of(entry);
        let Inner { files, repeats } = &mut *self.lock();
        if !matches!(book, Book::Refusals(_)) {
            return files.append(book, entry);
        }
        repeats.close_old_of(entry.device_id, entry.at, |line| files.append(book, line))?;
        if repeats.counts(entry) {
            return Ok(());
        }
        files.append(book, entry)?;
        repeats.began(entry);
        Ok(())
    }

    /// Writes a line about a folder.
    pub fn write_folder(&self, entry: &FolderEntry) -> Result<(), AuditError> {
        self.lock().files.append(Book::Owner, entry)
    }

    /// Writes a line about an environment's Codex.
    pub fn write_codex(&self, entry: &CodexEntry) -> Result<(), AuditError> {
        self.lock().files.append(Book::Owner, entry)
    }

    /// Writes a line about the computer's sleep. A device's lines push out none of the owner's.
    pub fn write_awake(&self, entry: &AwakeEntry) -> Result<(), AuditError> {
        self.lock().files.append(entry.by.map_or(Book::Owner, Book::Changes), entry)
    }

    /// Writes how often refusals came that are older than a minute at `now`; what can't be written is tried again next time.
    pub fn flush(&self, now: Timestamp) -> Result<(), AuditError> {
        let Inner { files, repeats } = &mut *self.lock();
        repeats.close_old(now, |line| files.append(Book::of(line), line))
    }

    /// The same for all of them: nothing comes after this.
    pub fn flush_all(&self) -> Result<(), AuditError> {
        let Inner { files, repeats } = &mut *self.lock();
        repeats.close_all(|line| files.append(Book::of(line), line))
    }

    /// Drops the files of devices that are on the list no more, the oldest, beyond a number.
    pub fn forget_former(&self, is_listed: impl Fn(DeviceId) -> bool) -> Result<(), AuditError> {
        self.lock().files.forget_former(is_listed)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
