//! `request/list`, `answer/send`: what Codex asks, and answers that are bound to what a device showed.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use reachback_proto::scope::Scope;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::error::{Reason, Refusal};
use super::notices::Notice;
use super::{ApiContext, Call, Caller};
use crate::agent::bridge::Recorder;
use crate::agent::environments::Environment;
use crate::agent::prompts::now_ms;
use crate::agent::requests::{
    AnswerRefusal, Answered, Asked, Attempt, Change, Closed, Key, MAX_AGE, Outcome, Reach, Said, Who,
};
use crate::firewall::parse::RequestId;
use crate::firewall::responses::{AnswerError, Choice};

/// Of a list, beside what is shown: names of devices, ids, and what the session adds.
const AROUND: usize = 16 << 10;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub(super) struct RequestListParams {
    /// Only what is asked there.
    environment: Option<String>,
    /// Only this request.
    #[cfg_attr(test, ts(type = "string | number", optional))]
    request_id: Option<RequestId>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) struct RequestListResult {
    /// Oldest first.
    data: Vec<RequestInfo>,
}

/// What Codex asks.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub(crate) struct RequestInfo {
    environment: String,
    /// The run of Codex that asks: its numbers begin anew with each.
    instance: String,
    #[cfg_attr(test, ts(type = "string | number"))]
    request_id: RequestId,
    thread_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    turn_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    item_id: Option<String>,
    /// Codex's name for this kind of request.
    method: &'static str,
    /// When Codex asked, in milliseconds since 1970 by the host's clock.
    opened_at: u64,
    /// For a person: labels and texts in turn. Left out where the list would be too long; ask for it alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    shown: Option<Vec<String>>,
    /// Of `shown`, in hex.
    digest: String,
    /// What the thread may reach, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    reach: Option<Reach>,
    /// The scope of those who may answer; none, where only the host's own terminal can.
    #[cfg_attr(test, ts(type = "Scope", optional))]
    #[serde(skip_serializing_if = "Option::is_none")]
    needed: Option<Scope>,
    /// What this device may answer.
    answers: Vec<Choice>,
    /// The devices that were shown it.
    shown_to: Vec<Who>,
}

/// One more device was shown a request.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(crate) struct RequestShown {
    environment: String,
    instance: String,
    #[cfg_attr(test, ts(type = "string | number"))]
    request_id: RequestId,
    shown_to: Vec<Who>,
}

/// A request needs no answer any more.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub(crate) struct RequestClosed {
    environment: String,
    instance: String,
    #[cfg_attr(test, ts(type = "string | number"))]
    request_id: RequestId,
    thread_id: String,
    /// Who answered; null, where that was at the host, or it is no longer asked.
    #[cfg_attr(test, ts(type = "Who | null"))]
    by: Option<Who>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<Choice>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub(super) struct AnswerSendParams {
    environment: String,
    instance: String,
    #[cfg_attr(test, ts(type = "string | number"))]
    request_id: RequestId,
    thread_id: String,
    turn_id: Option<String>,
    item_id: Option<String>,
    /// Of what was shown, in hex.
    digest: String,
    /// Milliseconds since the person decided, by the device's clock.
    age: u64,
    /// When that was by the host's clock, in milliseconds since 1970: `now` of `host/read`, and what has passed since. On its way an
    /// answer may wait for a link; the older of both counts.
    decided_at: Option<u64>,
    /// As Codex takes it; or `error`.
    #[cfg_attr(test, ts(type = "unknown", optional))]
    result: Option<Box<RawValue>>,
    #[cfg_attr(test, ts(type = "unknown", optional))]
    error: Option<Box<RawValue>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub(super) struct AnswerSendResult {
    /// What went to Codex.
    decision: Choice,
    /// Why that is less than what was said, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    lessened: Option<Cow<'static, str>>,
}

impl RequestInfo {
    fn of(asked: Asked, scope: Scope) -> Self {
        let Asked { key, thread, turn, item, method, opened_at, shown, digest, reach, needed, choices, shown_to } =
            asked;
        let may = needed.is_some_and(|needed| scope >= needed);
        Self {
            environment: key.environment.to_string(),
            instance: key.instance.to_string(),
            request_id: key.id,
            thread_id: thread,
            turn_id: turn,
            item_id: item,
            method,
            opened_at,
            shown: Some(shown.to_vec()),
            digest,
            reach,
            needed,
            answers: if may { choices } else { Vec::new() },
            shown_to,
        }
    }
}

impl ApiContext {
    /// What a session is told of a change; nothing where it is no longer so.
    pub(super) fn about_request(&self, change: Change, caller: &Caller, scope: Scope) -> Option<Notice> {
        let find = |key: &Key| Some((self.environments.find(&key.environment)?, key.clone()));
        match change {
            Change::Opened(key) => {
                let (environment, key) = find(&key)?;
                let asked = environment.requests.find(&key)?;
                environment.requests.shown_to(key.instance, &key.id, &self.who(caller));
                Some(Notice::RequestOpened(Box::new(RequestInfo::of(asked, environment.scope(scope)))))
            }
            Change::ShownTo(key) => {
                let (environment, key) = find(&key)?;
                let shown_to = environment.requests.find(&key)?.shown_to;
                Some(Notice::RequestShown(RequestShown {
                    environment: key.environment.to_string(),
                    instance: key.instance.to_string(),
                    request_id: key.id,
                    shown_to,
                }))
            }
            Change::Closed(Closed { key, thread, outcome: Outcome { by, choice } }) => {
                Some(Notice::RequestClosed(RequestClosed {
                    environment: key.environment.to_string(),
                    instance: key.instance.to_string(),
                    request_id: key.id,
                    thread_id: thread,
                    by,
                    decision: choice,
                }))
            }
        }
    }

    fn who(&self, caller: &Caller) -> Who {
        let name = self.changes.devices.current().device(caller.device).map(|device| device.name.clone());
        Who { device_id: caller.device, name: name.unwrap_or_default() }
    }

    pub(super) fn environment(&self, name: &str) -> Result<Arc<Environment>, Refusal> {
        self.environments.find(name).ok_or_else(|| Refusal::because(Reason::Environment, &NoEnvironment))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("this host has no such environment")]
struct NoEnvironment;

pub(super) async fn list(call: Call, params: RequestListParams) -> Result<RequestListResult, Refusal> {
    let Call { context, caller, scope, .. } = call;
    let named = params.environment.as_deref().map(|name| context.environment(name)).transpose()?;
    let who = context.who(&caller);
    let mut room = caller.largest.load(std::sync::atomic::Ordering::Relaxed);
    let mut data = Vec::new();
    for environment in context.environments.all() {
        if named.as_ref().is_some_and(|named| named.name != environment.name) {
            continue;
        }
        for asked in environment.requests.list() {
            if params.request_id.as_ref().is_some_and(|id| *id != asked.key.id) {
                continue;
            }
            let key = asked.key.clone();
            let mut info = RequestInfo::of(asked, environment.scope(scope));
            let length = serde_json::to_vec(&info).map_or(usize::MAX, |json| json.len());
            if length.saturating_add(AROUND) <= room {
                room -= length;
                environment.requests.shown_to(key.instance, &key.id, &who);
            } else {
                info.shown = None;
            }
            data.push(info);
        }
    }
    Ok(RequestListResult { data })
}

pub(super) async fn answer(call: Call, params: AnswerSendParams) -> Result<AnswerSendResult, Refusal> {
    const METHOD: &str = "answer/send";
    let Call { context, caller, scope, .. } = call;
    let environment = context.environment(&params.environment)?;
    let scope = environment.scope(scope);
    let said = match (&params.result, &params.error) {
        (Some(result), None) => Said::Result(result),
        (None, Some(error)) => Said::Error(error),
        _ => return Err(Refusal::member(METHOD, "result", "one of `result` and `error` is needed")),
    };
    let under_way = params.decided_at.map_or(0, |at| now_ms().saturating_sub(at));
    let attempt = Attempt {
        instance: &params.instance,
        id: params.request_id.clone(),
        thread: &params.thread_id,
        turn: params.turn_id.as_deref(),
        item: params.item_id.as_deref(),
        digest: &params.digest,
        age: Duration::from_millis(params.age.max(under_way)),
        said,
    };
    let recorder = Recorder {
        device: caller.device,
        environment: environment.name.clone(),
        log: Arc::clone(&context.changes.audit),
        work: Arc::clone(&environment.work),
        withheld: Arc::clone(&environment.withheld),
    };
    let record = |audit: &_| {
        let recorded = recorder.record_answer(audit, scope);
        if let Err(error) = &recorded {
            tracing::error!(%error, "no answer passes to codex while the audit log can't be written");
        }
        recorded.is_ok()
    };
    let lasting = environment.policy(scope).lasting_grants;
    let answered =
        environment.requests.answer(&attempt, &context.who(&caller), (scope, lasting), &context.answers, record).await;
    let Answered { choice, lessened } = answered.map_err(|refusal| refused(METHOD, &refusal))?;
    Ok(AnswerSendResult { decision: choice, lessened })
}

fn refused(method: &str, refusal: &AnswerRefusal) -> Refusal {
    match refusal {
        AnswerRefusal::Instance => Refusal::because(Reason::Instance, refusal),
        AnswerRefusal::Answered(outcome) => Refusal::answered(outcome, refusal),
        AnswerRefusal::Digest => Refusal::because(Reason::Digest, refusal),
        AnswerRefusal::Age => Refusal::age(MAX_AGE, refusal),
        AnswerRefusal::AtTheHost => Refusal::because(Reason::AtTheHost, refusal),
        AnswerRefusal::Answer(AnswerError::Scope { scope, needed }) => Refusal::scope(method, *needed, *scope),
        AnswerRefusal::Answer(AnswerError::NotOpen) => Refusal::answered(&Outcome::default(), refusal),
        AnswerRefusal::Answer(error) => Refusal::member(method, "result", &error.to_string()),
        AnswerRefusal::Unrecorded | AnswerRefusal::Unkept => Refusal::because(Reason::Disk, refusal),
        AnswerRefusal::Lost => Refusal::because(Reason::Codex, refusal),
    }
}
