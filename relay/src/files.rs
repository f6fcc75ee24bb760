//! Files that only the relay's user may read.
//!
//! A file is complete or absent: it is written beside its place, flushed,
//! and moved there, and the directory is flushed too, so a power cut leaves the
//! old file or the new one.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Creates `dir` for this user only. An existing directory that others can open is an error that says what to do.
pub(crate) fn private_dir(dir: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    unix::owner_only_dir(&mut builder);
    builder.create(dir)?;
    unix::refuse_open_dir(dir)
}

/// Writes `path`, replacing what was there.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = write_beside(path, content)?;
    fs::rename(&temporary, path).inspect_err(|_| discard(&temporary))?;
    sync_parent(path)
}

/// Writes `path` unless it exists; then the error is `AlreadyExists`.
pub(crate) fn create_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = write_beside(path, content)?;
    // A hard link, unlike a rename, never replaces a file that came meanwhile.
    let linked = fs::hard_link(&temporary, path);
    discard(&temporary);
    linked?;
    sync_parent(path)
}

fn write_beside(path: &Path, content: &[u8]) -> io::Result<PathBuf> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    unix::owner_only_file(&mut options);
    let written = options.open(&temporary).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()
    });
    written.inspect_err(|_| discard(&temporary))?;
    Ok(temporary)
}

fn discard(temporary: &Path) {
    if let Err(error) = fs::remove_file(temporary) {
        tracing::warn!(path = %temporary.display(), %error, "a temporary file could not be removed");
    }
}

fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(dir) if cfg!(unix) => File::open(dir)?.sync_all(),
        _ => Ok(()),
    }
}

#[cfg(unix)]
mod unix {
    use std::fs::{DirBuilder, OpenOptions};
    use std::io;
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
    use std::path::Path;

    use reachback_proto::words::shell_word;

    pub(super) fn owner_only_dir(builder: &mut DirBuilder) {
        builder.mode(0o700);
    }

    pub(super) fn owner_only_file(options: &mut OpenOptions) {
        options.mode(0o600);
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
    use std::fs::{DirBuilder, OpenOptions};
    use std::io;
    use std::path::Path;

    pub(super) fn owner_only_dir(_: &mut DirBuilder) {}

    pub(super) fn owner_only_file(_: &mut OpenOptions) {}

    pub(super) fn refuse_open_dir(_: &Path) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

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
