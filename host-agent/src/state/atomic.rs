//! Files that are whole or absent.
//!
//! A write goes to a temporary file in the same directory, is flushed to the
//! disk, takes the place of the old file by a rename, and the rename is
//! flushed too. A crash in between leaves a temporary file, which nothing reads
//! and [`sweep`] removes: it may hold keys of a device revoked since.
//!
//! Each kind of file has a version ([`Document`]). An older one is brought up to
//! date in memory when it is read; the file stays as it is until the next change,
//! which replaces it whole like any other. Reading therefore never writes: many
//! commands read beside a running agent, without its lock, and an upgrade that
//! is undone before anything changed has lost nothing. The old file is not kept
//! after that, for it would hold keys of devices revoked since, and let them in
//! again where it is put back. A newer one is refused and left alone.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use reachback_proto::words::quote;
use reachback_relay::files::{TEMP_PREFIX, replace};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::{Zeroize, Zeroizing};

use crate::platform::files::{self, AccessError};

/// Largest file read, in bytes. A full device list, 256 devices at under 700 B, is 180 KiB.
pub(crate) const MAX_FILE: usize = 1024 * 1024;

/// Why a file could not be read or written. The file itself was not touched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// This user may not.
    #[error("not allowed to {doing} {}: run as the user who owns it, or give it back with `chown`", quote(path.display()))]
    Denied {
        /// "read" or "write".
        doing: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// The operating system says no.
    #[error("can't {doing} {}", quote(path.display()))]
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
    #[error("{} is larger than {MAX_FILE} bytes, so it is not ours: move it away, or restore it from a backup", quote(path.display()))]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Not JSON, or not what should be in it.
    #[error("{} is damaged and was left as it is: restore it from a backup, or move it away to start anew (its pairings are lost then)", quote(path.display()))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where and what.
        source: serde_json::Error,
    },
    /// JSON that says something impossible.
    #[error("{} is damaged and was left as it is: {what}; restore it from a backup, or move it away", quote(path.display()))]
    Inconsistent {
        /// The file.
        path: PathBuf,
        /// What is impossible about it.
        what: String,
    },
    /// A newer build wrote it.
    #[error(
        "{} has version {found}, and this Reachback knows versions up to {known}: a newer one wrote it, so update this one; the file was left as it is",
        quote(path.display())
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// The version in it.
        found: u32,
        /// The newest version that can be read.
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

/// A kind of file, the version of it that this build writes, and the way there from older ones.
///
/// `CONTRIBUTING.md` says what belongs to a change.
pub(super) trait Document: Serialize + DeserializeOwned {
    /// Goes up when an older build would misread the file, or drop from it what must not be lost.
    const VERSION: u32;

    /// What version `from + 1` holds where version `from` held `value`: an object, without `version`.
    ///
    /// It is called for each step from the version of a file to [`Self::VERSION`]. An error says what is impossible
    /// about `value`. Move keys rather than copy them: what is returned is wiped, copies are not.
    fn migrate(from: u32, value: Value) -> Result<Value, String> {
        let _ = value;
        Err(format!("there never was a version {from} of it"))
    }
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
    // What JSON can't hold, such as a path that is not text.
    serde_json::to_writer_pretty(&mut *json, &versioned)
        .map_err(|error| FileError::io("write", path)(io::Error::other(error)))?;
    json.push(b'\n');
    write(path, &json)
}

/// The document at `path`; `None` when there is no such file.
pub(super) fn load<T: Document>(path: &Path) -> Result<Option<T>, FileError> {
    let Some(json) = read(path)? else { return Ok(None) };
    let damaged = |source| FileError::Damaged { path: path.to_owned(), source };
    // The version first: what another version holds is not for this build to judge.
    let Head { version } = serde_json::from_slice(&json).map_err(damaged)?;
    match version.cmp(&T::VERSION) {
        Ordering::Equal => serde_json::from_slice(&json).map(Some).map_err(damaged),
        Ordering::Greater => Err(FileError::Version { path: path.to_owned(), found: version, known: T::VERSION }),
        Ordering::Less => {
            let value = serde_json::from_slice(&json).map_err(damaged)?;
            let mut value =
                migrate::<T>(version, value).map_err(|what| FileError::Inconsistent { path: path.to_owned(), what })?;
            let body = T::deserialize(&value);
            wipe(&mut value);
            body.map(Some).map_err(damaged)
        }
    }
}

/// Brings the content of a file of this version to the current one.
fn migrate<T: Document>(version: u32, mut value: Value) -> Result<Value, String> {
    // Steps may index what they get by name.
    value.as_object_mut().ok_or("it is no object")?.remove("version");
    (version..T::VERSION).try_fold(value, |value, from| T::migrate(from, value))
}

/// Overwrites all text: some of it is keys.
fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(values) => values.iter_mut().for_each(wipe),
        Value::Object(members) => members.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    replace(path, bytes).map_err(FileError::io("write", path))
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
pub(crate) fn sweep(dir: &Path, age: Duration, now: SystemTime) {
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

    /// A note that had a `line` in version 1, and may have an author since version 3.
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Letter {
        text: String,
        author: Option<String>,
    }

    impl Document for Letter {
        const VERSION: u32 = 3;

        fn migrate(from: u32, mut value: Value) -> Result<Value, String> {
            match from {
                1 => match value["line"].take() {
                    line @ Value::String(_) => Ok(serde_json::json!({ "text": [line] })),
                    _ => Err("it has no line".into()),
                },
                2 => {
                    let lines = value["text"].as_array().ok_or("its text is no list of lines")?;
                    let lines: Vec<_> = lines.iter().filter_map(Value::as_str).collect();
                    Ok(serde_json::json!({ "text": lines.join("\n"), "author": null }))
                }
                _ => Err(format!("there never was a version {from} of it")),
            }
        }
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
    fn an_older_file_is_brought_up_to_date_and_replaced_by_the_next_change_only() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("letter.json");
        let letter = |text: &str| Letter { text: text.into(), author: None };
        for (old, new) in [
            (r#"{"version":1,"line":"one"}"#, letter("one")),
            (r#"{"version":2,"text":["one","two"]}"#, letter("one\ntwo")),
        ] {
            put(&path, old);
            assert_eq!(load::<Letter>(&path).unwrap(), Some(new));
            assert_eq!(std::fs::read_to_string(&path).unwrap(), old, "reading wrote");
        }
        save(&path, &letter("three")).unwrap();
        let json: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(json, serde_json::json!({ "version": 3, "text": "three", "author": null }));
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 1, "an old file was kept");
    }

    #[test]
    fn versions_that_are_not_known_are_refused_with_what_to_do_and_left_alone() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("letter.json");
        for (text, words) in [
            (r#"{"version":4,"pages":[]}"#, &["version 4", "up to 3", "update"][..]),
            (r#"{"version":0,"text":"x"}"#, &["never was a version 0"]),
            (r#"{"version":2,"text":"x"}"#, &["no list of lines", "backup"]),
            (r#"{"version":1}"#, &["it has no line"]),
            ("[1]", &["no object"]),
            (r#"{"text":"x","author":null}"#, &["damaged"]),
        ] {
            put(&path, text);
            let error = load::<Letter>(&path).unwrap_err();
            let told = error.to_string();
            for word in words.iter().chain(&["letter.json", "left as it is"]) {
                assert!(told.contains(word), "no `{word}` in {told}");
            }
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "the file was changed");
        }
    }

    #[test]
    fn what_was_migrated_leaves_no_text_behind() {
        let mut value = serde_json::json!({ "key": "secret", "more": [{ "psk": "secret" }, 7, null] });
        wipe(&mut value);
        assert_eq!(value, serde_json::json!({ "key": "", "more": [{ "psk": "" }, 7, null] }));
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
