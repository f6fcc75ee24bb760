//! The folders that devices may work in, on one machine.
//!
//! A *workspace* is a folder that the owner listed (`reachback workspace add`)
//! or that Codex's own configuration trusts. Both are looked up anew each time,
//! so that a change counts from the next message on. Workspaces do not nest: of
//! nested ones the outermost counts, because whoever may write in it writes the
//! inner one's configuration too.
//!
//! Never a workspace: the user's home itself and what contains it; Codex's and
//! Reachback's own folders, what contains them and what lies in them. A path
//! counts only while it is its own real path: a link in its place, which
//! something in a sandbox may have put there, opens nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use reachback_proto::frame::LOCAL_ENVIRONMENT;
use reachback_proto::words::{quote, shell_word};
use tokio::sync::watch;

use crate::audit::AuditError;
use crate::codex::ground::Ground;
use crate::disk::{Disk, Real, trusted};
use crate::firewall::folders::{Folders, NoPlace, Place, Unnamed, paths_in, plain};
use crate::state::atomic::FileError;
use crate::state::timestamp::Timestamp;
use crate::state::workspaces::{Listed, WorkspaceStore};

/// The workspaces of one environment. See the module's header.
#[derive(Debug)]
pub struct Workspaces {
    environment: String,
    store: Arc<WorkspaceStore>,
    disk: Arc<dyn Disk>,
    /// Told what they are whenever they are looked up, since Codex's configuration changes without a word.
    ground: Option<Arc<Ground>>,
}

/// Who opened a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema, ts_rs::TS), ts(rename = "WorkspaceSource"))]
pub enum OpenedBy {
    /// The owner, with `reachback workspace add`.
    Owner,
    /// Codex's own configuration, which trusts it.
    Codex,
}

/// A folder that somebody opened, and whether it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    /// The folder.
    pub path: PathBuf,
    /// Who opened it.
    pub by: OpenedBy,
    /// Why devices may not work in it all the same; `None` when they may.
    pub not: Option<NotOpen>,
}

/// Why a folder can't be a workspace, or does not count as one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotOpen {
    /// See [`NoPlace`].
    #[error(transparent)]
    Place(#[from] NoPlace),
    /// The path leads elsewhere.
    #[error("it is a link, or lies behind one: the folder itself is {}", quote(real.display()))]
    Link {
        /// Where it leads.
        real: PathBuf,
    },
    /// It lies in another workspace.
    #[error("it lies in {}, which is a workspace already", quote(outer.display()))]
    Inside {
        /// The other one.
        outer: PathBuf,
    },
    /// Another workspace lies in it.
    #[error("{} lies in it, and workspaces do not nest", quote(inner.display()))]
    Contains {
        /// The other one.
        inner: PathBuf,
    },
    /// It is there already.
    #[error("it is a workspace already")]
    Already,
    /// A name that a file of JSON can't hold.
    #[error("its path is not valid text")]
    NotText,
}

/// The list was not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// The folder can't be opened.
    #[error("{} can't be a workspace: {not}", quote(path.display()))]
    NotOpen {
        /// The folder.
        path: PathBuf,
        /// Why.
        not: NotOpen,
    },
    /// There is no such workspace.
    #[error("{} is no workspace", quote(path.display()))]
    Unknown {
        /// The folder.
        path: PathBuf,
    },
    /// It could not be recorded.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The disk did not take it.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Workspaces {
    /// The workspaces of an environment whose folders are on this disk.
    pub fn new(environment: &str, store: Arc<WorkspaceStore>, disk: Arc<dyn Disk>) -> Self {
        Self { environment: environment.to_owned(), store, disk, ground: None }
    }

    /// Those of another environment of the same owner.
    pub(super) fn elsewhere(&self, environment: &str, disk: Arc<dyn Disk>) -> Self {
        Self::new(environment, Arc::clone(&self.store), disk)
    }

    /// The same, with somebody who is told what they are: now, and when they have changed.
    pub fn telling(self, ground: Option<Arc<Ground>>) -> Self {
        let told = Self { ground, ..self };
        told.workspaces();
        told
    }

    /// Whether the owner was never asked which folders to open.
    pub fn is_new(&self) -> bool {
        self.store.is_new()
    }

    /// Every folder that somebody opened, and whether it counts; sorted by path.
    pub fn list(&self) -> Vec<Workspace> {
        let list = self.store.current();
        let ours = |listed: &&Listed| listed.environment == self.environment;
        let mut all: Vec<Workspace> = list
            .workspaces
            .iter()
            .filter(ours)
            .map(|listed| Workspace { path: listed.path.clone(), by: OpenedBy::Owner, not: None })
            .collect();
        for path in self.trusted() {
            if all.iter().any(|workspace| workspace.path == path) {
                continue;
            }
            let closed = list.closed.iter().filter(ours).any(|closed| path.starts_with(&closed.path));
            let not = closed.then_some(NotOpen::Place(NoPlace::Closed));
            all.push(Workspace { path, by: OpenedBy::Codex, not });
        }
        // A folder comes right before those that lie in it.
        all.sort_by(|one, other| one.path.cmp(&other.path));
        let mut outer: Option<PathBuf> = None;
        for workspace in all.iter_mut().filter(|workspace| workspace.not.is_none()) {
            workspace.not = match &outer {
                Some(outer) if workspace.path.starts_with(outer) => Some(NotOpen::Inside { outer: outer.clone() }),
                _ => self.check(&workspace.path).err(),
            };
            if workspace.not.is_none() {
                outer = Some(workspace.path.clone());
            }
        }
        all
    }

    /// Told whenever the owner has changed them.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.store.changes()
    }

    /// The disk that they are on.
    pub(crate) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Looks at these folders, at all workspaces, and at what Codex's configuration trusts.
    pub(crate) async fn look_at(&self, paths: impl IntoIterator<Item = PathBuf>) {
        if !self.disk.is_here() {
            let list = self.store.current();
            let ours = list.workspaces.iter().filter(|listed| listed.environment == self.environment);
            self.disk.look(paths.into_iter().chain(ours.map(|listed| listed.path.clone())).collect()).await;
        }
    }

    /// The environment that they are in.
    pub fn environment(&self) -> &str {
        &self.environment
    }

    /// Whether a folder could be opened to devices; gives its real path.
    pub fn could_open(&self, path: &Path) -> Result<PathBuf, ChangeError> {
        let refuse = |path: &Path, not| ChangeError::NotOpen { path: path.to_owned(), not };
        self.disk.surroundings().map_err(|unseen| refuse(path, NoPlace::from(unseen).into()))?;
        let real = self.disk.real(path).ok_or_else(|| refuse(path, NoPlace::Missing.into()))?.path;
        self.check(&real).map_err(|not| refuse(&real, not))?;
        if real.to_str().is_none() {
            return Err(refuse(&real, NotOpen::NotText));
        }
        for Workspace { path: other, not, by } in self.list() {
            // One that the owner listed is in the way even while it does not count: it may count again.
            if not.is_some() && by == OpenedBy::Codex {
                continue;
            }
            let not = match () {
                () if other == real && by == OpenedBy::Owner && not.is_none() => NotOpen::Already,
                () if other == real => continue,
                () if real.starts_with(&other) => NotOpen::Inside { outer: other },
                () if other.starts_with(&real) => NotOpen::Contains { inner: other },
                () => continue,
            };
            return Err(refuse(&real, not));
        }
        Ok(real)
    }

    /// Opens a folder to devices; gives its real path.
    pub fn add(&self, path: &Path, now: Timestamp) -> Result<PathBuf, ChangeError> {
        let real = self.could_open(path)?;
        let listed = Listed { environment: self.environment.clone(), path: real.clone(), added_at: now };
        self.store.give(|list| {
            // Itself only: one around it that the owner closed stays closed.
            list.closed.retain(|closed| closed.environment != self.environment || closed.path != real);
            list.workspaces.retain(|other| other.environment != self.environment || other.path != real);
            list.workspaces.push(listed);
        })?;
        self.workspaces();
        Ok(real)
    }

    /// The workspace of this name, whether or not it counts.
    pub fn named(&self, path: &Path) -> Result<Workspace, ChangeError> {
        // One whose folder is gone has no real path any more.
        let names = [Some(path.to_owned()), self.disk.real(path).map(|real| real.path)];
        let is_named = |workspace: &Workspace| names.iter().flatten().any(|name| *name == workspace.path);
        let found = self.list().into_iter().find(is_named);
        found.ok_or_else(|| ChangeError::Unknown { path: path.to_owned() })
    }

    /// Closes a folder to devices, also one that Codex's configuration trusts; gives its path.
    pub fn remove(&self, path: &Path, now: Timestamp) -> Result<PathBuf, ChangeError> {
        let Workspace { path, .. } = self.named(path)?;
        let is_trusted = self.trusted().contains(&path);
        let closed = Listed { environment: self.environment.clone(), path: path.clone(), added_at: now };
        let taken = self.store.take(|list| {
            let ours = |listed: &Listed| listed.environment == self.environment && listed.path == path;
            list.workspaces.retain(|listed| !ours(listed));
            if is_trusted && !list.closed.iter().any(ours) {
                list.closed.push(closed);
            }
        });
        // It holds also when it was not written.
        self.workspaces();
        taken?;
        Ok(path)
    }

    /// Remembers that the owner was asked, and opened nothing.
    pub fn decline(&self) -> Result<(), FileError> {
        self.store.give(|_| {})
    }

    /// Forgets everything that the owner said of this environment.
    pub(crate) fn forget(&self) -> Result<(), FileError> {
        let others = |listed: &Listed| listed.environment != self.environment;
        self.store.take(|list| {
            list.workspaces.retain(others);
            list.closed.retain(others);
        })
    }

    /// Whether a folder could be a workspace, apart from others.
    fn check(&self, path: &Path) -> Result<(), NotOpen> {
        let surroundings = self.disk.surroundings().map_err(NoPlace::from)?;
        let Real { path: real, is_dir } = self.disk.real(path).ok_or(NoPlace::Missing)?;
        if real != path {
            return Err(NotOpen::Link { real });
        }
        if !is_dir {
            return Err(NoPlace::Missing.into());
        }
        Ok(surroundings.never(&real)?)
    }

    /// What Codex's own configuration trusts.
    fn trusted(&self) -> Vec<PathBuf> {
        trusted(&self.disk.codex_config())
    }

    fn open(&self) -> impl Iterator<Item = PathBuf> {
        self.list().into_iter().filter(|workspace| workspace.not.is_none()).map(|workspace| workspace.path)
    }
}

impl Folders for Workspaces {
    fn place(&self, wish: &str) -> Result<Place, NoPlace> {
        let surroundings = self.disk.surroundings()?;
        let path = plain(wish).ok_or(NoPlace::Form)?;
        let Real { path: real, is_dir } = self.disk.real(&path).ok_or(NoPlace::Missing)?;
        if !is_dir {
            return Err(NoPlace::Missing);
        }
        surroundings.never(&real)?;
        let workspaces = self.workspaces();
        if workspaces.contains(&real) {
            return Ok(Place::Workspace(real));
        }
        let mut roots = surroundings.roots.iter().chain(&workspaces);
        if roots.any(|root| real.starts_with(root)) { Ok(Place::Below(real)) } else { Err(NoPlace::Outside) }
    }

    fn unnamed(&self) -> Result<PathBuf, NoPlace> {
        let mut workspaces = self.workspaces();
        if let Some(here) = &self.disk.surroundings()?.working_dir
            && workspaces.contains(here)
        {
            return Ok(here.clone());
        }
        match (workspaces.pop(), workspaces.is_empty()) {
            (Some(only), true) => Ok(only),
            (None, _) => Err(NoPlace::Unnamed(Unnamed::None)),
            (Some(_), false) => Err(NoPlace::Unnamed(Unnamed::Several)),
        }
    }

    fn workspaces(&self) -> Vec<PathBuf> {
        let workspaces: Vec<_> = self.open().collect();
        if let Some(ground) = &self.ground {
            ground.list(&workspaces);
        }
        workspaces
    }

    fn named(&self) -> Vec<PathBuf> {
        self.list().into_iter().map(|workspace| workspace.path).collect()
    }

    fn option(&self) -> String {
        match self.environment.as_str() {
            LOCAL_ENVIRONMENT => String::new(),
            other => format!(" --env {}", shell_word(other)),
        }
    }

    fn look<'a>(&'a self, message: &'a [u8]) -> BoxFuture<'a, ()> {
        if self.disk.is_here() {
            return async {}.boxed();
        }
        self.look_at(paths_in(message)).boxed()
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests;
