//! What a folder is to a device.
//!
//! A folder is a program: it chooses the project's configuration, the MCP
//! servers that Codex starts outside its sandbox, git filters, trust and what is
//! writable. So a device never works in a folder that the host's owner did not
//! open. The firewall itself does no input or output: it asks [`Folders`], which
//! answers for the machine that the channel's app-server runs on.

use std::fmt;
use std::path::{Component, Path, PathBuf};

/// A folder that a device may be given, canonical.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// One that the owner opened: what it configures runs.
    Workspace(PathBuf),
    /// One below the allowed roots: from scope `approve` on, and only so that nothing in it runs.
    Below(PathBuf),
}

impl Place {
    /// Where it is.
    pub fn path(&self) -> &Path {
        match self {
            Self::Workspace(path) | Self::Below(path) => path,
        }
    }
}

/// Why a folder is not for devices, in words for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    /// Not an absolute path in plain form.
    #[error("a folder is named by its absolute path, without `..`")]
    Form,
    /// Nothing is there, or something else than a folder.
    #[error("there is no such folder on this host")]
    Missing,
    /// The user's home folder, or one that contains it.
    #[error("the home folder, and what contains it, is never open to devices: a project in it is")]
    Home,
    /// Reachback's or Codex's own state, or a folder that contains or lies in it.
    #[error("Reachback's and Codex's own folders, and what contains or lies in them, are never open to devices")]
    State,
    /// The owner closed it, although Codex trusts it.
    #[error("the host's owner closed this folder to devices")]
    Closed,
    /// Nobody opened it.
    #[error("this folder is not a workspace of this host")]
    Outside,
    /// It is on a machine whose folders can't be looked at.
    #[error("this version does not look at folders of SSH hosts, so devices can't work there")]
    Unseen,
    /// No folder was named, and the host has none that it could take.
    #[error("no folder was named, and this host has {0}: name one of its workspaces")]
    Unnamed(Unnamed),
}

/// Why there is no folder for a thread that names none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unnamed {
    /// No workspace.
    None,
    /// More than one.
    Several,
}

impl fmt::Display for Unnamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "no workspace",
            Self::Several => "several workspaces",
        })
    }
}

/// Which folders devices may be given on one machine.
///
/// Implementations answer quickly: they are asked in the middle of a message.
pub trait Folders: fmt::Debug + Send + Sync {
    /// What the folder is that a device named.
    fn place(&self, wish: &str) -> Result<Place, NoPlace>;

    /// The workspace for a thread that names no folder.
    fn unnamed(&self) -> Result<PathBuf, NoPlace>;

    /// All workspaces, in order.
    fn workspaces(&self) -> Vec<PathBuf>;

    /// All folders that somebody opened or that Codex trusts, workspaces or not, in order.
    fn named(&self) -> Vec<PathBuf>;
}

/// A machine on which no folder is open, for tests.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct NoFolders;

#[cfg(test)]
impl Folders for NoFolders {
    fn place(&self, _: &str) -> Result<Place, NoPlace> {
        Err(NoPlace::Outside)
    }

    fn unnamed(&self) -> Result<PathBuf, NoPlace> {
        Err(NoPlace::Unnamed(Unnamed::None))
    }

    fn workspaces(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    fn named(&self) -> Vec<PathBuf> {
        Vec::new()
    }
}

/// The path without `.`; `None` when it is relative, has a `..` or holds a NUL.
///
/// A `..` is refused rather than resolved: behind a link it leads elsewhere than it looks.
pub(crate) fn plain(path: &str) -> Option<PathBuf> {
    let path = Path::new(path);
    if !path.is_absolute() || path.to_str()?.contains('\0') {
        return None;
    }
    let parts = path.components();
    let plain = parts.clone().all(|part| !matches!(part, Component::ParentDir));
    plain.then(|| parts.filter(|part| !matches!(part, Component::CurDir)).collect())
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_paths_are_absolute_and_do_not_climb() {
        assert_eq!(plain("/home/me/./a//b/").as_deref(), Some(Path::new("/home/me/a/b")));
        for wish in ["", ".", "a", "~", "~/x", "/home/me/..", "/a/../b", "/..", "/a\0"] {
            assert_eq!(plain(wish), None, "{wish:?} passed");
        }
    }
}
