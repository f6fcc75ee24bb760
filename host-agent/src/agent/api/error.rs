//! Why a request of the API was refused: a JSON-RPC error whose `data` a program can read.

use reachback_proto::scope::Scope;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{MAX_IN_FLIGHT, MAX_REQUEST};

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
    /// Too many requests of this session are being answered.
    Busy,
}

impl Reason {
    fn code(self) -> i32 {
        match self {
            Self::Malformed => INVALID_REQUEST,
            Self::Method => METHOD_NOT_FOUND,
            Self::Scope | Self::Params | Self::Busy => REFUSED,
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

    pub(super) fn too_long() -> Self {
        let message = format!("the request is too long: {MAX_REQUEST} bytes is the most");
        Self::new(Reason::Malformed, message, json!({ "most": MAX_REQUEST }))
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
        // A member that is missing is named by serde's words alone.
        let missing = words.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
        let member = missing.unwrap_or(&path);
        let message = match missing {
            Some(member) => format!("`{method}` needs the member `{member}`"),
            None => format!("the member `{member}` is not what `{method}` takes: {words}"),
        };
        Self::new(Reason::Params, message, json!({ "method": method, "member": member }))
    }

    pub(super) fn busy() -> Self {
        let message = format!("{MAX_IN_FLIGHT} requests of this session are being answered: ask again after an answer");
        Self::new(Reason::Busy, message, json!({ "most": MAX_IN_FLIGHT }))
    }
}
