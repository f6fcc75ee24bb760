//! Messages on disk, written at once and read at once.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use bytes::{Buf, Bytes};

use super::Share;

/// A file that has no name: it is gone when it is closed, also when the agent is killed. Only this user could read it
/// while it had one, and what is in it came from the threads that Codex records on the same disk.
#[derive(Debug)]
pub(super) struct Segment {
    file: File,
    length: u64,
    share: Arc<Share>,
}

impl Segment {
    /// Writes messages, each behind its length.
    pub(super) fn write(share: &Arc<Share>, messages: &VecDeque<Bytes>) -> io::Result<Self> {
        let mut out = BufWriter::with_capacity(1 << 16, tempfile::tempfile_in(share.folder())?);
        let mut length = 0;
        for message in messages {
            out.write_all(&u32::try_from(message.len()).map_err(io::Error::other)?.to_be_bytes())?;
            out.write_all(message)?;
            length += 4 + message.len() as u64;
        }
        let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        share.hold_on_disk(0, length);
        Ok(Self { file, length, share: Arc::clone(share) })
    }

    /// Its size, in bytes.
    pub(super) fn len(&self) -> u64 {
        self.length
    }

    /// Reads the messages again.
    pub(super) fn read(mut self) -> io::Result<Vec<Bytes>> {
        let mut all = Vec::with_capacity(usize::try_from(self.length).map_err(io::Error::other)?);
        self.file.seek(SeekFrom::Start(0))?;
        self.file.read_to_end(&mut all)?;
        let mut all = Bytes::from(all);
        let mut messages = Vec::new();
        while all.has_remaining() {
            let length = all.try_get_u32().map_err(io::Error::other)? as usize;
            if length > all.len() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            messages.push(all.split_to(length));
        }
        Ok(messages)
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        self.share.hold_on_disk(self.length, 0);
    }
}
