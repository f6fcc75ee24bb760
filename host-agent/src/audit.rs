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

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use reachback_proto::frame::LOCAL_ENVIRONMENT;
use reachback_proto::ids::DeviceId;
use reachback_proto::scope::Scope;
use serde::{Deserialize, Serialize};

use crate::platform::files::{self, AccessError};
use crate::state::host_dir;
use crate::state::timestamp::Timestamp;

/// Bytes at which a file is put aside: some 30,000 lines.
pub const ROTATE_AT: u64 = 8 << 20;
/// Files kept beside the current one.
pub const KEEP: u32 = 8;
/// Longest line that is read back. None that is written is as long: a path has 4096 bytes, of which each may take six.
const MAX_LINE: u64 = 32 * 1024;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// About a device.
    Device(Entry),
    /// About a folder.
    Folder(FolderEntry),
}

/// What a device did, or what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When.
    pub at: Timestamp,
    /// Which device acted, or was changed.
    pub device_id: DeviceId,
    /// The device by whose word it was changed; none where it acted itself, or the owner changed it at the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<DeviceId>,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum What {
    /// The device asked Codex for something, or answered it.
    Action {
        /// The environment that it worked in. Lines of before there were several name none: that was `local`.
        #[serde(default = "local")]
        environment: String,
        /// Codex's method, or that of the request that was answered.
        method: Option<String>,
        /// The thread.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        thread: Option<String>,
        /// `passed`, `trimmed`, `lessened`, `refused`, `withheld` or `answered`.
        decision: String,
        /// For a refusal: `scope`, `method`, `params`, `malformed`, `not_open`, `digest` or `age`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// For an answer that passed: `accept`, `acceptForLonger`, `decline`, `cancel` or `answer`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        answer: Option<String>,
        /// What the device was allowed at the time.
        scope: Scope,
    },
    /// The device was paired.
    Paired {
        /// What it may do.
        scope: Scope,
    },
    /// The device may do something else from now on.
    ScopeChanged {
        /// What it may do.
        scope: Scope,
    },
    /// The device was taken off the list.
    Revoked,
    /// The device is kept out.
    Paused {
        /// `expired` where nobody asked for it: the device was not seen for 90 days.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// The device is let in again.
    Resumed,
    /// The agent ended what the device had begun in a thread, as the device may begin nothing any more.
    WorkEnded {
        /// The environment that it worked in.
        environment: String,
        /// The thread.
        thread: String,
        /// Whether its goal was paused.
        goal: bool,
        /// Prompts that were taken out of the queue.
        queued: usize,
        /// Turns that were interrupted: its own, and those of its sub-agents.
        turns: usize,
    },
}

/// The host's owner opened or closed a folder to devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderEntry {
    /// When.
    pub at: Timestamp,
    /// What happened to it.
    pub event: FolderChange,
    /// The environment that it is in.
    pub environment: String,
    /// The folder.
    pub path: String,
}

/// What happened to a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FolderChange {
    /// It was opened.
    WorkspaceAdded,
    /// It was closed.
    WorkspaceRemoved,
}

impl Line {
    /// When it was written.
    pub fn at(&self) -> Timestamp {
        match self {
            Self::Device(entry) => entry.at,
            Self::Folder(entry) => entry.at,
        }
    }
}

fn local() -> String {
    LOCAL_ENVIRONMENT.to_owned()
}

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
mod tests {
    use reachback_proto::ids::PublicKey;

    use super::*;

    fn entry(second: u64) -> Entry {
        Entry {
            at: Timestamp::from_unix(second),
            device_id: DeviceId::of(&PublicKey([7; 32])),
            by: None,
            what: What::Action {
                environment: local(),
                method: Some("turn/start".into()),
                thread: Some("t1".into()),
                decision: "passed".into(),
                reason: None,
                answer: None,
                scope: Scope::Approve,
            },
        }
    }

    fn line(second: u64) -> Line {
        Line::Device(entry(second))
    }

    #[test]
    fn lines_are_read_back_in_order_across_restarts() {
        let home = tempfile::tempdir().unwrap();
        for second in 0..3 {
            AuditLog::open(home.path()).unwrap().write(&entry(second)).unwrap();
        }
        assert_eq!(read(home.path()).unwrap(), ((0..3).map(line).collect(), 0));
    }

    #[test]
    fn folders_stand_among_devices_and_every_older_line_is_still_read() {
        let home = tempfile::tempdir().unwrap();
        let log = AuditLog::open(home.path()).unwrap();
        let device = DeviceId::of(&PublicKey([7; 32]));
        // As earlier builds wrote them.
        let older = [
            format!(r#"{{"at":"1970-01-01T00:00:00Z","device_id":"{device}","event":"paired","scope":"steer"}}"#),
            format!(r#"{{"at":"1970-01-01T00:00:00Z","device_id":"{device}","event":"revoked"}}"#),
            format!(
                r#"{{"at":"1970-01-01T00:00:00Z","device_id":"{device}","event":"action","method":"turn/start","decision":"passed","scope":"approve"}}"#
            ),
        ];
        fs::write(file(&folder(home.path()), 0), older.map(|line| line + "\n").concat()).unwrap();
        let opened = FolderEntry {
            at: Timestamp::from_unix(1),
            event: FolderChange::WorkspaceAdded,
            environment: local(),
            path: "/srv/project".into(),
        };
        log.write_folder(&opened).unwrap();
        let (lines, skipped) = read(home.path()).unwrap();
        assert_eq!((lines.len(), skipped), (4, 0));
        assert!(lines[..3].iter().all(|line| matches!(line, Line::Device(_))), "{lines:?}");
        assert_eq!(lines[3], Line::Folder(opened.clone()));
        let want =
            r#"{"at":"1970-01-01T00:00:01Z","event":"workspace_added","environment":"local","path":"/srv/project"}"#;
        assert_eq!(serde_json::to_string(&opened).unwrap(), want);
    }

    #[test]
    fn a_line_is_the_format_that_programs_rely_on() {
        let line = serde_json::to_value(entry(0)).unwrap();
        let device = DeviceId::of(&PublicKey([7; 32])).to_string();
        let want = serde_json::json!({
            "at": "1970-01-01T00:00:00Z", "device_id": device, "event": "action", "environment": "local", "method": "turn/start",
            "thread": "t1", "decision": "passed", "scope": "approve",
        });
        assert_eq!(line, want);
    }

    #[test]
    fn files_rotate_and_the_oldest_go() {
        let home = tempfile::tempdir().unwrap();
        let log = AuditLog::open_with(home.path(), 1000).unwrap();
        (0..200).for_each(|second| log.write(&entry(second)).unwrap());
        let (entries, skipped) = read(home.path()).unwrap();
        assert_eq!(skipped, 0);
        assert_eq!(entries.last(), Some(&line(199)));
        assert!(entries.len() < 200, "nothing was dropped");
        assert!(entries.windows(2).all(|pair| pair[0].at() < pair[1].at()), "out of order");
        let files = fs::read_dir(folder(home.path())).unwrap().count();
        assert_eq!(files, KEEP as usize + 1);
    }

    #[test]
    fn half_a_line_of_a_crash_costs_that_line_only() {
        let home = tempfile::tempdir().unwrap();
        AuditLog::open(home.path()).unwrap().write(&entry(0)).unwrap();
        let path = file(&folder(home.path()), 0);
        let mut half = OpenOptions::new().append(true).open(&path).unwrap();
        half.write_all(br#"{"at":"1970-01-01T00:00:01Z","dev"#).unwrap();
        AuditLog::open(home.path()).unwrap().write(&entry(2)).unwrap();
        assert_eq!(read(home.path()).unwrap(), (vec![line(0), line(2)], 1));
    }

    #[cfg(unix)]
    #[test]
    fn the_log_is_for_this_user_only() {
        use std::os::unix::fs::PermissionsExt;
        let home = tempfile::tempdir().unwrap();
        AuditLog::open(home.path()).unwrap();
        let mode = fs::metadata(file(&folder(home.path()), 0)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_log_that_cannot_be_written_says_so() {
        let home = tempfile::tempdir().unwrap();
        let log = AuditLog::open(home.path()).unwrap();
        log.current.lock().unwrap().file = OpenOptions::new().append(true).open("/dev/full").unwrap();
        let error = log.write(&entry(0)).unwrap_err();
        assert!(error.to_string().contains("audit.jsonl"), "{error}");
    }
}
