//! What devices answered to what Codex asked, for seven days.
//!
//! Codex takes one answer to a request. A device that loses its link, or whose host's agent ends, before it hears does
//! not know whether Codex has its own, and sends it again: by then the request is closed, or Codex asks under other
//! numbers. So an answer is written here before Codex gets it, and once more when Codex says that it needs no other.
//! Neither what was asked nor a question's answer in words is kept, only the decision.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reachback_proto::ids::DeviceId;
use serde::{Deserialize, Serialize};

use super::atomic::FileError;
use super::line_file::{self, LineFile, Read};
use crate::firewall::parse::RequestId;
use crate::firewall::responses::Choice;

/// How long an answer is known, in milliseconds.
pub(crate) const KEEP_MS: u64 = 7 * 24 * 60 * 60 * 1000;
/// Answers that are known; over this the oldest are forgotten. A line is some 400 bytes.
const MAX_GIVEN: usize = 8192;
const VERSION: u32 = 1;
const FILE: &str = "answers.jsonl";

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Question {
    pub environment: String,
    /// The run of Codex that asked, in hexadecimal.
    pub instance: String,
    /// Its number there.
    pub request_id: RequestId,
}

/// An answer: the last line about a question and a device holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Given {
    #[serde(flatten)]
    pub question: Question,
    pub device_id: DeviceId,
    /// What the device was called then.
    pub name: String,
    /// Of what it showed its person, in hexadecimal.
    pub digest: String,
    /// What went to Codex.
    pub decision: Choice,
    /// Why that is less than what the device said, in words.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lessened: Option<String>,
    pub state: State,
    /// When it came to that, in milliseconds since 1970.
    pub at: u64,
}

/// How far an answer got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum State {
    /// Codex may have it: it was about to be told.
    Handed,
    /// Codex needs no other answer.
    Taken,
    /// Codex was not told: somebody else's answer was first, or something else is asked by now.
    Dropped,
}

type Key = (Question, DeviceId);

/// The answers of one home. The agent writes them, under the home's lock.
#[derive(Debug)]
pub(crate) struct Answers {
    /// Held while a line is written, and so before `given` when both are: who looks one up does not wait for that.
    file: Mutex<LineFile<Head>>,
    given: Mutex<HashMap<Key, Given>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    version: u32,
}

impl Given {
    fn key(&self) -> Key {
        (self.question.clone(), self.device_id)
    }
}

impl Answers {
    /// Opens the answers of a home, whose folder for a host is there. What is damaged is kept beside a file that begins
    /// anew; one of a newer build is an error.
    pub(crate) fn open(home: &Path, now: u64) -> Result<Self, FileError> {
        let path = super::host_dir(home).join(FILE);
        let lines = match line_file::read::<Head, Given>(&path, VERSION)? {
            Some(Read::Whole { lines, .. }) => lines,
            Some(Read::Damaged) => {
                tracing::warn!(path = %path.display(), "the answers are damaged: devices can't be told what became of theirs");
                line_file::put_aside(&path)?;
                Vec::new()
            }
            None => Vec::new(),
        };
        let mut given: HashMap<Key, Given> = lines.into_iter().map(|given| (given.key(), given)).collect();
        given.retain(|_, given| given.at.saturating_add(KEEP_MS) > now && given.state != State::Dropped);
        let file = LineFile::write(&path, Head { version: VERSION }, given.values())?;
        Ok(Self { file: Mutex::new(file), given: Mutex::new(given) })
    }

    /// Writes down how far an answer got. Where that fails, it is as it was.
    pub(crate) async fn write(self: &Arc<Self>, given: Given) -> io::Result<()> {
        let answers = Arc::clone(self);
        tokio::task::spawn_blocking(move || answers.write_now(given)).await.map_err(io::Error::other)?
    }

    /// What this device answered to a question, or else what another one did.
    pub(crate) fn find(&self, question: &Question, device: DeviceId) -> Option<Given> {
        let all = self.given();
        let own = all.get(&(question.clone(), device));
        own.or_else(|| all.values().find(|given| given.question == *question)).cloned()
    }

    fn write_now(&self, given: Given) -> io::Result<()> {
        let mut file = self.file();
        file.append(&given)?;
        let mut all = self.given();
        let over = given.at.saturating_sub(KEEP_MS);
        match given.state {
            State::Dropped => drop(all.remove(&given.key())),
            State::Handed | State::Taken => drop(all.insert(given.key(), given)),
        }
        if all.len() > MAX_GIVEN {
            all.retain(|_, given| given.at >= over);
        }
        if all.len() > MAX_GIVEN
            && let Some(oldest) = all.values().min_by_key(|given| given.at).map(Given::key)
        {
            all.remove(&oldest);
        }
        file.tidy(all.values());
        Ok(())
    }

    fn file(&self) -> MutexGuard<'_, LineFile<Head>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn given(&self) -> MutexGuard<'_, HashMap<Key, Given>> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Answers {
    /// Has every line fail, as on a full disk.
    pub(crate) fn is_full(&self) {
        self.file().is_full();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use reachback_proto::ids::PublicKey;

    use super::*;
    use crate::platform::files;

    const NOW: u64 = 1_795_413_540_000;

    fn home() -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        files::private_dir(&super::super::host_dir(home.path())).unwrap();
        home
    }

    fn open(home: &tempfile::TempDir, now: u64) -> Arc<Answers> {
        Arc::new(Answers::open(home.path(), now).unwrap())
    }

    fn device(byte: u8) -> DeviceId {
        DeviceId::of(&PublicKey([byte; 32]))
    }

    fn question(number: i64) -> Question {
        Question { environment: "local".into(), instance: "0f".into(), request_id: RequestId::Number(number) }
    }

    fn given(by: u8, number: i64, state: State) -> Given {
        Given {
            question: question(number),
            device_id: device(by),
            name: "phone".into(),
            digest: "d".into(),
            decision: Choice::Accept,
            lessened: Some("less".into()),
            state,
            at: NOW,
        }
    }

    #[tokio::test]
    async fn what_became_of_an_answer_is_known_after_a_restart_for_a_week() {
        let home = home();
        let answers = open(&home, NOW);
        for (number, states) in
            [(0, &[State::Handed, State::Taken][..]), (1, &[State::Handed]), (2, &[State::Handed, State::Dropped])]
        {
            for state in states {
                answers.write(given(1, number, *state)).await.unwrap();
            }
        }
        for answers in [answers, open(&home, NOW + KEEP_MS - 1)] {
            assert_eq!(answers.find(&question(0), device(1)), Some(given(1, 0, State::Taken)));
            assert_eq!(answers.find(&question(1), device(1)).unwrap().state, State::Handed);
            assert_eq!(answers.find(&question(2), device(1)), None);
            // Another device hears of it; its own counts more.
            assert_eq!(answers.find(&question(0), device(2)), Some(given(1, 0, State::Taken)));
        }
        let answers = open(&home, NOW);
        answers.write(given(2, 0, State::Handed)).await.unwrap();
        assert_eq!(answers.find(&question(0), device(2)).unwrap().state, State::Handed);
        assert_eq!(open(&home, NOW + KEEP_MS).find(&question(0), device(1)), None);
    }

    #[tokio::test]
    async fn what_can_t_be_written_did_not_happen_and_what_is_damaged_is_kept() {
        let home = home();
        let answers = open(&home, NOW);
        answers.is_full();
        answers.write(given(1, 0, State::Handed)).await.unwrap_err();
        assert_eq!(answers.find(&question(0), device(1)), None);

        let path = super::super::host_dir(home.path()).join(FILE);
        fs::write(&path, "{\"version\":1}\nnonsense\n{}\n").unwrap();
        open(&home, NOW).write(given(1, 0, State::Handed)).await.unwrap();
        assert!(fs::read_to_string(path.with_extension("damaged")).unwrap().contains("nonsense"));
        assert!(open(&home, NOW).find(&question(0), device(1)).is_some());
        fs::write(&path, "{\"version\":2}\n").unwrap();
        assert!(matches!(Answers::open(home.path(), NOW), Err(FileError::Version { found: 2, .. })));
    }

    #[tokio::test]
    async fn neither_the_file_nor_what_is_known_grows_for_ever() {
        let home = home();
        let answers = open(&home, NOW);
        let many = (1..=MAX_GIVEN).map(|number| given(1, number as i64, State::Taken));
        answers.given().extend(many.map(|given| (given.key(), given)));
        answers.file().has_grown();
        answers.write(Given { at: NOW + 1, ..given(1, 0, State::Handed) }).await.unwrap();
        assert_eq!(answers.given().len(), MAX_GIVEN);
        assert!(answers.find(&question(0), device(1)).is_some());
        answers.write(Given { at: NOW + KEEP_MS + 1, ..given(1, 0, State::Taken) }).await.unwrap();
        let path = super::super::host_dir(home.path()).join(FILE);
        let before = fs::metadata(&path).unwrap().len();
        answers.write(Given { at: NOW + KEEP_MS + 1, ..given(1, 0, State::Taken) }).await.unwrap();
        assert!(fs::metadata(&path).unwrap().len() < before + 1024);
        assert!(before < (MAX_GIVEN * 512) as u64, "{before} bytes");
    }
}
