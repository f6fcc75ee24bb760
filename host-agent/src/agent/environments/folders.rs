//! Folders to choose from, for a device that picks one to work in.
//!
//! Only what lies below the allowed roots is listed, by its real path; a link
//! that leads out of them is left out, and so are Codex's and Reachback's own
//! folders. A path that does not lie there as it is written is refused before
//! the disk is asked, so that nobody learns what there is elsewhere.

use std::path::{Path, PathBuf};

use super::workspaces::Workspaces;
use crate::disk::{Entries, Real};
use crate::firewall::folders::{Folders, Unseen, plain};

/// Entries of one answer.
pub const MAX_LISTED: usize = 1000;
/// Entries of a folder that are looked at: more than a folder has that a person looks into.
const MAX_READ: usize = 50_000;

/// A folder to choose, or to look into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// What it is called where it was found.
    pub name: String,
    /// Its real path.
    pub path: String,
    /// Whether the owner opened it.
    pub is_workspace: bool,
    /// Whether a device with scope `approve` may work in it.
    pub opens: bool,
}

/// What a folder holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Sorted by name.
    pub folders: Vec<Folder>,
    /// Whether there are others.
    pub more: bool,
}

/// Why a folder is not listed, in words for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotListed {
    /// Not an absolute path in plain form.
    #[error("a folder is named by its absolute path, without `..`")]
    Form,
    /// Not below the roots.
    #[error("devices see what lies below this host's home folder and in its workspaces, and nothing else")]
    Outside,
    /// Reachback's or Codex's own state, or in it.
    #[error("Reachback's and Codex's own folders are not shown to devices")]
    State,
    /// Nothing is there, something else than a folder, or one that the host's user may not read.
    #[error("there is no such folder on this host, or it can't be read")]
    Missing,
    /// It is on a machine whose folders can't be looked at.
    #[error("the folders of that machine can't be looked at: {0}")]
    Unseen(#[from] Unseen),
}

impl Workspaces {
    /// Looks at what [`folders`](Self::folders) then tells of.
    pub(crate) async fn look_into(&self, path: Option<&str>) {
        self.look_at([]).await;
        let Ok(surroundings) = self.disk().surroundings() else { return };
        let Some(path) = path.and_then(plain) else { return };
        // What lies elsewhere is refused without a look.
        if surroundings.roots(&self.workspaces()).iter().any(|root| path.starts_with(root)) {
            self.disk().look_into(path).await;
        }
    }

    /// What a folder holds; without a path, the roots themselves. It asks the disk, and may take long.
    pub fn folders(&self, path: Option<&str>, hidden: bool) -> Result<Listing, NotListed> {
        let surroundings = self.disk().surroundings()?;
        let workspaces = self.workspaces();
        let roots = surroundings.roots(&workspaces);
        let folder = |name: &str, path: &Path| {
            let is_workspace = workspaces.iter().any(|workspace| workspace == path);
            let (name, path_text) = (name.to_owned(), path.to_str()?.to_owned());
            Some(Folder { name, path: path_text, is_workspace, opens: surroundings.never(path).is_ok() })
        };
        let Some(path) = path else {
            let name = |root: &Path| Some(root.file_name().unwrap_or(root.as_os_str()).to_str()?.to_owned());
            let folders = roots.iter().filter_map(|root| folder(&name(root)?, root)).collect();
            return Ok(Listing { folders, more: false });
        };
        let path = plain(path).ok_or(NotListed::Form)?;
        let real = self.within(&roots, &path)?;
        let Entries { names, mut more } = self.disk().entries(&real, MAX_READ).ok_or(NotListed::Missing)?;
        let mut folders = Vec::new();
        for name in names.iter().filter(|name| hidden || !name.starts_with('.')) {
            if let Ok(real) = self.within(&roots, &real.join(name)) {
                folders.extend(folder(name, &real));
            }
        }
        // Something in a sandbox may have put a link in its place while it was read.
        if self.within(&roots, &path)? != real {
            return Err(NotListed::Missing);
        }
        folders.sort_by(|one, other| one.name.cmp(&other.name));
        more |= folders.len() > MAX_LISTED;
        folders.truncate(MAX_LISTED);
        Ok(Listing { folders, more })
    }

    /// The real path of a folder, if a device may see it.
    fn within(&self, roots: &[PathBuf], path: &Path) -> Result<PathBuf, NotListed> {
        let is_within = |path: &Path| roots.iter().any(|root| path.starts_with(root));
        if !is_within(path) {
            return Err(NotListed::Outside);
        }
        let Real { path: real, is_dir } = self.disk().real(path).ok_or(NotListed::Missing)?;
        if !is_within(&real) {
            return Err(NotListed::Outside);
        }
        if self.disk().surroundings()?.is_state(&real) {
            return Err(NotListed::State);
        }
        if is_dir { Ok(real) } else { Err(NotListed::Missing) }
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests;
