//! What Codex asks in one environment, for every device that may answer: one board, whatever channel they look at.
//!
//! ```text
//!   Codex ── keeper ──▶ board ──▶ api: request/list, request/opened, request/closed
//!     ▲                   ▲ │
//!     └────── answers ────┼─┘◀── api: answer/send
//!                         └───── bridge: shown to a device, answered by one
//! ```
//!
//! The keeper's connection follows every thread that is open, so it gets each request with the number that devices get
//! it under. An answer through the API has to be about what is on the board: the same run of Codex, the same thread,
//! turn and item, and the digest of what is asked now. It is judged by the rules of a channel ([`OpenRequests`]).
//!
//! The first answer of a device wins here, before it goes to Codex, whichever way it takes; Codex itself takes the
//! first that reaches it, and says `serverRequest/resolved`, but not whose it was. Where the host's own terminal
//! answers in the very moment in which a device does, the device may be named.
//!
//! What became of an answer through the API is kept on the disk ([`Answers`]): a device that sends one again, as it did
//! not hear, gets what became of the first, also from the next agent.
//!
//! The diff of a change to files is in an item that came before the request. For a request that the keeper hears of
//! later it has to look the item up; until it is known, or where it is too large, nothing can be accepted here.

mod reach;
mod shown;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use reachback_proto::ids::DeviceId;
use reachback_proto::scope::Scope;
use reachback_proto::shown::digest;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use tokio::sync::{broadcast, mpsc};
use tokio::time::timeout;

pub(crate) use reach::Reach;
use shown::{Changes, Shown};

use crate::agent::prompts::now_ms;
use crate::codex::Instance;
use crate::firewall::parse::RequestId;
use crate::firewall::responses::{AnswerError, Choice, OpenRequests, PassedAnswer, Route, server_request};
use crate::firewall::{Audit, Decision, Reason};
use crate::state::answers::{Answers, Given, KEEP_MS, Question, State};

/// Requests on the board: Codex asks for a thread one at a time, and a hundred threads are many.
const MAX_OPEN: usize = 256;
/// Bytes of what is shown, of all requests. What comes beyond can be answered on a channel.
const MAX_BYTES: usize = 16 << 20;
/// Bytes of changes to files that nobody was asked about yet; the oldest go first.
const MAX_CHANGES: usize = 16 << 20;
/// And how many of them.
const MAX_ITEMS: usize = 256;
/// Answers that are remembered, for whoever comes too late.
const MAX_OUTCOMES: usize = 1024;
/// Threads whose reach is known; over this, all are forgotten.
const MAX_THREADS: usize = 1024;
/// Devices that are named as having been shown a request.
const MAX_SHOWN_TO: usize = 64;
/// Changes that wait for a session's task.
const WAITING: usize = 256;
/// Answers on their way to Codex.
const TO_CODEX: usize = 16;
/// How old an answer may be that lets something happen, counted on the device from when its person decided.
pub(crate) const MAX_AGE: Duration = Duration::from_secs(60);
/// How long Codex may take to say that it has an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A device, by its id and by its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Who {
    /// Its id.
    #[cfg_attr(test, ts(type = "string"))]
    pub device_id: DeviceId,
    /// What it calls itself.
    pub name: String,
}

/// Something is another on a board.
#[derive(Debug, Clone)]
pub enum Change {
    /// A request is there, or something about it is another.
    Opened(Key),
    /// One more device was shown it.
    ShownTo(Key),
    /// It needs no answer any more.
    Closed(Closed),
}

/// A request, named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Where it is asked.
    pub environment: Arc<str>,
    /// The run of Codex that asks.
    pub instance: Instance,
    /// Its number there.
    pub id: RequestId,
}

/// How a request ended.
#[derive(Debug, Clone)]
pub struct Closed {
    /// The request.
    pub key: Key,
    pub thread: String,
    /// What came of it.
    pub outcome: Outcome,
}

/// Who answered what; neither is known of what was answered at the host, or is no longer asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// The device that answered.
    pub by: Option<Who>,
    /// What it said.
    pub choice: Option<Choice>,
}

/// A request, as it is on the board.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Its name.
    pub key: Key,
    /// Codex's name for this kind of request.
    pub method: &'static str,
    pub thread: String,
    /// Its turn, where it is in one.
    pub turn: Option<String>,
    /// Its item, where it is about one.
    pub item: Option<String>,
    /// When Codex asked, in milliseconds since 1970.
    pub opened_at: u64,
    /// What is asked, for a person.
    pub shown: Arc<Vec<String>>,
    pub digest: String,
    /// What the thread may reach, where it is known.
    pub reach: Option<Reach>,
    /// The scope of those who may answer; `None` where only the host's terminal can.
    pub needed: Option<Scope>,
    /// What can be answered from afar.
    pub choices: Vec<Choice>,
    /// The devices that were shown it.
    pub shown_to: Vec<Who>,
}

/// An answer, as a device gives it through the API.
pub(crate) struct Attempt<'a> {
    /// The run of Codex that asked.
    pub instance: &'a str,
    /// The request's number there.
    pub id: RequestId,
    /// The thread that the device showed.
    pub thread: &'a str,
    pub turn: Option<&'a str>,
    pub item: Option<&'a str>,
    /// The digest of what it showed.
    pub digest: &'a str,
    /// How long ago its person decided.
    pub age: Duration,
    /// What they decided.
    pub said: Said<'a>,
}

/// What Codex is answered.
#[derive(Clone, Copy)]
pub(crate) enum Said<'a> {
    Result(&'a RawValue),
    Error(&'a RawValue),
}

/// An answer that Codex has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answered {
    /// What went to Codex.
    pub choice: Choice,
    /// Why that is less than what the device said.
    pub lessened: Option<Cow<'static, str>>,
}

/// An attempt that is an answer.
struct Judged {
    key: Key,
    /// What Codex is to get, and the way there.
    body: Bytes,
    to_codex: mpsc::Sender<Bytes>,
    audit: Audit,
    answered: Answered,
}

/// Why an answer was not passed on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AnswerRefusal {
    /// Codex was started anew.
    #[error("Codex was started anew since this was asked")]
    Instance,
    /// Somebody was faster, or it is no longer asked.
    #[error("{}", words(.0))]
    Answered(Outcome),
    /// Something else is asked.
    #[error("something else is asked than what this device showed")]
    Digest,
    /// Decided too long ago.
    #[error("this was decided more than {} seconds ago, and is let go: decide again", MAX_AGE.as_secs())]
    Age,
    /// Not everything could be shown, or only the host's terminal may answer.
    #[error("this can only be answered on the host")]
    AtTheHost,
    /// The rules of a channel.
    #[error(transparent)]
    Answer(#[from] AnswerError),
    /// The audit log can't be written.
    #[error("the host's audit log can't be written, so nothing was passed on")]
    Unrecorded,
    /// The file with the answers can't be written.
    #[error("the host's list of answers can't be written, so nothing was passed on: is its disk full?")]
    Unkept,
    /// It is not known whether Codex has it.
    #[error("Codex did not say that it has the answer: look whether it is still asked")]
    Lost,
}

impl AnswerRefusal {
    fn reason(&self) -> Option<Reason> {
        Some(match self {
            Self::Instance | Self::Answered(_) => Reason::NotOpen,
            Self::Digest => Reason::Digest,
            Self::Age => Reason::Age,
            Self::AtTheHost => Reason::Method,
            Self::Answer(error) => error.reason(),
            Self::Unrecorded | Self::Unkept | Self::Lost => return None,
        })
    }
}

fn words(outcome: &Outcome) -> String {
    match outcome {
        Outcome { by: Some(Who { name, .. }), choice } => {
            let said = match choice {
                Some(Choice::Accept | Choice::AcceptForLonger) => "accepted",
                Some(Choice::Decline) => "declined",
                Some(Choice::Cancel) => "stopped the turn",
                Some(Choice::Answer) | None => "answered",
            };
            format!("{name} was faster, and {said}")
        }
        Outcome { by: None, .. } => "it was answered at the host, or is no longer asked".to_owned(),
    }
}

/// What a device is told of an answer that is written down, when it comes once more or too late; an error without words
/// where the board knows as much.
fn again(
    known: Given,
    refusal: &AnswerRefusal,
    attempt: &Attempt<'_>,
    who: &Who,
) -> Result<Answered, Option<AnswerRefusal>> {
    let Given { device_id, name, digest, decision, lessened, state, .. } = known;
    let is_own = device_id == who.device_id;
    let knows_whose = matches!(refusal, AnswerRefusal::Answered(Outcome { by: Some(_), .. }));
    match state {
        State::Taken if is_own && digest == attempt.digest => {
            Ok(Answered { choice: decision, lessened: lessened.map(Cow::Owned) })
        }
        State::Taken => {
            let by = Some(Who { device_id, name });
            Err(Some(AnswerRefusal::Answered(Outcome { by, choice: Some(decision) })))
        }
        State::Handed if is_own && !knows_whose => Err(Some(AnswerRefusal::Lost)),
        State::Handed | State::Dropped => Err(None),
    }
}

/// See the module's header.
pub struct Requests {
    environment: Arc<str>,
    board: Mutex<Board>,
    changes: broadcast::Sender<Change>,
}

#[derive(Default)]
struct Board {
    /// The run of Codex that the keeper is connected to, or was last.
    instance: Option<Instance>,
    to_codex: Option<mpsc::Sender<Bytes>>,
    open: OpenRequests,
    asked: HashMap<RequestId, Entry>,
    reach: HashMap<String, Reach>,
    changes: VecDeque<Item>,
    outcomes: VecDeque<Claim>,
}

struct Entry {
    asked: Asked,
    /// For what is shown later.
    params: Option<Map<String, Value>>,
    is_whole: bool,
}

struct Item {
    thread: String,
    item: String,
    changes: Changes,
}

/// An answer that was let through, or that is known to be there.
struct Claim {
    id: RequestId,
    outcome: Outcome,
    state: ClaimState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClaimState {
    /// On its way, over a channel.
    Sent,
    /// Codex has it, or is about to read it.
    Handed,
    /// On its way, over the keeper's connection.
    Ours,
    /// Codex said that it needs no answer any more.
    Settled,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Started<'a> {
    thread_id: String,
    #[serde(borrow)]
    item: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Updated<'a> {
    thread_id: String,
    item_id: String,
    #[serde(borrow)]
    changes: &'a RawValue,
}

#[derive(Deserialize)]
struct ItemHead<'a> {
    r#type: String,
    id: String,
    #[serde(borrow, default)]
    changes: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Resolved {
    request_id: RequestId,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Settings<'a> {
    thread_id: String,
    #[serde(borrow)]
    thread_settings: Policy<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Policy<'a> {
    #[serde(borrow)]
    sandbox_policy: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Resumed<'a> {
    #[serde(borrow)]
    sandbox: &'a RawValue,
    #[serde(borrow, default)]
    initial_turns_page: Option<Page<'a>>,
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    data: Vec<Turn<'a>>,
}

#[derive(Deserialize)]
struct Turn<'a> {
    #[serde(borrow)]
    items: Vec<&'a RawValue>,
}

/// The way to all sessions.
pub(crate) fn changes() -> broadcast::Sender<Change> {
    broadcast::Sender::new(WAITING)
}

impl Requests {
    /// The board of one environment; all tell the same `changes`.
    pub fn new(environment: &str, changes: broadcast::Sender<Change>) -> Self {
        Self { environment: environment.into(), board: Mutex::default(), changes }
    }

    /// What changes from now on, on all boards.
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// Everything that is asked, oldest first.
    pub fn list(&self) -> Vec<Asked> {
        let mut all: Vec<_> = self.lock().asked.values().map(|entry| entry.asked.clone()).collect();
        all.sort_by_key(|asked| asked.opened_at);
        all
    }

    /// One request, if it is still asked.
    pub fn find(&self, key: &Key) -> Option<Asked> {
        let board = self.lock();
        let entry = board.asked.get(&key.id).filter(|entry| entry.asked.key.instance == key.instance)?;
        Some(entry.asked.clone())
    }

    /// The keeper has a connection to this run of Codex; gives what it is to send.
    pub(super) fn connected(&self, instance: Instance) -> mpsc::Receiver<Bytes> {
        let (sender, receiver) = mpsc::channel(TO_CODEX);
        let mut board = self.lock();
        if board.instance.replace(instance) != Some(instance) {
            board.outcomes.clear();
        }
        board.to_codex = Some(sender);
        receiver
    }

    /// The keeper's connection has ended: what is still asked comes again on the next one.
    pub(super) fn disconnected(&self) {
        let mut board = self.lock();
        board.to_codex = None;
        board.outcomes.retain(|claim| claim.state != ClaimState::Ours);
        board.reach.clear();
        board.changes.clear();
        let ids: Vec<_> = board.asked.keys().cloned().collect();
        for id in ids {
            self.close(&mut board, &id, Outcome::default());
        }
    }

    /// An answer that was taken on a channel has been sent.
    pub(super) fn handed(&self, instance: Instance, id: &RequestId) {
        let mut board = self.lock();
        if board.instance == Some(instance)
            && let Some(claim) = board.claim(id).filter(|claim| claim.state == ClaimState::Sent)
        {
            claim.state = ClaimState::Handed;
        }
    }

    /// Codex asks something. Gives the thread if its changes have to be looked up.
    pub(super) fn asked(&self, id: &RawValue, name: &str, params: Option<&RawValue>, now: u64) -> Option<String> {
        let request = server_request(name).filter(|request| matches!(request.route, Route::Device(_)))?;
        // A tool of a client's own is that client's.
        if request.name == "item/tool/call" {
            return None;
        }
        let id: RequestId = serde_json::from_str(id.get()).ok()?;
        let params: Map<String, Value> = serde_json::from_str(params?.get()).ok()?;
        let text = |member: &str| params.get(member).and_then(Value::as_str).map(str::to_owned);
        let thread = text("threadId").or_else(|| text("conversationId"))?;
        let (turn, item) = (text("turnId"), text("itemId").or_else(|| text("callId")));
        let opened_at = params.get("startedAtMs").and_then(Value::as_u64).unwrap_or(now);

        let mut board = self.lock();
        let instance = board.instance?;
        let is_full = board.asked.len() >= MAX_OPEN || board.bytes() >= MAX_BYTES;
        // One that is sent again, as after a resume, is there; one that was answered already is on its way out.
        if is_full || board.asked.contains_key(&id) || board.claim(&id).is_some_and(|claim| claim.is_settled()) {
            return None;
        }
        board.open.open(id.clone(), request, params.clone(), Scope::Admin, false)?;
        let changes = item.as_ref().and_then(|item| board.changes_of(&thread, item));
        let is_files = request.name == FILES;
        let is_known = !is_files || changes.is_some();
        let Shown { texts, is_whole } = Shown::of(request.name, &params, changes);
        let key = Key { environment: Arc::clone(&self.environment), instance, id: id.clone() };
        let needed = board.open.needed(&id);
        let asked = Asked {
            key: key.clone(),
            method: request.name,
            digest: HEXLOWER.encode(&digest(&texts)),
            shown: Arc::new(texts),
            reach: board.reach.get(&thread).cloned(),
            choices: board.choices(&id, is_whole),
            thread: thread.clone(),
            turn,
            item,
            opened_at,
            needed,
            shown_to: Vec::new(),
        };
        board.asked.insert(id, Entry { asked, params: is_files.then_some(params), is_whole });
        self.tell(Change::Opened(key));
        (!is_known).then_some(thread)
    }

    /// Codex says something that may be about what is asked.
    pub(super) fn notified(&self, name: &str, params: Option<&RawValue>) {
        fn read<'a, T: Deserialize<'a>>(raw: Option<&'a RawValue>) -> Option<T> {
            serde_json::from_str(raw?.get()).ok()
        }
        match name {
            "item/started" => {
                if let Some(Started { thread_id, item }) = read(params) {
                    self.item(&thread_id, item);
                }
            }
            "item/fileChange/patchUpdated" => {
                if let Some(Updated { thread_id, item_id, changes }) = read(params) {
                    self.change(thread_id, item_id, Changes::read(changes));
                }
            }
            "thread/settings/updated" => {
                if let Some(Settings { thread_id, thread_settings }) = read(params) {
                    self.reaches(&thread_id, thread_settings.sandbox_policy);
                }
            }
            "serverRequest/resolved" => {
                if let Some(Resolved { request_id }) = read(params) {
                    self.settle(&request_id);
                }
            }
            _ => {}
        }
    }

    /// Codex has answered the keeper's resume of a thread.
    pub(super) fn resumed(&self, thread: &str, result: &RawValue) {
        let Ok(Resumed { sandbox, initial_turns_page }) = serde_json::from_str(result.get()) else { return };
        self.reaches(thread, sandbox);
        let turns = initial_turns_page.into_iter().flat_map(|page| page.data);
        for item in turns.flat_map(|turn| turn.items) {
            self.item(thread, item);
        }
    }

    /// A thread is idle: nothing that was to be changed in it is pending.
    pub(super) fn idle(&self, thread: &str) {
        self.lock().changes.retain(|item| item.thread != thread);
    }

    /// A thread is gone, and with it what it asked.
    pub(super) fn forget(&self, thread: &str) {
        let mut board = self.lock();
        board.reach.remove(thread);
        board.changes.retain(|item| item.thread != thread);
        let of_thread = board.asked.values().filter(|entry| entry.asked.thread == thread);
        let ids: Vec<_> = of_thread.map(|entry| entry.asked.key.id.clone()).collect();
        for id in ids {
            self.close(&mut board, &id, Outcome::default());
        }
    }

    /// A device was shown a request.
    pub(super) fn shown_to(&self, instance: Instance, id: &RequestId, who: &Who) {
        let mut board = self.lock();
        let Some(entry) = board.asked.get_mut(id).filter(|entry| entry.asked.key.instance == instance) else { return };
        let shown_to = &mut entry.asked.shown_to;
        if shown_to.len() >= MAX_SHOWN_TO || shown_to.iter().any(|known| known.device_id == who.device_id) {
            return;
        }
        shown_to.push(who.clone());
        let key = entry.asked.key.clone();
        self.tell(Change::ShownTo(key));
    }

    /// A device answers on a channel of its own, whose firewall lets it; says whether it is the first.
    pub(super) fn take(&self, instance: Instance, id: &RequestId, who: &Who, choice: Choice) -> bool {
        let mut board = self.lock();
        // Of another run than the keeper's, nothing is known here.
        if board.instance != Some(instance) {
            return true;
        }
        if board.claim(id).is_some() {
            return false;
        }
        board.remember(id.clone(), Outcome { by: Some(who.clone()), choice: Some(choice) }, ClaimState::Sent);
        true
    }

    /// The answer did not reach Codex: others may answer.
    pub(super) fn give_back(&self, instance: Instance, id: &RequestId) {
        let mut board = self.lock();
        if board.instance == Some(instance) {
            board.outcomes.retain(|claim| claim.id != *id || claim.state != ClaimState::Sent);
        }
    }

    /// A device answers through the API. `record` writes the audit log, before Codex gets anything.
    pub(super) async fn answer(
        &self,
        attempt: &Attempt<'_>,
        who: &Who,
        (scope, lasting): (Scope, bool),
        answers: &Arc<Answers>,
        record: impl Fn(&Audit) -> bool,
    ) -> Result<Answered, AnswerRefusal> {
        let now = now_ms();
        let judged = self.judge(&mut self.lock(), attempt, (scope, lasting));
        let judged = match judged {
            Err(refusal @ (AnswerRefusal::Instance | AnswerRefusal::Answered(_))) => {
                let known = answers.find(&self.question(attempt), who.device_id);
                match known.filter(|known| known.at.saturating_add(KEEP_MS) > now) {
                    Some(known) => match again(known, &refusal, attempt, who) {
                        Err(None) => Err(refusal),
                        Err(Some(refusal)) => return Err(refusal),
                        Ok(answered) => return Ok(answered),
                    },
                    None => Err(refusal),
                }
            }
            judged => judged,
        };
        let Judged { answered, .. } = judged.inspect_err(|refusal| self.refused(attempt, refusal, &record))?;
        let mut given = Given {
            question: self.question(attempt),
            device_id: who.device_id,
            name: who.name.clone(),
            digest: attempt.digest.to_owned(),
            decision: answered.choice,
            lessened: answered.lessened.map(Cow::into_owned),
            state: State::Handed,
            at: now,
        };
        answers.write(given.clone()).await.map_err(|_| AnswerRefusal::Unkept)?;
        let mut changes = self.changes();
        let (key, answered) = match self.pass(attempt, who, (scope, lasting), &record) {
            Ok(passed) => passed,
            Err(refusal) => {
                given.state = State::Dropped;
                // Where it stays, a device that asks is told that it is not known, and looks.
                let _ = answers.write(given).await;
                self.refused(attempt, &refusal, &record);
                return Err(refusal);
            }
        };
        let settled = async {
            while self.find(&key).is_some() {
                // One that is behind looks again.
                if let Err(broadcast::error::RecvError::Closed) = changes.recv().await {
                    break;
                }
            }
        };
        let _ = timeout(PATIENCE, settled).await;
        let is_settled = self.lock().claim(&key.id).is_some_and(|claim| claim.is_settled());
        if !is_settled {
            return Err(AnswerRefusal::Lost);
        }
        given.state = State::Taken;
        let _ = answers.write(given).await;
        Ok(answered)
    }

    /// Writes down that an attempt was refused, where that is a refusal of this host's.
    fn refused(&self, attempt: &Attempt<'_>, refusal: &AnswerRefusal, record: impl Fn(&Audit) -> bool) {
        let Some(reason) = refusal.reason() else { return };
        let (method, thread) = self.about(attempt);
        let decision = Decision::Refused(reason);
        record(&Audit { method, thread, decision, changing: true, unguarded: false, answer: None, folder: None });
    }

    fn question(&self, attempt: &Attempt<'_>) -> Question {
        Question {
            environment: self.environment.to_string(),
            instance: attempt.instance.to_owned(),
            request_id: attempt.id.clone(),
        }
    }

    /// Says what an attempt comes to, and does nothing.
    fn judge(
        &self,
        board: &mut Board,
        attempt: &Attempt<'_>,
        (scope, lasting): (Scope, bool),
    ) -> Result<Judged, AnswerRefusal> {
        if board.instance.is_none_or(|instance| instance.to_string() != attempt.instance) {
            return Err(AnswerRefusal::Instance);
        }
        let id = &attempt.id;
        if let Some(claim) = board.claim(id) {
            return Err(AnswerRefusal::Answered(claim.outcome.clone()));
        }
        let to_codex = board.to_codex.clone().ok_or(AnswerRefusal::Lost)?;
        let entry = board.asked.get(id).ok_or(AnswerRefusal::Answered(Outcome::default()))?;
        let Entry { asked, is_whole, .. } = entry;
        if asked.needed.is_none() {
            return Err(AnswerRefusal::AtTheHost);
        }
        let is_other = |named: Option<&str>, here: &Option<String>| named.is_some() && named != here.as_deref();
        if attempt.digest != asked.digest
            || attempt.thread != asked.thread
            || is_other(attempt.turn, &asked.turn)
            || is_other(attempt.item, &asked.item)
        {
            return Err(AnswerRefusal::Digest);
        }
        let PassedAnswer { body, method, thread, choice, lessened } = match attempt.said {
            Said::Result(result) => board.open.check_result(id, result, scope, lasting)?,
            Said::Error(error) => board.open.check_error(id, error, scope)?,
        };
        if !choice.declines() && !is_whole {
            return Err(AnswerRefusal::AtTheHost);
        }
        if !choice.declines() && attempt.age > MAX_AGE {
            return Err(AnswerRefusal::Age);
        }
        let decision = if lessened.is_some() { Decision::Lessened } else { Decision::Passed };
        let audit = Audit {
            method: Some(method),
            thread,
            decision,
            changing: true,
            unguarded: false,
            answer: Some(choice),
            folder: None,
        };
        let answered = Answered { choice, lessened: lessened.map(Cow::Borrowed) };
        Ok(Judged { key: asked.key.clone(), body: body.into(), to_codex, audit, answered })
    }

    /// Has Codex get an answer, if it is still one.
    fn pass(
        &self,
        attempt: &Attempt<'_>,
        who: &Who,
        (scope, lasting): (Scope, bool),
        record: impl Fn(&Audit) -> bool,
    ) -> Result<(Key, Answered), AnswerRefusal> {
        let mut board = self.lock();
        let Judged { key, body, to_codex, audit, answered } = self.judge(&mut board, attempt, (scope, lasting))?;
        if !record(&audit) {
            return Err(AnswerRefusal::Unrecorded);
        }
        // Where sixteen wait, Codex does not read.
        to_codex.try_send(body).map_err(|_| AnswerRefusal::Lost)?;
        let outcome = Outcome { by: Some(who.clone()), choice: Some(answered.choice) };
        board.remember(key.id.clone(), outcome, ClaimState::Ours);
        Ok((key, answered))
    }

    /// What an attempt is about, as far as that is known.
    fn about(&self, attempt: &Attempt<'_>) -> (Option<&'static str>, Option<String>) {
        let board = self.lock();
        let asked = board.asked.get(&attempt.id).map(|entry| &entry.asked);
        let asked = asked.filter(|asked| asked.key.instance.to_string() == attempt.instance);
        asked.map(|asked| (asked.method, asked.thread.clone())).unzip()
    }

    fn item(&self, thread: &str, item: &RawValue) {
        let Ok(ItemHead { r#type, id, changes }) = serde_json::from_str(item.get()) else { return };
        if r#type == "fileChange"
            && let Some(changes) = changes
        {
            self.change(thread.to_owned(), id, Changes::read(changes));
        }
    }

    /// A change to files says what it is about, or something else than before.
    fn change(&self, thread: String, item: String, changes: Option<Changes>) {
        let mut board = self.lock();
        board.changes.retain(|known| known.thread != thread || known.item != item);
        let is_of = |entry: &&mut Entry| {
            let Asked { thread: of, item: about, .. } = &entry.asked;
            entry.params.is_some() && *of == thread && about.as_ref() == Some(&item)
        };
        let mut changed = Vec::new();
        for entry in board.asked.values_mut().filter(is_of) {
            let Some(params) = &entry.params else { continue };
            let Shown { texts, is_whole } = Shown::of(entry.asked.method, params, changes.as_ref());
            if texts != *entry.asked.shown {
                entry.asked.digest = HEXLOWER.encode(&digest(&texts));
                entry.asked.shown = Arc::new(texts);
                entry.is_whole = is_whole;
                changed.push(entry.asked.key.clone());
            }
        }
        for key in changed {
            let is_whole = board.asked.get(&key.id).is_some_and(|entry| entry.is_whole);
            let choices = board.choices(&key.id, is_whole);
            if let Some(entry) = board.asked.get_mut(&key.id) {
                entry.asked.choices = choices;
            }
            self.tell(Change::Opened(key));
        }
        if let Some(changes) = changes {
            board.changes.push_back(Item { thread, item, changes });
        }
        let kept = |board: &Board| board.changes.iter().map(|item| item.changes.kept()).sum::<usize>();
        while board.changes.len() > MAX_ITEMS || kept(&board) > MAX_CHANGES {
            board.changes.pop_front();
        }
    }

    fn reaches(&self, thread: &str, policy: &RawValue) {
        let mut board = self.lock();
        let reach = Reach::read(policy);
        if board.reach.len() >= MAX_THREADS {
            board.reach.clear();
        }
        match &reach {
            Some(reach) => board.reach.insert(thread.to_owned(), reach.clone()),
            None => board.reach.remove(thread),
        };
        for entry in board.asked.values_mut().filter(|entry| entry.asked.thread == thread) {
            if entry.asked.reach != reach {
                entry.asked.reach.clone_from(&reach);
                self.tell(Change::Opened(entry.asked.key.clone()));
            }
        }
    }

    /// Codex needs no answer any more.
    fn settle(&self, id: &RequestId) {
        let mut board = self.lock();
        let outcome = board.claim(id).map(|claim| {
            claim.state = ClaimState::Settled;
            claim.outcome.clone()
        });
        if outcome.is_none() {
            board.remember(id.clone(), Outcome::default(), ClaimState::Settled);
        }
        self.close(&mut board, id, outcome.unwrap_or_default());
    }

    fn close(&self, board: &mut Board, id: &RequestId, outcome: Outcome) {
        board.open.close(id);
        if let Some(Entry { asked: Asked { key, thread, .. }, .. }) = board.asked.remove(id) {
            self.tell(Change::Closed(Closed { key, thread, outcome }));
        }
    }

    fn tell(&self, change: Change) {
        // Nobody listening is fine.
        let _ = self.changes.send(change);
    }

    fn lock(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const FILES: &str = "item/fileChange/requestApproval";

impl Board {
    fn bytes(&self) -> usize {
        self.asked.values().flat_map(|entry| entry.asked.shown.iter()).map(String::len).sum()
    }

    fn changes_of(&self, thread: &str, item: &str) -> Option<&Changes> {
        let known = self.changes.iter().find(|known| known.thread == thread && known.item == item);
        known.map(|known| &known.changes)
    }

    /// What can be answered from afar, without what lasts.
    fn choices(&self, id: &RequestId, is_whole: bool) -> Vec<Choice> {
        let choices = self.open.choices(id, false).iter();
        choices.copied().filter(|choice| is_whole || choice.declines()).collect()
    }

    fn claim(&mut self, id: &RequestId) -> Option<&mut Claim> {
        self.outcomes.iter_mut().rev().find(|claim| claim.id == *id)
    }

    fn remember(&mut self, id: RequestId, outcome: Outcome, state: ClaimState) {
        if self.outcomes.len() >= MAX_OUTCOMES {
            self.outcomes.pop_front();
        }
        self.outcomes.push_back(Claim { id, outcome, state });
    }
}

impl Claim {
    fn is_settled(&self) -> bool {
        self.state == ClaimState::Settled
    }
}
