//! Whether this machine is to be kept awake while devices may come.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::atomic::{self, Document, FileError};
use crate::platform::files;

/// What was said last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Awake {
    /// Whether it is.
    pub on: bool,
}

impl Document for Awake {
    const VERSION: u32 = 1;
}

/// Where it is kept, for the home of an agent. It is written under the home's lock.
#[derive(Debug, Clone)]
pub(crate) struct AwakeFile(PathBuf);

impl AwakeFile {
    /// That of `home`.
    pub(crate) fn of(home: &Path) -> Self {
        Self(super::host_dir(home).join("awake.json"))
    }

    /// What was said last; off where nobody ever said anything.
    pub(crate) fn read(&self) -> Result<Awake, FileError> {
        Ok(atomic::load(&self.0)?.unwrap_or_default())
    }

    /// Keeps this from now on.
    pub(crate) fn write(&self, awake: Awake) -> Result<(), FileError> {
        if let Some(host) = self.0.parent() {
            if let Some(home) = host.parent() {
                files::state_dir(home)?;
            }
            files::state_dir(host)?;
        }
        atomic::save(&self.0, &awake)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_off_until_it_is_turned_on_and_stays_on_after_a_restart() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().join("home");
        assert!(!AwakeFile::of(&home).read().unwrap().on);
        AwakeFile::of(&home).write(Awake { on: true }).unwrap();
        assert!(AwakeFile::of(&home).read().unwrap().on);
    }

    #[test]
    fn a_file_that_is_damaged_is_reported_with_its_name() {
        let home = tempfile::tempdir().unwrap();
        let file = AwakeFile::of(home.path());
        file.write(Awake { on: true }).unwrap();
        std::fs::write(&file.0, r#"{"version":1,"on":"yes"}"#).unwrap();
        let error = file.read().unwrap_err().to_string();
        assert!(error.contains("awake.json"), "{error}");
    }
}
