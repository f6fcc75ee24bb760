//! The host's audit log: every changing action from afar, and every change of who may act, and where.
//!
//! One JSON object a line in `host/audit/audit.jsonl`, for this user only. A line
//! is written *before* its action passes to Codex; when it can't be written the
//! action does not pass, so nothing happens from afar without a trace. Lines hold
//! methods, ids, decisions and the paths of workspaces, never text of prompts, commands or files.
//!
//! At [`ROTATE_AT`] the file becomes `audit.1.jsonl` and older ones move up;
//! [`KEEP`] are kept. A crash can leave a last line without its end; readers skip
//! it, and the next line begins on a new one.

mod line;

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

pub use line::{Entry, FolderChange, FolderEntry, Line, What};

use crate::platform::files::{self, AccessError};
use crate::state::host_dir;

/// Bytes at which a file is put aside: some 30,000 lines.
pub const ROTATE_AT: u64 = 8 << 20;
/// Files kept beside the current one.
pub const KEEP: u32 = 8;
/// Longest line that is read back. None that is written is as long: a path has 4096 bytes, of which each may take six.
const MAX_LINE: u64 = 32 * 1024;

/// The log could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// The folder.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// A file.
    #[error("the audit log {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The log of one home. The agent writes it, under the home's lock.
#[derive(Debug)]
pub struct AuditLog {
    folder: PathBuf,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    file: File,
    size: u64,
    rotate_at: u64,
}

impl AuditLog {
    /// Opens the log of a home, and makes it where there is none.
    pub fn open(home: &Path) -> Result<Self, AuditError> {
        Self::open_with(home, ROTATE_AT)
    }

    fn open_with(home: &Path, rotate_at: u64) -> Result<Self, AuditError> {
        let folder = folder(home);
        for dir in [home, &host_dir(home), &folder] {
            files::state_dir(dir)?;
        }
        let current = Mutex::new(open_current(&folder, rotate_at)?);
        Ok(Self { folder, current })
    }

    /// Writes a line. It has reached the system when this returns: a crash of the agent does not lose it.
    ///
    /// Blocks for as long as one small write takes.
    pub fn write(&self, entry: &Entry) -> Result<(), AuditError> {
        self.append(entry)
    }

    /// The same about a folder.
    pub fn write_folder(&self, entry: &FolderEntry) -> Result<(), AuditError> {
        self.append(entry)
    }

    fn append(&self, entry: &impl Serialize) -> Result<(), AuditError> {
        let mut line = serde_json::to_vec(entry).expect("entries have string keys");
        line.push(b'\n');
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.size + line.len() as u64 > current.rotate_at {
            let rotate_at = current.rotate_at;
            rotate(&self.folder).map_err(|source| AuditError::Io { path: self.folder.clone(), source })?;
            *current = open_current(&self.folder, rotate_at)?;
        }
        let wrote = current.file.write_all(&line);
        // Half a line on a full disk must not swallow the next one.
        if wrote.is_err() {
            let _ = current.file.set_len(current.size);
        }
        wrote.map_err(|source| AuditError::Io { path: file(&self.folder, 0), source })?;
        current.size += line.len() as u64;
        Ok(())
    }
}

/// Every line of a home's log that can be read, oldest first, and how many could not.
pub fn read(home: &Path) -> Result<(Vec<Line>, usize), AuditError> {
    let folder = folder(home);
    let (mut entries, mut skipped) = (Vec::new(), 0);
    for number in (0..=KEEP).rev() {
        let path = file(&folder, number);
        let io = |source| AuditError::Io { path: path.clone(), source };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(io(error)),
        };
        let mut reader = BufReader::new(file);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = (&mut reader).take(MAX_LINE).read_until(b'\n', &mut line).map_err(io)?;
            if read == 0 {
                break;
            }
            match serde_json::from_slice(&line) {
                Ok(entry) => entries.push(entry),
                Err(_) => skipped += 1,
            }
        }
    }
    Ok((entries, skipped))
}

fn folder(home: &Path) -> PathBuf {
    host_dir(home).join("audit")
}

/// The current file is number 0.
fn file(folder: &Path, number: u32) -> PathBuf {
    match number {
        0 => folder.join("audit.jsonl"),
        n => folder.join(format!("audit.{n}.jsonl")),
    }
}

fn open_current(folder: &Path, rotate_at: u64) -> Result<Current, AuditError> {
    let path = file(folder, 0);
    let open = || {
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(&path)?;
        let mut size = file.metadata()?.len();
        if size > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != [b'\n'] {
                file.write_all(b"\n")?;
                size += 1;
            }
        }
        Ok(Current { file, size, rotate_at })
    };
    let current = open().map_err(|source| AuditError::Io { path: path.clone(), source })?;
    files::restrict(&path)?;
    Ok(current)
}

fn rotate(folder: &Path) -> io::Result<()> {
    for number in (0..KEEP).rev() {
        match fs::rename(file(folder, number), file(folder, number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
