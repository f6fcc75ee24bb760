//! The machines of the SSH configuration that are environments of this host, by the owner's word.
//!
//! Only their names are remembered, and whether devices may be asked for their codes: what a name means is the configuration's
//! to say ([`crate::ssh`]), each time anew.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::atomic::{self, Document, FileError};
use super::timestamp::Timestamp;
use crate::platform::files;

/// Machines of one host. Each may hold a connection and some memory.
pub(crate) const MAX_SSH_HOSTS: usize = 64;

/// A machine that is an environment of this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SshHost {
    /// Its name in the SSH configuration.
    pub alias: String,
    /// When it was added.
    pub added_at: Timestamp,
    /// Whether devices may be asked what it asks for beside a key. A build that does not know this takes it back.
    #[serde(default)]
    pub asks_devices: bool,
}

/// What the owner said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SshHostList {
    /// Oldest first.
    pub hosts: Vec<SshHost>,
}

impl SshHostList {
    /// Whether it has a machine of this name.
    pub fn has(&self, alias: &str) -> bool {
        self.hosts.iter().any(|host| host.alias == alias)
    }

    /// Whether devices may be asked what this machine asks for.
    pub fn asks_devices(&self, alias: &str) -> bool {
        self.hosts.iter().any(|host| host.alias == alias && host.asks_devices)
    }
}

impl Document for SshHostList {
    const VERSION: u32 = 1;
}

/// The list was not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SshHostError {
    /// There is no room for one more.
    #[error("this host has {MAX_SSH_HOSTS} SSH hosts, which is the most")]
    Full,
    /// The disk did not take it.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The list of one home. The agent changes it under the home's lock.
#[derive(Debug)]
pub struct SshHostStore {
    path: PathBuf,
    list: Mutex<Arc<SshHostList>>,
}

impl SshHostStore {
    /// Reads the list in `home`; an absent file is an empty list.
    pub fn open(home: &Path) -> Result<Self, FileError> {
        files::state_dir(home)?;
        files::state_dir(&super::host_dir(home))?;
        let path = super::host_dir(home).join("ssh.json");
        let list = atomic::load::<SshHostList>(&path)?.unwrap_or_default();
        Ok(Self { path, list: Mutex::new(Arc::new(list)) })
    }

    /// The list as it is.
    pub fn current(&self) -> Arc<SshHostList> {
        Arc::clone(&self.list.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds a machine, which holds once it is on the disk; one that is there stays as it is.
    pub fn add(&self, alias: &str, now: Timestamp) -> Result<(), SshHostError> {
        let mut current = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        if current.has(alias) {
            return Ok(());
        }
        if current.hosts.len() >= MAX_SSH_HOSTS {
            return Err(SshHostError::Full);
        }
        let mut list = SshHostList::clone(&current);
        list.hosts.push(SshHost { alias: alias.to_owned(), added_at: now, asks_devices: false });
        atomic::save(&self.path, &list)?;
        *current = Arc::new(list);
        Ok(())
    }

    /// Says whether devices may be asked what a machine asks for. That they may holds once it is on the disk; that they may not at
    /// once, also when the disk does not take it.
    pub fn set_asks_devices(&self, alias: &str, on: bool) -> Result<(), SshHostError> {
        let mut current = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list = SshHostList::clone(&current);
        list.hosts.iter_mut().filter(|host| host.alias == alias).for_each(|host| host.asks_devices = on);
        let written = atomic::save(&self.path, &list);
        if written.is_ok() || !on {
            *current = Arc::new(list);
        }
        Ok(written?)
    }

    /// Removes a machine: it holds at once, also when the disk does not take it.
    pub fn remove(&self, alias: &str) -> Result<(), SshHostError> {
        let mut current = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list = SshHostList::clone(&current);
        list.hosts.retain(|host| host.alias != alias);
        let written = atomic::save(&self.path, &list);
        *current = Arc::new(list);
        Ok(written?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_there_after_a_restart() {
        let home = tempfile::tempdir().unwrap();
        let store = SshHostStore::open(home.path()).unwrap();
        let at = Timestamp::from_unix(7);
        for alias in ["devbox", "other", "devbox"] {
            store.add(alias, at).unwrap();
        }
        store.remove("other").unwrap();
        let again = SshHostStore::open(home.path()).unwrap().current();
        assert_eq!(again.hosts, [SshHost { alias: "devbox".into(), added_at: at, asks_devices: false }]);
    }

    #[test]
    fn no_machine_asks_devices_until_that_is_said_and_one_that_is_added_again_does_not() {
        let home = tempfile::tempdir().unwrap();
        let store = SshHostStore::open(home.path()).unwrap();
        let asks = || SshHostStore::open(home.path()).unwrap().current().asks_devices("devbox");
        store.set_asks_devices("devbox", true).unwrap();
        store.add("devbox", Timestamp::from_unix(7)).unwrap();
        assert!(!asks(), "it was said before it was there");
        store.set_asks_devices("devbox", true).unwrap();
        assert!(asks());
        store.set_asks_devices("devbox", false).unwrap();
        assert!(!asks());
        store.set_asks_devices("devbox", true).unwrap();
        store.remove("devbox").unwrap();
        store.add("devbox", Timestamp::from_unix(8)).unwrap();
        assert!(!asks());
        // As an earlier build wrote it.
        let file = super::super::host_dir(home.path()).join("ssh.json");
        let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        assert!(json["hosts"][0].as_object_mut().unwrap().remove("asks_devices").is_some());
        std::fs::write(&file, json.to_string()).unwrap();
        assert!(!asks());
    }

    #[test]
    fn there_is_a_most() {
        let home = tempfile::tempdir().unwrap();
        let store = SshHostStore::open(home.path()).unwrap();
        for n in 0..MAX_SSH_HOSTS {
            store.add(&format!("host{n}"), Timestamp::from_unix(7)).unwrap();
        }
        assert!(matches!(store.add("more", Timestamp::from_unix(7)), Err(SshHostError::Full)));
        store.remove("host0").unwrap();
        store.add("more", Timestamp::from_unix(7)).unwrap();
    }
}
