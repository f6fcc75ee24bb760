//! The files of a machine, as its SFTP server shows them: what a path leads to, what a folder holds, what a small
//! file says; and a new file there.

use std::path::Path;
use std::time::Duration;

use futures_util::future::{join, try_join};
use futures_util::{FutureExt, TryStreamExt, stream};
use reachback_proto::words::quote;
use russh_sftp::client::error::Error as Failed;
use russh_sftp::client::{Config, RawSftpSession};
use russh_sftp::protocol::{FileAttributes, OpenFlags, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

use super::connection::Connection;
use super::shell::RunError;
use crate::disk::{Entries, Real};
use crate::firewall::folders::plain;

/// How long the server may take to begin.
const OPEN_PATIENCE: Duration = Duration::from_secs(10);
/// How long it may take to answer, in seconds.
const PATIENCE: u64 = 10;
/// The largest message that is taken from it, in bytes: OpenSSH's own bound.
const MAX_MESSAGE: u32 = 256 * 1024;
/// What is asked for at once, in bytes; every server gives so much.
const CHUNK: u32 = 32 * 1024;
/// How many parts of a file are on their way there at once: 2 MiB fill a line of 160 Mbit/s at 100 ms.
const PARTS: usize = 64;
/// How long the server may take to answer one of them, in seconds: a line of 300 kbit/s carries what comes before it.
const PART_PATIENCE: u64 = 60;
/// How much of its words an error holds, in characters.
const MAX_SAID: usize = 200;

/// What `S_IFMT` of POSIX leaves of a mode, and what that is then.
const KIND: u32 = 0o170_000;
const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// The server does not say what is there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SftpError {
    /// There is none.
    #[error("its SSH server has no SFTP")]
    None,
    /// It can't be opened now.
    #[error(transparent)]
    Run(#[from] RunError),
    /// It takes too long.
    #[error("its SFTP server does not answer")]
    TimedOut,
    /// It has ended, or speaks something else.
    #[error("its SFTP server does not speak as it should")]
    Broken,
    /// It shows something else than the shell does.
    #[error("its SFTP shows other folders than its shell does")]
    OtherFolders,
    /// A file is not to be read.
    #[error("Codex's configuration there can't be read, or is too large")]
    Closed,
    /// A file is not taken.
    #[error("its SFTP server does not take a file{}", said.as_ref().map(|said| format!("; it says {}", quote(said))).unwrap_or_default())]
    NotTaken {
        /// What it says.
        said: Option<String>,
    },
    /// A file of this machine can't be read.
    #[error("the file can't be read on this computer: {0}")]
    Local(#[from] std::io::Error),
}

impl SftpError {
    /// Whether it will be so for as long as the connection holds.
    pub(super) fn stays(&self) -> bool {
        matches!(self, Self::None | Self::OtherFolders | Self::Closed)
    }
}

impl From<Failed> for SftpError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Timeout => Self::TimedOut,
            _ => Self::Broken,
        }
    }
}

/// A session with a machine's SFTP server. Dropping it ends it.
pub struct Sftp {
    session: RawSftpSession,
}

impl std::fmt::Debug for Sftp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sftp").finish_non_exhaustive()
    }
}

impl Connection {
    /// The machine's files.
    pub async fn sftp(&self) -> Result<Sftp, SftpError> {
        let opening = async {
            let stream = self.subsystem("sftp").await.map_err(|error| match error {
                RunError::Refused => SftpError::None,
                error => SftpError::Run(error),
            })?;
            let config = Config { max_packet_len: MAX_MESSAGE, request_timeout_secs: PATIENCE, ..Config::default() };
            let session = RawSftpSession::new_with_config(stream, config);
            // A server that is named in the configuration and not installed ends at once.
            session.init().await.map_err(|failed| match failed {
                Failed::Timeout => SftpError::TimedOut,
                _ => SftpError::None,
            })?;
            Ok(Sftp { session })
        };
        timeout(OPEN_PATIENCE, opening).await.unwrap_or(Err(SftpError::TimedOut))
    }
}

impl Sftp {
    /// What a path leads to; `None` where nothing is there that this user may see.
    pub async fn real(&self, path: &Path) -> Result<Option<Real>, SftpError> {
        let Some(path) = path.to_str() else { return Ok(None) };
        // OpenSSH gives a real path also for what is missing.
        let (real, attrs) = try_join(answer(self.session.realpath(path)), answer(self.session.stat(path))).await?;
        let (Some(real), Some(attrs)) = (real, attrs) else { return Ok(None) };
        let [file] = &real.files[..] else { return Err(SftpError::Broken) };
        let Some(real) = whole(&file.filename).and_then(plain) else { return Ok(None) };
        Ok(Some(Real { path: real, is_dir: is(&attrs.attrs, FOLDER) }))
    }

    /// What a file says, of so many bytes at most; `None` where there is none.
    pub async fn read(&self, path: &Path, most: usize) -> Result<Option<Vec<u8>>, SftpError> {
        let path = path.to_str().ok_or(SftpError::Closed)?;
        let handle = match self.session.open(path, OpenFlags::READ, FileAttributes::empty()).await {
            Ok(handle) => handle.handle,
            Err(Failed::Status(status)) if status.status_code == StatusCode::NoSuchFile => return Ok(None),
            Err(Failed::Status(_)) => return Err(SftpError::Closed),
            Err(failed) => return Err(failed.into()),
        };
        let text = self.read_open(&handle, most).await;
        self.close(handle);
        text.map(Some)
    }

    async fn read_open(&self, handle: &str, most: usize) -> Result<Vec<u8>, SftpError> {
        let (attrs, first) = join(self.session.fstat(handle), answer(self.session.read(handle, 0, CHUNK))).await;
        let attrs = attrs?.attrs;
        let size = attrs.size.and_then(|size| usize::try_from(size).ok()).ok_or(SftpError::Closed)?;
        if !is(&attrs, FILE) || size > most {
            return Err(SftpError::Closed);
        }
        let mut text = Vec::new();
        let mut chunk = first?;
        while let Some(data) = chunk.filter(|data| !data.data.is_empty()) {
            text.extend_from_slice(&data.data);
            if text.len() > most {
                return Err(SftpError::Closed);
            }
            if text.len() >= size {
                break;
            }
            chunk = answer(self.session.read(handle, text.len() as u64, CHUNK)).await?;
        }
        Ok(text)
    }

    /// What may be folders in a folder, and which of them are links; of so many entries at most. `None` where it can't be read.
    pub async fn entries(&self, folder: &Path, most: usize) -> Result<Option<(Entries, Vec<String>)>, SftpError> {
        let Some(folder) = folder.to_str() else { return Ok(None) };
        let Some(handle) = answer(self.session.opendir(folder)).await? else { return Ok(None) };
        let handle = handle.handle;
        let (mut found, mut links, mut read) = (Entries::default(), Vec::new(), 0);
        'reading: while let Some(names) = answer(self.session.readdir(handle.as_str())).await? {
            // A server that says nothing would be asked for ever.
            if names.files.is_empty() {
                break;
            }
            for file in names.files {
                let Some(name) = name(file.filename) else { continue };
                read += 1;
                if read > most {
                    found.more = true;
                    break 'reading;
                }
                if is(&file.attrs, LINK) || file.attrs.permissions.is_none() {
                    links.push(name.clone());
                } else if !is(&file.attrs, FOLDER) {
                    continue;
                }
                found.names.push(name);
            }
        }
        self.close(handle);
        Ok(Some((found, links)))
    }

    /// Writes a new file, for its user alone; `hears` how much of it is there.
    pub(super) async fn upload(
        &self,
        from: impl AsyncRead + Unpin,
        to: &str,
        mut hears: impl FnMut(u64),
    ) -> Result<(), SftpError> {
        self.session.set_timeout(PART_PATIENCE);
        let mode = FileAttributes { permissions: Some(0o600), ..FileAttributes::empty() };
        let flags = OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::EXCLUDE;
        let handle = self.session.open(to, flags, mode).await.map_err(not_taken)?.handle;
        let parts = stream::try_unfold((from, 0_u64), |(mut from, at)| async move {
            let mut part = Vec::with_capacity(CHUNK as usize);
            (&mut from).take(CHUNK.into()).read_to_end(&mut part).await?;
            let next = at + part.len() as u64;
            Ok::<_, SftpError>((!part.is_empty()).then_some(((at, part), (from, next))))
        });
        let writes = parts.map_ok(|(at, part)| {
            let (length, handle) = (part.len() as u64, handle.as_str());
            async move { self.session.write(handle, at, part).await.map(|_| length).map_err(not_taken) }
        });
        let mut there = 0;
        let writing = writes.try_buffer_unordered(PARTS).try_for_each(|length| {
            there += length;
            hears(there);
            std::future::ready(Ok(()))
        });
        writing.await?;
        // A full disk may be told as late as here.
        self.session.close(handle).await.map(drop).map_err(not_taken)
    }

    /// The server's answer to this is nobody's: it is sent, and not waited for.
    fn close(&self, handle: String) {
        let _ = self.session.close(handle).now_or_never();
    }
}

/// What the server gives; `None` where it refuses in its own words, or where there is no more.
async fn answer<T>(asked: impl Future<Output = Result<T, Failed>>) -> Result<Option<T>, SftpError> {
    match asked.await {
        Ok(given) => Ok(Some(given)),
        Err(Failed::Status(_)) => Ok(None),
        Err(failed) => Err(failed.into()),
    }
}

/// Why it does not take a file, in its own words.
fn not_taken(failed: Failed) -> SftpError {
    match failed {
        Failed::Status(status) => {
            let said: String = status.error_message.trim().chars().take(MAX_SAID).collect();
            SftpError::NotTaken { said: (!said.is_empty()).then_some(said) }
        }
        failed => failed.into(),
    }
}

/// Which kind it is, to the bit: the library takes a socket for a folder.
fn is(attrs: &FileAttributes, kind: u32) -> bool {
    attrs.permissions.is_some_and(|mode| mode & KIND == kind)
}

/// A name that is what the server said: the library puts another character in place of what is not UTF-8.
fn whole(name: &str) -> Option<&str> {
    (!name.contains('\u{fffd}')).then_some(name)
}

/// The name of something in a folder.
fn name(name: String) -> Option<String> {
    let is_one = !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0']);
    (is_one && whole(&name).is_some()).then_some(name)
}
