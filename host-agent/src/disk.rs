//! The disk of the machine that a Codex works on, as far as its folders decide what devices may do.
//!
//! What a device names is judged in the middle of a message, so a disk answers at once. This machine's is asked then and
//! there. Of another machine's is known what was [looked](Disk::look) at right before; what was not is taken for missing.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::codex::ConnectError;
use crate::firewall::folders::{NoPlace, Unseen, plain};

/// Largest `config.toml` that is read for what it trusts, in bytes; Codex's own grow by two lines a folder.
pub(crate) const MAX_CONFIG: u64 = 1 << 20;

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

impl Surroundings {
    /// What no device ever works in.
    pub(crate) fn never(&self, real: &Path) -> Result<(), NoPlace> {
        if real.parent().is_none() || self.home.as_ref().is_some_and(|home| home.starts_with(real)) {
            return Err(NoPlace::Home);
        }
        if self.is_state(real) || self.state.iter().any(|state| state.starts_with(real)) {
            return Err(NoPlace::State);
        }
        Ok(())
    }

    /// Whether it is one of Codex's and Reachback's own folders, or lies in one.
    pub(crate) fn is_state(&self, real: &Path) -> bool {
        self.state.iter().any(|state| real.starts_with(state))
    }

    /// The folders below which devices that may approve look around; none lies in another.
    pub(crate) fn roots(&self, workspaces: &[PathBuf]) -> Vec<PathBuf> {
        let lies_in_one = |path: &&PathBuf| self.roots.iter().any(|root| path.starts_with(root));
        self.roots.iter().chain(workspaces.iter().filter(|path| !lies_in_one(path))).cloned().collect()
    }
}

/// What a path leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Real {
    /// The path of it, without links.
    pub path: PathBuf,
    /// Whether it is a folder.
    pub is_dir: bool,
}

/// What may be folders in a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entries {
    /// The names of folders and links; others may be among them.
    pub names: Vec<String>,
    /// Whether there are more than were read.
    pub more: bool,
}

/// See the module's header.
pub trait Disk: fmt::Debug + Send + Sync {
    /// What there is on the machine besides workspaces; an error while nothing can be known of its folders.
    fn surroundings(&self) -> Result<Arc<Surroundings>, Unseen>;

    /// What a path leads to; `None` where nothing is there.
    fn real(&self, path: &Path) -> Option<Real>;

    /// What may be folders in the folder of this real path, of so many entries at most; `None` where it can't be read.
    fn entries(&self, real: &Path, most: usize) -> Option<Entries>;

    /// What Codex's `config.toml` says; empty where there is none.
    fn codex_config(&self) -> String;

    /// Another number once that was written anew; nothing while there is none.
    fn codex_config_mark(&self) -> Option<u64>;

    /// Whether it is asked when something has to be known; else it has to be looked at before.
    fn is_here(&self) -> bool {
        true
    }

    /// Why its folders can't be looked at as long as it is connected like this; nothing where they can.
    fn closed(&self) -> Option<Unseen> {
        None
    }

    /// Connects to the machine, where that is needed.
    fn reach(&self) -> BoxFuture<'_, Result<(), ConnectError>> {
        async { Ok(()) }.boxed()
    }

    /// Looks at these paths and at Codex's configuration, so that what is known of them is new.
    fn look(&self, _: Vec<PathBuf>) -> BoxFuture<'_, ()> {
        async {}.boxed()
    }

    /// Looks at what is in the folder that a path leads to.
    fn look_into(&self, _: PathBuf) -> BoxFuture<'_, ()> {
        async {}.boxed()
    }
}

/// This machine's.
#[derive(Debug)]
pub struct LocalDisk {
    surroundings: Arc<Surroundings>,
}

impl LocalDisk {
    /// With what there is on it.
    pub fn new(surroundings: Surroundings) -> Self {
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
        Self { surroundings: Arc::new(surroundings) }
    }
}

impl Disk for LocalDisk {
    fn surroundings(&self) -> Result<Arc<Surroundings>, Unseen> {
        Ok(Arc::clone(&self.surroundings))
    }

    fn real(&self, path: &Path) -> Option<Real> {
        let path = path.canonicalize().ok()?;
        let is_dir = path.is_dir();
        Some(Real { path, is_dir })
    }

    fn entries(&self, real: &Path, most: usize) -> Option<Entries> {
        let mut found = Entries::default();
        for (read, entry) in real.read_dir().ok()?.enumerate() {
            if read == most {
                found.more = true;
                break;
            }
            let Ok(entry) = entry else { continue };
            let may_be_folder = entry.file_type().is_ok_and(|is| is.is_dir() || is.is_symlink());
            found.names.extend(may_be_folder.then(|| entry.file_name().into_string().ok()).flatten());
        }
        Some(found)
    }

    fn codex_config(&self) -> String {
        let Some(path) = &self.surroundings.codex_config else { return String::new() };
        let is_small = path.metadata().is_ok_and(|metadata| metadata.len() <= MAX_CONFIG);
        if is_small { std::fs::read_to_string(path).unwrap_or_default() } else { String::new() }
    }

    fn codex_config_mark(&self) -> Option<u64> {
        let file = self.surroundings.codex_config.as_ref()?.metadata().ok()?;
        Some(mark(&(file.modified().ok()?, file.len())))
    }
}

/// The folders that a `config.toml` trusts.
///
/// A text that is not TOML is for Codex to complain about: it does not start then.
pub(crate) fn trusted(config: &str) -> Vec<PathBuf> {
    let config: toml::Table = config.parse().unwrap_or_default();
    let projects = config.get("projects").and_then(toml::Value::as_table);
    let is_trusted =
        |project: &toml::Value| project.get("trust_level").and_then(toml::Value::as_str) == Some("trusted");
    let trusted = projects.into_iter().flatten().filter(|(_, project)| is_trusted(project));
    trusted.filter_map(|(path, _)| plain(path)).collect()
}

/// A number that is another one for something else.
pub(crate) fn mark(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// One that is not connected: nothing is known of it but what the owner said.
#[derive(Debug)]
pub struct UnknownDisk;

impl Disk for UnknownDisk {
    fn surroundings(&self) -> Result<Arc<Surroundings>, Unseen> {
        Err(Unseen::new("no agent runs that could connect to its machine"))
    }

    fn real(&self, _: &Path) -> Option<Real> {
        None
    }

    fn entries(&self, _: &Path, _: usize) -> Option<Entries> {
        None
    }

    fn codex_config(&self) -> String {
        String::new()
    }

    fn codex_config_mark(&self) -> Option<u64> {
        None
    }
}
