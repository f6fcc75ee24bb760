//! The Codex that the agent started: what an agent that was killed leaves behind, and the next one ends.
//!
//! Codex does not end with a parent that is killed. The next agent would join
//! it, as it joins one that a terminal started, and never end it. So it is noted
//! here what was started, for as long as it runs. The note lies among the keys,
//! where no command of Codex may write: whoever writes it has processes ended.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::atomic::{self, Document, FileError};
use crate::platform::processes::{Group, Process};

/// What runs, or ran when an agent was killed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartedCodex {
    /// The group that was made for it.
    pub group: Group,
    /// Those of it that are known: the program that was started, and the server where that is another (npm's `codex` is a
    /// wrapper, which may end alone).
    pub processes: Vec<Process>,
}

impl Document for StartedCodex {
    const VERSION: u32 = 1;
}

impl StartedCodex {
    /// Its group, if that is still what was noted: as long as one of the processes runs in it, the group's id can't have
    /// been given to another.
    pub async fn running(&self) -> Option<Group> {
        for process in &self.processes {
            if process.is_in(self.group).await {
                return Some(self.group);
            }
        }
        None
    }
}

/// Where the note is, for the home of an agent. The agent writes it under the home's lock.
#[derive(Debug, Clone)]
pub struct Note(PathBuf);

impl Note {
    /// That of `home`, whose folder for a host is there.
    pub fn of(home: &Path) -> Self {
        Self(super::host_dir(home).join("codex.json"))
    }

    /// What was noted last and not taken back.
    pub fn read(&self) -> Result<Option<StartedCodex>, FileError> {
        atomic::load(&self.0)
    }

    /// Notes what runs, in place of whatever was there: nothing of an older note is needed any more.
    pub fn write(&self, started: &StartedCodex) -> Result<(), FileError> {
        atomic::save(&self.0, started)
    }

    /// Takes it back.
    pub fn remove(&self) -> Result<(), FileError> {
        match std::fs::remove_file(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FileError::io("remove", &self.0)(error)),
            _ => Ok(()),
        }
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;

    /// This process, and the group that it is in.
    async fn ourselves() -> StartedCodex {
        let process = Process::with_id(std::process::id()).await.unwrap();
        StartedCodex { group: Group::of(process.pid).unwrap(), processes: vec![process] }
    }

    #[tokio::test]
    async fn what_was_noted_is_there_until_it_is_taken_back() {
        let home = tempfile::tempdir().unwrap();
        crate::platform::files::state_dir(&super::super::host_dir(home.path())).unwrap();
        let note = Note::of(home.path());
        assert_eq!(note.read().unwrap(), None);
        let started = ourselves().await;
        note.write(&started).unwrap();
        assert_eq!(note.read().unwrap(), Some(started));
        note.remove().unwrap();
        assert_eq!(note.read().unwrap(), None);
        note.remove().expect("what is not there needs no removing");
    }

    #[tokio::test]
    async fn one_known_process_in_the_group_is_needed_and_enough() {
        let ours = ourselves().await;
        assert_eq!(ours.running().await, Some(ours.group));
        // The wrapper has ended; the server runs.
        let ended = Process { pid: 1 << 30, started: ours.processes[0].started.clone() };
        let half = StartedCodex { processes: vec![ended.clone(), ours.processes[0].clone()], ..ours.clone() };
        assert_eq!(half.running().await, Some(ours.group));

        let later = Process { started: "later".into(), ..ours.processes[0].clone() };
        for processes in [vec![], vec![ended], vec![later]] {
            assert_eq!(StartedCodex { processes, ..ours.clone() }.running().await, None);
        }
    }
}
