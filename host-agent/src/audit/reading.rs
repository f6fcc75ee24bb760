//! How the files come together again.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use super::AuditError;
use super::files::{Book, devices, folder};
use super::line::Line;
use crate::state::timestamp::Timestamp;

/// Longest line that is read back. None that is written is as long: a path has 4096 bytes, of which each may take six.
const MAX_LINE: u64 = 32 * 1024;

/// Every line of a home's log that can be read, oldest first, and how many could not.
///
/// The lines of a file stay in their order, also where the clock was set back meanwhile. Lines of one second stand in the order
/// of their files: the owner's, then changes, actions and refusals, device by device.
pub fn read(home: &Path) -> Result<(Vec<Line>, usize), AuditError> {
    let folder = folder(home);
    let mut skipped = 0;
    let mut lines = Vec::new();
    read_book(Book::Old, &folder, |line| lines.push(line), &mut skipped)?;

    let mut devices: Vec<_> = devices(&folder)?.into_keys().collect();
    devices.sort_unstable_by_key(ToString::to_string);
    let of_devices = devices.into_iter().map(Book::all_of);
    let (mut changes, mut rest) = (vec![Book::Owner], Vec::new());
    let mut refusals = Vec::new();
    for [changed, acted, refused] in of_devices {
        changes.push(changed);
        rest.push(acted);
        refusals.push(refused);
    }
    let mut dated = Vec::new();
    for book in changes.into_iter().chain(rest).chain(refusals) {
        let mut latest = Timestamp::EPOCH;
        let push = |line: Line| {
            // What counts repeats is written when they are over, and says when they began.
            let moment = if line.counts_repeats() { line.at() } else { latest.max(line.at()) };
            latest = latest.max(moment);
            dated.push((moment, line));
        };
        read_book(book, &folder, push, &mut skipped)?;
    }
    // Stable: see above.
    dated.sort_by_key(|(at, _)| *at);
    lines.extend(dated.into_iter().map(|(_, line)| line));
    Ok((lines, skipped))
}

fn read_book(book: Book, folder: &Path, mut push: impl FnMut(Line), skipped: &mut usize) -> Result<(), AuditError> {
    for path in book.files(folder) {
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
                Ok(line) => push(line),
                Err(_) => *skipped += 1,
            }
        }
    }
    Ok(())
}
