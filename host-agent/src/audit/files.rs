//! Where lines are kept, and how files rotate.
//!
//! A file that has reached its size becomes number 1, and older ones move up; a few are kept. A crash can leave a last line
//! without its end; readers skip it, and the next line begins on a new one.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use reachback_proto::ids::DeviceId;
use serde::Serialize;

use super::AuditError;
use super::line::{Entry, What};
use crate::platform::files;
use crate::state::host_dir;

/// How large a file becomes, and how many older ones are kept beside it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub(super) rotate_at: u64,
    pub(super) keep: u32,
}

/// The sizes of all kinds of files.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub(super) owner: Size,
    pub(super) changes: Size,
    pub(super) actions: Size,
    pub(super) refusals: Size,
}

/// A line has some 250 bytes. The owner's: 70,000 lines. A device's, together 5 MiB: 16,000 actions, and 2,000 of each other kind.
pub(super) const SIZES: Sizes = Sizes {
    owner: Size { rotate_at: 2 << 20, keep: 8 },
    changes: Size { rotate_at: 256 << 10, keep: 1 },
    actions: Size { rotate_at: 1 << 20, keep: 3 },
    refusals: Size { rotate_at: 256 << 10, keep: 1 },
};

/// Devices that are on the list no more, of which files are kept.
pub(super) const FORMER: usize = 32;
/// Most older files of a kind that are looked for: as many as earlier builds kept, and no kind keeps more.
const MOST_KEPT: u32 = 8;

/// A kind of file, and whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Book {
    /// Everything, as earlier builds wrote it.
    Old,
    /// What the owner did.
    Owner,
    /// What a device changed about devices or the computer's sleep, and what was ended of its work.
    Changes(DeviceId),
    /// What passed for a device.
    Actions(DeviceId),
    /// What was refused to a device.
    Refusals(DeviceId),
}

impl Book {
    /// Where a line belongs.
    pub(super) fn of(entry: &Entry) -> Self {
        match (&entry.what, entry.by) {
            (What::Action { decision, .. }, _) if matches!(&**decision, "refused" | "withheld") => {
                Self::Refusals(entry.device_id)
            }
            (What::Action { .. }, _) => Self::Actions(entry.device_id),
            (What::WorkEnded { .. }, _) => Self::Changes(entry.device_id),
            (_, Some(by)) => Self::Changes(by),
            (_, None) => Self::Owner,
        }
    }

    /// The current file is number 0.
    pub(super) fn file(self, folder: &Path, number: u32) -> PathBuf {
        let name = match self {
            Self::Old => "audit".to_owned(),
            Self::Owner => "owner".to_owned(),
            Self::Changes(device) => format!("changes.{device}"),
            Self::Actions(device) => format!("actions.{device}"),
            Self::Refusals(device) => format!("refusals.{device}"),
        };
        match number {
            0 => folder.join(format!("{name}.jsonl")),
            n => folder.join(format!("{name}.{n}.jsonl")),
        }
    }

    /// All files of this kind, oldest first, whether or not they are there.
    pub(super) fn files(self, folder: &Path) -> impl Iterator<Item = PathBuf> {
        (0..=MOST_KEPT).rev().map(move |number| self.file(folder, number))
    }

    /// The kinds of a device.
    pub(super) fn all_of(device: DeviceId) -> [Self; 3] {
        [Self::Changes(device), Self::Actions(device), Self::Refusals(device)]
    }

    fn size(self, sizes: Sizes) -> Size {
        match self {
            Self::Old | Self::Owner => sizes.owner,
            Self::Changes(_) => sizes.changes,
            Self::Actions(_) => sizes.actions,
            Self::Refusals(_) => sizes.refusals,
        }
    }
}

/// The folder of a home's log.
pub(super) fn folder(home: &Path) -> PathBuf {
    host_dir(home).join("audit")
}

/// The devices of which there are files, and when something was last written to one.
pub(super) fn devices(folder: &Path) -> Result<HashMap<DeviceId, SystemTime>, AuditError> {
    let io = |source| AuditError::Io { path: folder.to_owned(), source };
    let mut devices = HashMap::new();
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(devices),
        entries => entries.map_err(io)?,
    };
    for entry in entries {
        let entry = entry.map_err(io)?;
        let name = entry.file_name();
        let mut parts = name.to_str().unwrap_or_default().split('.');
        if !matches!(parts.next(), Some("changes" | "actions" | "refusals")) {
            continue;
        }
        let Some(device) = parts.next().and_then(|text| text.parse().ok()) else { continue };
        // Gone in this moment, when it rotated.
        let written = entry.metadata().and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        let latest = devices.entry(device).or_insert(written);
        *latest = written.max(*latest);
    }
    Ok(devices)
}

/// How long a file stays open for the lines that follow. Opening it, and looking how it ends, costs more than a line does.
/// Who takes the file away, or puts another in its place, is heeded after that.
const OPEN_FOR: Duration = Duration::from_secs(1);

/// The files of one home's log, for who writes them.
#[derive(Debug)]
pub(super) struct Files {
    folder: PathBuf,
    sizes: Sizes,
    last: Option<OpenBook>,
}

/// The file that was written last.
#[derive(Debug)]
struct OpenBook {
    book: Book,
    file: File,
    /// In bytes. Nobody else writes to it: the agent has the home's lock.
    length: u64,
    since: Instant,
}

impl Files {
    pub(super) fn open(home: &Path, sizes: Sizes) -> Result<Self, AuditError> {
        let folder = folder(home);
        for dir in [home, &host_dir(home), &folder] {
            files::state_dir(dir)?;
        }
        // Whether it can be written is better known now than at the first action.
        open(&Book::Owner.file(&folder, 0))?;
        Ok(Self { folder, sizes, last: None })
    }

    pub(super) fn append(&mut self, book: Book, line: &impl Serialize) -> Result<(), AuditError> {
        let mut bytes = serde_json::to_vec(line).expect("lines have string keys");
        bytes.push(b'\n');
        let size = book.size(self.sizes);
        let mut open = self.opened(book)?;
        if open.length > 0 && open.length + bytes.len() as u64 > size.rotate_at {
            drop(open);
            self.rotate(book, size.keep).map_err(|source| self.failed(book, source))?;
            open = self.opened(book)?;
        }
        if let Err(source) = open.file.write_all(&bytes) {
            // Half a line on a full disk must not swallow the next one.
            let _ = open.file.set_len(open.length);
            return Err(self.failed(book, source));
        }
        open.length += bytes.len() as u64;
        // Nobody is let in unless it can be read that they were: the owner's file is looked for each time.
        self.last = matches!(book, Book::Actions(_) | Book::Refusals(_)).then_some(open);
        Ok(())
    }

    /// The file of a book: the one that is open, where that is the one.
    fn opened(&mut self, book: Book) -> Result<OpenBook, AuditError> {
        match self.last.take().filter(|open| open.book == book && open.since.elapsed() < OPEN_FOR) {
            Some(open) => Ok(open),
            None => {
                let (file, length) = open(&book.file(&self.folder, 0))?;
                Ok(OpenBook { book, file, length, since: Instant::now() })
            }
        }
    }

    fn failed(&self, book: Book, source: io::Error) -> AuditError {
        AuditError::Io { path: book.file(&self.folder, 0), source }
    }

    fn rotate(&self, book: Book, keep: u32) -> io::Result<()> {
        for number in (0..keep).rev() {
            match fs::rename(book.file(&self.folder, number), book.file(&self.folder, number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) fn forget_former(&mut self, is_listed: impl Fn(DeviceId) -> bool) -> Result<(), AuditError> {
        self.last = None;
        let mut former: Vec<_> = devices(&self.folder)?.into_iter().filter(|(device, _)| !is_listed(*device)).collect();
        former.sort_unstable_by_key(|(_, written)| std::cmp::Reverse(*written));
        let gone = former.into_iter().skip(FORMER).flat_map(|(device, _)| Book::all_of(device));
        for path in gone.flat_map(|book| book.files(&self.folder)) {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(AuditError::Io { path, source: error });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// A file to append to, and its length; made where there is none, and with an end after its last line.
fn open(path: &Path) -> Result<(File, u64), AuditError> {
    let open = || {
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
        let mut length = file.metadata()?.len();
        if length > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != [b'\n'] {
                file.write_all(b"\n")?;
                length += 1;
            }
        }
        Ok((file, length))
    };
    let (file, length) = open().map_err(|source| AuditError::Io { path: path.to_owned(), source })?;
    if length == 0 {
        files::restrict(path)?;
    }
    Ok((file, length))
}
