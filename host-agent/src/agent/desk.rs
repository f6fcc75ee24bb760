//! A client of Codex that the agent runs for a device: what the agent does in a device's name goes through that device's
//! firewall, and into the audit log, as if the device had sent it on a channel of its own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reachback_proto::ids::DeviceId;
use reachback_proto::scope::Scope;
use ring::rand::SystemRandom;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::bridge::{self, Recorder};
use super::environments::{Environment, Environments};
use crate::audit::AuditLog;
use crate::codex::overload::{Retries, is_overloaded, says_overloaded};
use crate::codex::{Adapter, Allowance, CodexConnection, CodexReceiver, CodexSender, CodexState, Text};
use crate::firewall::table::NOTIFICATIONS;
use crate::firewall::{CodexVerdict, Firewall, FromDevice};
use crate::state::devices::DeviceStore;
use crate::state::timestamp::Timestamp;

/// How long Codex may take to answer: it may have to load a thread, and start what the thread's folder configures.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a device waits for a Codex that is being started, or fails.
const START: Duration = Duration::from_secs(30);
/// Notifications that nobody looked at yet; the oldest go first. They are hints, never the only word.
const HEARD: usize = 256;
/// The notifications that are wanted: a message of a person was taken up.
const WANTED: [&str; 1] = ["item/started"];

/// Why a request of the agent's had no result.
#[derive(Debug)]
pub(super) enum CallError {
    /// The firewall refused it: a stable word, and a sentence.
    Refused { reason: String, message: String },
    /// Codex refused it, in its own words.
    Codex(String),
    /// The audit log can't be written, so nothing was sent.
    Unrecorded,
    /// Nobody knows whether Codex got it.
    Lost,
}

/// Whether an action is written to the audit log when it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Recording {
    /// This is the first time that it is sent.
    Once,
    /// It was, when it was sent before; what is refused now is written all the same.
    Done,
}

/// A device's place at an environment's Codex: a desk, opened when it is needed, with what the device may do then.
pub(super) struct Seat {
    device: DeviceId,
    environment: String,
    environments: Arc<Environments>,
    devices: Arc<DeviceStore>,
    audit: Arc<AuditLog>,
    desk: Option<Desk>,
}

impl Seat {
    /// Nothing is open yet.
    pub(super) fn new(
        (device, environment): (DeviceId, String),
        environments: Arc<Environments>,
        devices: Arc<DeviceStore>,
        audit: Arc<AuditLog>,
    ) -> Self {
        Self { device, environment, environments, devices, audit, desk: None }
    }

    /// The desk, with what the device may do now.
    pub(super) async fn desk(&mut self) -> Result<&mut Desk, CallError> {
        let scope = self.scope().ok_or_else(|| CallError::Refused {
            reason: "revoked".to_owned(),
            message: "this device is paused, or was taken off the host's list".to_owned(),
        })?;
        let mut desk = match self.desk.take() {
            Some(desk) => desk,
            None => {
                // Looked up for each desk: it may have been taken back, and be there anew.
                let environment = self.environments.find(&self.environment);
                let environment = environment
                    .ok_or_else(|| CallError::Codex("this host has no such environment any more".to_owned()))?;
                let recorder = Recorder {
                    device: self.device,
                    environment: environment.name.clone(),
                    log: Arc::clone(&self.audit),
                    work: Arc::clone(&environment.work),
                    withheld: Arc::clone(&environment.withheld),
                };
                // After a restart of the agent, devices are there before Codex is. One on another machine is only looked for
                // when it is wanted.
                if environment.codex.adapter() != Adapter::Ssh {
                    let mut codex = environment.codex.state();
                    let is_settled =
                        codex.wait_for(|state| matches!(state, CodexState::Ready { .. } | CodexState::Stopped));
                    let _ = timeout(START, is_settled).await;
                }
                Desk::open(environment, recorder, scope).await?
            }
        };
        desk.set_scope(scope);
        Ok(self.desk.insert(desk))
    }

    /// The desk, where it is open.
    pub(super) fn open_desk(&mut self) -> Option<&mut Desk> {
        self.desk.as_mut()
    }

    /// Closes the desk.
    pub(super) fn leave(&mut self) {
        self.desk = None;
    }

    fn scope(&self) -> Option<Scope> {
        let list = self.devices.current();
        let device = list.device(self.device).filter(|device| !device.paused && !list.paused);
        device.map(|device| device.scope)
    }
}

/// See the module's header.
pub(super) struct Desk {
    environment: Arc<Environment>,
    to_codex: CodexSender,
    from_codex: CodexReceiver,
    firewall: Firewall,
    recorder: Recorder,
    last: u64,
    heard: VecDeque<Value>,
}

impl Desk {
    /// A new connection for a device with this scope.
    async fn open(environment: Arc<Environment>, recorder: Recorder, scope: Scope) -> Result<Self, CallError> {
        let connecting = environment.connect(Allowance::default()).await;
        let CodexConnection { sender: to_codex, receiver: from_codex, .. } =
            connecting.map_err(|error| CallError::Codex(error.to_string()))?;
        let firewall = Firewall::new(environment.policy(scope));
        let mut desk = Self { environment, to_codex, from_codex, firewall, recorder, last: 0, heard: VecDeque::new() };
        let unwanted: Vec<_> = NOTIFICATIONS.iter().filter(|name| !WANTED.contains(name)).collect();
        let client = json!({ "name": "reachback", "title": "Reachback", "version": env!("CARGO_PKG_VERSION") });
        let capabilities = json!({ "experimentalApi": true, "optOutNotificationMethods": unwanted });
        desk.call("initialize", &json!({ "clientInfo": client, "capabilities": capabilities })).await?;
        desk.pass(json!({ "method": "initialized" }).to_string().as_bytes(), Recording::Once).await?;
        Ok(desk)
    }

    /// From the next request on, the device may do this.
    pub(super) fn set_scope(&mut self, scope: Scope) {
        self.firewall.set_scope(self.environment.scope(scope));
    }

    /// Whether the thread is open here.
    pub(super) fn has_open(&self, thread: &str) -> bool {
        self.firewall.has_open(thread)
    }

    /// Calls a method of Codex as the device.
    pub(super) async fn call(&mut self, method: &str, params: &impl Serialize) -> Result<Value, CallError> {
        #[derive(Serialize)]
        struct Request<'a, P> {
            id: u64,
            method: &'a str,
            params: &'a P,
        }
        let mut retries = Retries::default();
        timeout(PATIENCE, async {
            let mut recording = Recording::Once;
            loop {
                self.last += 1;
                let id = self.last;
                let request = serde_json::to_vec(&Request { id, method, params }).expect("parameters have string keys");
                if let Some(refusal) = self.pass(&request, recording).await? {
                    return Err(refused(&refusal));
                }
                let answer = self.answer_to(id).await?;
                let Some(error) = answer.get("error") else {
                    return Ok(answer.get("result").cloned().unwrap_or_default());
                };
                // It was not begun, so it is still the one action that was written down.
                match retries.pause(&SystemRandom::new()).filter(|_| is_overloaded(error)) {
                    Some(pause) => sleep(pause).await,
                    None => return Err(CallError::Codex(text(&error["message"]))),
                }
                recording = Recording::Done;
            }
        })
        .await
        .unwrap_or(Err(CallError::Lost))
    }

    /// The whole answer to a request.
    async fn answer_to(&mut self, id: u64) -> Result<Value, CallError> {
        loop {
            let message = self.next().await.ok_or(CallError::Lost)?;
            if message["id"] == id && message.get("method").is_none() {
                return Ok(message);
            }
        }
    }

    /// The next notification that is wanted; `None` when the connection has ended. Safe to cancel.
    pub(super) async fn hear(&mut self) -> Option<Value> {
        loop {
            if let Some(heard) = self.heard.pop_front() {
                return Some(heard);
            }
            self.next().await?;
        }
    }

    /// Sends a message if it may be sent; gives what the device would have been answered if not.
    async fn pass(&mut self, message: &[u8], recording: Recording) -> Result<Option<Bytes>, CallError> {
        let folders = Arc::clone(&self.firewall.policy().folders);
        folders.look(message).await;
        let verdict = match self.firewall.from_device(message) {
            FromDevice::Verdict(verdict) => verdict,
            FromDevice::Ask(question) => {
                let mut retries = Retries::default();
                let answer = loop {
                    self.send(question.to_codex.clone()).await?;
                    let answer = self.answer(|bytes| question.is_answered_by(bytes)).await;
                    let is_overloaded = answer.as_ref().is_some_and(|answer| says_overloaded(answer));
                    match retries.pause(&SystemRandom::new()).filter(|_| is_overloaded) {
                        Some(pause) => sleep(pause).await,
                        None => break answer,
                    }
                };
                if let Some(answer) = &answer {
                    folders.look(answer).await;
                }
                self.firewall.answered(*question, answer.as_deref())
            }
        };
        let scope = self.firewall.policy().scope;
        bridge::note(self.recorder.device, &verdict.audit);
        let is_new = recording == Recording::Once || verdict.to_codex.is_none();
        if is_new && let Err(error) = self.recorder.record(&verdict, scope) {
            tracing::error!(%error, "nothing is sent to codex while the audit log can't be written");
            return Err(CallError::Unrecorded);
        }
        match verdict.to_codex {
            Some(bytes) => self.send(bytes).await.map(|()| None),
            None => Ok(Some(verdict.to_device.into_iter().next_back().unwrap_or_default())),
        }
    }

    async fn answer(&mut self, is_it: impl Fn(&[u8]) -> bool) -> Option<Bytes> {
        loop {
            let bytes = Bytes::from(self.from_codex.next().await?.ok()?);
            match self.judged(bytes) {
                CodexVerdict::Own(bytes) if is_it(&bytes) => return Some(bytes),
                verdict => drop(self.take(verdict).await?),
            }
        }
    }

    /// The next message for the device; `None` when the connection has ended.
    async fn next(&mut self) -> Option<Value> {
        loop {
            let bytes = Bytes::from(self.from_codex.next().await?.ok()?);
            let verdict = self.judged(bytes);
            if let Some(message) = self.take(verdict).await? {
                return Some(message);
            }
        }
    }

    fn judged(&mut self, bytes: Bytes) -> CodexVerdict {
        let verdict = self.firewall.from_codex(bytes);
        self.recorder.found(&mut self.firewall);
        verdict
    }

    /// What is for the device in it; the outer `None` when the connection has ended.
    async fn take(&mut self, verdict: CodexVerdict) -> Option<Option<Value>> {
        match verdict {
            CodexVerdict::Forward(bytes) => {
                let message: Value = serde_json::from_slice(&bytes).ok()?;
                if message.get("id").is_none() && message["method"].as_str().is_some_and(|name| WANTED.contains(&name))
                {
                    if self.heard.len() >= HEARD {
                        self.heard.pop_front();
                    }
                    self.heard.push_back(message.clone());
                }
                Some(Some(message))
            }
            CodexVerdict::AnswerInAgent(answer, _) => {
                self.send(answer.message(Timestamp::now().unix())).await.ok()?;
                Some(None)
            }
            // What Codex asks is for those who can answer.
            CodexVerdict::Request(..) | CodexVerdict::Instead(..) | CodexVerdict::Drop(_) | CodexVerdict::Own(_) => {
                Some(None)
            }
        }
    }

    async fn send(&mut self, bytes: Bytes) -> Result<(), CallError> {
        // The firewall lets through what it parsed, so this is text.
        let text = Text::try_from(bytes).map_err(|_| CallError::Lost)?;
        self.to_codex.send(text).await.map_err(|_| CallError::Lost)
    }
}

fn refused(answer: &[u8]) -> CallError {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let error = &answer["error"];
    CallError::Refused { reason: text(&error["data"]["reason"]), message: text(&error["message"]) }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
