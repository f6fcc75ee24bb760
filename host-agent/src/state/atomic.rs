//! Files that are whole or absent.
//!
//! A write goes to a temporary file in the same directory, is flushed to the
//! disk, takes the place of the old file by a rename, and the rename is
//! flushed too. A crash in between leaves a temporary file, which nothing reads
//! and [`sweep`] removes: it may hold keys of a device revoked since.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::platform::files::{self, AccessError};

/// Largest file read, in bytes. A full device list, 256 devices at under 700 B, is 180 KiB.
pub const MAX_FILE: usize = 1024 * 1024;

/// What temporary files are called, so that they are told from files that are meant to stay.
const TEMP_PREFIX: &str = ".reachback-tmp-";

/// Why a file could not be read or written. The file itself was not touched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// This user may not.
    #[error("not allowed to {doing} {}: run as the user who owns it, or give it back with `chown`", path.display())]
    Denied {
        /// "read" or "write".
        doing: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// The operating system says no.
    #[error("can't {doing} {}", path.display())]
    Io {
        /// "read" or "write".
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Others can read it, or own it.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// Over [`MAX_FILE`].
    #[error("{} is larger than {MAX_FILE} bytes, so it is not ours: move it away, or restore it from a backup", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Not JSON, or not what should be in it.
    #[error("{} is damaged and was left as it is: restore it from a backup, or move it away to start anew (its pairings are lost then)", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where and what.
        source: serde_json::Error,
    },
    /// JSON that says something impossible.
    #[error("{} is damaged and was left as it is: {what}; restore it from a backup, or move it away", path.display())]
    Inconsistent {
        /// The file.
        path: PathBuf,
        /// What is impossible about it.
        what: String,
    },
    /// Another build wrote it.
    #[error("{} has version {found}, and this build knows version {known}: use the newer build of Reachback", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version in it.
        found: u32,
        /// The version wanted.
        known: u32,
    },
}

impl FileError {
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::PermissionDenied => Self::Denied { doing, path },
            _ => Self::Io { doing, path, source },
        }
    }
}

/// A kind of file, and the version of it that this build writes and reads.
pub(super) trait Document: Serialize + DeserializeOwned {
    /// Goes up when an older build would misread the file.
    const VERSION: u32;
}

#[derive(Serialize)]
struct Versioned<'a, T> {
    version: u32,
    #[serde(flatten)]
    body: &'a T,
}

#[derive(Deserialize)]
struct Head {
    version: u32,
}

/// Replaces `path` by this document.
pub(super) fn save<T: Document>(path: &Path, body: &T) -> Result<(), FileError> {
    let versioned = Versioned { version: T::VERSION, body };
    // Room for any usual file: a buffer that grows leaves copies of keys behind.
    let mut json = Zeroizing::new(Vec::with_capacity(64 * 1024));
    serde_json::to_writer_pretty(&mut *json, &versioned)
        .map_err(|source| FileError::Damaged { path: path.to_owned(), source })?;
    json.push(b'\n');
    write(path, &json)
}

/// The document at `path`; `None` when there is no such file.
pub(super) fn load<T: Document>(path: &Path) -> Result<Option<T>, FileError> {
    let Some(json) = read(path)? else { return Ok(None) };
    let damaged = |source| FileError::Damaged { path: path.to_owned(), source };
    // The version first: what another version holds is not for this build to judge.
    let Head { version } = serde_json::from_slice(&json).map_err(damaged)?;
    if version != T::VERSION {
        return Err(FileError::Version { path: path.to_owned(), found: version, known: T::VERSION });
    }
    serde_json::from_slice(&json).map(Some).map_err(damaged)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let failed = |source| FileError::io("write", path)(source);
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut temp = tempfile::Builder::new().prefix(TEMP_PREFIX).tempfile_in(dir).map_err(failed)?;
    files::restrict(temp.path())?;
    temp.write_all(bytes).map_err(failed)?;
    temp.as_file().sync_all().map_err(failed)?;
    temp.persist(path).map_err(|error| failed(error.error))?;
    files::sync_dir(dir).map_err(failed)
}

fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, FileError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(FileError::io("read", path))?,
    };
    files::check_secret_file(&file, path)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(64 * 1024));
    file.take(MAX_FILE as u64 + 1).read_to_end(&mut bytes).map_err(FileError::io("read", path))?;
    if bytes.len() > MAX_FILE {
        return Err(FileError::TooLarge { path: path.to_owned() });
    }
    Ok(Some(bytes))
}

/// Removes temporary files that a crash left in `dir`, if they are at least `age` old.
///
/// Where several processes write, an age keeps this one from taking another's
/// file away in the middle. What can't be removed stays: nothing reads it.
pub fn sweep(dir: &Path, age: Duration, now: SystemTime) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let old = || now.duration_since(entry.metadata()?.modified()?).map_err(io::Error::other);
        let ours = entry.file_name().to_string_lossy().starts_with(TEMP_PREFIX);
        if ours && (age.is_zero() || old().is_ok_and(|old| old >= age)) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Note {
        text: String,
    }

    impl Document for Note {
        const VERSION: u32 = 2;
    }

    fn note(text: &str) -> Note {
        Note { text: text.into() }
    }

    /// Writes a file as an editor would, but private.
    fn put(path: &Path, text: &str) {
        std::fs::write(path, text).unwrap();
        files::restrict(path).unwrap();
    }

    #[test]
    fn a_document_comes_back_and_leaves_nothing_else_behind() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("note.json");
        assert_eq!(load::<Note>(&path).unwrap(), None);
        save(&path, &note("one")).unwrap();
        save(&path, &note("two")).unwrap();
        assert_eq!(load(&path).unwrap(), Some(note("two")));
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 1);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn what_a_crash_left_is_ignored_and_swept() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("note.json");
        save(&path, &note("whole")).unwrap();
        let leftover = temp.path().join(".reachback-tmp-x1y2z3");
        put(&leftover, r#"{"version":2,"te"#);
        assert_eq!(load(&path).unwrap(), Some(note("whole")));

        sweep(temp.path(), Duration::from_secs(3600), SystemTime::now());
        assert!(leftover.exists(), "another process may still write it");
        sweep(temp.path(), Duration::from_secs(3600), SystemTime::now() + Duration::from_secs(3601));
        assert!(!leftover.exists());
        assert_eq!(load(&path).unwrap(), Some(note("whole")));
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_temporary_one() {
        let temp = tempfile::tempdir().unwrap();
        // The rename fails: a directory is in its place.
        let path = temp.path().join("note.json");
        std::fs::create_dir_all(path.join("in the way")).unwrap();
        assert!(matches!(save(&path, &note("x")), Err(FileError::Io { doing: "write", .. })));
        assert!(path.join("in the way").exists());
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 1);
    }

    #[test]
    fn damaged_large_and_newer_files_are_reported_with_their_path() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("note.json");
        let refused = |text: &str| {
            put(&path, text);
            let error = load::<Note>(&path).unwrap_err();
            assert!(error.to_string().contains("note.json"), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "the file was changed");
            error
        };
        assert!(matches!(refused(""), FileError::Damaged { .. }));
        assert!(matches!(refused(r#"{"version":2,"#), FileError::Damaged { .. }));
        assert!(matches!(refused(r#"{"version":2}"#), FileError::Damaged { .. }));
        assert!(matches!(refused(r#"{"version":3,"new":1}"#), FileError::Version { found: 3, known: 2, .. }));
        assert!(matches!(refused(&" ".repeat(MAX_FILE + 1)), FileError::TooLarge { .. }));
    }

    #[test]
    fn a_denied_file_says_what_to_do() {
        let error = FileError::io("read", Path::new("/x/host.json"))(io::ErrorKind::PermissionDenied.into());
        assert!(error.to_string().contains("chown"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("note.json");
        save(&path, &note("secret")).unwrap();
        for mode in [0o640, 0o604, 0o620] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let error = load::<Note>(&path).unwrap_err();
            assert!(matches!(error, FileError::Access(AccessError::Exposed { .. })), "{mode:o}: {error}");
            assert!(error.to_string().contains("chmod 0600"), "{error}");
        }
    }
}
