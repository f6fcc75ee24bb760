//! The error in the place of an answer that is too large for whoever asked.

use serde_json::json;
use serde_json::value::RawValue;

use super::connection::{TOO_LARGE, UNIT};

/// Bytes in front of a message in which the id of what it answers stands: Codex writes it first, and takes ids of any
/// length that a request may have.
pub(super) const HEAD: usize = 4096;

/// From this size on a message needs room that all of a device's connections share.
pub(super) const LARGE: u64 = 1 << 20;

/// Why an answer does not pass.
#[derive(Debug, Clone, Copy)]
pub(super) enum Why {
    /// Larger than the connection carries.
    TooLarge { limit: u64 },
    /// Other large messages have the room.
    NoRoom,
}

/// The error that takes an answer's place, from the first bytes and the length of that; `None` when it answers nothing.
pub(super) fn refusal(head: &[u8], length: u64, why: Why) -> Option<String> {
    let id = answered(head)?;
    let message = match why {
        Why::TooLarge { limit } => format!(
            "the answer has {} MiB, more than the {} MiB that are carried at once: ask for less, page by page \
             (thread/turns/list, thread/items/list, or excludeTurns)",
            length.div_ceil(UNIT),
            limit / UNIT
        ),
        Why::NoRoom => format!(
            "the answer has {} MiB, and other large answers to this device are still under way: ask again in a moment",
            length.div_ceil(UNIT)
        ),
    };
    tracing::info!(length, ?why, "an answer of codex was replaced by an error");
    Some(json!({ "id": id, "error": { "code": TOO_LARGE, "message": message } }).to_string())
}

/// The id of the request that a message answers, from its first bytes.
///
/// Codex writes an answer's id before anything else, and nothing else that has an id in front is an answer.
fn answered(head: &[u8]) -> Option<Box<RawValue>> {
    let text = str::from_utf8(head).or_else(|error| str::from_utf8(&head[..error.valid_up_to()])).ok()?;
    let after = text.trim_start().strip_prefix('{')?.trim_start().strip_prefix("\"id\"")?.trim_start();
    let after = after.strip_prefix(':')?;
    let mut values = serde_json::Deserializer::from_str(after).into_iter::<Box<RawValue>>();
    let id = values.next()?.ok()?;
    let rest = after[values.byte_offset()..].trim_start().strip_prefix(',')?.trim_start();
    (rest.starts_with("\"result\"") || rest.starts_with("\"error\"")).then_some(id)
}
