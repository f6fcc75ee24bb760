//! Whether a home is a demo's.
//!
//! A demo marks its home before it makes keys there, and the mark stays: the
//! devices paired with a demo are on that home's list, and must not find the
//! real Codex behind it one day. Nor may a demo open a home whose devices know
//! the real one.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::atomic::{self, Document, FileError};
use super::lock::HomeLock;
use super::timestamp::Timestamp;

/// Whose a home is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HomeKind {
    /// No host's yet.
    New,
    /// A demo's.
    Demo,
    /// A host's with the real Codex.
    Real,
}

impl HomeKind {
    /// The kind of `home`; nothing is changed there.
    pub(crate) fn of(home: &Path) -> Result<Self, FileError> {
        match atomic::load::<Mark>(&mark_path(home)) {
            // That the mark is there says enough. Taken for none, a demo's devices would reach the real Codex.
            Ok(Some(_)) | Err(FileError::Damaged { .. }) => Ok(Self::Demo),
            Ok(None) if holds_host(home)? => Ok(Self::Real),
            Ok(None) => Ok(Self::New),
            Err(error) => Err(error),
        }
    }
}

/// Marks the home of this lock as a demo's, unless it is marked.
pub(crate) fn mark(lock: &HomeLock, now: Timestamp) -> Result<(), FileError> {
    match HomeKind::of(lock.home())? {
        HomeKind::Demo => Ok(()),
        HomeKind::New | HomeKind::Real => atomic::save(&mark_path(lock.home()), &Mark { created: now }),
    }
}

/// What stands in a demo's home.
#[derive(Serialize, Deserialize)]
pub(super) struct Mark {
    created: Timestamp,
}

impl Document for Mark {
    const VERSION: u32 = 1;
}

fn mark_path(home: &Path) -> PathBuf {
    home.join("demo.json")
}

/// Anything of a host counts: its keys may come back from a backup, to the devices and folders that are listed.
fn holds_host(home: &Path) -> Result<bool, FileError> {
    let folder = super::host_dir(home);
    match std::fs::read_dir(&folder) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(FileError::io("read", &folder)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_795_413_540;

    fn put(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        crate::platform::files::restrict(path).unwrap();
    }

    #[test]
    fn a_home_is_new_until_a_host_or_a_demo_is_in_it() {
        let temp = tempfile::tempdir().unwrap();
        let home = temp.path().join("home");
        assert_eq!(HomeKind::of(&home).unwrap(), HomeKind::New);
        assert!(!home.exists(), "looking made it");
        put(&home.join("controller/hosts/x.json"), "{}");
        std::fs::create_dir(home.join("host")).unwrap();
        drop(HomeLock::acquire(&home).unwrap());
        assert_eq!(HomeKind::of(&home).unwrap(), HomeKind::New, "a lock, an empty folder and paired hosts are no host");

        for file in ["host/host.json", "host/devices.json", "host/workspaces.json"] {
            let home = tempfile::tempdir().unwrap();
            put(&home.path().join(file), "{}");
            assert_eq!(HomeKind::of(home.path()).unwrap(), HomeKind::Real, "{file}");
        }
    }

    #[test]
    fn a_mark_stays_whatever_comes_after_it() {
        let temp = tempfile::tempdir().unwrap();
        let home = temp.path().join("home");
        let lock = HomeLock::acquire(&home).unwrap();
        mark(&lock, Timestamp::from_unix(NOW)).unwrap();
        let first = std::fs::read_to_string(mark_path(&home)).unwrap();
        assert!(first.contains("\"version\": 1") && first.contains("2026-11-23T05:59:00Z"), "{first}");

        put(&home.join("host/host.json"), "{}");
        mark(&lock, Timestamp::from_unix(NOW + 1)).unwrap();
        assert_eq!(std::fs::read_to_string(mark_path(&home)).unwrap(), first);
        assert_eq!(HomeKind::of(&home).unwrap(), HomeKind::Demo);

        for damaged in ["", "{}", "not JSON"] {
            put(&mark_path(&home), damaged);
            assert_eq!(HomeKind::of(&home).unwrap(), HomeKind::Demo, "{damaged}");
        }
        put(&mark_path(&home), r#"{"version":2}"#);
        assert!(matches!(HomeKind::of(&home), Err(FileError::Version { found: 2, .. })));
    }
}
