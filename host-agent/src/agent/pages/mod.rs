//! Pages of what Codex has recorded, for devices: as many threads, or items of a thread, as go into a number of bytes.
//!
//! ```text
//!   device ── thread/page, thread/list ──▶ Readers ── a reader ── seat (firewall, audit) ──▶ Codex
//! ```
//!
//! Codex counts in items and threads, and one of them may have a hundred bytes or some million. So Codex is asked for few
//! first, then for as many as are likely to fit: [`fill`]. A page is cut where Codex itself can go on, by asking once more
//! for so many as fitted; what Codex calls that place survives what is new on top.
//!
//! Each device has one reader in an environment, with a connection to Codex of its own, beside the one for its prompts: a
//! reader is a task, makes one page after the other, and ends when nobody asked for a minute.

mod items;
mod readers;
#[cfg(test)]
mod tests;
mod threads;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub(crate) use items::ItemPage;
pub(crate) use readers::Readers;
pub(crate) use threads::ThreadPage;

use super::desk::{CallError, Desk};

/// Entries that Codex is asked for before it is known how large they are.
const FIRST: usize = 8;
/// The most that Codex gives at once.
const MOST: usize = 100;
/// A page of which no more than one part in so many is left is full: what would fit is not worth another question.
const FULL: usize = 8;
/// How often Codex is asked for one page. Where entries differ so much that this is not enough, the page is a small one.
const ASKS: usize = 32;

/// Items of a thread that are wanted.
#[derive(Debug, Clone)]
pub(crate) struct ItemQuery {
    pub thread: String,
    /// Where the last page ended.
    pub cursor: Option<String>,
    /// Of about so many bytes.
    pub bytes: usize,
    /// Without the output of commands that went well.
    pub defer_output: bool,
}

/// Threads that are wanted.
#[derive(Debug, Clone)]
pub(crate) struct ThreadQuery {
    /// Where the last page ended.
    pub cursor: Option<String>,
    /// Of about so many bytes.
    pub bytes: usize,
    /// Those that were put away, in place of the others.
    pub archived: bool,
    /// With these words in their title.
    pub search: Option<String>,
    pub folder: Option<String>,
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotRead {
    /// No such environment.
    #[error("this host has no environment of this name")]
    Environment,
    /// The cursor is none of ours.
    #[error("it is none of this thread's")]
    Cursor,
    /// Too many pages are waited for.
    #[error("too many pages of this device are being read: ask again after an answer")]
    Busy,
    /// Codex refused, or the firewall did.
    #[error("{0}")]
    Refused(String),
    /// The audit log can't be written.
    #[error("the host's disk does not take what has to be written first")]
    Disk,
    /// Nobody answered.
    #[error("Codex ended, or did not answer in time")]
    Lost,
}

impl From<CallError> for NotRead {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused { message, .. } | CallError::Codex(message) => Self::Refused(message),
            CallError::Unrecorded => Self::Disk,
            CallError::Lost => Self::Lost,
        }
    }
}

/// Whoever Codex is asked through.
trait Codex {
    async fn call(&mut self, method: &str, params: &Value) -> Result<Value, CallError>;
}

impl Codex for Desk {
    async fn call(&mut self, method: &str, params: &Value) -> Result<Value, CallError> {
        Desk::call(self, method, params).await
    }
}

/// One of Codex's lists, to be read from somewhere on.
struct List<'a, T> {
    method: &'static str,
    /// All parameters but cursor and limit.
    params: Value,
    /// Where to begin, in Codex's words.
    cursor: Option<String>,
    /// Takes an answer apart: its entries, and the bytes of each.
    read: &'a (dyn Fn(Value) -> Vec<(T, usize)> + Sync),
}

/// What of a list goes into a number of bytes.
struct Filled<T> {
    /// At least one, if there is any.
    entries: Vec<T>,
    /// Where the first of them stands, in Codex's words.
    start: Option<String>,
    /// Where the next one stands; `None` where there is none.
    next: Option<String>,
}

/// Reads as many entries as fit, asking for `limit` of them first.
async fn fill<T>(
    codex: &mut impl Codex,
    list: List<'_, T>,
    bytes: usize,
    mut limit: usize,
) -> Result<Filled<T>, CallError> {
    let List { method, mut params, cursor, read } = list;
    let mut filled = Filled { entries: Vec::new(), start: None, next: cursor };
    let mut used = 0;
    for _ in 0..ASKS {
        params["cursor"] = json!(filled.next);
        params["limit"] = json!(limit);
        let mut answer = match codex.call(method, &params).await {
            // Perhaps they are too large together: an answer has its limit, too.
            Err(CallError::Codex(_)) if limit > 1 => {
                limit = 1;
                continue;
            }
            Err(CallError::Codex(_)) if !filled.entries.is_empty() => return Ok(filled),
            answer => answer?,
        };
        let (next, start) = (word(&mut answer, "nextCursor"), word(&mut answer, "backwardsCursor"));
        let entries = read(answer);
        let (count, is_first) = (entries.len(), filled.entries.is_empty());
        let size: usize = entries.iter().map(|(_, size)| size).sum();
        if used + size > bytes && (count > 1 || !is_first) {
            let fitting = entries.iter().scan(used, |sum, (_, size)| {
                *sum += size;
                Some(*sum)
            });
            let fitting = fitting.take_while(|sum| *sum <= bytes).count();
            if fitting == 0 && !is_first {
                return Ok(filled);
            }
            // Once more, so that Codex says where to go on.
            limit = fitting.clamp(1, limit.saturating_sub(1).max(1));
            continue;
        }
        filled.start = filled.start.or(start);
        filled.entries.extend(entries.into_iter().map(|(entry, _)| entry));
        filled.next = next;
        used += size;
        let left = bytes.saturating_sub(used);
        // As many as would fit, with a little to spare, if the next ones were as large as these.
        limit = ((left - left / 16) / (used / filled.entries.len().max(1)).max(1)).clamp(1, MOST);
        if filled.next.is_none() || left <= bytes / FULL {
            break;
        }
    }
    Ok(filled)
}

/// Takes a member out of an object.
fn taken<T: DeserializeOwned + Default>(value: &mut Value, name: &str) -> T {
    let member = value.get_mut(name).map(Value::take).unwrap_or_default();
    serde_json::from_value(member).unwrap_or_default()
}

fn word(value: &mut Value, name: &str) -> Option<String> {
    taken(value, name)
}

/// How long it is as JSON.
fn length(value: &Value) -> usize {
    serde_json::to_string(value).map_or(0, |text| text.len())
}
