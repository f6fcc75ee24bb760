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
//! And when the item is complete, Codex says its whole text once more. Where that
//! is to the byte what the lane has carried since it began, the device has it,
//! and is told so in its place:
//!
//! ```text
//!   {"method":"item/completed","params":{"item":{"text":"",…},…},"omitted":{"lane":0,"bytes":14}}
//! ```
//!
//! Messages of a channel come in order and once, also over another link, so both
//! sides know the same lanes, and the same text of each. What of it was said is
//! here a sum, not the text. Whatever else the text may be (the device began to
//! listen in the middle of it, a piece was too large for a lane, Codex has changed
//! its mind), the sums differ, and the text goes as it is.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::merge::Text;

/// Lanes of a channel: a few threads, with output beside text. A client keeps as many.
const LANES: usize = 8;

/// A text that is longer, in bytes as it stands in the JSON, goes with its item: a client keeps no more of each lane.
const MOST_KEPT: usize = 256 << 10;
/// A text that is shorter goes with its item: what stands in its place is as long.
const LEAST_OMITTED: usize = 64;
/// No larger message is looked at: a text of [`MOST_KEPT`], and as much beside it.
const LARGEST: usize = 2 * MOST_KEPT;

const COMPLETED: &str = "item/completed";
/// Items with one text, and nothing else that pieces add to: their type, as JSON; what adds to the text; where it stands.
const TEXTS: [(&str, &str, &str); 3] = [
    ("\"agentMessage\"", "item/agentMessage/delta", "text"),
    ("\"commandExecution\"", "item/commandExecution/outputDelta", "aggregatedOutput"),
    ("\"plan\"", "item/plan/delta", "text"),
];

type Members<'a> = BTreeMap<&'a str, &'a RawValue>;

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Completed<'a> {
    #[serde(borrow, deserialize_with = "completes_an_item")]
    method: &'a str,
    #[serde(borrow)]
    params: Members<'a>,
    #[serde(borrow, rename = "emittedAtMs", skip_serializing_if = "Option::is_none")]
    emitted_at_ms: Option<&'a RawValue>,
    #[serde(skip_deserializing)]
    omitted: Option<Omitted>,
}

/// The text that is left out.
#[derive(Serialize)]
struct Omitted {
    lane: usize,
    /// In UTF-8.
    bytes: usize,
}

/// Codex names the method first: of any other message no more than that is read.
fn completes_an_item<'de, D: Deserializer<'de>>(deserializer: D) -> Result<&'de str, D::Error> {
    let method = <&str>::deserialize(deserializer)?;
    if method == COMPLETED { Ok(method) } else { Err(serde::de::Error::custom("completes no item")) }
}

/// The lanes of one channel, in the order in which its messages go.
#[derive(Debug, Default)]
pub(in crate::agent) struct Shortener {
    lanes: Vec<Lane>,
    /// The lanes, the one that was used last at the end: a new text takes the first.
    used: Vec<usize>,
}

#[derive(Debug, Default)]
struct Lane {
    /// The message up to the text.
    start: String,
    said: Said,
}

/// The text that a lane has carried, as it stands in the JSON: texts whose escapes are the same are the same.
struct Said {
    sum: Context,
    bytes: usize,
}

impl Default for Said {
    fn default() -> Self {
        Self { sum: Context::new(&SHA256), bytes: 0 }
    }
}

impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Said").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Said {
    fn add(&mut self, text: &[u8]) {
        self.bytes = self.bytes.saturating_add(text.len());
        if self.bytes <= MOST_KEPT {
            self.sum.update(text);
        }
    }

    fn is(&self, text: &[u8]) -> bool {
        let same = || {
            let mut other = Context::new(&SHA256);
            other.update(text);
            other.finish().as_ref() == self.sum.clone().finish().as_ref()
        };
        self.bytes <= MOST_KEPT && self.bytes == text.len() && same()
    }
}

impl Shortener {
    /// A message with a piece of text, as short as may be; any other as it is.
    pub(in crate::agent) fn shorten(&mut self, message: Bytes) -> Bytes {
        if let Some(at) = self.lanes.iter().position(|lane| message.starts_with(lane.start.as_bytes())) {
            // `"}` ends the text: within it a quotation mark is escaped, and behind it stands at most `,"emittedAtMs":1}`.
            let text = &message[self.lanes[at].start.len()..];
            if let Some(end) = memchr::memmem::rfind(text, b"\"}") {
                self.uses(at);
                self.lanes[at].said.add(&text[..end]);
                let (head, tail) = (format!(r#"{{"lane":{at},"delta":""#), b"\"}");
                return [head.as_bytes(), &text[..end], tail].concat().into();
            }
        }
        let Some(text) = Text::read(&message) else { return message };
        let at = if self.lanes.len() < LANES {
            self.lanes.push(Lane::default());
            self.lanes.len() - 1
        } else {
            self.used[0]
        };
        self.uses(at);
        let mut said = Said::default();
        said.add(text.text().as_bytes());
        self.lanes[at] = Lane { start: text.start().to_owned(), said };
        let open = message.strip_suffix(b"}").unwrap_or(&message);
        [open, format!(r#","lane":{at}}}"#).as_bytes()].concat().into()
    }

    /// A message that completes an item, without the text that a lane has carried; any other as it is.
    pub(in crate::agent) fn omit(&mut self, message: Bytes) -> Bytes {
        if self.lanes.is_empty() || message.len() > LARGEST {
            return message;
        }
        self.without_text(&message).map_or(message, Bytes::from)
    }

    fn without_text(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        let mut completed: Completed<'_> = serde_json::from_slice(message).ok()?;
        let params = &mut completed.params;
        let mut item: Members<'_> = serde_json::from_str(params.get("item")?.get()).ok()?;
        let kind = item.get("type")?.get();
        let (_, method, member) = TEXTS.iter().find(|(of, ..)| *of == kind)?;
        let (id, thread, turn) = (item.get("id")?.get(), params.get("threadId")?.get(), params.get("turnId")?.get());
        // As `Text` writes it. With any other member beside these, no lane begins like this.
        let start =
            format!(r#"{{"method":"{method}","params":{{"itemId":{id},"threadId":{thread},"turnId":{turn},"delta":""#);
        let at = self.lanes.iter().position(|lane| lane.start == start)?;
        let whole = item.get(member)?.get();
        let text = whole.strip_prefix('"')?.strip_suffix('"')?;
        if text.len() < LEAST_OMITTED || !self.lanes[at].said.is(text.as_bytes()) {
            return None;
        }
        let bytes = serde_json::from_str::<String>(whole).ok()?.len();
        let nothing = to_raw_value("").ok()?;
        item.insert(member, &nothing);
        let item = to_raw_value(&item).ok()?;
        params.insert("item", &item);
        completed.omitted = Some(Omitted { lane: at, bytes });
        let message = serde_json::to_vec(&completed).ok()?;
        // The client keeps it no longer.
        self.lanes[at].said = Said::default();
        Some(message)
    }

    fn uses(&mut self, lane: usize) {
        self.used.retain(|other| *other != lane);
        self.used.push(lane);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::iter;

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
    struct Client(HashMap<u64, (Value, String)>);

    impl Client {
        fn whole(&mut self, message: &[u8]) -> Value {
            let mut message: Value = serde_json::from_slice(message).unwrap();
            let members = message.as_object_mut().unwrap();
            if let Some(omitted) = members.remove("omitted") {
                let (begun, said) = self.0.get_mut(&omitted["lane"].as_u64().unwrap()).unwrap();
                assert_eq!(omitted["bytes"], said.len());
                let item = &mut message["params"]["item"];
                let (.., member) = TEXTS.iter().find(|(_, method, _)| begun["method"] == *method).unwrap();
                assert_eq!((&begun["params"]["itemId"], &item[*member]), (&item["id"], &json!("")));
                item[*member] = std::mem::take(said).into();
                return message;
            }
            let Some(lane) = members.remove("lane") else { return message };
            let lane = lane.as_u64().unwrap();
            assert!(lane < LANES as u64, "{lane}");
            if message.get("method").is_some() {
                let said = message["params"]["delta"].as_str().unwrap().to_owned();
                self.0.insert(lane, (message.clone(), said));
                return message;
            }
            let (begun, said) = self.0.get_mut(&lane).unwrap();
            let mut whole = begun.clone();
            *said += message["delta"].as_str().unwrap();
            whole["params"]["delta"] = message["delta"].clone();
            whole
        }
    }

    /// The item of these pieces, when it is complete.
    fn complete(item: &str, text: &str) -> Value {
        json!({
            "method": COMPLETED,
            "params": {
                "threadId": "t", "turnId": "u", "completedAtMs": 5,
                "item": { "type": "agentMessage", "id": item, "text": text, "phase": null, "memory": [] },
            },
            "emittedAtMs": 7,
        })
    }

    /// What a client is told at last, after it has heard these pieces of an item; and whether it makes of that what Codex said.
    fn told(pieces: &[Value], completed: &Value) -> Value {
        let (mut shortener, mut client) = (Shortener::default(), Client::default());
        for piece in pieces {
            client.whole(&shortener.shorten(merged(piece)));
        }
        let message = shortener.omit(completed.to_string().into());
        assert_eq!(&client.whole(&message), completed);
        serde_json::from_slice(&message).unwrap()
    }

    const START: &str = "\"Three\" files of \\ \u{1} and 🙂, ä\u{2028}\n";
    const END: &str = "and enough letters behind that for it to be worth it to leave them out.";

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
    fn a_text_that_a_lane_has_carried_is_left_out_of_its_item() {
        let text = format!("{START}{END}");
        let message = told(&[piece("i", START), piece("i", ""), piece("i", END)], &complete("i", &text));
        assert_eq!(message["omitted"], json!({ "lane": 0, "bytes": text.len() }));
        assert_eq!(message["params"]["item"]["text"], "");

        let of = |message: &mut Value, kind: &str, member: &str| {
            message["params"]["item"] = json!({ "type": kind, "id": "i", member: text, "more": { "text": text } });
        };
        for (kind, method, member) in [
            ("plan", "item/plan/delta", "text"),
            ("commandExecution", "item/commandExecution/outputDelta", "aggregatedOutput"),
        ] {
            let mut pieces = [piece("i", START), piece("i", END)];
            pieces.iter_mut().for_each(|piece| piece["method"] = json!(method));
            let mut completed = complete("i", "");
            of(&mut completed, kind, member);
            let message = told(&pieces, &completed);
            assert_eq!(message["omitted"]["bytes"], text.len(), "{kind}");
        }
    }

    #[test]
    fn any_other_text_goes_with_its_item() {
        let text = format!("{START}{END}");
        let (start, end) = (piece("i", START), piece("i", END));
        let both = [start.clone(), end.clone()];
        let edited = |edit: fn(&mut Value)| {
            let mut message = complete("i", &text);
            edit(&mut message);
            message
        };
        let others: Vec<_> = (0..LANES).map(|other| piece(&format!("o{other}"), "x")).collect();
        let taken: Vec<_> = iter::once(&start).chain(&others).chain([&end]).cloned().collect();
        let long = "x".repeat(MOST_KEPT / 32);
        let pieces_of_long = vec![piece("i", &long); 33];
        let mut elsewhere = end.clone();
        elsewhere["params"]["part"] = json!(1);
        let cases: [(&str, &[Value], Value); 12] = [
            ("no piece was heard", &[], complete("i", &text)),
            ("the first was not", &both[1..], complete("i", &text)),
            ("the last was not", &both[..1], complete("i", &text)),
            ("one came twice", &[start.clone(), start.clone(), end], complete("i", &text)),
            ("a letter is another", &both, complete("i", &text.replace('.', "!"))),
            ("another item", &both, complete("j", &text)),
            ("another thread", &both, edited(|m| m["params"]["threadId"] = json!("t2"))),
            ("another kind", &both, edited(|m| m["params"]["item"]["type"] = json!("plan"))),
            ("no text", &both, edited(|m| m["params"]["item"]["text"] = json!([1]))),
            ("its lane was taken", &taken, complete("i", &text)),
            ("another part of it", &[start, elsewhere], complete("i", &text)),
            ("a member that nobody knows", &both, edited(|m| m["x"] = json!(1))),
        ];
        for (what, pieces, completed) in &cases {
            assert_eq!(&told(pieces, completed), completed, "{what}");
        }
        let completed = complete("i", &long.repeat(33));
        assert_eq!(told(&pieces_of_long, &completed), completed, "a long one");
        let completed = complete("i", &long.repeat(32));
        assert!(told(&pieces_of_long[1..], &completed)["omitted"].is_object(), "one that is not too long");
        let completed = complete("i", "short");
        assert_eq!(told(&[piece("i", "short")], &completed), completed, "a short one");
    }

    #[test]
    fn it_is_left_out_once_and_what_comes_later_begins_with_nothing() {
        let (mut shortener, mut client) = (Shortener::default(), Client::default());
        let completed = complete("i", END);
        for is_omitted in [true, false] {
            if is_omitted {
                client.whole(&shortener.shorten(merged(&piece("i", END))));
            }
            let message = shortener.omit(completed.to_string().into());
            assert_eq!(memchr::memmem::find(&message, b"omitted").is_some(), is_omitted);
            assert_eq!(client.whole(&message), completed);
        }
        client.whole(&shortener.shorten(merged(&piece("i", END))));
        let message = shortener.omit(completed.to_string().into());
        assert!(memchr::memmem::find(&message, b"omitted").is_some());
        assert_eq!(client.whole(&message), completed);
    }

    #[test]
    fn what_is_no_text_in_utf_8_goes_as_it_came() {
        let mut shortener = Shortener::default();
        let raw = format!("\\ud83d{END}");
        let text = |message: Value| message.to_string().replace("TEXT", &raw);
        shortener.shorten(Bytes::from(text(piece("i", "TEXT"))));
        let completed = Bytes::from(text(complete("i", "TEXT")));
        assert_eq!(shortener.omit(completed.clone()), completed);
        assert_eq!(shortener.omit(Bytes::from_static(b"\xff{")), &b"\xff{"[..]);
    }

    #[test]
    fn what_is_no_piece_of_text_goes_as_it_is() {
        let mut shortener = Shortener::default();
        shortener.shorten(merged(&piece("i", "x")));
        let others = [
            json!({ "method": "turn/completed", "params": { "turn": { "items": [] } } }),
            json!({ "method": "item/completed", "params": { "item": { "text": "x" } } }),
            json!({ "id": 1, "result": {} }),
        ];
        for other in others {
            let message = Bytes::from(other.to_string());
            assert_eq!(shortener.shorten(message.clone()), message);
            assert_eq!(shortener.omit(message.clone()), message);
        }
    }
}
