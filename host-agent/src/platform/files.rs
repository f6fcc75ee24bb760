//! Who may read and change a file or directory.
//!
//! Keys are refused when others can read them, as ssh does: a key that was
//! readable may have been read, and mending the mode silently would hide that.

use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use reachback_proto::words::{quote, shell_word};

use super::imp;

/// Why a path can't be trusted or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// Another user owns it.
    #[error(
        "{} belongs to uid {owner}, not to uid {wanted}: run as its owner, or move it away",
        quote(path.display())
    )]
    NotOurs {
        path: PathBuf,
        /// Who owns it.
        owner: u32,
        /// Who should.
        wanted: u32,
    },
    /// Other users can get at it.
    #[error("other users can get at {} (mode {mode:04o}): run `chmod {fix} {}`{}", quote(path.display()), shell_word(path.display()), if *.secret { ", and pair again if it may have been read" } else { "" })]
    Exposed {
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// What to give to chmod.
        fix: &'static str,
        /// Whether keys are in it.
        secret: bool,
    },
    /// Something else is where a directory should be.
    #[error("{} is not a directory: move it away", quote(path.display()))]
    NotADirectory { path: PathBuf },
    /// The operating system says no.
    #[error("can't use {}", quote(path.display()))]
    Io {
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

impl AccessError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

/// How many bytes this user may still write on the disk of a file or folder that is there; `None` where the system does not
/// say. It asks the disk, and may take long.
pub(crate) fn room(path: &Path) -> Option<u64> {
    imp::room(path)
}

/// Makes (with its parents) or checks the directory that state is kept in: this user's, and nobody else writes to it.
///
/// Others may list it, because a person may point REACHBACK_HOME at a folder
/// of theirs; the files inside are 0600 whatever the directory says.
pub(crate) fn state_dir(path: &Path) -> Result<(), AccessError> {
    if let Some(parent) = path.parent() {
        imp::create_dirs(parent).map_err(AccessError::io(parent))?;
    }
    let metadata = create_or_stat(path, |p| std::fs::metadata(p))?;
    check_owner(path, &metadata, imp::uid())?;
    check_mode(path, &metadata, 0o022, "go-w", false)
}

/// Makes a directory that only this user may enter.
pub(crate) fn create_dir(path: &Path) -> io::Result<()> {
    imp::create_dir(path)
}

/// Makes or checks a directory that sockets live in: this user's, no link, and nobody else enters it.
pub(crate) fn private_dir(path: &Path) -> Result<(), AccessError> {
    // Not followed: in a shared temp folder a link could lead anywhere.
    let metadata = create_or_stat(path, |p| std::fs::symlink_metadata(p))?;
    check_owner(path, &metadata, imp::uid())?;
    check_mode(path, &metadata, 0o077, "0700", false)
}

fn create_or_stat(path: &Path, stat: impl FnOnce(&Path) -> io::Result<Metadata>) -> Result<Metadata, AccessError> {
    match imp::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(AccessError::io(path)(error)),
        _ => {}
    }
    let metadata = stat(path).map_err(AccessError::io(path))?;
    if !metadata.is_dir() {
        return Err(AccessError::NotADirectory { path: path.to_owned() });
    }
    Ok(metadata)
}

/// Refuses an open file of keys that is not this user's, or that others can read or write.
///
/// Takes the open file, not its name, so that what was checked is what is read.
pub(crate) fn check_secret_file(file: &File, path: &Path) -> Result<(), AccessError> {
    let metadata = file.metadata().map_err(AccessError::io(path))?;
    check_owner(path, &metadata, imp::uid())?;
    check_mode(path, &metadata, 0o077, "0600", true)
}

/// Lets only this user read and write `path`.
pub(crate) fn restrict(path: &Path) -> Result<(), AccessError> {
    imp::restrict(path).map_err(AccessError::io(path))
}

/// What there is at a path, links followed; refused when another user owns it.
pub(crate) fn stat_ours(path: &Path) -> Result<Metadata, AccessError> {
    let metadata = std::fs::metadata(path).map_err(AccessError::io(path))?;
    check_owner(path, &metadata, imp::uid())?;
    Ok(metadata)
}

/// Whether other users may read a file in a folder, as far as these two say.
pub(crate) fn is_readable_by_others(file: &Metadata, folder: &Metadata) -> bool {
    let has = |metadata, bits| imp::owner_and_mode(metadata).is_some_and(|(_, mode)| mode & bits != 0);
    has(file, 0o044) && has(folder, 0o011)
}

/// Who owns it, where there are users.
pub(super) fn owner(metadata: &Metadata) -> Option<u32> {
    imp::owner_and_mode(metadata).map(|(owner, _)| owner)
}

/// Refuses what another user owns.
pub(super) fn check_owner(path: &Path, metadata: &Metadata, wanted: u32) -> Result<(), AccessError> {
    match imp::owner_and_mode(metadata) {
        Some((owner, _)) if owner != wanted => Err(AccessError::NotOurs { path: path.to_owned(), owner, wanted }),
        _ => Ok(()),
    }
}

fn check_mode(
    path: &Path,
    metadata: &Metadata,
    forbidden: u32,
    fix: &'static str,
    secret: bool,
) -> Result<(), AccessError> {
    match imp::owner_and_mode(metadata) {
        Some((_, mode)) if mode & forbidden != 0 => {
            Err(AccessError::Exposed { path: path.to_owned(), mode, fix, secret })
        }
        _ => Ok(()),
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn chmod(path: &Path, mode: u32) {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_private_dir_is_made_0700_and_refused_when_open_or_a_link_or_a_file() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("run");
        private_dir(&dir).unwrap();
        private_dir(&dir).unwrap();
        assert_eq!(std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);

        chmod(&dir, 0o750);
        let error = private_dir(&dir).unwrap_err();
        assert!(error.to_string().contains("chmod 0700"), "{error}");

        chmod(&dir, 0o700);
        let link = temp.path().join("link");
        symlink(&dir, &link).unwrap();
        assert!(matches!(private_dir(&link), Err(AccessError::NotADirectory { .. })));

        let file = temp.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(matches!(private_dir(&file), Err(AccessError::NotADirectory { .. })));
    }

    #[test]
    fn a_state_dir_may_be_listed_by_others_but_not_written() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("a/b/home");
        state_dir(&dir).unwrap();
        // Those on the way to it, too: under a loose umask others could put another folder in its place.
        for made in ["a", "a/b", "a/b/home"] {
            let mode = std::fs::metadata(temp.path().join(made)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{made}");
        }
        chmod(&dir, 0o755);
        state_dir(&dir).unwrap();
        chmod(&dir, 0o775);
        assert!(matches!(state_dir(&dir), Err(AccessError::Exposed { mode: 0o775, .. })));
    }

    #[test]
    fn a_path_of_another_user_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let metadata = std::fs::metadata(temp.path()).unwrap();
        check_owner(temp.path(), &metadata, imp::uid()).unwrap();
        let error = check_owner(temp.path(), &metadata, imp::uid() + 1).unwrap_err();
        assert!(matches!(error, AccessError::NotOurs { .. }), "{error}");
    }
}
