//! Pieces of text put together.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Notifications that add to the text of an item. Sorted.
const PIECES: [&str; 6] = [
    "item/agentMessage/delta",
    "item/commandExecution/outputDelta",
    "item/fileChange/outputDelta",
    "item/plan/delta",
    "item/reasoning/summaryTextDelta",
    "item/reasoning/textDelta",
];

/// Larger than this, in bytes, nothing grows: each piece costs a copy of what it is added to.
const LARGEST: usize = 16 << 10;

/// The member of `params` that holds the piece.
const DELTA: &str = "delta";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Piece<'a> {
    method: &'a str,
    #[serde(borrow)]
    params: BTreeMap<&'a str, &'a RawValue>,
    #[serde(borrow, rename = "emittedAtMs")]
    emitted_at_ms: Option<&'a RawValue>,
}

/// Both messages as one, if the second goes on with the text of the first: same item, same place in it.
pub(super) fn merged(first: &Bytes, second: &Bytes) -> Option<Bytes> {
    if first.len() + second.len() > LARGEST {
        return None;
    }
    let (first, second) = (read(first)?, read(second)?);
    let is_same = first.method == second.method
        && first.params.len() == second.params.len()
        && first.params.iter().all(|(name, value)| {
            let other = second.params.get(name);
            *name == DELTA || other.is_some_and(|other| other.get() == value.get())
        });
    let (start, end) = (text(&first)?, text(&second)?);
    if !is_same {
        return None;
    }
    let mut out = format!(r#"{{"method":"{}","params":{{"{DELTA}":"{start}{end}""#, first.method);
    for (name, value) in first.params.iter().filter(|(name, _)| **name != DELTA) {
        out.push_str(&format!(r#","{name}":{}"#, value.get()));
    }
    out.push('}');
    // When the text was as it is now.
    if let Some(at) = second.emitted_at_ms {
        out.push_str(&format!(r#","emittedAtMs":{}"#, at.get()));
    }
    out.push('}');
    Some(out.into())
}

fn read(message: &[u8]) -> Option<Piece<'_>> {
    let piece: Piece<'_> = serde_json::from_slice(message).ok()?;
    // Names are written as they were read: none of them needs an escape.
    let is_plain = |name: &&str| name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (PIECES.binary_search(&piece.method).is_ok() && piece.params.keys().all(is_plain)).then_some(piece)
}

/// The piece as it stands in the JSON, without its quotes: what is escaped in two texts is escaped in both together.
fn text<'a>(piece: &Piece<'a>) -> Option<&'a str> {
    piece.params.get(DELTA)?.get().strip_prefix('"')?.strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn piece(item: &str, delta: &str, at: u64) -> Bytes {
        let params = json!({ "threadId": "t", "turnId": "u", "itemId": item, "delta": delta });
        json!({ "method": "item/agentMessage/delta", "params": params, "emittedAtMs": at }).to_string().into()
    }

    #[test]
    fn text_of_one_item_becomes_one_message() {
        for (first, second) in
            [("a", "b"), ("", ""), ("\"\\", "\n\u{1}"), ("ü🙂", "\u{2028}</script>"), ("\\u00", "41")]
        {
            let both = merged(&piece("i", first, 1), &piece("i", second, 2)).unwrap();
            let both: Value = serde_json::from_slice(&both).unwrap();
            let wanted: Value = serde_json::from_slice(&piece("i", &format!("{first}{second}"), 2)).unwrap();
            assert_eq!(both, wanted);
        }
    }

    #[test]
    fn nothing_else_is_put_together() {
        let first = piece("i", "a", 1);
        let other = |edit: fn(&mut Value)| {
            let mut message = serde_json::from_slice(&piece("i", "b", 2)).unwrap();
            edit(&mut message);
            Bytes::from(message.to_string())
        };
        let cases: [(&str, Bytes); 7] = [
            ("another item", piece("j", "b", 2)),
            ("another method", other(|m| m["method"] = json!("item/plan/delta"))),
            ("no piece of text", other(|m| m["method"] = json!("item/completed"))),
            ("a member more", other(|m| m["params"]["x"] = json!(1))),
            ("a delta that is no text", other(|m| m["params"]["delta"] = json!(["b"]))),
            ("a request", other(|m| m["id"] = json!(1))),
            ("a long one", piece("i", &"x".repeat(LARGEST), 2)),
        ];
        for (what, second) in cases {
            assert!(merged(&first, &second).is_none(), "{what} was added");
        }
        assert!(merged(&first, &piece("i", "b", 2)).is_some());
    }

    #[test]
    fn the_names_are_sorted() {
        assert!(PIECES.is_sorted());
    }
}
