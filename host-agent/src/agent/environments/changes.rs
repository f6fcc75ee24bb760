//! Opening and closing folders by the owner's word: recorded, and told in the words of the public format.
//!
//! The running agent does it for `reachback workspace`; without an agent the
//! command does the same on the files, under the home's lock.

use std::path::Path;

use reachback_proto::words::shell_word;

use super::workspaces::{ChangeError, NotOpen, OpenedBy, Workspace, Workspaces};
use crate::audit::{AuditLog, FolderChange, FolderEntry};
use crate::firewall::folders::NoPlace;
use crate::local_api::{Failure, WorkspaceStatus};
use crate::state::timestamp::Timestamp;

/// What `reachback workspace` does with one environment.
#[derive(Debug, Clone, Copy)]
pub struct Changes<'a> {
    /// The environment's workspaces.
    pub workspaces: &'a Workspaces,
    /// Where changes are recorded.
    pub audit: &'a AuditLog,
}

impl Changes<'_> {
    /// Opens a folder to devices.
    pub fn open(self, path: &Path, now: Timestamp) -> Result<WorkspaceStatus, ChangeError> {
        let real = self.workspaces.could_open(path)?;
        // What gives is written first, or not done.
        self.audit.write_folder(&self.entry(FolderChange::WorkspaceAdded, &real, now))?;
        let path = self.workspaces.add(&real, now)?;
        Ok(status(self.workspaces.environment(), &Workspace { path, by: OpenedBy::Owner, not: None }))
    }

    /// Closes a folder to devices.
    pub fn close(self, path: &Path, now: Timestamp) -> Result<WorkspaceStatus, ChangeError> {
        let Workspace { path, by, .. } = self.workspaces.named(path)?;
        let removed = self.workspaces.remove(&path, now);
        // What takes away is done first, whether or not it can be written. It holds also where the list is not on the disk yet.
        if matches!(removed, Ok(_) | Err(ChangeError::File(_))) {
            self.audit.holds_anyway(self.audit.write_folder(&self.entry(FolderChange::WorkspaceRemoved, &path, now)));
        }
        removed?;
        let after = self.workspaces.named(&path).ok();
        let told = WorkspaceStatus {
            open: false,
            ..status(self.workspaces.environment(), &Workspace { path, by, not: None })
        };
        Ok(after.map_or(told, |closed| status(self.workspaces.environment(), &closed)))
    }

    fn entry(self, event: FolderChange, path: &Path, at: Timestamp) -> FolderEntry {
        let environment = self.workspaces.environment().to_owned();
        FolderEntry { at, event, environment, path: path.to_string_lossy().into_owned() }
    }
}

/// Every folder that somebody opened in an environment, in the words of the public format.
pub fn told(workspaces: &Workspaces) -> impl Iterator<Item = WorkspaceStatus> {
    workspaces.list().into_iter().map(|workspace| status(workspaces.environment(), &workspace))
}

fn status(environment: &str, Workspace { path, by, not }: &Workspace) -> WorkspaceStatus {
    WorkspaceStatus {
        environment: environment.to_owned(),
        path: path.to_string_lossy().into_owned(),
        by: *by,
        open: not.is_none(),
        reason: not.as_ref().map(ToString::to_string),
    }
}

impl From<ChangeError> for Failure {
    fn from(error: ChangeError) -> Self {
        failure(error, "")
    }
}

/// The same in the words for an environment, whose commands need this [option](crate::firewall::folders::Folders::option).
pub fn failure(error: ChangeError, option: &str) -> Failure {
    let message = error.to_string();
    let list = "`reachback workspace list` shows them".to_owned();
    let (code, fix) = match error {
        ChangeError::NotOpen { not, .. } => refusal(not, option),
        ChangeError::Unknown { .. } => ("no_such_workspace", list),
        ChangeError::Audit(_) => ("audit", "make room on the disk: nothing is given without a trace".to_owned()),
        ChangeError::File(_) => ("not_changed", "see to that file, and try again".to_owned()),
    };
    Failure::new(code, message).fix(fix)
}

fn refusal(not: NotOpen, option: &str) -> (&'static str, String) {
    match not {
        NotOpen::Place(NoPlace::Missing) => {
            ("workspace_missing", format!("name a folder that is there: reachback workspace add{option} DIR"))
        }
        NotOpen::Place(NoPlace::Home) => {
            ("workspace_home", format!("open the folder of a project: reachback workspace add{option} DIR"))
        }
        NotOpen::Place(NoPlace::State) => {
            ("workspace_state", format!("open a folder that lies elsewhere: reachback workspace add{option} DIR"))
        }
        NotOpen::Inside { outer: other } | NotOpen::Contains { inner: other } => (
            "workspace_nested",
            format!(
                "workspaces do not nest: choose one; to close the other: reachback workspace remove{option} {}",
                shell_word(other.to_string_lossy())
            ),
        ),
        NotOpen::Place(NoPlace::Unseen(_)) => {
            ("workspace_unseen", "see how the machine is: reachback ssh check NAME".to_owned())
        }
        NotOpen::Already => ("workspace_already", "nothing to do: `reachback workspace list` shows them".to_owned()),
        NotOpen::NotText => ("workspace_not_text", "give it a name that is valid UTF-8".to_owned()),
        NotOpen::Place(_) | NotOpen::Link { .. } => {
            ("workspace_refused", format!("open another folder: reachback workspace add{option} DIR"))
        }
    }
}
