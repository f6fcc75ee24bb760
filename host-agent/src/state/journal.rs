//! What devices sent to be done once: prompts by the id that the device gave them, for seven days.
//!
//! Codex does not look at a prompt's id, and runs one that comes twice twice. So a prompt is written here before Codex
//! gets it, and a device that sends one again, because a link or an agent was lost before it heard, gets what became of
//! the first. What a prompt says is not kept: the thread has it, under the same id.
//!
//! The last line of a prompt holds. The file ([`line_file`]) begins with an id of its own: a device that meets another
//! one knows that this host can't say what became of what it sent.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reachback_proto::ids::DeviceId;
use ring::rand::SecureRandom;
use serde::{Deserialize, Serialize};

use super::atomic::FileError;
use super::line_file::{self, LineFile, Read};

/// How long a prompt's id is known, in milliseconds.
pub(crate) const KEEP_MS: u64 = 7 * 24 * 60 * 60 * 1000;
/// Prompts of one device within that time: one every 74 seconds. A line is some 300 bytes.
pub(crate) const MAX_PER_DEVICE: usize = 8192;
/// Longest id of a prompt, in bytes; a UUID has 36.
pub(crate) const MAX_ID: usize = 64;

const VERSION: u32 = 1;
const FILE: &str = "journal.jsonl";

/// A prompt's id, made by its device: letters, digits, `-`, `_`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct PromptId(String);

/// A text that is no prompt's id.
#[derive(Debug, thiserror::Error)]
#[error("an id is 1 to {MAX_ID} letters, digits, `-` and `_`")]
pub(crate) struct NoPromptId;

impl TryFrom<String> for PromptId {
    type Error = NoPromptId;

    fn try_from(text: String) -> Result<Self, NoPromptId> {
        let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        (is_plain && (1..=MAX_ID).contains(&text.len())).then_some(Self(text)).ok_or(NoPromptId)
    }
}

impl PromptId {
    /// As it is on the wire, where Codex calls it `clientUserMessageId`.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whose prompt: ids of different devices have nothing to do with each other.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Key {
    pub device_id: DeviceId,
    pub id: PromptId,
}

/// What is known of a prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Entry {
    /// Whose, and which.
    #[serde(flatten)]
    pub key: Key,
    pub environment: String,
    /// The thread; one that is to be started is not known at first.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub thread_id: Option<String>,
    /// SHA-256 of what was sent, in hexadecimal: another prompt under the same id is told apart.
    pub digest: String,
    /// When the agent took it, in milliseconds since 1970.
    pub taken_at: u64,
    /// When it came to its state.
    pub changed_at: u64,
    /// How far it got.
    #[serde(flatten)]
    pub state: State,
}

/// How far a prompt got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(crate) enum State {
    /// The agent has it; Codex certainly has not.
    Taken,
    /// Codex may have it: it was about to be told. What an agent finds so at its start, the thread has to say.
    Handed,
    /// It stands in the thread's queue.
    Queued {
        /// Codex's id of the entry.
        queued_id: String,
    },
    /// It stands in the thread.
    Started {
        /// The turn that it began, or steered.
        turn_id: String,
        /// Whether that turn was running before.
        steered: bool,
    },
    /// It was not let through, or Codex did not take it.
    Refused {
        /// A stable word.
        reason: String,
        /// A sentence for the person.
        message: String,
    },
    /// The device took it back in time.
    Withdrawn,
}

impl State {
    /// Whether nothing more happens to it.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::Started { .. } | Self::Refused { .. } | Self::Withdrawn)
    }
}

/// What became of an attempt to take a prompt.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    New(Entry),
    /// It was here before.
    Known(Entry),
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    /// The disk does not take it.
    #[error("the host's journal can't be written, so nothing is sent to Codex: is its disk full?")]
    Disk(#[source] io::Error),
    /// The device sent more than may be remembered.
    #[error("this device sent {MAX_PER_DEVICE} prompts within seven days, which is all that the host remembers")]
    Full,
}

/// The journal of one home. The agent writes it, under the home's lock.
#[derive(Debug)]
pub(crate) struct Journal {
    id: String,
    /// Held while a line is written, and so before `entries` when both are.
    file: Mutex<LineFile<Head>>,
    entries: Mutex<HashMap<Key, Entry>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    version: u32,
    journal: String,
}

impl Journal {
    /// Opens the journal of a home, whose folder for a host is there. One that is missing or damaged begins anew, with
    /// another id; what was damaged is kept beside it. One of a newer build is an error.
    pub(crate) fn open(home: &Path, rng: &dyn SecureRandom, now: u64) -> Result<Self, FileError> {
        let path = super::host_dir(home).join(FILE);
        let (id, lines) = match line_file::read(&path, VERSION)? {
            Some(Read::Whole { head: Head { journal, .. }, lines }) => (journal, lines),
            found => {
                if found.is_some() {
                    tracing::warn!(path = %path.display(), "the journal is damaged: devices can't be told what became of what they sent");
                    line_file::put_aside(&path)?;
                }
                let mut id = [0; 16];
                rng.fill(&mut id).map_err(|_| FileError::io("write", &path)(io::Error::other("no randomness")))?;
                (data_encoding::BASE32_NOPAD.encode(&id).to_ascii_lowercase(), Vec::new())
            }
        };
        let mut entries: HashMap<Key, Entry> =
            lines.into_iter().map(|entry: Entry| (entry.key.clone(), entry)).collect();
        // Of what was only taken, Codex certainly never got it, and nobody was told more than that.
        entries.retain(|_, entry| entry.taken_at.saturating_add(KEEP_MS) > now && entry.state != State::Taken);
        let file = LineFile::write(&path, Head { version: VERSION, journal: id.clone() }, entries.values())?;
        Ok(Self { id, file: Mutex::new(file), entries: Mutex::new(entries) })
    }

    /// What a device compares.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// What is known of a prompt.
    pub(crate) fn get(&self, key: &Key) -> Option<Entry> {
        self.entries().get(key).cloned()
    }

    /// Takes a prompt, unless its id is known.
    pub(crate) async fn take(self: &Arc<Self>, entry: Entry) -> Result<Taken, JournalError> {
        self.blocking(move |journal| {
            let mut file = journal.file();
            let mut entries = journal.entries();
            if let Some(known) = entries.get(&entry.key) {
                return Ok(Taken::Known(known.clone()));
            }
            let oldest = entry.taken_at.saturating_sub(KEEP_MS);
            entries.retain(|_, entry| entry.taken_at >= oldest);
            let device = entry.key.device_id;
            if entries.keys().filter(|key| key.device_id == device).count() >= MAX_PER_DEVICE {
                return Err(JournalError::Full);
            }
            entries.insert(entry.key.clone(), entry.clone());
            drop(entries);
            journal.append(&mut file, &entry).inspect_err(|_| {
                journal.entries().remove(&entry.key);
            })?;
            Ok(Taken::New(entry))
        })
        .await
    }

    /// Changes a prompt as `change` says; `None` when it says nothing, or the prompt is not known.
    pub(crate) async fn change(
        self: &Arc<Self>,
        key: Key,
        now: u64,
        change: impl FnOnce(&mut Entry) -> bool + Send + 'static,
    ) -> Result<Option<Entry>, JournalError> {
        self.blocking(move |journal| {
            let mut file = journal.file();
            let mut entries = journal.entries();
            let Some(entry) = entries.get_mut(&key) else { return Ok(None) };
            let before = entry.clone();
            if !change(entry) {
                *entry = before;
                return Ok(None);
            }
            entry.changed_at = now;
            let after = entry.clone();
            drop(entries);
            journal.append(&mut file, &after).inspect_err(|_| {
                journal.entries().insert(key, before);
            })?;
            Ok(Some(after))
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        write: impl FnOnce(&Self) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, JournalError> {
        let journal = Arc::clone(self);
        let written = tokio::task::spawn_blocking(move || write(&journal)).await;
        written.map_err(|error| JournalError::Disk(io::Error::other(error)))?
    }

    fn append(&self, file: &mut LineFile<Head>, entry: &Entry) -> Result<(), JournalError> {
        file.append(entry).map_err(JournalError::Disk)?;
        file.tidy(self.entries().values());
        Ok(())
    }

    fn file(&self) -> MutexGuard<'_, LineFile<Head>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<Key, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
