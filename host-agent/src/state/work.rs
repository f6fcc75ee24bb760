//! What devices began at Codex, so that it can be ended when one may not begin anything any more.
//!
//! Codex keeps no creator of a turn, a goal or a queued prompt. It does keep the id that a client gives a prompt, in the
//! thread and in its queue. So what a device begins is written here before Codex gets it: the ids of its prompts, whether it
//! set the thread's goal, and when it last began something that has no id. What a prompt says is not kept. Which turn Codex took a
//! prompt into is written once Codex has said so: it keeps the prompt to itself for as long as the model writes, or a command runs.
//!
//! The file is a list of lines that only grows, and is written anew when the agent starts, and when most of it is of the past.
//! Lines have reached the system, not the disk, when a call returns: what Codex runs does not outlive a computer that loses
//! its power either.

use std::collections::{HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use reachback_proto::ids::DeviceId;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::atomic::FileError;
use crate::platform::files;

/// Threads of one device. What it began in others is not passed on.
pub(crate) const MAX_THREADS: usize = 4096;
/// For so long after the last thing that a device began in a thread, that is remembered, in milliseconds.
pub(crate) const KEEP_MS: u64 = 30 * 24 * 60 * 60 * 1000;
/// Ids of prompts that are remembered of a device in one thread. Prompts from before the oldest of them all count as its own.
const MAX_IDS: usize = 64;
/// Longest id that is kept as it is, in bytes: a UUID has 36. Of a longer one its SHA-256 is.
const MAX_ID: usize = 64;
/// A line is not longer, in bytes: the name of an environment, and ids.
const MAX_LINE: usize = 2048;
/// The file is written anew when so many bytes of it, and at least half, are of the past.
const REWRITE_AT: u64 = 1 << 20;
const VERSION: u32 = 1;
const FILE: &str = "work.jsonl";

/// Something that a device begins in a thread.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "did", rename_all = "camelCase")]
pub enum Began {
    /// A prompt, which has this id in the thread or in its queue.
    Prompt {
        /// What the device called it, or its digest: see [`mark`].
        id: String,
    },
    /// A turn that has no id of the device's: a prompt without one, a review, a compaction.
    Unnamed,
    /// The thread's goal.
    Goal {
        /// [`digest_of`] what it says; empty where the device set another member of the goal that was there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        objective: Option<String>,
    },
}

/// A thread.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// The environment's name.
    pub environment: String,
    /// Codex's id.
    pub thread: String,
}

/// What a device began in a thread.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Work {
    /// Its last prompts that have an id, oldest first.
    prompts: VecDeque<Prompt>,
    /// Prompts of before this moment may be its own, for all that is remembered.
    forgotten_until: u64,
    /// When it last began something without an id.
    unnamed_at: Option<u64>,
    /// The last turn that Codex took a prompt without an id into.
    unnamed_turn: Option<String>,
    /// When it last set the goal.
    goal: Option<(u64, Option<String>)>,
    /// When it last began anything here.
    pub changed_at: u64,
    /// What is left of it goes on, as others take part in it: nobody waits for its end.
    pub is_shared: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Prompt {
    /// See [`mark`].
    id: String,
    /// When the device sent it.
    at: u64,
    /// The turn that Codex took it into, where it said so.
    turn: Option<String>,
}

impl Work {
    /// Whether a prompt that stands in the thread or its queue is of the device. `at`: when it was taken up, where that is known.
    pub fn has_prompt(&self, id: &str, at: Option<u64>) -> bool {
        let id = mark(id);
        self.prompts.iter().any(|known| known.id == id) || at.is_some_and(|at| at < self.forgotten_until)
    }

    /// Which of its prompts Codex took into a turn: by their ids, as [`mark`] keeps them; `None` is one without an id.
    pub fn took(&self, turn: &str) -> impl Iterator<Item = Option<&str>> {
        let is_it = move |taken: &Option<String>| taken.as_deref() == Some(turn);
        let named = self.prompts.iter().filter(move |prompt| is_it(&prompt.turn)).map(|prompt| Some(&*prompt.id));
        named.chain(is_it(&self.unnamed_turn).then_some(None))
    }

    fn add(&mut self, began: Began, at: u64) {
        self.changed_at = self.changed_at.max(at);
        self.is_shared = false;
        match began {
            Began::Prompt { id } => {
                if self.prompts.len() >= MAX_IDS
                    && let Some(oldest) = self.prompts.pop_front()
                {
                    // The next millisecond, as both may be of the same.
                    self.forgotten_until = self.forgotten_until.max(oldest.at + 1);
                }
                self.prompts.push_back(Prompt { id, at, turn: None });
            }
            Began::Unnamed => self.unnamed_at = Some(at),
            Began::Goal { objective } => self.goal = Some((at, objective)),
        }
    }

    /// Whether a prompt of this id is known; one without an id always is.
    fn take(&mut self, id: Option<&str>, turn: &str) -> bool {
        let known = match id {
            Some(id) => self.prompts.iter_mut().rev().find(|prompt| prompt.id == id).map(|prompt| &mut prompt.turn),
            None => Some(&mut self.unnamed_turn),
        };
        let Some(known) = known else { return false };
        *known = Some(turn.to_owned());
        true
    }
}

/// An id as it is kept here: itself where it is short, else its digest.
pub(crate) fn mark(id: &str) -> String {
    if id.len() <= MAX_ID { id.to_owned() } else { digest_of(id) }
}

/// The SHA-256 of a text, in hexadecimal.
pub(crate) fn digest_of(text: &str) -> String {
    format!("sha256:{}", data_encoding::HEXLOWER.encode(digest(&SHA256, text.as_bytes()).as_ref()))
}

/// Why a device's work was not written down, and so was not passed on.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// The disk does not take it.
    #[error("the list of what devices began can't be written")]
    Disk(#[from] io::Error),
    /// The device works in too many threads.
    #[error("this device began work in {MAX_THREADS} threads within 30 days, which is all that the host remembers")]
    Full,
}

#[derive(Serialize, Deserialize)]
struct Head {
    version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    device_id: DeviceId,
    environment: std::borrow::Cow<'a, str>,
    thread_id: std::borrow::Cow<'a, str>,
    #[serde(flatten)]
    what: What,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum What {
    Began {
        at: u64,
        #[serde(flatten)]
        began: Began,
    },
    /// Codex took a prompt into a turn.
    Taken {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prompt: Option<String>,
        turn: String,
    },
    /// Ids before this are not known any more.
    Forgotten { forgotten_until: u64 },
    /// Nothing of it goes on.
    Ended { ended: bool },
}

type Devices = HashMap<DeviceId, HashMap<Place, Work>>;

/// What devices began, of one home. The agent writes it, under the home's lock.
#[derive(Debug)]
pub struct WorkStore {
    path: PathBuf,
    /// Held while a line is written, and so before `devices` when both are.
    file: Mutex<Lines>,
    devices: Mutex<Devices>,
}

#[derive(Debug)]
struct Lines {
    file: File,
    size: u64,
    /// As it was when it was written anew.
    compact: u64,
}

impl WorkStore {
    /// Opens the list of a home. What is damaged in it is left out.
    pub fn open(home: &Path, now: u64) -> Result<Self, FileError> {
        for dir in [home, &super::host_dir(home)] {
            files::state_dir(dir)?;
        }
        let path = super::host_dir(home).join(FILE);
        let mut devices = read(&path)?;
        for places in devices.values_mut() {
            places.retain(|_, work| work.changed_at.saturating_add(KEEP_MS) > now);
        }
        devices.retain(|_, places| !places.is_empty());
        let file = rewrite(&path, &devices).map_err(FileError::io("write", &path))?;
        Ok(Self { path, file: Mutex::new(file), devices: Mutex::new(devices) })
    }

    /// Writes down what a device is about to begin.
    ///
    /// Blocks for as long as one small write takes.
    pub fn begins(&self, device: DeviceId, place: Place, began: Began, now: u64) -> Result<(), WorkError> {
        let mut file = self.file();
        {
            let mut devices = self.devices();
            let places = devices.entry(device).or_default();
            if !places.contains_key(&place) && places.len() >= MAX_THREADS {
                places.retain(|_, work| work.changed_at.saturating_add(KEEP_MS) > now);
                if places.len() >= MAX_THREADS {
                    return Err(WorkError::Full);
                }
            }
        }
        self.append(&mut file, device, &place, What::Began { at: now, began: began.clone() })?;
        self.devices().entry(device).or_default().entry(place).or_default().add(began, now);
        Ok(())
    }

    /// Writes down that Codex took a device's prompt into a turn. Only whoever has a prompt there is remembered.
    ///
    /// Blocks for as long as one small write takes.
    pub fn took(&self, device: DeviceId, place: &Place, prompt: Option<&str>, turn: &str) {
        let mut file = self.file();
        let (prompt, turn) = (prompt.map(mark), mark(turn));
        {
            let mut devices = self.devices();
            let work = devices.get_mut(&device).and_then(|places| places.get_mut(place));
            if !work.is_some_and(|work| work.take(prompt.as_deref(), &turn)) {
                return;
            }
        }
        // It holds for as long as the agent runs also where it can't be written.
        if let Err(error) = self.append(&mut file, device, place, What::Taken { prompt, turn }) {
            tracing::warn!(%error, "which turn a prompt is in could not be written");
        }
    }

    /// What devices for which `is_meant` holds began in a thread.
    pub fn at(&self, place: &Place, is_meant: impl Fn(DeviceId) -> bool) -> Vec<(DeviceId, Work)> {
        let devices = self.devices();
        let meant = devices.iter().filter(|(device, _)| is_meant(**device));
        meant.filter_map(|(device, places)| Some((*device, places.get(place)?.clone()))).collect()
    }

    /// What is left of a device's work in a thread goes on, until it begins something anew there. Its goal is paused by then:
    /// who makes that active again answers for it.
    pub fn shares(&self, device: DeviceId, place: &Place) {
        if let Some(work) = self.devices().get_mut(&device).and_then(|places| places.get_mut(place)) {
            work.is_shared = true;
            work.goal = None;
        }
    }

    /// Forgets what a device began in a thread: nothing of it goes on.
    pub fn ended(&self, device: DeviceId, place: &Place) {
        let mut file = self.file();
        {
            let mut devices = self.devices();
            let Some(places) = devices.get_mut(&device) else { return };
            places.remove(place);
            if places.is_empty() {
                devices.remove(&device);
            }
        }
        // If it can't be written, the agent looks once more after its next start.
        if let Err(error) = self.append(&mut file, device, place, What::Ended { ended: true }) {
            tracing::warn!(%error, "the list of what devices began can't be written");
        }
    }

    /// What devices for which `is_meant` holds began in an environment.
    pub fn of(&self, environment: &str, is_meant: impl Fn(DeviceId) -> bool) -> Vec<(DeviceId, Place, Work)> {
        let devices = self.devices();
        let meant = devices.iter().filter(|(device, _)| is_meant(**device));
        meant
            .flat_map(|(device, places)| places.iter().map(|(place, work)| (*device, place.clone(), work.clone())))
            .filter(|(_, place, _)| place.environment == environment)
            .collect()
    }

    /// Whether anything that a device began is remembered.
    pub fn has(&self, device: DeviceId) -> bool {
        self.devices().contains_key(&device)
    }

    /// Who last began something without an id in a thread.
    pub fn last_unnamed(&self, place: &Place) -> Option<DeviceId> {
        self.last(place, |work| work.unnamed_at)
    }

    /// Whether a goal is a device's: it set it last, of all devices, and it still says what the device said.
    pub fn has_goal(&self, device: DeviceId, place: &Place, objective: &str) -> bool {
        if self.last(place, |work| work.goal.as_ref().map(|(at, _)| *at)) != Some(device) {
            return false;
        }
        let devices = self.devices();
        let goal = devices.get(&device).and_then(|places| places.get(place)).and_then(|work| work.goal.as_ref());
        goal.is_some_and(|(_, said)| said.as_ref().is_none_or(|said| *said == digest_of(objective)))
    }

    fn last(&self, place: &Place, at: impl Fn(&Work) -> Option<u64>) -> Option<DeviceId> {
        let devices = self.devices();
        let all = devices.iter().filter_map(|(device, places)| Some((at(places.get(place)?)?, *device)));
        all.max_by_key(|(at, _)| *at).map(|(_, device)| device)
    }

    fn append(&self, lines: &mut Lines, device: DeviceId, place: &Place, what: What) -> Result<(), WorkError> {
        let text = line(device, place, what);
        if let Err(error) = lines.file.write_all(&text) {
            // Half a line must not swallow the next one.
            let _ = lines.file.set_len(lines.size);
            return Err(error.into());
        }
        lines.size += text.len() as u64;
        if lines.size > REWRITE_AT.max(2 * lines.compact) {
            // What is in it now holds, also where it can't be made shorter. What is being written is in neither yet.
            match rewrite(&self.path, &self.devices()).and_then(|mut shorter| {
                shorter.file.write_all(&text)?;
                shorter.size += text.len() as u64;
                Ok(shorter)
            }) {
                Ok(shorter) => *lines = shorter,
                Err(error) => tracing::warn!(%error, "the list of what devices began could not be made shorter"),
            }
        }
        Ok(())
    }

    fn file(&self) -> MutexGuard<'_, Lines> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn devices(&self) -> MutexGuard<'_, Devices> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn line(device_id: DeviceId, place: &Place, what: What) -> Vec<u8> {
    let Place { environment, thread } = place;
    let line = Line { device_id, environment: environment.into(), thread_id: thread.into(), what };
    let mut text = serde_json::to_vec(&line).expect("lines have string keys");
    text.push(b'\n');
    text
}

fn read(path: &Path) -> Result<Devices, FileError> {
    let mut devices = Devices::new();
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(devices),
        other => other.map_err(FileError::io("read", path))?,
    };
    files::check_secret_file(&file, path)?;
    let mut is_first = true;
    for text in BufReader::new(file).split(b'\n') {
        let text = text.map_err(FileError::io("read", path))?;
        if std::mem::take(&mut is_first) {
            match serde_json::from_slice::<Head>(&text) {
                Ok(head) if head.version > VERSION => {
                    return Err(FileError::Version { path: path.to_owned(), found: head.version, known: VERSION });
                }
                _ => continue,
            }
        }
        let line = serde_json::from_slice::<Line<'_>>(&text).ok().filter(|_| text.len() <= MAX_LINE);
        // The agent was killed while it wrote, or the disk is damaged: what the other lines say still holds.
        let Some(Line { device_id, environment, thread_id, what }) = line else { continue };
        let place = Place { environment: environment.into_owned(), thread: thread_id.into_owned() };
        let places = devices.entry(device_id).or_default();
        match what {
            What::Began { at, began } => places.entry(place).or_default().add(began, at),
            What::Taken { prompt, turn } => drop(places.entry(place).or_default().take(prompt.as_deref(), &turn)),
            What::Forgotten { forgotten_until } => places.entry(place).or_default().forgotten_until = forgotten_until,
            What::Ended { .. } => drop(places.remove(&place)),
        }
    }
    Ok(devices)
}

/// Puts a file that says this in the place of the one that is there.
fn rewrite(path: &Path, devices: &Devices) -> io::Result<Lines> {
    let mut text = serde_json::to_vec(&Head { version: VERSION })?;
    text.push(b'\n');
    for (device, places) in devices {
        for (place, work) in places {
            let began = |at, began| line(*device, place, What::Began { at, began });
            let taken = |prompt, turn| line(*device, place, What::Taken { prompt, turn });
            for Prompt { id, at, turn } in &work.prompts {
                text.extend(began(*at, Began::Prompt { id: id.clone() }));
                text.extend(turn.iter().flat_map(|turn| taken(Some(id.clone()), turn.clone())));
            }
            if let Some(at) = work.unnamed_at {
                text.extend(began(at, Began::Unnamed));
                text.extend(work.unnamed_turn.iter().flat_map(|turn| taken(None, turn.clone())));
            }
            if let Some((at, objective)) = &work.goal {
                text.extend(began(*at, Began::Goal { objective: objective.clone() }));
            }
            if work.forgotten_until > 0 {
                text.extend(line(*device, place, What::Forgotten { forgotten_until: work.forgotten_until }));
            }
        }
    }
    super::atomic::write(path, &text).map_err(io::Error::other)?;
    let file = OpenOptions::new().append(true).open(path)?;
    Ok(Lines { file, size: text.len() as u64, compact: text.len() as u64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHONE: DeviceId = DeviceId([1; 16]);
    const LAPTOP: DeviceId = DeviceId([2; 16]);

    fn place(thread: &str) -> Place {
        Place { environment: "local".into(), thread: thread.into() }
    }

    fn prompt(id: &str) -> Began {
        Began::Prompt { id: mark(id) }
    }

    fn home() -> (tempfile::TempDir, WorkStore) {
        let home = tempfile::tempdir().unwrap();
        let store = WorkStore::open(home.path(), 0).unwrap();
        (home, store)
    }

    fn one(store: &WorkStore, device: DeviceId) -> Work {
        let mut all = store.of("local", |id| id == device);
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0).2
    }

    #[test]
    fn what_a_device_began_is_known_after_a_restart_until_it_has_ended() {
        let (home, store) = home();
        let long = "x".repeat(500);
        store.begins(PHONE, place("a"), prompt("one"), 10).unwrap();
        store.begins(PHONE, place("a"), prompt(&long), 11).unwrap();
        store.begins(PHONE, place("a"), Began::Unnamed, 12).unwrap();
        store.begins(LAPTOP, place("a"), Began::Unnamed, 13).unwrap();
        store.begins(PHONE, place("b"), Began::Goal { objective: Some(digest_of(&long)) }, 14).unwrap();
        store.took(PHONE, &place("a"), Some(&long), "turn");
        store.took(PHONE, &place("a"), None, "turn");
        for (device, at, prompt) in [(PHONE, "a", "never sent"), (PHONE, "c", "one"), (LAPTOP, "b", "one")] {
            store.took(device, &place(at), Some(prompt), "turn");
        }
        drop(store);
        // Killed in the middle of a line.
        let path = super::super::host_dir(home.path()).join(FILE);
        OpenOptions::new().append(true).open(&path).unwrap().write_all(br#"{"deviceId":"#).unwrap();
        let store = WorkStore::open(home.path(), 20).unwrap();
        let work = store.of("local", |id| id == PHONE).into_iter().find(|(_, at, _)| *at == place("a")).unwrap().2;
        assert!(work.has_prompt("one", None) && work.has_prompt(&long, None) && !work.has_prompt("two", None));
        let took = |turn| work.took(turn).map(|id| id.map(str::to_owned)).collect::<Vec<_>>();
        assert_eq!(took("turn"), [Some(mark(&long)), None]);
        assert!(took("another").is_empty());
        assert_eq!(store.last_unnamed(&place("a")), Some(LAPTOP));
        assert!(store.has_goal(PHONE, &place("b"), &long));
        assert!(!store.has_goal(PHONE, &place("b"), "what the owner set since"));
        assert!(store.of("elsewhere", |_| true).is_empty());

        store.ended(PHONE, &place("a"));
        store.ended(PHONE, &place("b"));
        drop(store);
        let store = WorkStore::open(home.path(), 20).unwrap();
        assert!(!store.has(PHONE) && store.has(LAPTOP));
        drop(store);
        assert!(!WorkStore::open(home.path(), 13 + KEEP_MS).unwrap().has(LAPTOP), "it is kept for ever");
    }

    #[test]
    fn a_goal_is_of_the_device_that_set_it_last() {
        let (_home, store) = home();
        store.begins(PHONE, place("a"), Began::Goal { objective: Some(digest_of("x")) }, 1).unwrap();
        store.begins(LAPTOP, place("a"), Began::Goal { objective: None }, 2).unwrap();
        assert!(!store.has_goal(PHONE, &place("a"), "x"));
        assert!(store.has_goal(LAPTOP, &place("a"), "x"), "it made it active again");
    }

    #[test]
    fn a_goal_that_was_paused_is_no_devices_while_a_turn_goes_on_that_it_shares() {
        let (_home, store) = home();
        let goal = || Began::Goal { objective: Some(digest_of("x")) };
        store.begins(PHONE, place("a"), prompt("one"), 1).unwrap();
        store.begins(PHONE, place("a"), goal(), 2).unwrap();
        assert!(store.has_goal(PHONE, &place("a"), "x"));
        store.shares(PHONE, &place("a"));
        let work = one(&store, PHONE);
        assert!(work.is_shared && work.has_prompt("one", None));
        assert!(!store.has_goal(PHONE, &place("a"), "x"), "the owner could not make it active again");
        store.begins(PHONE, place("a"), goal(), 3).unwrap();
        assert!(!one(&store, PHONE).is_shared && store.has_goal(PHONE, &place("a"), "x"));
    }

    #[test]
    fn a_device_can_push_none_of_its_work_out() {
        let (home, store) = home();
        for number in 0..MAX_IDS as u64 + 10 {
            store.begins(PHONE, place("a"), prompt(&format!("p{number}")), 100 + number).unwrap();
        }
        drop(store);
        let store = WorkStore::open(home.path(), 200).unwrap();
        let work = one(&store, PHONE);
        assert!(!work.has_prompt("p0", None) && work.has_prompt("p73", None));
        assert!(work.has_prompt("p0", Some(100)), "its first prompt counts as somebody else's");
        assert!(!work.has_prompt("the owner's", Some(112)));

        for number in 1..MAX_THREADS {
            store.begins(PHONE, place(&format!("t{number}")), Began::Unnamed, 300).unwrap();
        }
        let more = store.begins(PHONE, place("more"), Began::Unnamed, 300);
        assert!(matches!(more, Err(WorkError::Full)), "{more:?}");
        store.begins(PHONE, place("a"), Began::Unnamed, 300).unwrap();
        store.begins(LAPTOP, place("more"), Began::Unnamed, 300).unwrap();
        store.begins(PHONE, place("more"), Began::Unnamed, 301 + KEEP_MS).unwrap();
        assert!(one(&store, PHONE).unnamed_at.is_some());
    }

    #[test]
    fn the_file_does_not_grow_with_what_is_over() {
        let (home, store) = home();
        for number in 0..20_000 {
            store.begins(PHONE, place("a"), prompt(&format!("p{number}")), number).unwrap();
        }
        let size = std::fs::metadata(super::super::host_dir(home.path()).join(FILE)).unwrap().len();
        assert!(size < 2 * REWRITE_AT, "{size} bytes");
        drop(store);
        assert!(one(&WorkStore::open(home.path(), 20_000).unwrap(), PHONE).has_prompt("p19999", None));
    }
}
