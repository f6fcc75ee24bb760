//! What an SSH host asks of the person at one session's device, and what they answer.
//!
//! A question belongs to the session whose device had the host log in: no other hears of it, or can answer it, and it ends with
//! the session. What the machine says is kept apart from what the agent says, as it may say anything.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::Call;
use super::error::Reason;
use crate::agent::ssh_hosts::logins::AtADevice;
use crate::audit::{AuditError, Entry, What};
use crate::ssh::{Person, Prompt, Question, Round, Secret, UnknownKey};
use crate::state::timestamp::Timestamp;

/// How long a person has for all that is asked in one login. A server as it comes waits for two minutes (`LoginGraceTime`).
const PATIENCE: Duration = Duration::from_secs(100);
/// Of an answer, in bytes: a code has a few, and no one-time password that is in use has more.
pub(super) const MAX_ANSWER: usize = 1024;
/// Questions that wait for the session's task, which hands them on at once; a login has one at a time.
const WAITING: usize = 8;

/// A machine that is reached over SSH asks something, on the way to an environment.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(crate) struct SshAsked {
    /// Of this session.
    id: u64,
    /// Where the login leads.
    environment: String,
    /// `user@machine`: who asks, which may be a machine on the way.
    at: String,
    says: SshWords,
    /// How many are left to answer.
    seconds: u64,
}

/// The machine's own words, which may say anything. They are printable, and bounded.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
struct SshWords {
    name: String,
    /// May have several lines.
    instruction: String,
    /// Each wants an answer.
    prompts: Vec<SshPrompt>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
struct SshPrompt {
    words: String,
    /// Whether the answer may be seen while it is typed.
    echo: bool,
}

/// An answer that was not taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum AnswerError {
    #[error("nothing of this session waits for that answer")]
    NotOpen,
    #[error("an answer to each prompt is needed: {asked}")]
    Count { asked: usize },
    #[error("{MAX_ANSWER} bytes is the most of an answer")]
    TooLong,
}

/// The open questions of one session.
#[derive(Debug)]
pub(super) struct Asking {
    last: AtomicU64,
    open: Mutex<HashMap<u64, Open>>,
    ask: mpsc::Sender<SshAsked>,
}

#[derive(Debug)]
struct Open {
    environment: String,
    prompts: usize,
    answer: oneshot::Sender<Vec<Secret>>,
}

/// What was answered, until it goes to the machine.
pub(super) struct Taken {
    pub(super) environment: String,
    answers: Vec<Secret>,
    answer: oneshot::Sender<Vec<Secret>>,
}

impl Taken {
    /// Hands it on; whether somebody still waited for it.
    pub(super) fn pass(self) -> bool {
        self.answer.send(self.answers).is_ok()
    }
}

impl Asking {
    /// None yet; and what the session's device is asked.
    pub(super) fn new() -> (Arc<Self>, mpsc::Receiver<SshAsked>) {
        let (ask, asked) = mpsc::channel(WAITING);
        (Arc::new(Self { last: AtomicU64::new(0), open: Mutex::default(), ask }), asked)
    }

    /// Asks, and waits for the answers. Whoever drops this withdraws the question.
    async fn ask(&self, environment: &str, round: Round, until: Instant) -> Option<Vec<Secret>> {
        let Round { at, after_a_key: _, name, instruction, prompts } = round;
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let (answer, answered) = oneshot::channel();
        let environment = environment.to_owned();
        self.open().insert(id, Open { environment: environment.clone(), prompts: prompts.len(), answer });
        let _closed = Closed { asking: self, id };
        let prompts = prompts.into_iter().map(|Prompt { words, echo }| SshPrompt { words, echo }).collect();
        let seconds = until.saturating_duration_since(Instant::now()).as_secs();
        let says = SshWords { name, instruction, prompts };
        self.ask.send(SshAsked { id, environment, at, says, seconds }).await.ok()?;
        timeout_at(until, answered).await.ok()?.ok()
    }

    /// Takes the answers to a question, which is not open any more then; what is wrong with them leaves it open.
    pub(super) fn take(&self, id: u64, answers: Vec<Secret>) -> Result<Taken, AnswerError> {
        let mut open = self.open();
        let asked = open.get(&id).map(|open| open.prompts).ok_or(AnswerError::NotOpen)?;
        if answers.len() != asked {
            return Err(AnswerError::Count { asked });
        }
        if answers.iter().any(|answer| answer.len() > MAX_ANSWER) {
            return Err(AnswerError::TooLong);
        }
        let Open { environment, answer, .. } = open.remove(&id).ok_or(AnswerError::NotOpen)?;
        Ok(Taken { environment, answers, answer })
    }

    /// Closes a question to which the device answers nothing, so that its login ends; says where that leads.
    pub(super) fn decline(&self, id: u64) -> Result<String, AnswerError> {
        let Open { environment, .. } = self.open().remove(&id).ok_or(AnswerError::NotOpen)?;
        Ok(environment)
    }

    /// Withdraws all of them: the device may not answer any more.
    pub(super) fn withdraw(&self) {
        self.open().clear();
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Closed<'a> {
    asking: &'a Asking,
    id: u64,
}

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        self.asking.open().remove(&self.id);
    }
}

/// The person at a device that had the host log in. They are asked for a second proof, and for nothing else.
pub(super) struct Away {
    call: Call,
    alias: String,
    environment: String,
    /// Until when they may answer, once they were asked.
    until: Mutex<Option<Instant>>,
    was_asked: AtomicBool,
}

impl Away {
    pub(super) fn new(call: Call, alias: String, environment: String) -> Self {
        Self { call, alias, environment, until: Mutex::default(), was_asked: AtomicBool::new(false) }
    }

    /// Whether the device may be asked now.
    fn may_be_asked(&self) -> bool {
        let Call { context, caller, .. } = &self.call;
        context.ssh_hosts.asks_devices(&self.alias) && context.is_admin(caller.device).is_ok()
    }
}

impl Person for Away {
    fn trusts(&self, _: UnknownKey) -> BoxFuture<'_, bool> {
        async { false }.boxed()
    }

    fn answers(&self, _: Question) -> BoxFuture<'_, Option<Secret>> {
        async { None }.boxed()
    }

    fn answers_all(&self, round: Round) -> BoxFuture<'_, Option<Vec<Secret>>> {
        async move {
            if !round.after_a_key || !self.may_be_asked() {
                return None;
            }
            self.call.record(&self.environment, "ssh/asked", None).ok()?;
            self.was_asked.store(true, Ordering::Relaxed);
            let until = {
                let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
                *until.get_or_insert_with(|| Instant::now() + PATIENCE)
            };
            self.call.asking.ask(&self.environment, round, until).await
        }
        .boxed()
    }

    // A machine counts each, and so does the agent: who was wrong waits.
    fn tries(&self) -> usize {
        1
    }
}

impl AtADevice for Away {
    fn begins(&self) -> bool {
        self.call.record(&self.environment, "ssh/login", None).is_ok()
    }

    fn was_asked(&self) -> bool {
        self.was_asked.load(Ordering::Relaxed)
    }
}

impl Call {
    /// Writes what the device did about a machine that is reached over SSH, or why it may not.
    pub(super) fn record(&self, environment: &str, method: &str, refused: Option<Reason>) -> Result<(), AuditError> {
        let decision = if refused.is_some() { "refused" } else { "passed" };
        let what = What::Action {
            environment: environment.to_owned(),
            method: Some(method.to_owned()),
            thread: None,
            decision: decision.to_owned(),
            reason: refused.map(|reason| reason.name()),
            answer: None,
            folder: None,
            scope: self.scope,
            count: None,
            until: None,
        };
        let entry = Entry { at: Timestamp::now(), device_id: self.caller.device, by: None, what };
        let written = self.context.changes.audit.write(&entry);
        if let Err(error) = &written {
            tracing::error!(%error, "what a device did about an SSH host was not recorded");
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(prompts: usize) -> Round {
        let prompts = vec![Prompt { words: "Code:".into(), echo: false }; prompts];
        Round { at: "ada@devbox".into(), after_a_key: true, prompts, ..Round::default() }
    }

    fn typed(answers: &[&str]) -> Vec<Secret> {
        answers.iter().map(|answer| Secret::new((*answer).to_owned())).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_is_answered_once_with_as_many_answers_as_it_has_prompts() {
        let ((asking, mut asked), (other, _)) = (Asking::new(), Asking::new());
        let until = Instant::now() + PATIENCE;
        let answering = tokio::spawn({
            let asking = Arc::clone(&asking);
            async move { asking.ask("ssh:devbox", round(2), until).await }
        });
        let SshAsked { id, seconds, says, .. } = asked.recv().await.unwrap();
        assert_eq!((seconds, says.prompts.len()), (100, 2));
        let refused = |asking: &Asking, answers: &[&str]| asking.take(id, typed(answers)).err();
        assert_eq!(refused(&other, &["1", "2"]), Some(AnswerError::NotOpen), "another session has no such question");
        assert_eq!(refused(&asking, &["1"]), Some(AnswerError::Count { asked: 2 }));
        assert_eq!(refused(&asking, &["1", "2", "3"]), Some(AnswerError::Count { asked: 2 }));
        assert_eq!(refused(&asking, &["1", &"2".repeat(MAX_ANSWER + 1)]), Some(AnswerError::TooLong));
        let taken = asking.take(id, typed(&["1", &"2".repeat(MAX_ANSWER)])).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(refused(&asking, &["1", "2"]), Some(AnswerError::NotOpen));
        assert!(taken.pass());
        assert_eq!(answering.await.unwrap().unwrap()[0].as_str(), "1");
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_that_is_late_withdrawn_declined_or_left_is_not_open_any_more() {
        let (asking, mut asked) = Asking::new();
        let until = Instant::now() + PATIENCE;
        assert_eq!(asking.ask("ssh:devbox", round(1), until).await, None, "it waited for ever");
        let late = asked.recv().await.unwrap().id;
        assert_eq!(asking.take(late, typed(&["1"])).err(), Some(AnswerError::NotOpen));

        let until = Instant::now() + PATIENCE;
        let mut waiting = Box::pin(asking.ask("ssh:devbox", round(1), until));
        assert!(waiting.as_mut().now_or_never().is_none());
        let withdrawn = asked.recv().await.unwrap().id;
        assert_ne!(withdrawn, late);
        asking.withdraw();
        assert_eq!(waiting.await, None);
        assert_eq!(asking.take(withdrawn, typed(&["1"])).err(), Some(AnswerError::NotOpen));

        let mut waiting = Box::pin(asking.ask("ssh:devbox", round(1), until));
        assert!(waiting.as_mut().now_or_never().is_none());
        let declined = asked.recv().await.unwrap().id;
        assert_eq!(
            Asking::new().0.decline(declined),
            Err(AnswerError::NotOpen),
            "another session has no such question"
        );
        assert_eq!(asking.decline(declined).as_deref(), Ok("ssh:devbox"));
        assert_eq!(waiting.await, None);
        assert_eq!(asking.decline(declined), Err(AnswerError::NotOpen));
        assert_eq!(asking.take(declined, typed(&["1"])).err(), Some(AnswerError::NotOpen));

        let mut left = Box::pin(asking.ask("ssh:devbox", round(1), until));
        assert!(left.as_mut().now_or_never().is_none());
        drop(left);
        let left = asked.recv().await.unwrap().id;
        assert_eq!(asking.take(left, typed(&["1"])).err(), Some(AnswerError::NotOpen));
        assert!(asking.open().is_empty());
    }
}
