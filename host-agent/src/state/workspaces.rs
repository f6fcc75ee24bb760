//! The workspaces that the owner listed: folders that devices may work in.
//!
//! What is a workspace in the end also depends on what Codex's own
//! configuration trusts, and on folders that never are one; that is
//! [`crate::agent::environments::workspaces`]'s business. This file only
//! remembers what the owner said: which folders are open, and which ones that
//! Codex trusts are closed all the same. Each belongs to an environment.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::atomic::{self, Document, FileError};
use super::timestamp::Timestamp;
use crate::platform::files;

/// A folder that the owner said something about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// The environment that the folder is in.
    pub environment: String,
    /// The folder, canonical on that environment's machine.
    pub path: PathBuf,
    /// When it was said.
    pub added_at: Timestamp,
}

/// What the owner said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkspaceList {
    /// Folders that devices may work in, oldest first.
    pub workspaces: Vec<Listed>,
    /// Folders that are closed to devices, with all that lies in them, although Codex's own configuration trusts them.
    #[serde(default)]
    pub closed: Vec<Listed>,
}

impl WorkspaceList {
    /// The environments of which something was said, each once, in the order of their names.
    pub fn environments(&self) -> BTreeSet<String> {
        self.workspaces.iter().chain(&self.closed).map(|listed| listed.environment.clone()).collect()
    }
}

impl Document for WorkspaceList {
    const VERSION: u32 = 1;
}

/// The list of one home. The agent changes it under the home's lock.
#[derive(Debug)]
pub struct WorkspaceStore {
    path: PathBuf,
    list: Mutex<Arc<WorkspaceList>>,
    is_new: bool,
    /// How often it changed.
    changes: watch::Sender<u64>,
}

impl WorkspaceStore {
    /// Reads the list in `home`; an absent file is an empty list.
    pub fn open(home: &Path) -> Result<Self, FileError> {
        files::state_dir(home)?;
        files::state_dir(&super::host_dir(home))?;
        let path = super::host_dir(home).join("workspaces.json");
        let list = atomic::load::<WorkspaceList>(&path)?;
        let is_new = list.is_none();
        Ok(Self { path, list: Mutex::new(Arc::new(list.unwrap_or_default())), is_new, changes: watch::Sender::new(0) })
    }

    /// Whether there was no list yet when this was opened: the owner was never asked.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// The list as it is.
    pub fn current(&self) -> Arc<WorkspaceList> {
        Arc::clone(&self.list.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Told whenever it has changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Opens something to devices: what `edit` makes of the list holds once it is on the disk.
    pub fn give(&self, edit: impl FnOnce(&mut WorkspaceList)) -> Result<(), FileError> {
        self.change(edit, false)
    }

    /// Closes something: it holds at once, also when the disk does not take it.
    pub fn take(&self, edit: impl FnOnce(&mut WorkspaceList)) -> Result<(), FileError> {
        self.change(edit, true)
    }

    fn change(&self, edit: impl FnOnce(&mut WorkspaceList), holds_anyway: bool) -> Result<(), FileError> {
        let mut current = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list = WorkspaceList::clone(&current);
        edit(&mut list);
        let written = atomic::save(&self.path, &list);
        if written.is_ok() || holds_anyway {
            *current = Arc::new(list);
            self.changes.send_modify(|times| *times += 1);
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_there_after_a_restart() {
        let home = tempfile::tempdir().unwrap();
        let store = WorkspaceStore::open(home.path()).unwrap();
        assert!(store.is_new());
        let listed =
            |path: &str| Listed { environment: "local".into(), path: path.into(), added_at: Timestamp::from_unix(7) };
        store.give(|list| list.workspaces.push(listed("/srv/project"))).unwrap();
        store.take(|list| list.closed.push(listed("/srv/other"))).unwrap();
        let again = WorkspaceStore::open(home.path()).unwrap();
        assert!(!again.is_new());
        assert_eq!(again.current(), store.current());
        assert_eq!(again.current().workspaces, [listed("/srv/project")]);
    }
}
