//! What the stock terminal UI makes of a refusal (Codex 0.169.0, tried key by key).
//!
//! It shows most refusals, some without their words, and ends at a few: an
//! error to `/compact`, `/rename`, `/stop` or `!command` closes the whole
//! program. Being put out of a session is more than was refused, so a client
//! that calls itself by the stock client's name gets a result for those few,
//! and then an `error` notification, which it shows in red and at which it
//! stops waiting for what it thinks has begun. What passes is the same for
//! every client; the name decides only how a refusal is said.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::table::Method;

/// Requests whose refusal ends it, and whose result has no fields.
const FATAL: [&str; 5] = [
    "thread/backgroundTerminals/clean",
    "thread/compact/start",
    "thread/name/set",
    "thread/shellCommand",
    "turn/interrupt",
];

/// Requests that it makes by itself: nobody waits for a word about them.
const BY_ITSELF: [&str; 1] = ["thread/readState/update"];

/// Whether an `initialize` that passed is the stock client's.
pub(super) fn is_stock(initialize: &[u8]) -> bool {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Hello {
        params: Params,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Params {
        client_info: ClientInfo,
    }
    #[derive(Deserialize)]
    struct ClientInfo {
        name: String,
    }
    serde_json::from_slice(initialize).is_ok_and(|hello: Hello| hello.params.client_info.name == "codex-tui")
}

/// How a refusal is said to the stock client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// As an error.
    Error,
    /// As a warning that holds the words, and an error.
    WarningAndError,
    /// As a result without fields, and a notice that takes it back.
    ResultAndNotice,
}

/// How a refused request of the stock client is answered.
pub(super) fn manner(method: Option<&Method>) -> Manner {
    match method.map(|method| method.name) {
        Some(name) if FATAL.contains(&name) => Manner::ResultAndNotice,
        Some(name) if !BY_ITSELF.contains(&name) && method.is_some_and(super::changes) => Manner::WarningAndError,
        _ => Manner::Error,
    }
}

/// A notification that it shows at once, where warnings wait behind a key.
pub(super) fn notice(thread: Option<&str>, words: &str) -> Bytes {
    let error = json!({ "message": format!("Reachback: {words}") });
    let params = json!({ "threadId": thread.unwrap_or_default(), "turnId": "", "willRetry": false, "error": error });
    json!({ "method": "error", "params": params }).to_string().into()
}

#[cfg(test)]
pub(super) fn fatal() -> &'static [&'static str] {
    &FATAL
}
