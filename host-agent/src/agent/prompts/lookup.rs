//! What became of a prompt, as Codex tells it: its id stands in the thread, or in the thread's queue.

use serde_json::{Value, json};

use super::text;
use crate::agent::desk::Desk;
use crate::state::journal::{Entry, State};

/// Items and queue entries that are asked for at once.
const PAGE: u64 = 100;
/// Pages that are read of either. A thread that got more than 10,000 items since is not searched to its end.
const PAGES: usize = 100;
/// How much earlier than the agent's clock says an item may be dated, in milliseconds: the environment has a clock of its own.
const SLACK_MS: u64 = 60 * 60 * 1000;

/// Where a prompt is; `None` where it is not found, which does not mean that it will never be there.
///
/// The queue first: what leaves it in between is in the thread then.
pub(super) async fn find(desk: &mut Desk, entry: &Entry) -> Option<State> {
    let thread = entry.thread_id.as_deref()?;
    if let Some(queued_id) = in_queue(desk, thread, entry).await {
        return Some(State::Queued { queued_id });
    }
    in_thread(desk, thread, entry).await
}

async fn in_queue(desk: &mut Desk, thread: &str, entry: &Entry) -> Option<String> {
    let mut cursor = Value::Null;
    for _ in 0..PAGES {
        let params = json!({ "threadId": thread, "limit": PAGE, "cursor": cursor });
        let page = desk.call("thread/queue/list", &params).await.ok()?;
        let entries = page["data"].as_array()?;
        if let Some(found) = entries.iter().find(|queued| queued["clientUserMessageId"] == entry.key.id.as_str()) {
            return Some(text(&found["id"]));
        }
        cursor = page["nextCursor"].clone();
        if cursor.is_null() {
            return None;
        }
    }
    None
}

async fn in_thread(desk: &mut Desk, thread: &str, entry: &Entry) -> Option<State> {
    let mut cursor = Value::Null;
    // The turn of the prompt, once it is found: what stands before it there tells whether the turn was running.
    let mut found: Option<String> = None;
    for _ in 0..PAGES {
        let params = json!({ "threadId": thread, "limit": PAGE, "sortDirection": "desc", "cursor": cursor });
        let page = desk.call("thread/items/list", &params).await.ok()?;
        for item in page["data"].as_array()? {
            let turn_id = text(&item["turnId"]);
            if let Some(found) = found {
                return Some(State::Started { steered: turn_id == found, turn_id: found });
            }
            if item["item"]["type"] == "userMessage" && item["item"]["clientId"] == entry.key.id.as_str() {
                found = Some(turn_id);
            } else if item["startedAtMs"].as_u64().is_some_and(|at| at.saturating_add(SLACK_MS) < entry.taken_at) {
                return None;
            }
        }
        cursor = page["nextCursor"].clone();
        if cursor.is_null() {
            break;
        }
    }
    found.map(|turn_id| State::Started { turn_id, steered: false })
}
