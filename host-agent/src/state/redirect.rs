//! Whether Codex's own configuration is to lead to this agent, and what was written there for that.
//!
//! The wish is the owner's, and lasts until they end it. What was written is there while an agent runs, and is noted before
//! it is: what an agent that was killed leaves in somebody's configuration can be taken back, and nothing else is.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::atomic::{self, Document, FileError};
use crate::platform::files;

/// What was said, and what was done about it.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Redirect {
    /// The `CODEX_HOME` whose configuration is to lead to the agent while one runs; `None` where none is to.
    pub codex_home: Option<PathBuf>,
    /// What was written and not taken back yet.
    pub written: Option<Written>,
}

/// One setting that leads here. Not printed: in the value of before may be somebody's secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Written {
    /// The configuration, by the name that Codex knows it by.
    pub file: PathBuf,
    /// The value that was there before, as it was written in the file; `None` where there was none.
    pub before: Option<String>,
    /// Whether there was no file.
    pub made: bool,
}

impl Document for Redirect {
    const VERSION: u32 = 1;
}

/// Where it is kept, for the home of an agent. It is written under the home's lock.
#[derive(Debug, Clone)]
pub(crate) struct RedirectFile(PathBuf);

impl RedirectFile {
    /// That of `home`.
    pub(crate) fn of(home: &Path) -> Self {
        Self(super::host_dir(home).join("redirect.json"))
    }

    /// What was written last; nothing where nobody ever asked for it.
    pub(crate) fn read(&self) -> Result<Redirect, FileError> {
        Ok(atomic::load(&self.0)?.unwrap_or_default())
    }

    /// Keeps this from now on.
    pub(crate) fn write(&self, kept: &Redirect) -> Result<(), FileError> {
        if let Some(host) = self.0.parent() {
            if let Some(home) = host.parent() {
                files::state_dir(home)?;
            }
            files::state_dir(host)?;
        }
        atomic::save(&self.0, kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_and_what_was_written_are_there_after_a_restart() {
        let home = tempfile::tempdir().unwrap();
        let file = RedirectFile::of(home.path());
        assert!(file.read().unwrap() == Redirect::default());
        let written = Written { file: "/c/config.toml".into(), before: Some("'https://x'".into()), made: false };
        let kept = Redirect { codex_home: Some("/c".into()), written: Some(written) };
        file.write(&kept).unwrap();
        assert!(RedirectFile::of(home.path()).read().unwrap() == kept);
    }
}
