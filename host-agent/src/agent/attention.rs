//! Which threads of an environment run, want somebody, or have ended since somebody last prompted.
//!
//! ```text
//!   Codex ── keeper ──▶ attention ──▶ api: attention/list, attention/changed
//!               └──▶ requests ──▲
//! ```
//!
//! Codex tells every connection when a thread becomes active, waits or is idle; what a turn came to it tells only those who
//! follow the thread, after that it is idle. So a thread that is idle again stays as it was for a second, for its
//! turn's end to be told; a turn whose end nobody told is `done`, or `failed` where Codex says that much of the thread.
//! Whether it waits for an approval or for an answer is said by the board of requests, and by Codex where the board
//! is empty.
//!
//! A thread is shown once its folder is known. Nothing is in here that somebody wrote or that a command says.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::broadcast;

use super::requests::Asked;
use crate::firewall::parse::RequestId;

/// Threads that are remembered; those of which nothing is to be said make room.
const MAX_THREADS: usize = 1024;
/// Threads whose turn has ended; the oldest go first.
const MAX_ENDED: usize = 64;
/// For so long they are kept.
const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// For so long the end of a turn is waited for once its thread is idle; it comes within milliseconds.
pub(crate) const SETTLING: Duration = Duration::from_secs(1);
/// Of an id of Codex's, in bytes: its own have 36.
const MAX_ID: usize = 128;
/// Of a folder, in bytes: what Linux takes.
const MAX_FOLDER: usize = 4096;
/// Of a thread's name and of a sentence, in bytes.
const MAX_TEXT: usize = 512;
/// Changes that wait for a session's task.
const WAITING: usize = 256;

/// How a thread is that somebody may want to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(ts_rs::TS), ts(rename = "AttentionState"))]
pub enum State {
    /// It asks whether it may do something.
    WaitingOnApproval,
    /// It asks a question, or has a form to be filled in.
    WaitingOnAnswer,
    /// It is in a turn.
    Running,
    /// Its turn ended.
    Done,
    /// Its turn ended with an error.
    Failed,
    /// Its turn was ended by somebody.
    Interrupted,
}

impl State {
    /// Whether nothing runs, and nobody is waited for.
    pub(crate) fn is_end(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Interrupted)
    }
}

/// A thread that somebody may want to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub thread: String,
    /// What it is called, where somebody named it.
    pub name: Option<String>,
    /// Where it works.
    pub folder: String,
    /// How it is.
    pub state: State,
    /// Since when, in milliseconds since 1970.
    pub since: u64,
    /// The turn that this is about, where it is known.
    pub turn: Option<String>,
    /// What is asked in it, oldest first.
    pub requests: Vec<RequestId>,
    /// What Codex says about a failure.
    pub error: Option<String>,
}

/// How a thread is now; no entry where there is nothing to be said of it any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub environment: Arc<str>,
    pub thread: String,
    /// What is to be said.
    pub entry: Option<Entry>,
}

/// See the module's header.
pub struct Attention {
    environment: Arc<str>,
    threads: Mutex<HashMap<String, Thread>>,
    changes: broadcast::Sender<Change>,
}

#[derive(Debug, Default)]
struct Thread {
    folder: Option<String>,
    name: Option<String>,
    /// Whether Codex told how it is on this connection: what it answers may be older.
    is_heard: bool,
    phase: Phase,
    since: u64,
    turn: Option<String>,
    requests: Vec<Request>,
}

#[derive(Debug, Default)]
enum Phase {
    #[default]
    Idle,
    /// In a turn, and perhaps waiting in it.
    Active(Option<State>),
    /// Idle from then on, and then in this state unless the turn's end says another.
    Ending { at: u64, then: State },
    /// The turn has ended.
    Ended { state: State, error: Option<String> },
}

#[derive(Debug, PartialEq, Eq)]
struct Request {
    id: RequestId,
    state: State,
}

#[derive(Deserialize)]
struct Recorded {
    thread: About,
}

#[derive(Deserialize)]
struct About {
    id: String,
    cwd: String,
    name: Option<String>,
    status: Status,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    r#type: String,
    #[serde(default)]
    active_flags: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StatusChanged {
    thread_id: String,
    status: Status,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Named {
    thread_id: String,
    thread_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfTurn {
    thread_id: String,
    turn: Turn,
}

#[derive(Deserialize)]
struct Turn {
    id: String,
    status: String,
    error: Option<TurnError>,
}

#[derive(Deserialize)]
struct TurnError {
    message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfItem {
    thread_id: String,
    turn_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Closed {
    thread_id: String,
}

/// The way to all sessions.
pub(crate) fn changes() -> broadcast::Sender<Change> {
    broadcast::Sender::new(WAITING)
}

impl Attention {
    /// Of one environment; all tell the same `changes`.
    pub fn new(environment: &str, changes: broadcast::Sender<Change>) -> Self {
        Self { environment: environment.into(), threads: Mutex::default(), changes }
    }

    /// What changes from now on, in all environments.
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// All that is to be said, newest first.
    pub fn list(&self, now: u64) -> Vec<Entry> {
        self.look(now);
        let threads = self.lock();
        let mut all: Vec<_> = threads.iter().filter_map(|(id, thread)| thread.entry(id)).collect();
        all.sort_by(|a, b| b.since.cmp(&a.since).then_with(|| a.thread.cmp(&b.thread)));
        all
    }

    /// Codex says something that may be about how a thread is.
    pub(super) fn notified(&self, name: &str, params: Option<&RawValue>, now: u64) {
        fn read<'a, T: Deserialize<'a>>(raw: Option<&'a RawValue>) -> Option<T> {
            serde_json::from_str(raw?.get()).ok()
        }
        match name {
            "thread/started" => {
                if let Some(params) = params {
                    self.recorded(params, now);
                }
            }
            "thread/status/changed" => {
                if let Some(StatusChanged { thread_id, status }) = read(params) {
                    match &*status.r#type {
                        "notLoaded" => self.closed(&thread_id, now),
                        _ => self.change(&thread_id, now, |thread| {
                            thread.is_heard = true;
                            thread.is(&status, now);
                        }),
                    }
                }
            }
            "thread/name/updated" => {
                if let Some(Named { thread_id, thread_name }) = read(params) {
                    self.change(&thread_id, now, |thread| thread.name = thread_name.map(|name| cut(name, MAX_TEXT)));
                }
            }
            "thread/closed" => {
                if let Some(Closed { thread_id }) = read(params) {
                    self.closed(&thread_id, now);
                }
            }
            "turn/started" => {
                if let Some(OfTurn { thread_id, turn }) = read(params) {
                    self.change(&thread_id, now, |thread| thread.begins(turn.id));
                }
            }
            "turn/completed" => {
                if let Some(OfTurn { thread_id, turn }) = read(params) {
                    self.change(&thread_id, now, |thread| thread.ends(turn));
                }
            }
            "item/started" => {
                if let Some(OfItem { thread_id, turn_id }) = read(params) {
                    self.change(&thread_id, now, |thread| thread.names(turn_id));
                }
            }
            _ => {}
        }
    }

    /// Codex says what it knows of a thread: where it works, its name, and how it is.
    pub(super) fn recorded(&self, result: &RawValue, now: u64) {
        let Ok(Recorded { thread: About { id, cwd, name, status } }) = serde_json::from_str(result.get()) else {
            return;
        };
        self.change(&id, now, |thread| {
            thread.folder = Some(cut(cwd, MAX_FOLDER));
            thread.name = name.map(|name| cut(name, MAX_TEXT));
            if !thread.is_heard && status.r#type == "active" {
                thread.is(&status, now);
            }
        });
    }

    /// All that is asked in the environment now, oldest first.
    pub(super) fn asked(&self, all: Vec<Asked>, now: u64) {
        let mut threads = self.lock();
        let waited = threads.iter().filter(|(_, thread)| !thread.requests.is_empty());
        let mut by_thread: HashMap<_, _> = waited.map(|(id, _)| (id.clone(), (Vec::new(), None))).collect();
        for Asked { key, method, thread, turn, .. } in all {
            let (requests, of_turn) = by_thread.entry(thread).or_default();
            let is_question = matches!(method, "item/tool/requestUserInput" | "mcpServer/elicitation/request");
            let state = if is_question { State::WaitingOnAnswer } else { State::WaitingOnApproval };
            requests.push(Request { id: key.id, state });
            *of_turn = turn;
        }
        for (thread, (requests, turn)) in by_thread {
            self.change_in(&mut threads, &thread, now, |thread| {
                thread.requests = requests;
                if let Some(turn) = turn {
                    thread.names(turn);
                }
            });
        }
    }

    /// The keeper's connection has ended: what runs or waits is not known any more.
    pub(super) fn disconnected(&self, now: u64) {
        let mut threads = self.lock();
        let ids: Vec<_> = threads.keys().cloned().collect();
        for id in ids {
            self.change_in(&mut threads, &id, now, Thread::leave);
        }
        threads.retain(|_, thread| thread.state().is_some());
    }

    /// Whether the end of a turn is waited for.
    pub(super) fn is_settling(&self) -> bool {
        self.lock().values().any(|thread| matches!(thread.phase, Phase::Ending { .. }))
    }

    /// Waits no longer for the ends of turns, and forgets what is old.
    pub(super) fn look(&self, now: u64) {
        let is_older = |since: u64, age: Duration| u128::from(now.saturating_sub(since)) >= age.as_millis();
        let mut threads = self.lock();
        let due = threads.iter().filter(|(_, thread)| match thread.phase {
            Phase::Ending { at, .. } => is_older(at, SETTLING),
            Phase::Ended { .. } => is_older(thread.since, MAX_AGE),
            Phase::Idle | Phase::Active(_) => false,
        });
        let due: Vec<_> = due.map(|(id, _)| id.clone()).collect();
        for id in due {
            self.change_in(&mut threads, &id, now, |thread| match thread.phase {
                Phase::Ending { .. } => thread.settle(),
                _ => thread.phase = Phase::Idle,
            });
        }
    }

    /// A thread is not loaded any more: how its turn ended is still of interest.
    fn closed(&self, id: &str, now: u64) {
        let mut threads = self.lock();
        if threads.contains_key(id) {
            self.change_in(&mut threads, id, now, Thread::leave);
            if threads.get(id).is_some_and(|thread| thread.state().is_none()) {
                threads.remove(id);
            }
        }
    }

    fn change(&self, id: &str, now: u64, change: impl FnOnce(&mut Thread)) {
        self.change_in(&mut self.lock(), id, now, change);
    }

    fn change_in(&self, threads: &mut HashMap<String, Thread>, id: &str, now: u64, change: impl FnOnce(&mut Thread)) {
        if id.len() > MAX_ID || (!threads.contains_key(id) && !has_room(threads)) {
            return;
        }
        let thread = threads.entry(id.to_owned()).or_default();
        let (before, state) = (thread.entry(id), thread.state());
        change(thread);
        if thread.state() != state {
            thread.since = now;
        }
        let after = thread.entry(id);
        if after != before {
            self.tell(id, after);
        }
        let is_ended = |thread: &Thread| thread.state().is_some_and(State::is_end);
        let ended = threads.iter().filter(|(_, thread)| is_ended(thread));
        if ended.clone().count() > MAX_ENDED
            && let Some(oldest) = ended.min_by_key(|(_, thread)| thread.since).map(|(id, _)| id.clone())
            && let Some(thread) = threads.get_mut(&oldest)
        {
            thread.phase = Phase::Idle;
            self.tell(&oldest, None);
        }
    }

    fn tell(&self, thread: &str, entry: Option<Entry>) {
        // Nobody listening is fine.
        let _ =
            self.changes.send(Change { environment: Arc::clone(&self.environment), thread: thread.to_owned(), entry });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Thread>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Thread {
    fn state(&self) -> Option<State> {
        let asks = |state: State| self.requests.iter().any(|request| request.state == state).then_some(state);
        asks(State::WaitingOnApproval).or_else(|| asks(State::WaitingOnAnswer)).or(match &self.phase {
            Phase::Idle => None,
            Phase::Active(waits) => Some(waits.unwrap_or(State::Running)),
            Phase::Ending { .. } => Some(State::Running),
            Phase::Ended { state, .. } => Some(*state),
        })
    }

    fn entry(&self, id: &str) -> Option<Entry> {
        let error = match &self.phase {
            Phase::Ended { error, .. } => error.clone(),
            Phase::Idle | Phase::Active(_) | Phase::Ending { .. } => None,
        };
        Some(Entry {
            thread: id.to_owned(),
            name: self.name.clone(),
            folder: self.folder.clone()?,
            state: self.state()?,
            since: self.since,
            turn: self.turn.clone(),
            requests: self.requests.iter().map(|request| request.id.clone()).collect(),
            error,
        })
    }

    fn is(&mut self, status: &Status, now: u64) {
        let has = |flag: &str| status.active_flags.iter().any(|known| known == flag);
        match (&*status.r#type, &self.phase) {
            ("active", _) => {
                let approval = has("waitingOnApproval").then_some(State::WaitingOnApproval);
                let waits = approval.or(has("waitingOnUserInput").then_some(State::WaitingOnAnswer));
                self.run(waits);
            }
            (r#type, Phase::Active(_)) => {
                let then = if r#type == "systemError" { State::Failed } else { State::Done };
                self.phase = Phase::Ending { at: now, then };
            }
            _ => {}
        }
    }

    fn run(&mut self, waits: Option<State>) {
        if !matches!(self.phase, Phase::Active(_)) {
            self.turn = None;
        }
        self.phase = Phase::Active(waits);
    }

    fn begins(&mut self, turn: String) {
        if !matches!(self.phase, Phase::Active(_)) {
            self.run(None);
        }
        self.turn = None;
        self.names(turn);
    }

    /// Something is of this turn, which may have begun before anything was heard of the thread.
    fn names(&mut self, turn: String) {
        if self.turn.is_none() && turn.len() <= MAX_ID && matches!(self.phase, Phase::Active(_)) {
            self.turn = Some(turn);
        }
    }

    fn ends(&mut self, Turn { id, status, error }: Turn) {
        // Another one runs already.
        if matches!(self.phase, Phase::Active(_)) && self.turn.as_ref().is_some_and(|turn| *turn != id) {
            return;
        }
        let state = match &*status {
            "failed" => State::Failed,
            "interrupted" => State::Interrupted,
            _ => State::Done,
        };
        let error = error.filter(|_| state == State::Failed).map(|error| cut(error.message, MAX_TEXT));
        self.turn = (id.len() <= MAX_ID).then_some(id);
        self.phase = Phase::Ended { state, error };
    }

    fn settle(&mut self) {
        if let Phase::Ending { then, .. } = self.phase {
            self.phase = Phase::Ended { state: then, error: None };
        }
    }

    /// Nothing more is heard of it.
    fn leave(&mut self) {
        self.settle();
        self.requests.clear();
        self.is_heard = false;
        if matches!(self.phase, Phase::Active(_)) {
            self.phase = Phase::Idle;
        }
    }
}

/// Whether one more can be remembered, after something made room for it.
fn has_room(threads: &mut HashMap<String, Thread>) -> bool {
    if threads.len() >= MAX_THREADS {
        let quiet = threads.iter().find(|(_, thread)| thread.state().is_none()).map(|(id, _)| id.clone());
        return quiet.and_then(|id| threads.remove(&id)).is_some();
    }
    true
}

/// The text's beginning.
fn cut(mut text: String, most: usize) -> String {
    text.truncate(text.floor_char_boundary(most));
    text
}

#[cfg(test)]
mod tests;
