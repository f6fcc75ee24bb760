//! Files that only this user may read.
//!
//! A file is complete or absent: it is written beside its place, flushed,
//! and moved there, and the directory is flushed too, so a power cut leaves the
//! old file or the new one.

use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::path::Path;

use tempfile::NamedTempFile;

/// What files that are being written are called, so that they are told from files that are meant to stay: a crash leaves
/// one behind, and it may hold a key.
pub const TEMP_PREFIX: &str = ".reachback-tmp-";

/// Creates `dir` for this user only. An existing directory that others can open is an error that says what to do.
pub(crate) fn private_dir(dir: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    unix::owner_only_dir(&mut builder);
    builder.create(dir)?;
    unix::refuse_open_dir(dir)
}

/// Writes `path` for this user only, replacing what was there.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    write_beside(path, content)?.persist(path)?;
    sync_parent(path)
}

/// Writes `path` for this user only unless it exists; then the error is `AlreadyExists`.
pub(crate) fn create_new(path: &Path, content: &[u8]) -> io::Result<()> {
    write_beside(path, content)?.persist_noclobber(path)?;
    sync_parent(path)
}

/// On Unix only this user can read what `tempfile` makes, from the start on.
fn write_beside(path: &Path, content: &[u8]) -> io::Result<NamedTempFile> {
    let mut file = tempfile::Builder::new().prefix(TEMP_PREFIX).tempfile_in(parent(path))?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// Makes it survive a power cut that `path` was put in its folder, or removed from it. Elsewhere than on Unix a folder
/// can't be flushed; NTFS journals renames.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(parent(path))?.sync_all() } else { Ok(()) }
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(unix)]
mod unix {
    use std::fs::DirBuilder;
    use std::io;
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    use std::path::Path;

    use reachback_proto::words::shell_word;

    pub(super) fn owner_only_dir(builder: &mut DirBuilder) {
        builder.mode(0o700);
    }

    pub(super) fn refuse_open_dir(dir: &Path) -> io::Result<()> {
        let mode = std::fs::metadata(dir)?.permissions().mode() & 0o777;
        if mode & 0o077 == 0 {
            return Ok(());
        }
        let what = format!("others may enter it (mode {mode:o}); run `chmod 700 {}`", shell_word(dir.display()));
        Err(io::Error::new(io::ErrorKind::PermissionDenied, what))
    }
}

#[cfg(not(unix))]
mod unix {
    use std::fs::DirBuilder;
    use std::io;
    use std::path::Path;

    pub(super) fn owner_only_dir(_: &mut DirBuilder) {}

    pub(super) fn refuse_open_dir(_: &Path) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn files_are_private_complete_and_not_replaced_by_create_new() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        create_new(&path, b"one").unwrap();
        assert_eq!(create_new(&path, b"two").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        replace(&path, b"three").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "a temporary file was left");
    }

    #[test]
    fn a_directory_that_others_may_enter_is_refused_with_the_command_that_helps() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        private_dir(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(private_dir(&path).unwrap_err().to_string().contains("chmod 700"));
    }
}
