//! Why a request of the API was refused: a JSON-RPC error whose `data` a program can read.

use std::time::Duration;

use reachback_proto::ids::DeviceId;
use reachback_proto::scope::Scope;
use reachback_proto::words::quote;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::MAX_IN_FLIGHT;
use crate::agent::environments::folders::NotListed;
use crate::agent::requests::{Outcome, Who};
use crate::agent::ssh_hosts::logins::NotLoggedIn;
use crate::local_api::Failure;

/// A device may not ask for this; the same number as the firewall's.
const REFUSED: i32 = -32010;
/// JSON-RPC's numbers.
const INVALID_REQUEST: i32 = -32600;
const METHOD_NOT_FOUND: i32 = -32601;

/// A refusal, as a JSON-RPC error object.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(rename = "ApiError"))]
pub(super) struct Refusal {
    /// JSON-RPC's number for it.
    code: i32,
    /// One sentence in English, for a person.
    message: String,
    data: Details,
}

/// What a program needs to say it in its own words.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(rename = "ApiErrorData"))]
struct Details {
    reason: Reason,
    /// What the message names.
    #[cfg_attr(test, ts(type = "Record<string, string | number>"))]
    params: Map<String, Value>,
}

/// Stable words: a client translates these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(rename = "ApiErrorReason"))]
#[serde(rename_all = "snake_case")]
pub(super) enum Reason {
    /// Not a request.
    Malformed,
    /// No such method.
    Method,
    /// The device may not.
    Scope,
    /// A member of `params` is missing, or is not what the method takes.
    Params,
    /// No such environment.
    Environment,
    /// A folder that is not shown to devices, or is not there.
    Folder,
    /// No such device.
    Device,
    /// The host's disk did not answer in time.
    Slow,
    /// The host's disk did not take what had to be written.
    Disk,
    /// Too much is being done already.
    Busy,
    /// Another prompt was sent under the id.
    Conflict,
    /// It has started.
    TooLate,
    /// Codex could not be asked.
    Codex,
    /// Codex was started anew.
    Instance,
    /// Somebody was faster, or it is no longer asked.
    Answered,
    /// Something else is asked than what the device showed.
    Digest,
    /// Decided too long ago.
    Age,
    /// Only the host's own terminal can answer that.
    AtTheHost,
    /// An SSH host was not reached, or did not let this host in.
    Login,
}

impl Reason {
    /// The word for it.
    pub(super) fn name(self) -> String {
        let word = serde_json::to_value(self).expect("a reason is JSON");
        word.as_str().expect("a reason is a word").to_owned()
    }

    fn code(self) -> i32 {
        match self {
            Self::Malformed => INVALID_REQUEST,
            Self::Method => METHOD_NOT_FOUND,
            _ => REFUSED,
        }
    }
}

impl Refusal {
    /// What else is wrong has a function below; this is where all of them are made.
    fn new(reason: Reason, message: String, params: Value) -> Self {
        let Value::Object(params) = params else { unreachable!("the params of an error are written as an object") };
        Self { code: reason.code(), message, data: Details { reason, params } }
    }

    pub(super) fn malformed(message: String) -> Self {
        Self::new(Reason::Malformed, message, json!({}))
    }

    pub(super) fn too_long(most: usize) -> Self {
        let message = format!("the request is too long: {most} bytes is the most");
        Self::new(Reason::Malformed, message, json!({ "most": most }))
    }

    pub(super) fn method() -> Self {
        Self::new(Reason::Method, "this host's API has no such method".to_owned(), json!({}))
    }

    pub(super) fn scope(method: &str, needed: Scope, scope: Scope) -> Self {
        let message = format!("`{method}` needs scope `{needed}`; this device has `{scope}`");
        Self::new(Reason::Scope, message, json!({ "method": method, "needed": needed, "scope": scope }))
    }

    pub(super) fn params(method: &str, error: &serde_path_to_error::Error<serde_json::Error>) -> Self {
        let (path, words) = (error.path().to_string(), error.inner().to_string());
        // Where in the message it is says nothing to who did not write it by hand.
        let words = words.split(" at line ").next().unwrap_or_default();
        // A member that is missing is named by serde's words alone.
        let missing = words.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
        let member = missing.unwrap_or(&path);
        let message = match missing {
            Some(member) => format!("`{method}` needs the member `{member}`"),
            None => format!("the member {} is not what `{method}` takes: {}", quote(member), quote(words)),
        };
        Self::new(Reason::Params, message, json!({ "method": method, "member": member }))
    }

    pub(super) fn environment() -> Self {
        Self::new(Reason::Environment, "this host has no such environment".to_owned(), json!({}))
    }

    pub(super) fn folder(why: NotListed) -> Self {
        let word = match &why {
            NotListed::Form => "form",
            NotListed::Outside => "outside",
            NotListed::State => "state",
            NotListed::Missing => "missing",
            NotListed::Unseen(_) => "unseen",
        };
        Self::new(Reason::Folder, why.to_string(), json!({ "why": word }))
    }

    /// Why the machines that are reached over SSH were not told of, or not changed.
    pub(super) fn ssh(failure: Failure) -> Self {
        let reason = match &*failure.code {
            "audit" | "not_changed" => Reason::Disk,
            "ssh_too_many" => Reason::Busy,
            _ => Reason::Environment,
        };
        let fix = failure.fix.map(|fix| format!("; at the host: {fix}")).unwrap_or_default();
        Self::new(reason, format!("{}{fix}", failure.message), json!({ "code": failure.code }))
    }

    /// Why a device did not have the host log in to a machine.
    pub(super) fn login(why: NotLoggedIn) -> Self {
        let told = |reason, Failure { code, message, fix }: Failure| {
            let fix = fix.map(|fix| format!("; at the host: {fix}")).unwrap_or_default();
            Self::new(reason, format!("{message}{fix}"), json!({ "code": code }))
        };
        match why {
            NotLoggedIn::Unknown(failure) => Self::ssh(failure),
            NotLoggedIn::AtTheHost(failure) => told(Reason::AtTheHost, failure),
            NotLoggedIn::Refused { failure, left } => {
                let mut refusal = told(Reason::Login, failure);
                if let Some(left) = left {
                    refusal.data.params.insert("seconds".to_owned(), whole(left).into());
                }
                refusal
            }
            NotLoggedIn::NoCodex(failure) => told(Reason::Codex, failure),
            NotLoggedIn::Unrecorded => Self::disk(),
            NotLoggedIn::UnderWay => {
                Self::new(Reason::Busy, "another login there is under way".to_owned(), json!({ "most": 1 }))
            }
            NotLoggedIn::TooSoon { left } => {
                let seconds = whole(left);
                let message = format!("the last login there has failed: the next one may begin in {seconds} s");
                Self::new(Reason::Busy, message, json!({ "most": 1, "seconds": seconds }))
            }
            NotLoggedIn::Withdrawn => {
                let message = "the owner took back that devices are asked there".to_owned();
                Self::new(Reason::AtTheHost, message, json!({ "code": "ssh_devices_not_asked" }))
            }
        }
    }

    /// What kind it is.
    pub(super) fn reason(&self) -> Reason {
        self.data.reason
    }

    pub(super) fn device(id: DeviceId) -> Self {
        Self::new(Reason::Device, format!("no device has the id {id}"), json!({ "deviceId": id }))
    }

    pub(super) fn slow(patience: Duration) -> Self {
        let seconds = patience.as_secs();
        let message = format!("the host's disk did not answer within {seconds} s");
        Self::new(Reason::Slow, message, json!({ "seconds": seconds }))
    }

    pub(super) fn disk() -> Self {
        let message =
            "the host's disk did not take it: nothing was given; what was taken away holds, and is written later";
        Self::new(Reason::Disk, message.to_owned(), json!({}))
    }

    /// Why the computer is not kept awake from now on, or may be again.
    pub(super) fn keep_awake(on: bool) -> Self {
        let message = match on {
            true => "the host's disk did not take it: it was not turned on",
            false => "the host's disk did not take it: it is off, and may be on again when the agent is started anew",
        };
        Self::new(Reason::Disk, message.to_owned(), json!({}))
    }

    pub(super) fn busy() -> Self {
        let message = format!("{MAX_IN_FLIGHT} requests of this session are being answered: ask again after an answer");
        Self::new(Reason::Busy, message, json!({ "most": MAX_IN_FLIGHT }))
    }

    /// A member of `params` that is of the right type, and still can't be.
    pub(super) fn member(method: &str, member: &str, words: &str) -> Self {
        let message = format!("the member `{member}` is not what `{method}` takes: {words}");
        Self::new(Reason::Params, message, json!({ "method": method, "member": member }))
    }

    /// What has no parameters beside its sentence.
    pub(super) fn because(reason: Reason, error: &impl std::error::Error) -> Self {
        Self::new(reason, error.to_string(), json!({}))
    }

    /// Another answer counts; `params` say whose and what, where that is known.
    pub(super) fn answered(outcome: &Outcome, error: &impl std::error::Error) -> Self {
        let mut params = json!({});
        if let Some(Who { device_id, name }) = &outcome.by {
            params["deviceId"] = json!(device_id);
            params["name"] = json!(name);
        }
        if let Some(choice) = outcome.choice {
            params["decision"] = json!(choice);
        }
        Self::new(Reason::Answered, error.to_string(), params)
    }

    pub(super) fn age(most: Duration, error: &impl std::error::Error) -> Self {
        let most = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
        Self::new(Reason::Age, error.to_string(), json!({ "most": most }))
    }
}

/// So many seconds, of which none is left when they are over.
fn whole(left: Duration) -> u64 {
    left.as_secs() + 1
}
