//! A file that gets one more line for whatever happens, each flushed to the disk before what it says happens.
//!
//! It begins with a line of its own, the head, that has a `version`. Whoever keeps the file knows which of its lines
//! still hold, and writes it anew with those when the agent starts, and when most of it is of the past.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::atomic::FileError;
use crate::platform::files;

/// A line is not longer, in bytes.
const MAX_LINE: usize = 4096;
/// The file is written anew when so many bytes of it, and at least half, are of the past.
const REWRITE_AT: u64 = 1 << 20;

/// A file that is open for more lines.
#[derive(Debug)]
pub(super) struct LineFile<H> {
    path: PathBuf,
    head: H,
    file: File,
    size: u64,
    /// As it was when it was written anew.
    compact: u64,
}

/// What a file holds.
pub(super) enum Read<H, L> {
    /// Its lines in the order in which they were written.
    Whole { head: H, lines: Vec<L> },
    /// A line of it is none, and not because the agent was killed while it wrote the last one.
    Damaged,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// Reads a file, if there is one. One of a newer version than `known` is an error.
pub(super) fn read<H: DeserializeOwned, L: DeserializeOwned>(
    path: &Path,
    known: u32,
) -> Result<Option<Read<H, L>>, FileError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(FileError::io("read", path))?,
    };
    files::check_secret_file(&file, path)?;
    let mut lines = BufReader::new(file).split(b'\n').peekable();
    let mut next = || -> Result<Option<(Vec<u8>, bool)>, FileError> {
        let line = lines.next().transpose().map_err(FileError::io("read", path))?;
        Ok(line.map(|line| (line, lines.peek().is_none())))
    };
    let (first, _) = next()?.unwrap_or_default();
    let (Ok(Version { version }), Ok(head)) = (serde_json::from_slice(&first), serde_json::from_slice(&first)) else {
        return Ok(Some(Read::Damaged));
    };
    if version > known {
        return Err(FileError::Version { path: path.to_owned(), found: version, known });
    }
    let mut whole = Vec::new();
    while let Some((line, is_last)) = next()? {
        match serde_json::from_slice(&line) {
            Ok(read) if line.len() <= MAX_LINE => whole.push(read),
            // The agent was killed while it wrote: what the line would have said has not happened.
            _ if is_last => {}
            _ => return Ok(Some(Read::Damaged)),
        }
    }
    Ok(Some(Read::Whole { head, lines: whole }))
}

/// Keeps a damaged file beside the one that begins anew in its place.
pub(super) fn put_aside(path: &Path) -> Result<(), FileError> {
    std::fs::rename(path, path.with_extension("damaged")).map_err(FileError::io("write", path))
}

impl<H: Serialize> LineFile<H> {
    /// Puts a file with these lines in the place of what is there.
    pub(super) fn write<'a, L: Serialize + 'a>(
        path: &Path,
        head: H,
        lines: impl IntoIterator<Item = &'a L>,
    ) -> Result<Self, FileError> {
        let (file, size) = whole(path, &head, lines).map_err(FileError::io("write", path))?;
        Ok(Self { path: path.to_owned(), head, file, size, compact: size })
    }

    /// Adds a line, and flushes it. One that the disk does not take leaves the file as it was.
    pub(super) fn append(&mut self, line: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(line)?;
        line.push(b'\n');
        let written = self.file.write_all(&line).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            tracing::error!(%error, path = %self.path.display(), "a line can't be written");
            // Half a line must not swallow the next one.
            let _ = self.file.set_len(self.size);
            return Err(error);
        }
        self.size += line.len() as u64;
        Ok(())
    }

    /// Makes the file shorter where most of it is of the past; `lines` are those that hold.
    pub(super) fn tidy<'a, L: Serialize + 'a>(&mut self, lines: impl IntoIterator<Item = &'a L>) {
        if self.size <= REWRITE_AT.max(2 * self.compact) {
            return;
        }
        // What is in it now holds, also where it can't be made shorter.
        match whole(&self.path, &self.head, lines) {
            Ok((file, size)) => (self.file, self.size, self.compact) = (file, size, size),
            Err(error) => tracing::warn!(%error, path = %self.path.display(), "the file could not be made shorter"),
        }
    }
}

/// Writes a file, and opens it for more lines; gives its size, too.
fn whole<'a, L: Serialize + 'a>(
    path: &Path,
    head: &impl Serialize,
    lines: impl IntoIterator<Item = &'a L>,
) -> io::Result<(File, u64)> {
    let mut text = serde_json::to_vec(head)?;
    text.push(b'\n');
    for line in lines {
        serde_json::to_writer(&mut text, line)?;
        text.push(b'\n');
    }
    super::atomic::write(path, &text).map_err(io::Error::other)?;
    Ok((OpenOptions::new().append(true).open(path)?, text.len() as u64))
}

#[cfg(test)]
impl<H> LineFile<H> {
    /// Has it look as if so much of it were of the past.
    pub(super) fn has_grown(&mut self) {
        self.size = REWRITE_AT;
    }

    /// Has every line fail, as on a full disk.
    pub(super) fn is_full(&mut self) {
        self.file = File::open(&self.path).expect("it is there");
    }
}
