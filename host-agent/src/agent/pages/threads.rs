//! Pages of the list of threads.
//!
//! Codex's own list reads its state database, and with it looks through the folder of recordings for what the database has
//! missed, which takes long where there are many. What Codex records itself is in the database at once, and the rest since
//! Codex started, so a page is read from the database alone. Only where that has nothing at all does Codex look further.

use serde::Serialize;
use serde_json::{Value, json};

use super::{Codex, FIRST, List, NotRead, ThreadQuery, fill, length, taken, word};

/// Of a name or a first message, in characters.
const MAX_TITLE: usize = 200;
/// What an entry has beside its own members, in bytes: a comma.
const BETWEEN: usize = 1;

/// Threads, newest first.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(ts_rs::TS), ts(rename = "ThreadListResult", optional_fields))]
pub(crate) struct ThreadPage {
    /// Those that changed last come first.
    data: Vec<ThreadInfo>,
    /// For the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// A thread, as a list shows it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub(crate) struct ThreadInfo {
    id: String,
    /// Its name; else how its first message begins.
    title: String,
    /// Whether the title is a name that somebody gave it.
    is_named: bool,
    folder: String,
    /// `notLoaded`, `idle`, `active`, `systemError`.
    status: String,
    /// What it waits for, in Codex's words: `waitingOnApproval`, `waitingOnUserInput`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, ts(as = "Option<Vec<String>>"))]
    waiting_on: Vec<String>,
    /// Milliseconds since 1970, by the host's clock.
    created_at: u64,
    /// When something last happened in it.
    changed_at: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    branch: Option<String>,
    /// Where it began: `cli`, `vscode`, and others of Codex's words.
    source: String,
    archived: bool,
    /// Whether something in it was not read yet; left out where Codex does not know.
    #[serde(skip_serializing_if = "Option::is_none")]
    unread: Option<bool>,
}

/// A page of them.
pub(super) async fn page(codex: &mut impl Codex, query: ThreadQuery) -> Result<ThreadPage, NotRead> {
    let ThreadQuery { cursor, bytes, archived, search, folder } = query;
    let read = |answer| entries(answer, archived);
    let list = |from_database: bool, cursor| List {
        method: "thread/list",
        params: json!({
            "sortKey": "recency_at",
            "sortDirection": "desc",
            // Of all providers: without it, those of the one that is set now.
            "modelProviders": [],
            "archived": archived,
            "searchTerm": search,
            "cwd": folder,
            "useStateDbOnly": from_database,
        }),
        cursor,
        read: &read,
    };
    let is_whole = cursor.is_none() && !archived && search.is_none() && folder.is_none();
    let mut filled = fill(codex, list(true, cursor), bytes, FIRST).await?;
    if filled.entries.is_empty() && is_whole {
        filled = fill(codex, list(false, None), bytes, FIRST).await?;
    }
    Ok(ThreadPage { data: filled.entries, next_cursor: filled.next })
}

fn entries(mut answer: Value, archived: bool) -> Vec<(ThreadInfo, usize)> {
    let states: Value = taken(&mut answer, "readStates");
    let threads: Vec<Value> = taken(&mut answer, "data");
    let sized = |thread| {
        let info = info(thread, &states, archived);
        let size = serde_json::to_value(&info).map_or(0, |info| length(&info)) + BETWEEN;
        (info, size)
    };
    threads.into_iter().map(sized).collect()
}

fn info(mut thread: Value, states: &Value, archived: bool) -> ThreadInfo {
    let id = word(&mut thread, "id").unwrap_or_default();
    let unread = states.get(&id).map(|state| !state["firstUnread"].is_null());
    let name = word(&mut thread, "name").filter(|name| !name.is_empty());
    let is_named = name.is_some();
    let title = name.or_else(|| word(&mut thread, "preview")).unwrap_or_default();
    let seconds = |name: &str| thread[name].as_u64().map(|seconds| seconds.saturating_mul(1000));
    let created_at = seconds("createdAt").unwrap_or_default();
    let changed_at = seconds("recencyAt").or_else(|| seconds("updatedAt")).unwrap_or(created_at);
    let source = match &thread["source"] {
        Value::String(word) => word.clone(),
        // One that says more: `custom`, `subAgent`.
        Value::Object(more) => more.keys().next().cloned().unwrap_or_default(),
        _ => "unknown".to_owned(),
    };
    ThreadInfo {
        id,
        title: title.chars().take(MAX_TITLE).collect(),
        is_named,
        folder: word(&mut thread, "cwd").unwrap_or_default(),
        status: word(&mut thread["status"], "type").unwrap_or_default(),
        waiting_on: taken(&mut thread["status"], "activeFlags"),
        created_at,
        changed_at,
        branch: word(&mut thread["gitInfo"], "branch"),
        source,
        archived,
        unread,
    }
}
