//! Text in short messages, for a device that asks for it.
//!
//! What is around a piece of text (the thread, the turn, the item) is larger
//! than the piece, and the same each time. So it goes once, with the number of a
//! lane, and then the lane's number with the text is enough:
//!
//! ```text
//!   {"method":"item/agentMessage/delta","params":{"threadId":…,"delta":"Three "},"lane":0}
//!   {"lane":0,"delta":"files of"}
//! ```
//!
//! Messages of a channel come in order and once, also over another link, so both
//! sides know the same lanes.

use bytes::Bytes;

use super::merge::Text;

/// Lanes of a channel: a few threads, with output beside text. A client keeps as many.
const LANES: usize = 8;

/// The lanes of one channel, in the order in which its messages go.
#[derive(Debug, Default)]
pub(in crate::agent) struct Shortener {
    /// Each lane's message up to its text.
    starts: Vec<String>,
    /// The lanes, the one that was used last at the end: a new text takes the first.
    used: Vec<usize>,
}

impl Shortener {
    /// A message with a piece of text, as short as may be; any other as it is.
    pub(in crate::agent) fn shorten(&mut self, message: Bytes) -> Bytes {
        if let Some(lane) = self.starts.iter().position(|start| message.starts_with(start.as_bytes())) {
            // `"}` ends the text: within it a quotation mark is escaped, and behind it stands at most `,"emittedAtMs":1}`.
            let text = &message[self.starts[lane].len()..];
            if let Some(end) = memchr::memmem::rfind(text, b"\"}") {
                self.uses(lane);
                let (head, tail) = (format!(r#"{{"lane":{lane},"delta":""#), b"\"}");
                return [head.as_bytes(), &text[..end], tail].concat().into();
            }
        }
        let Some(text) = Text::read(&message) else { return message };
        let lane = if self.starts.len() < LANES {
            self.starts.push(String::new());
            self.starts.len() - 1
        } else {
            self.used[0]
        };
        self.uses(lane);
        text.start().clone_into(&mut self.starts[lane]);
        let open = message.strip_suffix(b"}").unwrap_or(&message);
        [open, format!(r#","lane":{lane}}}"#).as_bytes()].concat().into()
    }

    fn uses(&mut self, lane: usize) {
        self.used.retain(|other| *other != lane);
        self.used.push(lane);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use serde_json::{Value, json};

    use super::*;

    fn piece(item: &str, delta: &str) -> Value {
        json!({
            "method": "item/agentMessage/delta",
            "params": { "threadId": "t", "turnId": "u", "itemId": item, "delta": delta },
            "emittedAtMs": 1_700_000_000_000_u64,
        })
    }

    /// As the outbox hands it over: what is around the text comes before it.
    fn merged(message: &Value) -> Bytes {
        let bytes = Bytes::from(message.to_string());
        Text::read(&bytes).map_or(bytes, |text| text.message())
    }

    /// What a client makes of it.
    #[derive(Default)]
    struct Client(HashMap<u64, Value>);

    impl Client {
        fn whole(&mut self, message: &[u8]) -> Value {
            let mut message: Value = serde_json::from_slice(message).unwrap();
            let Some(lane) = message.as_object_mut().unwrap().remove("lane") else { return message };
            let lane = lane.as_u64().unwrap();
            assert!(lane < LANES as u64, "{lane}");
            if message.get("method").is_some() {
                self.0.insert(lane, message.clone());
                return message;
            }
            let mut whole = self.0[&lane].clone();
            whole["params"]["delta"] = message["delta"].clone();
            whole
        }
    }

    #[test]
    fn a_client_makes_the_same_messages_of_it() {
        let (mut shortener, mut client) = (Shortener::default(), Client::default());
        let deltas = ["", "a", "\"", "\\", "\"}", "\\\"}", "\"},\"emittedAtMs\":1}", "ä🙂\u{2028}\n", "}"];
        for (round, delta) in deltas.iter().cycle().take(60).enumerate() {
            // More items than lanes, and two that go on.
            let item = if round % 3 == 0 { format!("i{round}") } else { format!("own{}", round % 2) };
            let message = piece(&item, delta);
            let short = shortener.shorten(merged(&message));
            assert_eq!(client.whole(&short), message, "{}", String::from_utf8_lossy(&short));
        }
        let short = shortener.shorten(merged(&piece("own0", "x")));
        assert_eq!(short.len(), r#"{"lane":0,"delta":"x"}"#.len(), "{}", String::from_utf8_lossy(&short));
    }

    #[test]
    fn what_is_no_piece_of_text_goes_as_it_is() {
        let mut shortener = Shortener::default();
        let others = [
            json!({ "method": "turn/completed", "params": { "turn": { "items": [] } } }),
            json!({ "method": "item/completed", "params": { "item": { "text": "x" } } }),
            json!({ "id": 1, "result": {} }),
        ];
        for other in others {
            let message = Bytes::from(other.to_string());
            assert_eq!(shortener.shorten(message.clone()), message);
        }
    }
}
