//! `thread/page`, `thread/list`: what Codex has recorded, in pages of a size that the client names.

use std::sync::atomic::Ordering;

use serde::Deserialize;

use super::Call;
use super::error::{Reason, Refusal};
use crate::agent::pages::{ItemPage, ItemQuery, NotRead, ThreadPage, ThreadQuery};

/// Of a page, in bytes, where nothing is said: some screens full.
const BYTES: u64 = 64 << 10;
/// What goes for less, in bytes: a stub of an item, and what it is in.
const LEAST: u64 = 4 << 10;
/// And for more.
const MOST: u64 = 4 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub(super) struct ThreadPageParams {
    environment: String,
    thread_id: String,
    /// From the page before.
    cursor: Option<String>,
    /// About how large the page may be.
    bytes: Option<u64>,
    /// Whether the output of commands that went well is left out.
    defer_output: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub(super) struct ThreadListParams {
    environment: String,
    /// From the page before.
    cursor: Option<String>,
    /// About how large the page may be.
    bytes: Option<u64>,
    /// Those that were archived, in place of the others.
    archived: Option<bool>,
    /// With this in its title.
    search: Option<String>,
    /// Those of this folder alone.
    folder: Option<String>,
}

pub(super) async fn page(call: Call, params: ThreadPageParams) -> Result<ItemPage, Refusal> {
    let ThreadPageParams { environment, thread_id: thread, cursor, bytes, defer_output } = params;
    let defer_output = defer_output.unwrap_or(false);
    let query = ItemQuery { thread, cursor, bytes: size(&call, bytes), defer_output };
    let page = call.context.readers.items(call.caller.device, &environment, query).await;
    page.map_err(|error| refusal("thread/page", &error))
}

pub(super) async fn list(call: Call, params: ThreadListParams) -> Result<ThreadPage, Refusal> {
    let ThreadListParams { environment, cursor, bytes, archived, search, folder } = params;
    let archived = archived.unwrap_or(false);
    let query = ThreadQuery { cursor, bytes: size(&call, bytes), archived, search, folder };
    let page = call.context.readers.threads(call.caller.device, &environment, query).await;
    page.map_err(|error| refusal("thread/list", &error))
}

/// No page is larger than what the device takes, with room for what a page has beside its entries.
fn size(call: &Call, bytes: Option<u64>) -> usize {
    let bytes = usize::try_from(bytes.unwrap_or(BYTES).clamp(LEAST, MOST)).unwrap_or(usize::MAX);
    bytes.min(call.caller.largest.load(Ordering::Relaxed) / 2)
}

fn refusal(method: &str, error: &NotRead) -> Refusal {
    let reason = match error {
        NotRead::Environment => return Refusal::environment(),
        NotRead::Cursor => return Refusal::member(method, "cursor", &error.to_string()),
        NotRead::Busy => Reason::Busy,
        NotRead::Disk => Reason::Disk,
        NotRead::Refused(_) | NotRead::Lost => Reason::Codex,
    };
    Refusal::because(reason, error)
}
