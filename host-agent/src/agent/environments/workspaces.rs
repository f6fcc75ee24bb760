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
use std::time::SystemTime;

use reachback_proto::words::quote;
use tokio::sync::watch;

use crate::audit::AuditError;
use crate::codex::ground::Ground;
use crate::firewall::folders::{Folders, NoPlace, Place, Unnamed, plain};
use crate::state::atomic::FileError;
use crate::state::timestamp::Timestamp;
use crate::state::workspaces::{Listed, WorkspaceStore};

/// Largest `config.toml` that is read for what it trusts, in bytes; Codex's own grow by two lines a folder.
const MAX_CONFIG: u64 = 1 << 20;

/// What there is on the machine besides workspaces.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// The user's home folder.
    pub home: Option<PathBuf>,
    /// Codex's and Reachback's own folders.
    pub state: Vec<PathBuf>,
    /// Folders below which devices that may approve work too. Workspaces are among them without being named.
    pub roots: Vec<PathBuf>,
    /// Codex's `config.toml`.
    pub codex_config: Option<PathBuf>,
    /// Where threads work that name no folder, if it is a workspace.
    pub working_dir: Option<PathBuf>,
}

/// The workspaces of one environment. See the module's header.
#[derive(Debug)]
pub struct Workspaces {
    environment: String,
    store: Arc<WorkspaceStore>,
    /// Whether the folders are on this machine. Those of another one can't be looked at, so none counts.
    is_here: bool,
    surroundings: Surroundings,
    /// Told what they are whenever they are looked up, since Codex's configuration changes without a word.
    ground: Option<Arc<Ground>>,
}

/// Who opened a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(ts_rs::TS), ts(rename = "WorkspaceSource"))]
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
    /// The workspaces of an environment on this machine.
    pub fn new(environment: &str, store: Arc<WorkspaceStore>, surroundings: Surroundings) -> Self {
        let Surroundings { home, state, roots, codex_config, working_dir } = surroundings;
        // What does not exist yet is compared as it is written.
        let real = |path: PathBuf| path.canonicalize().unwrap_or(path);
        let surroundings = Surroundings {
            home: home.map(real),
            state: state.into_iter().map(real).collect(),
            roots: roots.into_iter().map(real).collect(),
            codex_config,
            working_dir: working_dir.map(real),
        };
        Self { environment: environment.to_owned(), store, is_here: true, surroundings, ground: None }
    }

    /// The workspaces of an environment on another machine.
    pub(super) fn elsewhere(&self, environment: &str) -> Self {
        let environment = environment.to_owned();
        let (store, surroundings) = (Arc::clone(&self.store), Surroundings::default());
        Self { environment, store, is_here: false, surroundings, ground: None }
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

    /// When Codex's configuration was written last, and its size in bytes; nothing while there is none.
    pub(super) fn config_written(&self) -> Option<(SystemTime, u64)> {
        let file = self.surroundings.codex_config.as_ref()?.metadata().ok()?;
        Some((file.modified().ok()?, file.len()))
    }

    /// The environment that they are in.
    pub fn environment(&self) -> &str {
        &self.environment
    }

    /// Whether a folder could be opened to devices; gives its real path.
    pub fn could_open(&self, path: &Path) -> Result<PathBuf, ChangeError> {
        let refuse = |path: &Path, not| ChangeError::NotOpen { path: path.to_owned(), not };
        self.is_seen().map_err(|not| refuse(path, not.into()))?;
        let real = path.canonicalize().map_err(|_| refuse(path, NoPlace::Missing.into()))?;
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
        let names = [Some(path.to_owned()), path.canonicalize().ok()];
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

    /// Whether a folder could be a workspace, apart from others.
    fn check(&self, path: &Path) -> Result<(), NotOpen> {
        self.is_seen()?;
        let real = path.canonicalize().map_err(|_| NoPlace::Missing)?;
        if real != path {
            return Err(NotOpen::Link { real });
        }
        if !real.is_dir() {
            return Err(NoPlace::Missing.into());
        }
        Ok(self.never(&real)?)
    }

    /// Whether anything can be known of its folders.
    pub(super) fn is_seen(&self) -> Result<(), NoPlace> {
        if self.is_here { Ok(()) } else { Err(NoPlace::Unseen) }
    }

    /// What no device ever works in.
    pub(super) fn never(&self, real: &Path) -> Result<(), NoPlace> {
        let Surroundings { home, state, .. } = &self.surroundings;
        if real.parent().is_none() || home.as_ref().is_some_and(|home| home.starts_with(real)) {
            return Err(NoPlace::Home);
        }
        if self.is_state(real) || state.iter().any(|state| state.starts_with(real)) {
            return Err(NoPlace::State);
        }
        Ok(())
    }

    /// Whether it is one of Codex's and Reachback's own folders, or lies in one.
    pub(super) fn is_state(&self, real: &Path) -> bool {
        self.surroundings.state.iter().any(|state| real.starts_with(state))
    }

    /// The folders below which devices that may approve look around; none lies in another.
    pub(super) fn roots(&self, workspaces: &[PathBuf]) -> Vec<PathBuf> {
        let roots = &self.surroundings.roots;
        let lies_in_one = |path: &&PathBuf| roots.iter().any(|root| path.starts_with(root));
        roots.iter().chain(workspaces.iter().filter(|path| !lies_in_one(path))).cloned().collect()
    }

    /// What Codex's own configuration trusts.
    fn trusted(&self) -> Vec<PathBuf> {
        let Some(path) = &self.surroundings.codex_config else { return Vec::new() };
        let is_small = path.metadata().is_ok_and(|metadata| metadata.len() <= MAX_CONFIG);
        let text = if is_small { std::fs::read_to_string(path).unwrap_or_default() } else { String::new() };
        // A file that is not TOML is for Codex to complain about: it does not start then.
        let config: toml::Table = text.parse().unwrap_or_default();
        let projects = config.get("projects").and_then(toml::Value::as_table);
        let is_trusted =
            |project: &toml::Value| project.get("trust_level").and_then(toml::Value::as_str) == Some("trusted");
        let trusted = projects.into_iter().flatten().filter(|(_, project)| is_trusted(project));
        trusted.filter_map(|(path, _)| plain(path)).collect()
    }

    fn open(&self) -> impl Iterator<Item = PathBuf> {
        self.list().into_iter().filter(|workspace| workspace.not.is_none()).map(|workspace| workspace.path)
    }
}

impl Folders for Workspaces {
    fn place(&self, wish: &str) -> Result<Place, NoPlace> {
        self.is_seen()?;
        let path = plain(wish).ok_or(NoPlace::Form)?;
        let real = path.canonicalize().map_err(|_| NoPlace::Missing)?;
        if !real.is_dir() {
            return Err(NoPlace::Missing);
        }
        self.never(&real)?;
        let workspaces = self.workspaces();
        if workspaces.contains(&real) {
            return Ok(Place::Workspace(real));
        }
        let mut roots = self.surroundings.roots.iter().chain(&workspaces);
        if roots.any(|root| real.starts_with(root)) { Ok(Place::Below(real)) } else { Err(NoPlace::Outside) }
    }

    fn unnamed(&self) -> Result<PathBuf, NoPlace> {
        let mut workspaces = self.workspaces();
        if let Some(here) = &self.surroundings.working_dir
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
}

#[cfg(unix)]
#[cfg(test)]
mod tests;
