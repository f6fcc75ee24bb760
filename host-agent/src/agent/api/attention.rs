//! `attention/list`, `attention/changed`: which threads run, want somebody, or have ended since.

use serde::{Deserialize, Serialize};

use super::Call;
use super::error::Refusal;
use super::notices::Notice;
use crate::agent::attention::{Change, Entry, State};
use crate::agent::prompts::now_ms;
use crate::firewall::parse::RequestId;

/// Entries of a list: more than anybody looks through.
const MAX_LISTED: usize = 256;

#[derive(Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub(super) struct AttentionListParams {
    /// Only threads there.
    environment: Option<String>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) struct AttentionListResult {
    /// Newest first.
    data: Vec<AttentionInfo>,
}

/// A thread that runs, wants somebody, or has ended since.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub(crate) struct AttentionInfo {
    environment: String,
    thread_id: String,
    /// Where somebody named it.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    folder: String,
    state: State,
    /// Milliseconds since 1970, by the host's clock.
    since: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    turn_id: Option<String>,
    /// What is asked in it, oldest first; left out where that is nothing.
    #[cfg_attr(test, ts(type = "Array<string | number>", optional))]
    #[serde(skip_serializing_if = "Option::is_none")]
    request_ids: Option<Vec<RequestId>>,
    /// What Codex says about a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// How a thread is now.
#[derive(Serialize)]
#[serde(untagged)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(crate) enum AttentionChanged {
    /// As in the list.
    Now(AttentionInfo),
    /// It is not in the list any more.
    Gone(AttentionGone),
}

/// A thread of which there is nothing to be said any more.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(crate) struct AttentionGone {
    environment: String,
    thread_id: String,
    /// Null.
    #[cfg_attr(test, ts(type = "null"))]
    state: (),
}

impl AttentionInfo {
    fn of(environment: &str, entry: Entry) -> Self {
        let Entry { thread, name, folder, state, since, turn, requests, error } = entry;
        Self {
            environment: environment.to_owned(),
            thread_id: thread,
            name,
            folder,
            state,
            since,
            turn_id: turn,
            request_ids: (!requests.is_empty()).then_some(requests),
            error,
        }
    }
}

/// What a session is told of a change.
pub(super) fn about(change: Change) -> Notice {
    let Change { environment, thread, entry } = change;
    Notice::AttentionChanged(Box::new(match entry {
        Some(entry) => AttentionChanged::Now(AttentionInfo::of(&environment, entry)),
        None => {
            AttentionChanged::Gone(AttentionGone { environment: environment.to_string(), thread_id: thread, state: () })
        }
    }))
}

pub(super) async fn list(call: Call, params: AttentionListParams) -> Result<AttentionListResult, Refusal> {
    let Call { context, .. } = call;
    let named = params.environment.as_deref().map(|name| context.environment(name)).transpose()?;
    let mut data = Vec::new();
    for environment in context.environments.all() {
        if named.as_ref().is_none_or(|named| named.name == environment.name) {
            let entries = environment.attention.list(now_ms());
            data.extend(entries.into_iter().map(|entry| AttentionInfo::of(&environment.name, entry)));
        }
    }
    data.sort_by_key(|info| std::cmp::Reverse(info.since));
    data.truncate(MAX_LISTED);
    Ok(AttentionListResult { data })
}
