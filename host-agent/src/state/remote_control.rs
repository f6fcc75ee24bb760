//! What Codex's own remote control is enrolled under at this agent.
//!
//! Codex keys its enrolment by the address that it found the agent at, so the
//! port and the secret path are made once and kept, and so are the ids that it
//! was given. The path is what keeps others on this machine out: it lies here in
//! a 0600 file. Of the person's account nothing is kept.

use std::path::{Path, PathBuf};

use reachback_proto::crypto::keys::Secret;
use serde::{Deserialize, Serialize};

use super::atomic::{self, Document, FileError};
use super::secret_text;
use crate::platform::files;

/// Longest id that is kept, in bytes. Ours have 36, Codex's installations a UUID.
pub(crate) const MAX_ID: usize = 128;

/// One address of the agent, and who it is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RemoteControl {
    /// The port on 127.0.0.1.
    pub port: u16,
    /// The first part of every path.
    #[serde(with = "secret_text")]
    pub prefix: Secret,
    /// What Codex calls the server that it enrolled.
    pub server_id: String,
    /// What Codex calls this machine.
    pub environment_id: String,
    /// The installation of Codex that enrolled last.
    #[serde(default)]
    pub installation_id: Option<String>,
}

impl Document for RemoteControl {
    const VERSION: u32 = 1;
}

/// Where it is kept, for the home of an agent. The agent writes it under the home's lock.
#[derive(Debug, Clone)]
pub(crate) struct RemoteControlFile(PathBuf);

impl RemoteControlFile {
    /// That of `home`, whose folder for a host is made when it is missing.
    pub(crate) fn of(home: &Path) -> Result<Self, FileError> {
        files::state_dir(home)?;
        files::state_dir(&super::host_dir(home))?;
        Ok(Self(super::host_dir(home).join("remote_control.json")))
    }

    /// What was written last; `None` where nothing ever enrolled.
    pub(crate) fn read(&self) -> Result<Option<RemoteControl>, FileError> {
        let Some(kept) = atomic::load::<RemoteControl>(&self.0)? else { return Ok(None) };
        match kept.port != 0 && is_id(&kept.server_id) && is_id(&kept.environment_id) {
            true => Ok(Some(kept)),
            false => Err(FileError::Inconsistent {
                path: self.0.clone(),
                what: "its port is 0, or an id in it is no id".into(),
            }),
        }
    }

    /// Keeps this from now on.
    pub(crate) fn write(&self, kept: &RemoteControl) -> Result<(), FileError> {
        atomic::save(&self.0, kept)
    }

    /// The file, for words to a person.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

/// Whether this can be an id: short, and safe in a path and in a header as it is.
pub(crate) fn is_id(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=MAX_ID).contains(&text.len()) && text.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> RemoteControl {
        RemoteControl {
            port: 24_601,
            prefix: Secret::new([7; 32]),
            server_id: "srv-1".into(),
            environment_id: "env-1".into(),
            installation_id: None,
        }
    }

    #[test]
    fn what_was_kept_is_there_after_a_restart_and_what_can_not_be_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let file = RemoteControlFile::of(home.path()).unwrap();
        assert_eq!(file.read().unwrap(), None);
        file.write(&kept()).unwrap();
        assert_eq!(RemoteControlFile::of(home.path()).unwrap().read().unwrap(), Some(kept()));

        for wrong in [
            RemoteControl { port: 0, ..kept() },
            RemoteControl { server_id: String::new(), ..kept() },
            RemoteControl { environment_id: "../x".into(), ..kept() },
        ] {
            file.write(&wrong).unwrap();
            assert!(matches!(file.read(), Err(FileError::Inconsistent { .. })), "{wrong:?}");
        }
    }

    #[test]
    fn the_secret_path_is_not_in_the_debug_output() {
        let shown = format!("{:?}", kept());
        assert!(shown.contains("Secret(…)") && !shown.contains("7, 7"), "{shown}");
    }
}
