//! The end of a turn without what was in it.
//!
//! When a turn ends, Codex says its last message once more (`summary`, measured
//! on 0.169.0): a device that has heard each item end does not need that. What
//! is left out is named as Codex itself does in `turn/started`: `items` is
//! empty, and `itemsView` says `notLoaded`.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::{RawValue, to_raw_value};

const METHOD: &str = "turn/completed";
const TURN: &str = "turn";
const ITEMS: &str = "items";
const VIEW: &str = "itemsView";

type Members<'a> = BTreeMap<&'a str, &'a RawValue>;

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Completed<'a> {
    #[serde(borrow, deserialize_with = "ends_a_turn")]
    method: &'a str,
    #[serde(borrow)]
    params: Members<'a>,
    #[serde(borrow, rename = "emittedAtMs", skip_serializing_if = "Option::is_none")]
    emitted_at_ms: Option<&'a RawValue>,
}

/// Codex names the method first: of any other message no more than that is read.
fn ends_a_turn<'de, D: Deserializer<'de>>(deserializer: D) -> Result<&'de str, D::Error> {
    let method = <&str>::deserialize(deserializer)?;
    if method == METHOD { Ok(method) } else { Err(serde::de::Error::custom("ends no turn")) }
}

/// A message that ends a turn, without the turn's items; any other as it is.
pub(in crate::agent) fn lean(message: Bytes) -> Bytes {
    without_items(&message).map_or(message, Bytes::from)
}

fn without_items(message: &[u8]) -> Option<Vec<u8>> {
    let mut completed: Completed<'_> = serde_json::from_slice(message).ok()?;
    let mut turn: Members<'_> = serde_json::from_str(completed.params.get(TURN)?.get()).ok()?;
    // A Codex that says no more how much it tells of a turn could not say that it tells nothing.
    if !turn.contains_key(ITEMS) || !turn.contains_key(VIEW) {
        return None;
    }
    let (none, view) = (to_raw_value(&[(); 0]).ok()?, to_raw_value("notLoaded").ok()?);
    turn.insert(ITEMS, &none);
    turn.insert(VIEW, &view);
    let turn = to_raw_value(&turn).ok()?;
    completed.params.insert(TURN, &turn);
    serde_json::to_vec(&completed).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn completed() -> Value {
        let items = json!([{ "type": "agentMessage", "id": "i", "text": "a \"long\" text" }]);
        let error = json!({ "message": "at \u{1} capacity", "codexErrorInfo": null });
        let turn = json!({ "id": "u", "items": items, "itemsView": "summary", "status": "failed", "error": error });
        json!({ "method": METHOD, "params": { "threadId": "t", "turn": turn }, "emittedAtMs": 5 })
    }

    fn leaned(message: &Value) -> Value {
        serde_json::from_slice(&lean(message.to_string().into_bytes().into())).unwrap()
    }

    #[test]
    fn the_end_of_a_turn_loses_its_items_and_nothing_else() {
        let mut wanted = completed();
        let told = leaned(&wanted);
        wanted["params"]["turn"]["items"] = json!([]);
        wanted["params"]["turn"]["itemsView"] = json!("notLoaded");
        assert_eq!(told, wanted);
        assert_eq!(leaned(&told), wanted, "it changes once more");
    }

    #[test]
    fn whatever_is_no_end_of_a_turn_stays_to_the_byte() {
        let edited = |edit: fn(&mut Value)| {
            let mut message = completed();
            edit(&mut message);
            message
        };
        let cases = [
            ("another method", edited(|m| m["method"] = json!("turn/started"))),
            ("a request", edited(|m| m["id"] = json!(1))),
            ("no turn", edited(|m| m["params"]["turn"] = json!("u"))),
            ("no view", edited(|m| drop(m["params"]["turn"].as_object_mut().unwrap().remove("itemsView")))),
            ("an answer", json!({ "id": 1, "result": completed() })),
        ];
        for (what, message) in cases {
            assert_eq!(lean(message.to_string().into()), message.to_string(), "{what}");
        }
        assert_eq!(lean(Bytes::from_static(b"\xff{")), &b"\xff{"[..]);
    }
}
