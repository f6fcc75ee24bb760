//! Pages of a thread's items.
//!
//! What Codex records today it can give by the item. A thread that an older Codex recorded comes by the turn, and whole
//! turns at that: such a page costs Codex a reading of the whole recording, and a turn that does not fit is cut here.

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Codex, FIRST, Filled, ItemQuery, List, MOST, NotRead, fill, length, taken, word};
use crate::agent::desk::CallError;

/// What an entry has beside its item, in bytes: its turn's id, and the names of members.
const AROUND: usize = 80;
/// What a turn adds to a page, in bytes.
const TURN: usize = 150;
/// What a stub has beside its text, in bytes.
const STUB: usize = 500;
/// How often Codex is asked for the turns of one page. They stand in the order of the items: three times mostly do.
const TURN_ASKS: usize = 8;

/// Items of a thread, newest first.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(ts_rs::TS), ts(rename = "ThreadPageResult", optional_fields))]
pub(crate) struct ItemPage {
    /// Newest first.
    items: Vec<Item>,
    /// The turns that they are of, newest first.
    turns: Vec<TurnInfo>,
    /// For the next page; what is new on top of this one does not change it.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// An item.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(ts_rs::TS), ts(rename = "PageItem", optional_fields))]
pub(crate) struct Item {
    turn_id: String,
    /// As Codex has it.
    #[cfg_attr(test, ts(type = "Record<string, unknown>"))]
    item: Value,
    /// It has output that was left out, to be read with Codex's `thread/items/read`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(test, ts(as = "Option<bool>"))]
    output_deferred: bool,
    /// It is larger than the page: of so many bytes, `item` is `id`, `type`, and as much of its `text` as fits.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<usize>,
}

/// A turn.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub(crate) struct TurnInfo {
    id: String,
    /// `completed`, `interrupted`, `failed`, `inProgress`.
    status: String,
    /// Milliseconds since 1970, by the host's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed_at: Option<u64>,
}

/// Where a page ended, for the next one.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Cursor {
    /// Between two items.
    Item {
        /// The next item, in Codex's words.
        next: String,
        /// The turn of the last one, in Codex's words.
        turn: Option<String>,
    },
    /// In a thread that comes by the turn.
    Turn {
        /// The next turn, in Codex's words.
        next: String,
        /// The item of it that was the last one.
        after: Option<String>,
    },
}

impl Cursor {
    fn read(text: &str) -> Option<Self> {
        serde_json::from_slice(&BASE64URL_NOPAD.decode(text.as_bytes()).ok()?).ok()
    }

    fn text(&self) -> String {
        BASE64URL_NOPAD.encode(&serde_json::to_vec(self).expect("texts are JSON"))
    }
}

/// A page of a thread.
pub(super) async fn page(codex: &mut impl Codex, query: ItemQuery) -> Result<ItemPage, NotRead> {
    let cursor = query.cursor.as_deref().map(|text| Cursor::read(text).ok_or(NotRead::Cursor)).transpose()?;
    match cursor {
        Some(Cursor::Turn { next, after }) => by_turn(codex, &query, Some(next), after).await,
        Some(Cursor::Item { next, turn }) => by_item(codex, &query, Some(next), turn).await.map_err(NotRead::from),
        None => match by_item(codex, &query, None, None).await {
            // It has no items of its own, or is no thread: then turns are refused with better words.
            Err(CallError::Codex(_)) => by_turn(codex, &query, None, None).await,
            page => Ok(page?),
        },
    }
}

async fn by_item(
    codex: &mut impl Codex,
    query: &ItemQuery,
    next: Option<String>,
    turn: Option<String>,
) -> Result<ItemPage, CallError> {
    let list = List {
        method: "thread/items/list",
        params: json!({ "threadId": query.thread, "sortDirection": "desc" }),
        cursor: next,
        read: &|mut answer| {
            let entries = taken::<Vec<Value>>(&mut answer, "data").into_iter();
            let mut last = String::new();
            let sized = entries.map(|mut entry| {
                let turn_id = word(&mut entry, "turnId").unwrap_or_default();
                let item = Item::new(turn_id, entry["item"].take(), query.defer_output);
                let turn = if item.turn_id == last { 0 } else { TURN };
                last.clone_from(&item.turn_id);
                let size = item.length() + turn;
                (item, size)
            });
            sized.collect()
        },
    };
    let Filled { entries, next, .. } = fill(codex, list, query.bytes, FIRST).await?;
    let items: Vec<_> = entries.into_iter().map(|item| item.cut(query.bytes)).collect();
    let (turns, turn) = turns(codex, query, &items, turn).await?;
    let next_cursor = next.map(|next| Cursor::Item { next, turn }.text());
    Ok(ItemPage { items, turns, next_cursor })
}

/// The turns of these items, and where the last of them stands. They are looked for from `turn` on.
async fn turns(
    codex: &mut impl Codex,
    query: &ItemQuery,
    items: &[Item],
    mut turn: Option<String>,
) -> Result<(Vec<TurnInfo>, Option<String>), CallError> {
    let mut missing: Vec<&str> = items.iter().map(|item| item.turn_id.as_str()).collect();
    missing.dedup();
    let mut turns = Vec::with_capacity(missing.len());
    let mut cursor = turn.clone();
    for _ in 0..TURN_ASKS {
        if missing.is_empty() {
            break;
        }
        // The last one alone: where it stands is where the next page looks on.
        let limit = (missing.len() - 1).clamp(1, MOST);
        let params = json!({
            "threadId": query.thread, "itemsView": "notLoaded", "cursor": cursor, "limit": limit, "sortDirection": "desc",
        });
        let mut answer = codex.call("thread/turns/list", &params).await?;
        let found: Vec<Value> = taken(&mut answer, "data");
        for info in found.into_iter().map(TurnInfo::new) {
            if let Some(at) = missing.iter().position(|id| *id == info.id) {
                missing.remove(at);
                turns.push(info);
            }
        }
        if missing.is_empty() {
            turn = cursor.take().or_else(|| word(&mut answer, "backwardsCursor"));
        }
        cursor = word(&mut answer, "nextCursor");
        if cursor.is_none() {
            break;
        }
    }
    Ok((turns, turn))
}

async fn by_turn(
    codex: &mut impl Codex,
    query: &ItemQuery,
    mut next: Option<String>,
    mut after: Option<String>,
) -> Result<ItemPage, NotRead> {
    let mut page = ItemPage::default();
    loop {
        // What is left of a turn comes alone.
        let bytes = if after.is_some() { 0 } else { query.bytes };
        let list = List {
            method: "thread/turns/list",
            params: json!({ "threadId": query.thread, "itemsView": "full", "sortDirection": "desc" }),
            cursor: next,
            read: &read_turns,
        };
        let filled = fill(codex, list, bytes, 1).await?;
        let mut used = 0;
        for (turn, mut items) in filled.entries {
            if let Some(at) = after.take().and_then(|last| items.iter().position(|item| item.id() == last)) {
                items.drain(..=at);
            }
            let mut last = None;
            for item in items {
                used += item.length();
                if used > query.bytes && last.is_some() {
                    let start = filled.start.clone().unwrap_or_default();
                    page.next_cursor = Some(Cursor::Turn { next: start, after: last.clone() }.text());
                    break;
                }
                last = Some(item.id().to_owned());
                page.items.push(item.cut(query.bytes));
            }
            if last.is_some() {
                used += TURN;
                page.turns.push(turn);
            }
        }
        if page.next_cursor.is_some() || !page.items.is_empty() || filled.next.is_none() {
            let whole = || filled.next.map(|next| Cursor::Turn { next, after: None }.text());
            page.next_cursor = page.next_cursor.or_else(whole);
            return Ok(page);
        }
        next = filled.next;
    }
}

/// Turns, with their items, newest first.
fn read_turns(mut answer: Value) -> Vec<((TurnInfo, Vec<Item>), usize)> {
    let turns = taken::<Vec<Value>>(&mut answer, "data").into_iter();
    let sized = turns.map(|mut turn| {
        let items = taken::<Vec<Value>>(&mut turn, "items").into_iter().rev();
        let turn = TurnInfo::new(turn);
        // Output could not be read later: Codex has no `thread/items/read` for these.
        let items: Vec<_> = items.map(|item| Item::new(turn.id.clone(), item, false)).collect();
        let size = TURN + items.iter().map(Item::length).sum::<usize>();
        ((turn, items), size)
    });
    sized.collect()
}

impl Item {
    fn new(turn_id: String, mut item: Value, defer_output: bool) -> Self {
        let went_well = item["type"] == "commandExecution" && item["status"] == "completed" && item["exitCode"] == 0;
        let has_output = item["aggregatedOutput"].as_str().is_some_and(|output| !output.is_empty());
        let output_deferred = defer_output && went_well && has_output;
        if output_deferred {
            item["aggregatedOutput"] = Value::Null;
        }
        Self { turn_id, item, output_deferred, size: None }
    }

    fn id(&self) -> &str {
        self.item["id"].as_str().unwrap_or_default()
    }

    /// What it takes of a page, in bytes.
    fn length(&self) -> usize {
        length(&self.item) + AROUND
    }

    /// The item, or what stands in its place where it is larger than a page.
    fn cut(self, bytes: usize) -> Self {
        let size = length(&self.item);
        if size + AROUND <= bytes {
            return self;
        }
        let text = text(&self.item);
        let text = beginning(&text, bytes.saturating_sub(STUB));
        let item = json!({ "id": self.item["id"], "type": self.item["type"], "text": text });
        Self { item, size: Some(size), ..self }
    }
}

/// What a person reads of an item first.
fn text(item: &Value) -> String {
    let texts = |list: &str, member: &str| {
        let entries = item[list].as_array().into_iter().flatten();
        entries.filter_map(|entry| entry[member].as_str()).collect::<Vec<_>>().join("\n")
    };
    match item["type"].as_str() {
        Some("userMessage") => texts("content", "text"),
        Some("fileChange") => texts("changes", "diff"),
        Some("commandExecution") => item["aggregatedOutput"].as_str().unwrap_or_default().to_owned(),
        _ => item["text"].as_str().unwrap_or_default().to_owned(),
    }
}

/// As much of a text as takes this many bytes in JSON.
fn beginning(text: &str, bytes: usize) -> &str {
    let mut used = 0;
    let end = text.char_indices().find(|(_, char)| {
        used += match char {
            '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
            '\0'..='\u{1f}' => 6,
            _ => char.len_utf8(),
        };
        used > bytes
    });
    end.map_or(text, |(at, _)| &text[..at])
}

impl TurnInfo {
    fn new(mut turn: Value) -> Self {
        let milliseconds = |name: &str| turn[name].as_u64().map(|seconds| seconds.saturating_mul(1000));
        let (started_at, completed_at) = (milliseconds("startedAt"), milliseconds("completedAt"));
        let status = word(&mut turn, "status").unwrap_or_default();
        Self { id: word(&mut turn, "id").unwrap_or_default(), status, started_at, completed_at }
    }
}
