//! One channel: a device on one side, a connection to Codex on the other, a firewall between.
//!
//! Codex is drained without pause whatever the device does: what the device
//! does not take waits in an [`Outbox`], which is bounded and ends the channel
//! with a gap. The channel ends when either side does, so a late answer never
//! meets the question of another app-server.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use reachback_proto::frame::ChannelCloseReason;
use reachback_proto::ids::DeviceId;
use reachback_proto::scope::Scope;
use ring::rand::SystemRandom;
use tokio::sync::{Mutex as AsyncMutex, mpsc, watch};
use tokio::time::{sleep, timeout};

use super::environments::live_text::{Joining, LiveText};
use super::outbox::{MOST_WAIT, Outbox, Share, Shortener, Text, lean};
use super::requests::{Requests, Who};
use super::withheld::WithheldTexts;
use super::work;
use crate::audit::{AuditError, AuditLog, Entry, What};
use crate::codex::overload::{Retries, says_overloaded};
use crate::codex::{self, CodexConnection, CodexReceiver, CodexSender, Instance, ReceiveError, SendError};
use crate::firewall::parse::RequestId;
use crate::firewall::{Audit, CodexVerdict, Decision, DeviceVerdict, Firewall, FromDevice, Policy, Question, Took};
use crate::first_of::first_of;
use crate::session::{ChannelHandle, ChannelSender, Incoming};
use crate::state::timestamp::Timestamp;
use crate::state::work::{Place, WorkError, WorkStore};

/// Messages of a device that are read before Codex takes the one that goes first.
const AHEAD: usize = 16;
/// Answers of the agent itself on their way to Codex. As deep as its own queue: a Codex that asks for more without
/// reading is stuck.
const ANSWERS: usize = 128;

/// Answers to the agent's own questions that nobody has looked at yet: one is open at a time, a few may come late.
const OWN: usize = 8;
/// How long Codex may take to answer one: it reads the head of a file.
const ANSWER_PATIENCE: Duration = Duration::from_secs(20);

/// A piece of text waits as long as the link delays it anyway, at least so long: else a message of its own would go for every
/// token, and its length betray it.
const LEAST_WAIT: Duration = Duration::from_millis(20);

/// How a device wants to be told what Codex says, on all channels of a session.
#[derive(Debug)]
pub(crate) struct Wishes {
    /// Whether pieces of text are put together; else each goes as Codex sends it.
    pub merged_text: AtomicBool,
    /// Whether the end of a turn comes without the turn's items.
    pub lean_turns: AtomicBool,
    /// Whether text may come with the number of a lane in place of what is around it.
    pub short_text: AtomicBool,
    /// Whether an item that is complete may come without a text that has come so.
    pub short_items: AtomicBool,
}

impl Default for Wishes {
    fn default() -> Self {
        Self {
            merged_text: AtomicBool::new(true),
            lean_turns: AtomicBool::new(false),
            short_text: AtomicBool::new(false),
            short_items: AtomicBool::new(false),
        }
    }
}

/// The device's side of a channel, beside the channel itself.
pub(super) struct Party {
    /// How it wants to be told what Codex says.
    pub wishes: Arc<Wishes>,
    /// What the device calls itself.
    pub name: String,
    /// Where all devices' answers meet.
    pub requests: Arc<Requests>,
    /// What is being written in the environment.
    pub live_text: Arc<LiveText>,
    /// The most that any device may do in the environment.
    pub max_scope: Scope,
}

/// A channel's part in who is shown and who answers what Codex asks.
struct Witness<'a> {
    requests: &'a Requests,
    instance: Instance,
    who: Who,
}

impl Witness<'_> {
    fn shown(&self, id: &RequestId) {
        self.requests.shown_to(self.instance, id, &self.who);
    }

    /// Lets an answer through if it is the first.
    fn first(&self, verdict: DeviceVerdict) -> DeviceVerdict {
        match (&verdict.answers, verdict.audit.answer) {
            (Some(id), Some(choice)) if !self.requests.take(self.instance, id, &self.who, choice) => verdict.too_late(),
            _ => verdict,
        }
    }
}

/// Carries messages both ways until one side ends.
pub(super) async fn run(
    channel: ChannelHandle,
    codex: CodexConnection,
    scope: watch::Receiver<Scope>,
    policy: Policy,
    recorder: Recorder,
    share: Arc<Share>,
    party: Party,
) {
    let device = recorder.device;
    let Party { wishes, name, requests, live_text, max_scope } = party;
    let firewall = Mutex::new(Firewall::new(policy));
    let ChannelHandle { sender, incoming } = channel;
    let said = DeviceMessages { incoming, ahead: VecDeque::new() };
    let CodexConnection { sender: to_codex, receiver: from_codex, instance } = codex;
    let witness = Witness { requests: &requests, instance, who: Who { device_id: device, name } };
    let to_codex = ToCodex(AsyncMutex::new(to_codex));
    let (answers, answered) = mpsc::channel(ANSWERS);
    let (own, asked) = mpsc::channel(OWN);
    let session = share.limits().session;
    let (outbox, shortener) = (Outbox::new(share), Mutex::default());
    let to_device = ToDevice { outbox, sender: &sender, session, wishes: &wishes, shortener };
    let from_codex = FromCodex { receiver: from_codex, joining: Joining::new(live_text) };
    let (reason, why) = first_of([
        up(said, &sender, &firewall, &to_codex, asked, (&recorder, &witness)).boxed(),
        down(from_codex, &to_device, &firewall, answers, own, (&recorder, &witness)).boxed(),
        answer_codex(answered, &to_codex).boxed(),
        follow(scope, max_scope, &firewall).map(|()| SESSION_ENDED).boxed(),
    ])
    .await;
    tracing::debug!(device = %device.short(), channel = sender.number(), %why, "channel ends");
    for text in to_device.outbox.rest() {
        let _ = sender.send(text).await;
    }
    let _ = sender.close(reason, &why).await;
}

type End = (ChannelCloseReason, Cow<'static, str>);
const SESSION_ENDED: End = (ChannelCloseReason::Done, Cow::Borrowed("the session ended"));
const DEVICE_CLOSED: End = (ChannelCloseReason::Done, Cow::Borrowed("the device closed the channel"));
const CODEX_STUCK: End = (ChannelCloseReason::BackendGone, Cow::Borrowed("codex asks and does not read the answers"));
const CODEX_ENDED: End = (ChannelCloseReason::BackendGone, Cow::Borrowed("codex closed the connection"));

const GARBAGE: End =
    (ChannelCloseReason::Refused, Cow::Borrowed("the device sent something that is no message of Codex's protocol"));
const UNRECORDED: End = (
    ChannelCloseReason::Refused,
    Cow::Borrowed("the host's audit log can't be written, so nothing passes: is its disk full?"),
);

/// Writes what a device does to the host's audit log, and keeps for the owner what it is not told.
pub(crate) struct Recorder {
    pub device: DeviceId,
    /// The environment that it works in.
    pub environment: String,
    pub log: Arc<AuditLog>,
    /// What devices began, so that it can be ended.
    pub work: Arc<WorkStore>,
    /// What devices were not told.
    pub withheld: Arc<WithheldTexts>,
}

/// Why something was not written down, and so does not pass.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordError {
    /// The audit log can't be written.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The list of what devices began can't be, or has no room for this.
    #[error(transparent)]
    Work(#[from] WorkError),
}

impl Recorder {
    /// Writes what `verdict` lets begin, what changes something, and what was refused.
    pub(super) fn record(&self, verdict: &DeviceVerdict, scope: Scope) -> Result<(), RecordError> {
        if let Some(to_codex) = &verdict.to_codex {
            work::note(&self.work, self.device, &self.environment, verdict.audit.method, to_codex)?;
        }
        Ok(self.record_answer(&verdict.audit, scope)?)
    }

    /// The same for what begins nothing.
    pub(super) fn record_answer(&self, audit: &Audit, scope: Scope) -> Result<(), AuditError> {
        let reason = match &audit.decision {
            Decision::Refused(reason) => Some(reason.name().to_owned()),
            _ if !audit.changing => return Ok(()),
            _ => None,
        };
        let reason = reason.or_else(|| audit.unguarded.then(|| UNGUARDED.to_owned()));
        let what = What::Action {
            environment: self.environment.clone(),
            method: audit.method.map(str::to_owned),
            thread: audit.thread.clone(),
            decision: audit.decision.name().to_owned(),
            reason,
            answer: audit.answer.map(|answer| answer.name().to_owned()),
            folder: audit.folder.clone(),
            scope,
            count: None,
            until: None,
        };
        self.log.write(&Entry { at: Timestamp::now(), device_id: self.device, by: None, what })
    }

    /// Looks at what the firewall found in the message of Codex that it just judged.
    pub(super) fn found(&self, firewall: &mut Firewall) {
        if let Some(took) = firewall.took() {
            self.took(took);
        }
        if let Some(withheld) = firewall.withheld() {
            self.withheld.add(self.device, &self.environment, withheld);
        }
    }

    /// Writes into which turn Codex took a prompt.
    fn took(&self, Took { thread, prompt, turn }: Took) {
        let place = Place { environment: self.environment.clone(), thread };
        self.work.took(self.device, &place, prompt.as_deref(), &turn);
    }
}

/// The reason in a line about the model acting in a thread that the agent's own permission profile does not hold.
const UNGUARDED: &str = "unguarded";

/// The way to Codex, for the device's messages and for the agent's own: who comes first goes first.
struct ToCodex(AsyncMutex<CodexSender>);

impl ToCodex {
    /// Returns once Codex's socket has the message. `begins` is called before any of it goes there.
    ///
    /// Never returns once Codex is gone: what it said before is still read, and its end shows there.
    async fn send(&self, message: Bytes, begins: impl FnOnce()) -> Result<(), End> {
        // The firewall forwards what it parsed, so this is text.
        let Ok(text) = codex::Text::try_from(message) else { return Ok(()) };
        let mut sender = self.0.lock().await;
        begins();
        match sender.send(text).await {
            Ok(()) => Ok(()),
            Err(SendError::TooLong { .. }) => Err(CODEX_ENDED),
            Err(SendError::Closed | SendError::Io(_)) => std::future::pending().await,
        }
    }
}

/// The claim on what a device answers, until Codex hears the answer: others may answer where it does not.
struct Claim<'a> {
    witness: &'a Witness<'a>,
    /// The question.
    id: Option<RequestId>,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if let Some(id) = &self.id {
            self.witness.requests.give_back(self.witness.instance, id);
        }
    }
}

/// What the device says. While Codex does not take it, some is read ahead, so that the device's end is noticed.
struct DeviceMessages {
    incoming: mpsc::UnboundedReceiver<Incoming>,
    ahead: VecDeque<(u64, Bytes)>,
}

impl DeviceMessages {
    /// The next message, with its number.
    async fn next(&mut self) -> Result<(u64, Bytes), End> {
        match self.ahead.pop_front() {
            Some(message) => Ok(message),
            None => self.read().await,
        }
    }

    /// Waits for the end. Safe to cancel.
    async fn ended(&mut self) -> End {
        while self.ahead.len() < AHEAD {
            match self.read().await {
                Ok(message) => self.ahead.push_back(message),
                Err(end) => return end,
            }
        }
        std::future::pending().await
    }

    async fn read(&mut self) -> Result<(u64, Bytes), End> {
        match self.incoming.recv().await {
            Some(Incoming::Message { seq, bytes }) => Ok((seq, bytes)),
            Some(Incoming::Closed { .. }) => Err(DEVICE_CLOSED),
            None => Err(SESSION_ENDED),
        }
    }
}

async fn up(
    mut said: DeviceMessages,
    sender: &ChannelSender,
    firewall: &Mutex<Firewall>,
    to_codex: &ToCodex,
    mut asked: mpsc::Receiver<Bytes>,
    (recorder, witness): (&Recorder, &Witness<'_>),
) -> End {
    let folders = Arc::clone(&firewall.lock().unwrap_or_else(PoisonError::into_inner).policy().folders);
    loop {
        let (seq, bytes) = match said.next().await {
            Ok(message) => message,
            Err(end) => return end,
        };
        let locked = || firewall.lock().unwrap_or_else(PoisonError::into_inner);
        folders.look(&bytes).await;
        let step = locked().from_device(&bytes);
        let verdict = match step {
            FromDevice::Verdict(verdict) => verdict,
            FromDevice::Ask(question) => {
                let answer = tokio::select! {
                    answer = ask(&question, to_codex, &mut asked) => answer,
                    end = said.ended() => Err(end),
                };
                let answer = match answer {
                    Ok(answer) => answer,
                    Err(end) => return end,
                };
                if let Some(answer) = &answer {
                    folders.look(answer).await;
                }
                locked().answered(*question, answer.as_deref())
            }
        };
        let verdict = witness.first(verdict);
        let mut claim = Claim { witness, id: verdict.answers.clone() };
        let scope = locked().policy().scope;
        note(recorder.device, &verdict.audit);
        if let Err(error) = recorder.record(&verdict, scope) {
            tracing::error!(%error, "nothing passes to codex while the audit log can't be written");
            return UNRECORDED;
        }
        if verdict.is_garbage {
            return GARBAGE;
        }
        for bytes in verdict.to_device {
            if sender.send(bytes).await.is_err() {
                return SESSION_ENDED;
            }
        }
        if let Some(message) = verdict.to_codex {
            let sent = tokio::select! {
                // Mostly it is sent at once.
                biased;
                sent = to_codex.send(message, || claim.id = None) => sent,
                end = said.ended() => Err(end),
            };
            if let Err(end) = sent {
                return end;
            }
            if let Some(id) = verdict.answers {
                witness.requests.handed(witness.instance, &id);
            }
        }
        // Acknowledged once Codex has it.
        if sender.handled(seq).is_err() {
            return SESSION_ENDED;
        }
    }
}

/// Puts the agent's own question to Codex, again where that has too much to do.
async fn ask(question: &Question, to_codex: &ToCodex, asked: &mut mpsc::Receiver<Bytes>) -> Result<Option<Bytes>, End> {
    let mut retries = Retries::default();
    loop {
        to_codex.send(question.to_codex.clone(), || ()).await?;
        let answer = answer(question, asked).await;
        let is_overloaded = answer.as_ref().is_some_and(|answer| says_overloaded(answer));
        match retries.pause(&SystemRandom::new()).filter(|_| is_overloaded) {
            Some(pause) => sleep(pause).await,
            None => return Ok(answer),
        }
    }
}

/// What Codex says to the agent's own question; `None` when it takes too long.
async fn answer(question: &Question, asked: &mut mpsc::Receiver<Bytes>) -> Option<Bytes> {
    let answered = async {
        loop {
            let message = asked.recv().await?;
            if question.is_answered_by(&message) {
                return Some(message);
            }
        }
    };
    timeout(ANSWER_PATIENCE, answered).await.ok().flatten()
}

/// Says in the log what did not simply pass. Method and thread are Codex's own words, never a device's.
pub(super) fn note(device: DeviceId, audit: &Audit) {
    let Audit { method, thread, decision, .. } = audit;
    match decision {
        Decision::Passed => {}
        Decision::Refused(_) => tracing::info!(device = %device.short(), method, thread, ?decision, "refused"),
        _ => tracing::debug!(device = %device.short(), method, thread, ?decision, "changed on the way"),
    }
}

/// The way to the device: past the outbox while the device keeps up, except for text.
struct ToDevice<'a> {
    outbox: Outbox,
    sender: &'a ChannelSender,
    /// Bytes handed to the session at once.
    session: usize,
    wishes: &'a Wishes,
    /// Sees what goes to the session just before it goes, past the outbox or out of it.
    shortener: Mutex<Shortener>,
}

impl ToDevice<'_> {
    async fn send(&self, message: Bytes) -> Result<(), End> {
        let message = if self.wishes.lean_turns.load(Ordering::Relaxed) { lean(message) } else { message };
        let piece = self.wishes.merged_text.load(Ordering::Relaxed).then(|| Text::read(&message)).flatten();
        let kept = if let Some(piece) = piece {
            self.outbox.hold(piece, self.sender.delay().clamp(LEAST_WAIT, MOST_WAIT)).await
        } else if self.outbox.is_idle() && !Outbox::is_large(&message) && self.sender.is_writable(self.session) {
            return self.sender.send(self.omit(message)).await.map_err(|_| SESSION_ENDED);
        } else {
            self.outbox.push(message).await
        };
        kept.map_err(|error| {
            tracing::warn!(%error, "a channel is given up");
            (ChannelCloseReason::Gap, error.to_string().into())
        })
    }

    /// Hands over what waits, as the session takes it, until the outbox is finished.
    async fn forward(&self) -> Result<(), End> {
        loop {
            self.sender.writable(self.session).await;
            let message = self.outbox.pop().await.map_err(|error| {
                tracing::error!(%error, "what was kept for a device can't be read again");
                (ChannelCloseReason::Gap, "what the host kept on disk can't be read again".into())
            })?;
            let Some(mut message) = message else { return Ok(()) };
            if self.wishes.short_text.load(Ordering::Relaxed) {
                message = self.shortener().shorten(message);
            }
            self.sender.send(self.omit(message)).await.map_err(|_| SESSION_ENDED)?;
        }
    }

    /// Without a text that the device has, where it wants that.
    fn omit(&self, message: Bytes) -> Bytes {
        if self.wishes.short_items.load(Ordering::Relaxed) { self.shortener().omit(message) } else { message }
    }

    fn shortener(&self) -> MutexGuard<'_, Shortener> {
        self.shortener.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What Codex says to a device: on its own connection, and for what it joined in mid-turn on the agent's.
struct FromCodex {
    receiver: CodexReceiver,
    joining: Joining,
}

impl FromCodex {
    /// The next message; `None` at the end of the device's own connection.
    async fn next(&mut self) -> Option<Result<Bytes, ReceiveError>> {
        loop {
            tokio::select! {
                message = self.receiver.next() => match message? {
                    Ok(text) => {
                        let bytes = Bytes::from(text);
                        if self.joining.passes(&bytes) {
                            return Some(Ok(bytes));
                        }
                    }
                    Err(error) => return Some(Err(error)),
                },
                piece = self.joining.next() => return Some(Ok(piece)),
            }
        }
    }
}

/// Until Codex or the session ends. What Codex said before it ended still goes to the device.
async fn down(
    from_codex: FromCodex,
    to_device: &ToDevice<'_>,
    firewall: &Mutex<Firewall>,
    answers: mpsc::Sender<Bytes>,
    own: mpsc::Sender<Bytes>,
    host: (&Recorder, &Witness<'_>),
) -> End {
    /// Of the two ways, which has ended.
    enum Ended {
        Drained(End),
        Forwarded(Result<(), End>),
    }
    let drained = drain(from_codex, to_device, firewall, answers, own, host).map(Ended::Drained);
    let forwarded = to_device.forward().map(Ended::Forwarded);
    let mut ways = FuturesUnordered::from_iter([drained.boxed(), forwarded.boxed()]);
    let mut end = SESSION_ENDED;
    while let Some(ended) = ways.next().await {
        match ended {
            Ended::Drained(why) if why.0 == ChannelCloseReason::BackendGone => {
                to_device.outbox.finish();
                end = why;
            }
            Ended::Drained(why) => return why,
            Ended::Forwarded(Err(why)) => return why,
            Ended::Forwarded(Ok(())) => return end,
        }
    }
    end
}

async fn drain(
    mut from_codex: FromCodex,
    to_device: &ToDevice<'_>,
    firewall: &Mutex<Firewall>,
    answers: mpsc::Sender<Bytes>,
    own: mpsc::Sender<Bytes>,
    (recorder, witness): (&Recorder, &Witness<'_>),
) -> End {
    let device = witness.who.device_id;
    while let Some(message) = from_codex.next().await {
        let bytes = match message {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::warn!(%error, "codex's connection failed");
                return match error {
                    ReceiveError::TooLong | ReceiveError::Gap => (ChannelCloseReason::Gap, error.to_string().into()),
                    _ => CODEX_ENDED,
                };
            }
        };
        let locked = || firewall.lock().unwrap_or_else(PoisonError::into_inner);
        let (verdict, so_far) = {
            let mut firewall = locked();
            let verdict = firewall.from_codex(bytes);
            recorder.found(&mut firewall);
            let so_far = match (&verdict, firewall.joined()) {
                (CodexVerdict::Forward(answer), Some(thread)) => {
                    from_codex.joining.join(&thread, answer, firewall.unwanted())
                }
                _ => Vec::new(),
            };
            (verdict, so_far)
        };
        let sent = match verdict {
            CodexVerdict::Forward(bytes) => to_device.send(bytes).await,
            CodexVerdict::Request(bytes, id) => {
                witness.shown(&id);
                to_device.send(bytes).await
            }
            CodexVerdict::Instead(bytes, audit) => {
                note(device, &audit);
                to_device.send(bytes).await
            }
            CodexVerdict::AnswerInAgent(answer, audit) => {
                note(device, &audit);
                // Never waits: a Codex that reads only once it is read would wait for us.
                if answers.try_send(answer.message(Timestamp::now().unix())).is_err() {
                    return CODEX_STUCK;
                }
                Ok(())
            }
            CodexVerdict::Drop(audit) => {
                note(device, &audit);
                Ok(())
            }
            // Never waits, like the above: where it is full, nobody waits for this one.
            CodexVerdict::Own(bytes) => {
                let _ = own.try_send(bytes);
                Ok(())
            }
        };
        if let Err(end) = sent {
            return end;
        }
        for message in so_far {
            let verdict = locked().from_codex(message);
            if let CodexVerdict::Forward(bytes) = verdict
                && let Err(end) = to_device.send(bytes).await
            {
                return end;
            }
        }
    }
    CODEX_ENDED
}

/// Gives Codex the agent's answers to what it asks.
async fn answer_codex(mut answered: mpsc::Receiver<Bytes>, to_codex: &ToCodex) -> End {
    while let Some(answer) = answered.recv().await {
        if let Err(end) = to_codex.send(answer, || ()).await {
            return end;
        }
    }
    // Codex has ended: what it said before goes on to the device.
    std::future::pending().await
}

/// Lets a change of scope take hold at once.
async fn follow(mut scope: watch::Receiver<Scope>, max_scope: Scope, firewall: &Mutex<Firewall>) {
    while scope.changed().await.is_ok() {
        let now = max_scope.min(*scope.borrow_and_update());
        firewall.lock().unwrap_or_else(PoisonError::into_inner).set_scope(now);
    }
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;
    use serde_json::{Value, json};

    use super::*;
    use crate::agent::outbox::{OutboxLimits, Outboxes};
    use crate::codex::permissions::Profiles;
    use crate::codex::testing::{Server, connection};
    use crate::firewall::ceiling::Ceiling;
    use crate::firewall::folders::NoFolders;
    use crate::firewall::responses::Choice;
    use crate::session::{StartedSession, testing};

    const PATIENCE: Duration = Duration::from_secs(30);
    /// Messages between Codex and its connection: few.
    const ROOM: usize = 8;

    /// Asks what the agent answers, without reading the answers.
    async fn ask(server: &Server, times: usize) {
        for id in 0..times {
            let ask = format!(r#"{{"id":{id},"method":"currentTime/read","params":{{"threadId":"t"}}}}"#);
            if server.send(ask).await.is_err() {
                return;
            }
        }
    }

    /// A bridge between a device and a Codex that a test plays.
    struct Bridged {
        device: ChannelHandle,
        server: Server,
        requests: Arc<Requests>,
        instance: Instance,
        _sessions: [StartedSession; 2],
        _scope: watch::Sender<Scope>,
        home: tempfile::TempDir,
    }

    async fn bridged(merged_text: bool) -> Bridged {
        bridged_as(merged_text, Scope::View, ROOM).await
    }

    /// The same for a device that may do this, with room for so many messages between Codex and its connection.
    async fn bridged_as(merged_text: bool, scope: Scope, room: usize) -> Bridged {
        let (device, host, _sessions) = testing::channel().await;
        let (connection, server) = connection(room);
        let instance = connection.instance;
        let (_scope, scopes) = watch::channel(scope);
        let policy = Policy {
            scope,
            lasting_grants: false,
            ceiling: Arc::new(Ceiling::default()),
            folders: Arc::new(NoFolders),
            profiles: Arc::new(Profiles::new(&SystemRandom::new(), Vec::new(), None).unwrap()),
            kept: Arc::default(),
            providers: Arc::default(),
            is_own_codex: true,
        };
        let home = tempfile::tempdir().unwrap();
        let recorder = Recorder {
            device: DeviceId([1; 16]),
            environment: "test".into(),
            log: Arc::new(AuditLog::open(home.path()).unwrap()),
            work: Arc::new(WorkStore::open(home.path(), 0).unwrap()),
            withheld: Arc::default(),
        };
        let share = Outboxes::new(OutboxLimits::default(), home.path().into()).share(recorder.device);
        let requests = Arc::new(Requests::new("test", crate::agent::requests::changes()));
        let wishes = Arc::new(Wishes { merged_text: AtomicBool::new(merged_text), ..Wishes::default() });
        let party = Party {
            wishes,
            name: "phone".into(),
            requests: Arc::clone(&requests),
            live_text: Arc::default(),
            max_scope: Scope::Admin,
        };
        tokio::spawn(run(host, connection, scopes, policy, recorder, share, party));
        Bridged { device, server, requests, instance, _sessions, _scope, home }
    }

    #[tokio::test]
    async fn codex_is_drained_while_it_does_not_read_and_let_go_when_it_never_does() {
        let mut bridged = bridged(true).await;
        let (device, server) = (&mut bridged.device, &bridged.server);
        let asking = async {
            ask(server, ANSWERS / 2).await;
            server.send(r#"{"method":"thread/closed","params":{"threadId":"t"}}"#).await.unwrap();
        };
        timeout(PATIENCE, asking).await.expect("codex is not read");
        let message = timeout(PATIENCE, device.incoming.recv()).await.expect("nothing reaches the device");
        assert!(matches!(message, Some(Incoming::Message { .. })), "got {message:?}");

        timeout(PATIENCE, ask(server, 10 * ANSWERS)).await.expect("codex is neither read nor let go");
        let closed = timeout(PATIENCE, device.incoming.recv()).await.expect("the device is not told");
        assert!(
            matches!(closed, Some(Incoming::Closed { reason: ChannelCloseReason::BackendGone, .. })),
            "got {closed:?}"
        );
    }

    #[tokio::test]
    async fn an_answer_that_codex_has_not_heard_when_its_channel_ends_is_anothers_to_give() {
        let Bridged { mut device, server, requests, instance, _sessions, _scope, home } =
            bridged_as(true, Scope::Approve, 1).await;
        let _to_codex = requests.connected(instance);
        // Of what the agent answers itself, one fits and one waits: the device's answer stands behind that.
        ask(&server, 2).await;
        let question = json!({ "id": 7, "method": "item/commandExecution/requestApproval", "params": {
            "threadId": "t", "turnId": "u", "itemId": "i", "startedAtMs": 5, "command": "ls",
        } });
        server.send(question.to_string()).await.unwrap();
        let shown = timeout(PATIENCE, device.incoming.recv()).await.expect("nothing reaches the device");
        assert!(matches!(shown, Some(Incoming::Message { .. })), "got {shown:?}");
        let answer = json!({ "id": 7, "result": { "decision": "decline" } }).to_string();
        device.sender.send(answer.into()).await.unwrap();
        let is_recorded = || {
            let lines = std::fs::read_dir(home.path().join("host/audit")).into_iter().flatten().flatten();
            lines
                .map(|file| std::fs::read_to_string(file.path()).unwrap_or_default())
                .any(|text| text.contains("requestApproval"))
        };
        timeout(PATIENCE, async {
            while !is_recorded() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("the answer is not recorded");

        device.sender.close(ChannelCloseReason::Done, "").await.unwrap();
        let (id, other) = (RequestId::Number(7), Who { device_id: DeviceId([2; 16]), name: "other".into() });
        timeout(PATIENCE, async {
            while !requests.take(instance, &id, &other, Choice::Accept) {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("nobody else can answer");
        drop(server);
    }

    #[tokio::test]
    async fn a_device_is_told_of_a_gap_as_one_and_of_codexs_end_as_that_behind_what_was_said() {
        for (error, wanted) in [
            (ReceiveError::Gap, ChannelCloseReason::Gap),
            (ReceiveError::TooLong, ChannelCloseReason::Gap),
            (ReceiveError::Protocol, ChannelCloseReason::BackendGone),
        ] {
            let Bridged { mut device, server, _sessions, _scope, .. } = bridged(true).await;
            let what = error.to_string();
            server.send(r#"{"method":"thread/closed","params":{"threadId":"t"}}"#).await.unwrap();
            server.fail(error).await;
            let mut next =
                async || timeout(PATIENCE, device.incoming.recv()).await.expect("nothing reaches the device");
            let said = next().await;
            assert!(matches!(said, Some(Incoming::Message { .. })), "{what}: {said:?}");
            let end = next().await;
            assert!(matches!(&end, Some(Incoming::Closed { reason, .. }) if *reason == wanted), "{what}: {end:?}");
        }
    }

    /// What reaches the device of `pieces` pieces of text, a message behind half of them, and Codex's end.
    async fn told(merged_text: bool, pieces: usize) -> Vec<Value> {
        let Bridged { mut device, server, _sessions, _scope, .. } = bridged(merged_text).await;
        for n in 0..pieces {
            if n == pieces / 2 {
                let closed = json!({ "method": "thread/closed", "params": { "threadId": "other" } });
                server.send(closed.to_string()).await.unwrap();
            }
            let params = json!({ "threadId": "t", "turnId": "u", "itemId": "i", "delta": format!("{n} ") });
            let piece = json!({ "method": "item/agentMessage/delta", "params": params });
            server.send(piece.to_string()).await.unwrap();
        }
        drop(server);
        let mut told = Vec::new();
        loop {
            match timeout(PATIENCE, device.incoming.recv()).await.expect("nothing reaches the device") {
                Some(Incoming::Message { seq, bytes }) => {
                    device.sender.handled(seq).unwrap();
                    told.push(serde_json::from_slice(&bytes).unwrap());
                }
                _ => return told,
            }
        }
    }

    /// The text before the other message and after it.
    fn texts(told: &[Value]) -> Vec<String> {
        let delta = |message: &Value| message["params"]["delta"].as_str().map(str::to_owned);
        let parts = told.split(|message| message["method"] == "thread/closed");
        parts.map(|part| part.iter().filter_map(delta).collect()).collect()
    }

    #[tokio::test]
    async fn text_is_put_together_in_order_and_the_end_of_codex_leaves_none_behind() {
        let told = told(true, 1000).await;
        let wanted = |from, to| (from..to).map(|n| format!("{n} ")).collect::<String>();
        assert_eq!(texts(&told), [wanted(0, 500), wanted(500, 1000)]);
        assert!(told.len() < 1000, "nothing was put together");
    }

    #[tokio::test]
    async fn every_piece_goes_by_itself_to_a_device_that_wants_it_so() {
        let told = told(false, 1000).await;
        assert_eq!(told.len(), 1001);
        assert_eq!(told[7]["params"]["delta"], "7 ", "{}", told[7]);
    }
}
