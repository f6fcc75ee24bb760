//! Prompts that run once: taken from a device under an id of its own, written down, and only then given to Codex.
//!
//! ```text
//!   device ── prompt/send ── take ──▶ journal ── desk (firewall, audit) ──▶ Codex
//!          ◀── receipt: taken ┘          │            │
//!          ◀── prompt/changed: started ──┴────────────┘
//! ```
//!
//! A prompt is carried out whether or not its device is still there: by a task for each device and environment, one
//! prompt after the other, each with the scope that the device has then. What the journal does not know for certain
//! (the agent was killed, or Codex's connection ended, while Codex was told) is looked up in the thread and its queue,
//! where Codex keeps the id: [`lookup`]. What is not found there is *unknown*, and is never sent again by the agent.

mod lookup;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reachback_proto::ids::DeviceId;
use reachback_relay::vital;
use ring::digest::{Context, SHA256};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::desk::{CallError, Desk, Seat};
use super::environments::Environments;
use crate::audit::AuditLog;
use crate::state::devices::DeviceStore;
use crate::state::journal::{Entry, Journal, JournalError, Key, PromptId, State, Taken};

/// Prompts of one device in one environment that wait for the one in hand.
const WAITING: usize = 64;
/// Receipts that a slow session may be behind before it is told to look for itself.
const CHANGES: usize = 256;
/// Bytes of prompts that wait, for all devices together, in units of [`UNIT`]: a few with pictures.
const ROOM: usize = (128 << 20) / UNIT;
/// In bytes.
const UNIT: usize = 1024;
/// How long a connection for a device stays when nothing is to be done.
const IDLE: Duration = Duration::from_secs(60);
/// How long a message that Codex took may take to stand in its thread.
const WRITTEN: Duration = Duration::from_secs(5);
/// A turn may end or begin between two looks at it. More often than this it does not.
const TRIES: usize = 3;
/// Longest sentence that is kept of a refusal, in characters.
const MAX_SENTENCE: usize = 500;

/// How a prompt is to reach its thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// Begins a turn; while one runs, it waits for its end in the thread's queue.
    Start,
    /// Joins the turn that runs; begins one where none does.
    Steer,
    /// Waits in the thread's queue.
    Queue,
}

/// Where a prompt goes.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// A thread that there is.
    Thread(String),
    /// A new one, with these parameters of Codex's `thread/start`.
    New(Box<RawValue>),
}

/// What a device wants done.
#[derive(Debug, Clone)]
pub(crate) struct Prompt {
    /// The device's id for it.
    pub id: PromptId,
    /// The environment's name.
    pub environment: String,
    /// Where it goes.
    pub target: Target,
    /// How.
    pub delivery: Delivery,
    /// For [`Delivery::Steer`]: the only turn that it is meant for.
    pub turn_id: Option<String>,
    /// Codex's input items, as the device wrote them.
    pub input: Box<RawValue>,
}

impl Prompt {
    /// What makes two prompts the same, in hexadecimal: the same text, to the same place.
    fn digest(&self) -> String {
        let mut context = Context::new(&SHA256);
        let to = match &self.target {
            Target::Thread(thread) => thread,
            Target::New(params) => params.get(),
        };
        for part in ["reachback prompt v1", &self.environment, to, self.input.get()] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        data_encoding::HEXLOWER.encode(context.finish().as_ref())
    }

    /// What it takes in memory while it waits, in units of [`UNIT`].
    fn units(&self) -> u32 {
        let start = if let Target::New(params) = &self.target { params.get().len() } else { 0 };
        u32::try_from((self.input.get().len() + start).div_ceil(UNIT)).unwrap_or(u32::MAX)
    }
}

/// Why a prompt was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// No such environment.
    #[error("this host has no environment of this name")]
    Environment,
    /// Another prompt has this id.
    #[error("another prompt was sent under this id")]
    Conflict,
    /// Too many wait, or too large ones.
    #[error("too many prompts wait to be given to Codex: send it again in a while")]
    Busy,
    /// It can't be remembered.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Why a prompt was not taken back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WithdrawError {
    /// Codex has it.
    #[error("it is too late: Codex has it")]
    TooLate(Box<Entry>),
    /// It can't be remembered.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Codex could not be asked.
    #[error("Codex could not be asked: try again")]
    Codex,
}

/// What is known of a prompt, and whether that is certain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Known {
    /// The journal has no such id: it never arrived, or more than seven days ago.
    Never,
    /// This.
    Entry(Entry),
    /// Codex may have it or not: neither the thread nor its queue shows it, yet.
    Unknown(Entry),
}

/// Something came of a prompt.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    /// What the journal says of it now.
    pub entry: Entry,
    /// Whether that is certain: if not, Codex may have it or not.
    pub is_certain: bool,
}

/// Takes prompts, and has them carried out.
#[derive(Debug)]
pub(crate) struct Prompts {
    journal: Arc<Journal>,
    environments: Arc<Environments>,
    workers: Mutex<HashMap<At, mpsc::Sender<Job>>>,
    wanted: mpsc::UnboundedSender<(At, mpsc::Receiver<Job>)>,
    changes: broadcast::Sender<Change>,
    in_hand: Mutex<HashSet<Key>>,
    room: Arc<Semaphore>,
}

/// A device, and the name of an environment.
type At = (DeviceId, String);

#[derive(Debug)]
enum Job {
    Run {
        key: Key,
        prompt: Box<Prompt>,
        _room: OwnedSemaphorePermit,
    },
    /// Finds out what became of it.
    LookUp {
        entry: Box<Entry>,
        done: oneshot::Sender<Option<Entry>>,
    },
    /// Takes it out of the thread's queue.
    Unqueue {
        entry: Box<Entry>,
        queued_id: String,
        done: oneshot::Sender<Result<Entry, WithdrawError>>,
    },
}

/// What carries prompts out; [`Runner::run`] is a task of the agent's.
pub(crate) struct Runner {
    prompts: Arc<Prompts>,
    devices: Arc<DeviceStore>,
    audit: Arc<AuditLog>,
    /// One for each worker at most: as few as there are devices and environments.
    wanted: mpsc::UnboundedReceiver<(At, mpsc::Receiver<Job>)>,
}

impl Prompts {
    /// Both halves.
    pub(crate) fn new(
        journal: Journal,
        environments: Arc<Environments>,
        devices: Arc<DeviceStore>,
        audit: Arc<AuditLog>,
    ) -> (Arc<Self>, Runner) {
        let (wanted_out, wanted) = mpsc::unbounded_channel();
        let (changes, _) = broadcast::channel(CHANGES);
        let prompts = Arc::new(Self {
            journal: Arc::new(journal),
            environments,
            workers: Mutex::default(),
            wanted: wanted_out,
            changes,
            in_hand: Mutex::default(),
            room: Arc::new(Semaphore::new(ROOM)),
        });
        (Arc::clone(&prompts), Runner { prompts, devices, audit, wanted })
    }

    /// The journal's id.
    pub(crate) fn journal(&self) -> &str {
        self.journal.id()
    }

    /// What becomes of prompts, from now on.
    pub(crate) fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// Takes a prompt. One that was taken before is not carried out again: what became of it is the answer.
    pub(crate) async fn send(&self, device: DeviceId, prompt: Prompt) -> Result<Known, SendError> {
        if self.environments.find(&prompt.environment).is_none() {
            return Err(SendError::Environment);
        }
        let at = (device, prompt.environment.clone());
        let place = self.worker(at).try_reserve_owned().map_err(|_| SendError::Busy)?;
        let room = Arc::clone(&self.room).try_acquire_many_owned(prompt.units()).map_err(|_| SendError::Busy)?;
        let now = now_ms();
        let entry = Entry {
            key: Key { device_id: device, id: prompt.id.clone() },
            environment: prompt.environment.clone(),
            thread_id: match &prompt.target {
                Target::Thread(thread) => Some(thread.clone()),
                Target::New(_) => None,
            },
            digest: prompt.digest(),
            taken_at: now,
            changed_at: now,
            state: State::Taken,
        };
        let digest = entry.digest.clone();
        match self.journal.take(entry).await? {
            Taken::New(entry) => {
                self.hold(&entry.key);
                let job = Job::Run { key: entry.key.clone(), prompt: Box::new(prompt), _room: room };
                place.send(job);
                Ok(Known::Entry(entry))
            }
            // One that was withdrawn before it came has nothing to be compared with.
            Taken::Known(known) if known.digest != digest && !known.digest.is_empty() => Err(SendError::Conflict),
            Taken::Known(known) => {
                drop(place);
                Ok(self.look_at(known).await)
            }
        }
    }

    /// What is known of a device's prompt.
    pub(crate) async fn read(&self, device: DeviceId, id: PromptId) -> Known {
        match self.journal.get(&Key { device_id: device, id }) {
            None => Known::Never,
            Some(entry) => self.look_at(entry).await,
        }
    }

    /// Takes a prompt back, if Codex has not begun with it. One that has not come yet will not be carried out.
    pub(crate) async fn withdraw(
        &self,
        device: DeviceId,
        id: PromptId,
        environment: &str,
    ) -> Result<Entry, WithdrawError> {
        let key = Key { device_id: device, id };
        let now = now_ms();
        let entry = Entry {
            key: key.clone(),
            environment: environment.to_owned(),
            thread_id: None,
            digest: String::new(),
            taken_at: now,
            changed_at: now,
            state: State::Withdrawn,
        };
        let known = match self.journal.take(entry).await? {
            Taken::New(entry) => return Ok(entry),
            Taken::Known(known) => known,
        };
        let withdrawn = self.change(key, |entry| {
            let is_in_time = entry.state == State::Taken;
            entry.state = State::Withdrawn;
            is_in_time
        });
        if let Some(withdrawn) = withdrawn.await? {
            return Ok(withdrawn);
        }
        match self.look_at(known).await {
            Known::Entry(entry) if entry.state == State::Withdrawn => Ok(entry),
            Known::Entry(entry) if matches!(entry.state, State::Queued { .. }) => self.unqueue(entry).await,
            Known::Entry(entry) | Known::Unknown(entry) => Err(WithdrawError::TooLate(Box::new(entry))),
            Known::Never => Err(WithdrawError::Codex),
        }
    }

    async fn unqueue(&self, entry: Entry) -> Result<Entry, WithdrawError> {
        let State::Queued { queued_id } = entry.state.clone() else { return Ok(entry) };
        let (done, answer) = oneshot::channel();
        let at = (entry.key.device_id, entry.environment.clone());
        let job = Job::Unqueue { entry: Box::new(entry), queued_id, done };
        self.worker(at).try_send(job).map_err(|_| WithdrawError::Codex)?;
        answer.await.unwrap_or(Err(WithdrawError::Codex))
    }

    /// Looks up what is not certain, or may have changed since.
    async fn look_at(&self, entry: Entry) -> Known {
        let is_open = matches!(entry.state, State::Handed | State::Queued { .. });
        if !is_open || self.is_held(&entry.key) {
            return Known::Entry(entry);
        }
        let (done, answer) = oneshot::channel();
        let at = (entry.key.device_id, entry.environment.clone());
        // Where too much waits to be looked up, it is not known now.
        let _ = self.worker(at).try_send(Job::LookUp { entry: Box::new(entry.clone()), done });
        match answer.await.ok().flatten() {
            Some(found) => Known::Entry(found),
            None => Known::Unknown(entry),
        }
    }

    async fn change(
        &self,
        key: Key,
        change: impl FnOnce(&mut Entry) -> bool + Send + 'static,
    ) -> Result<Option<Entry>, JournalError> {
        let changed = self.journal.change(key, now_ms(), change).await?;
        if let Some(entry) = &changed {
            // Nobody listening is fine.
            let _ = self.changes.send(Change { entry: entry.clone(), is_certain: true });
        }
        Ok(changed)
    }

    /// Something came of a prompt that nothing came of before.
    async fn becomes(&self, key: &Key, state: State) -> Option<Entry> {
        let change = move |entry: &mut Entry| {
            let is_open = !entry.state.is_final() && entry.state != state;
            entry.state = state;
            is_open
        };
        // What can't be written is looked up later.
        self.change(key.clone(), change).await.ok().flatten()
    }

    /// The way to a worker, which is there soon. An environment that is not there any more has none that works.
    fn worker(&self, at: At) -> mpsc::Sender<Job> {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.retain(|_, worker| !worker.is_closed());
        let worker = workers.entry(at.clone()).or_insert_with(|| {
            let (jobs_out, jobs) = mpsc::channel(WAITING);
            // Without a runner the agent ends.
            let _ = self.wanted.send((at, jobs));
            jobs_out
        });
        worker.clone()
    }

    fn hold(&self, key: &Key) {
        self.in_hand.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
    }

    fn let_go(&self, key: &Key) {
        self.in_hand.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    fn is_held(&self, key: &Key) -> bool {
        self.in_hand.lock().unwrap_or_else(PoisonError::into_inner).contains(key)
    }
}

impl Runner {
    /// Carries out what comes, until the agent ends.
    pub(crate) async fn run(mut self) {
        let mut running = JoinSet::new();
        loop {
            tokio::select! {
                wanted = self.wanted.recv() => {
                    let Some(((device, environment), jobs)) = wanted else { return };
                    let environments = Arc::clone(&self.prompts.environments);
                    let (devices, audit) = (Arc::clone(&self.devices), Arc::clone(&self.audit));
                    let worker = Worker {
                        prompts: Arc::clone(&self.prompts),
                        device,
                        jobs,
                        seat: Seat::new((device, environment), environments, devices, audit),
                        queued: HashSet::new(),
                    };
                    running.spawn(worker.run());
                }
                Some(ended) = running.join_next() => vital::raise(ended),
            }
        }
    }
}

/// Carries out the prompts of one device in one environment.
struct Worker {
    prompts: Arc<Prompts>,
    device: DeviceId,
    jobs: mpsc::Receiver<Job>,
    seat: Seat,
    /// What stands in queues of threads that the desk follows.
    queued: HashSet<PromptId>,
}

impl Worker {
    async fn run(mut self) {
        loop {
            let job = match self.seat.open_desk() {
                None => timeout(IDLE, self.jobs.recv()).await.ok().flatten(),
                Some(desk) => {
                    let heard = async {
                        tokio::select! {
                            job = self.jobs.recv() => Ok(job),
                            heard = desk.hear() => Err(heard),
                        }
                    };
                    match timeout(IDLE, heard).await {
                        Ok(Ok(job)) => job,
                        Ok(Err(Some(heard))) => {
                            self.started(&heard).await;
                            continue;
                        }
                        Ok(Err(None)) => {
                            self.seat.leave();
                            continue;
                        }
                        Err(_) if !self.queued.is_empty() => continue,
                        Err(_) => None,
                    }
                }
            };
            let Some(job) = job else {
                // What came in between is done by the next worker: nothing is taken after this.
                self.jobs.close();
                while let Some(job) = self.jobs.recv().await {
                    self.job(job).await;
                }
                return;
            };
            self.job(job).await;
        }
    }

    async fn job(&mut self, job: Job) {
        match job {
            Job::Run { key, prompt, _room } => {
                if let Err(error) = self.carry_out(&key, *prompt).await {
                    self.failed(&key, error).await;
                }
                self.prompts.let_go(&key);
            }
            Job::LookUp { entry, done } => {
                let found = match self.seat.desk().await {
                    Ok(desk) => lookup::find(desk, &entry).await,
                    Err(_) => None,
                };
                if let Some(State::Queued { .. }) = &found {
                    self.follow(&entry).await;
                }
                let entry = match found {
                    Some(state) if state == entry.state => Some(*entry),
                    Some(state) => self.prompts.becomes(&entry.key, state).await,
                    None => None,
                };
                let _ = done.send(entry);
            }
            Job::Unqueue { entry, queued_id, done } => {
                let _ = done.send(self.unqueue(*entry, queued_id).await);
            }
        }
    }

    async fn carry_out(&mut self, key: &Key, prompt: Prompt) -> Result<(), CallError> {
        let prompts = Arc::clone(&self.prompts);
        let Prompt { id, target, delivery, turn_id, input, .. } = prompt;
        let desk = self.seat.desk().await?;
        let thread = match target {
            Target::Thread(thread) => {
                if !desk.has_open(&thread) {
                    desk.call("thread/resume", &json!({ "threadId": thread, "excludeTurns": true })).await?;
                }
                thread
            }
            Target::New(params) => {
                let started = desk.call("thread/start", &params).await?;
                started["thread"]["id"].as_str().map(str::to_owned).ok_or(CallError::Lost)?
            }
        };
        let mut others = Vec::new();
        for attempt in 1..=TRIES {
            let running = running_turn(desk, &thread).await?;
            if let (Delivery::Steer, Some(wanted)) = (delivery, &turn_id)
                && running.as_ref() != Some(wanted)
            {
                let message = "the turn that this was meant for is over".to_owned();
                return Err(CallError::Refused { reason: "turn".to_owned(), message });
            }
            let (method, expected_turn_id) = match (delivery, running) {
                (Delivery::Steer, Some(turn)) => ("turn/steer", Some(turn)),
                (Delivery::Start | Delivery::Queue, Some(_)) => ("thread/queue/add", None),
                (_, None) => ("turn/start", None),
            };
            let params = Input {
                thread_id: &thread,
                input: &input,
                client_user_message_id: id.as_str(),
                expected_turn_id: expected_turn_id.as_deref(),
            };
            let of = thread.clone();
            let handed = prompts.change(key.clone(), move |entry| {
                // Withdrawn in the meantime, and nothing else.
                let is_meant = matches!(entry.state, State::Taken | State::Handed);
                entry.thread_id = Some(of);
                entry.state = State::Handed;
                is_meant
            });
            match handed.await {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(()),
                Err(_) => return Err(CallError::Unrecorded),
            }
            let state = match (method, desk.call(method, &params).await) {
                ("turn/steer", Err(CallError::Codex(_))) if attempt < TRIES => continue,
                (_, Err(error)) => return Err(error),
                ("turn/steer", Ok(answer)) => State::Started { turn_id: text(&answer["turnId"]), steered: true },
                ("thread/queue/add", Ok(answer)) => {
                    State::Queued { queued_id: text(&answer["queuedSubmission"]["id"]) }
                }
                (_, Ok(answer)) => {
                    // Before that, a thread that is new can't be opened by anybody.
                    others = heard_in_thread(desk, id.as_str()).await;
                    State::Started { turn_id: text(&answer["turn"]["id"]), steered: false }
                }
            };
            if matches!(state, State::Queued { .. }) {
                self.queued.insert(id);
            }
            prompts.becomes(key, state).await;
            for heard in others {
                self.started(&heard).await;
            }
            return Ok(());
        }
        Ok(())
    }

    /// What is to be said of a prompt that did not get through.
    async fn failed(&mut self, key: &Key, error: CallError) {
        let (reason, message) = match error {
            CallError::Refused { reason, message } => (reason, message),
            CallError::Codex(message) => ("codex".to_owned(), message),
            CallError::Unrecorded => {
                ("disk".to_owned(), "the host's disk does not take what has to be written first".to_owned())
            }
            CallError::Lost => {
                self.seat.leave();
                let entry = self.prompts.journal.get(key);
                if let Some(entry) = entry.filter(|entry| entry.state == State::Handed) {
                    // The thread has to say; whoever asks finds out.
                    let _ = self.prompts.changes.send(Change { entry, is_certain: false });
                    return;
                }
                ("codex".to_owned(), "Codex ended, or did not answer, before it was told: send it again".to_owned())
            }
        };
        let message = message.chars().take(MAX_SENTENCE).collect();
        self.prompts.becomes(key, State::Refused { reason, message }).await;
    }

    async fn unqueue(&mut self, entry: Entry, queued_id: String) -> Result<Entry, WithdrawError> {
        let thread = entry.thread_id.clone().unwrap_or_default();
        let desk = self.seat.desk().await.map_err(|_| WithdrawError::Codex)?;
        let params = json!({ "threadId": thread, "queuedSubmissionId": queued_id });
        let deleted = desk.call("thread/queue/delete", &params).await;
        let is_gone = matches!(&deleted, Ok(answer) if answer["deleted"] != false);
        if !is_gone {
            let state = lookup::find(desk, &entry).await;
            let Some(state) = state else { return Err(WithdrawError::Codex) };
            let now = self.prompts.becomes(&entry.key, state).await;
            return Err(WithdrawError::TooLate(Box::new(now.unwrap_or(entry))));
        }
        self.queued.remove(&entry.key.id);
        let withdrawn = self.prompts.becomes(&entry.key, State::Withdrawn).await;
        withdrawn.ok_or(WithdrawError::Codex)
    }

    /// Hears when a prompt that waits in a thread's queue is taken up. The thread is loaded for it: after a restart of
    /// Codex, the queue of one that is not loaded stands still.
    async fn follow(&mut self, entry: &Entry) {
        self.queued.insert(entry.key.id.clone());
        let thread = entry.thread_id.clone().unwrap_or_default();
        if let Ok(desk) = self.seat.desk().await
            && !desk.has_open(&thread)
        {
            // A device that may only look leaves it to those who may more.
            let _ = desk.call("thread/resume", &json!({ "threadId": thread, "excludeTurns": true })).await;
        }
    }

    /// A message of a person was taken up: perhaps one that waited in a queue.
    async fn started(&mut self, heard: &Value) {
        let params = &heard["params"];
        let id = PromptId::try_from(text(&params["item"]["clientId"])).ok();
        let Some(id) = id.filter(|id| self.queued.remove(id)) else { return };
        let key = Key { device_id: self.device, id };
        self.prompts.becomes(&key, State::Started { turn_id: text(&params["turnId"]), steered: false }).await;
    }
}

/// What `turn/start`, `turn/steer` and `thread/queue/add` take.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Input<'a> {
    thread_id: &'a str,
    input: &'a RawValue,
    client_user_message_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected_turn_id: Option<&'a str>,
}

/// Waits until a message stands in its thread, for a while; gives what else was heard.
async fn heard_in_thread(desk: &mut Desk, id: &str) -> Vec<Value> {
    let mut others = Vec::new();
    let hearing = async {
        while let Some(heard) = desk.hear().await {
            if heard["params"]["item"]["clientId"] == id {
                return;
            }
            others.push(heard);
        }
    };
    // Codex has said that it took it.
    let _ = timeout(WRITTEN, hearing).await;
    others
}

async fn running_turn(desk: &mut Desk, thread: &str) -> Result<Option<String>, CallError> {
    let read = desk.call("thread/read", &json!({ "threadId": thread, "includeTurns": false })).await?;
    if read["thread"]["status"]["type"] != "active" {
        return Ok(None);
    }
    let newest = json!({ "threadId": thread, "limit": 1, "sortDirection": "desc" });
    let turns = desk.call("thread/turns/list", &newest).await?;
    let turn = &turns["data"][0];
    Ok((turn["status"] == "inProgress").then(|| text(&turn["id"])))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Milliseconds since 1970, by the host's clock.
pub(crate) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
