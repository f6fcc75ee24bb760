//! How often the same refusal came: the first is written at once, what repeats it within a minute is one more line.
//!
//! Of each device so many kinds of refusals are told apart; what is of further kinds within that minute is counted together.
//! So a device gets at most two lines a minute and kind written, however much it sends, and takes no other device's room.

use std::collections::HashMap;

use reachback_proto::ids::DeviceId;

use super::AuditError;
use super::line::{Entry, What};
use crate::state::timestamp::Timestamp;

/// Seconds for which repeats of a refusal are counted.
const WINDOW: u64 = 60;
/// Kinds of refusals of one device that are told apart at once.
pub(super) const KINDS: usize = 64;
/// The reason in a line that counts refusals of further kinds together.
pub(super) const OTHER: &str = "other";

/// What makes refusals of a device the same; none for all others.
type Kind = Option<Key>;

#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    environment: String,
    method: Option<String>,
    thread: Option<String>,
    decision: String,
    reason: Option<String>,
}

/// What came of a kind since its first line.
#[derive(Debug)]
struct Count {
    since: Timestamp,
    /// The line about repeats, once there is one.
    line: Option<Entry>,
}

impl Count {
    /// A clock that was set back ends it, too.
    fn is_old(&self, now: Timestamp) -> bool {
        now < self.since || now.unix() - self.since.unix() >= WINDOW
    }
}

/// See the module's header.
#[derive(Debug, Default)]
pub(super) struct Repeats(HashMap<DeviceId, HashMap<Kind, Count>>);

impl Repeats {
    /// Counts a refusal, if it repeats one that was written a moment ago.
    pub(super) fn counts(&mut self, entry: &Entry) -> bool {
        let Some(key) = key(entry) else { return false };
        let Some(kinds) = self.0.get_mut(&entry.device_id) else { return false };
        let kind = kind(kinds, key);
        let Some(count) = kinds.get_mut(&kind) else { return false };
        let line =
            count.line.get_or_insert_with(|| Entry { what: counting(&entry.what, kind.is_none()), ..entry.clone() });
        if let What::Action { count: Some(times), until, .. } = &mut line.what {
            *times += 1;
            *until = Some(entry.at);
        }
        true
    }

    /// A refusal was written that [`Self::counts`] does not count.
    pub(super) fn began(&mut self, entry: &Entry) {
        let Some(key) = key(entry) else { return };
        let kinds = self.0.entry(entry.device_id).or_default();
        let kind = kind(kinds, key);
        kinds.insert(kind, Count { since: entry.at, line: None });
    }

    /// Writes and forgets what a device's refusals came to that began a minute before `now`. What can't be written stays.
    pub(super) fn close_old_of(
        &mut self,
        device: DeviceId,
        now: Timestamp,
        write: impl FnMut(&Entry) -> Result<(), AuditError>,
    ) -> Result<(), AuditError> {
        self.close(|of, count| of == device && count.is_old(now), write)
    }

    /// The same for all devices.
    pub(super) fn close_old(
        &mut self,
        now: Timestamp,
        write: impl FnMut(&Entry) -> Result<(), AuditError>,
    ) -> Result<(), AuditError> {
        self.close(|_, count| count.is_old(now), write)
    }

    /// The same for all devices, whenever it began.
    pub(super) fn close_all(&mut self, write: impl FnMut(&Entry) -> Result<(), AuditError>) -> Result<(), AuditError> {
        self.close(|_, _| true, write)
    }

    fn close(
        &mut self,
        is_over: impl Fn(DeviceId, &Count) -> bool,
        mut write: impl FnMut(&Entry) -> Result<(), AuditError>,
    ) -> Result<(), AuditError> {
        let mut result = Ok(());
        self.0.retain(|device, kinds| {
            kinds.retain(|_, count| {
                if !is_over(*device, count) {
                    return true;
                }
                let wrote = count.line.as_ref().map_or(Ok(()), &mut write);
                let is_kept = wrote.is_err();
                result = std::mem::replace(&mut result, Ok(())).and(wrote);
                is_kept
            });
            !kinds.is_empty()
        });
        result
    }
}

fn kind(kinds: &HashMap<Kind, Count>, key: Key) -> Kind {
    let key = Some(key);
    if kinds.contains_key(&key) || kinds.len() < KINDS { key } else { None }
}

/// Nothing for what is no action.
fn key(entry: &Entry) -> Kind {
    match entry.what.clone() {
        What::Action { environment, method, thread, decision, reason, .. } => {
            Some(Key { environment, method, thread, decision, reason })
        }
        _ => None,
    }
}

/// A line that counts refusals like this one, so far none.
fn counting(what: &What, is_of_any_kind: bool) -> What {
    let mut what = what.clone();
    if let What::Action { method, thread, reason, count, .. } = &mut what {
        *count = Some(0);
        if is_of_any_kind {
            (*method, *thread, *reason) = (None, None, Some(OTHER.to_owned()));
        }
    }
    what
}
