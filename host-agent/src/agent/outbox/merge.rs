//! Pieces of text put together.
//!
//! Codex sends an item's text token by token, in messages of 200 bytes each
//! whose lengths betray the tokens. So a piece waits in a lane for those that
//! follow, one lane an item. A lane is ready when its time is up; what can't go
//! on with it pushes it out. Where more follows at once, it waits longest.

use std::collections::{BTreeMap, VecDeque};
use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use memchr::memmem;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use tokio::time::Instant;

/// Notifications that add to the text of an item. Sorted.
const PIECES: [&str; 6] = [
    "item/agentMessage/delta",
    "item/commandExecution/outputDelta",
    "item/fileChange/outputDelta",
    "item/plan/delta",
    "item/reasoning/summaryTextDelta",
    "item/reasoning/textDelta",
];

/// How all of these begin, as JSON, and how far into a message of Codex that is at most: most messages are none of them, and
/// need not be read for that.
static ITEMS: LazyLock<memmem::Finder<'_>> = LazyLock::new(|| memmem::Finder::new(b"\"item/"));
const HEAD: usize = 128;

/// No text grows larger than this, in bytes, and no larger message is looked at.
const LARGEST: usize = 16 << 10;

/// Items whose text waits at once: a few threads of a channel, with output beside text.
const LANES: usize = 8;

/// Between two messages with text of one item, while it streams. Each costs the link some 300 bytes beside its text, or 70
/// in short (see `short`); and if they came less often, a person would see the text come in jerks.
pub(in crate::agent) const MOST_WAIT: Duration = Duration::from_millis(60);

/// The members of `params` that hold the piece, and name its item.
const DELTA: &str = "delta";
const ITEM: &str = "itemId";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Piece<'a> {
    #[serde(borrow, deserialize_with = "adds_text")]
    method: &'a str,
    #[serde(borrow)]
    params: BTreeMap<&'a str, &'a RawValue>,
    #[serde(borrow, rename = "emittedAtMs")]
    emitted_at_ms: Option<&'a RawValue>,
}

/// Whether a notification of this name adds to the text of an item.
pub(in crate::agent) fn adds_to_text(method: &str) -> bool {
    PIECES.binary_search(&method).is_ok()
}

/// Codex names the method first: of any other message no more than that is read.
fn adds_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<&'de str, D::Error> {
    let method = <&str>::deserialize(deserializer)?;
    PIECES.binary_search(&method).map(|_| method).map_err(|_| serde::de::Error::custom("adds to no text"))
}

/// One piece of an item's text, or several put together.
#[derive(Debug)]
pub(in crate::agent) struct Text {
    item: String,
    /// The message up to the text: method, item, place in it.
    start: String,
    /// As it stands in the JSON: what is escaped in two texts is escaped in both together.
    text: String,
    /// When Codex sent the last piece.
    emitted_at_ms: Option<String>,
}

impl Text {
    /// Reads a message; `None` when it is no piece of text, or one that is large enough by itself.
    pub(in crate::agent) fn read(message: &[u8]) -> Option<Self> {
        if message.len() > LARGEST || ITEMS.find(&message[..message.len().min(HEAD)]).is_none() {
            return None;
        }
        let Piece { method, params, emitted_at_ms } = serde_json::from_slice(message).ok()?;
        let text = params.get(DELTA)?.get().strip_prefix('"')?.strip_suffix('"')?.to_owned();
        let item = params.get(ITEM)?.get().to_owned();
        let mut start = format!(r#"{{"method":"{method}","params":{{"#);
        for (name, value) in params.iter().filter(|(name, _)| **name != DELTA) {
            // Names are written as they were read: none of them may need an escape.
            if !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                return None;
            }
            start.extend(["\"", name, "\":", value.get(), ","]);
        }
        start.extend(["\"", DELTA, "\":\""]);
        Some(Self { item, start, text, emitted_at_ms: emitted_at_ms.map(|at| at.get().to_owned()) })
    }

    /// The message up to the text.
    pub(super) fn start(&self) -> &str {
        &self.start
    }

    /// The text, as it stands in the JSON.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// In bytes, as a message.
    pub(in crate::agent) fn len(&self) -> usize {
        self.start.len() + self.text.len()
    }

    /// Goes on with this text, or gives the piece back: it belongs elsewhere, or makes it too large.
    pub(in crate::agent) fn add(&mut self, piece: Self) -> Result<(), Self> {
        if self.start != piece.start || self.len() + piece.text.len() > LARGEST {
            return Err(piece);
        }
        self.text += &piece.text;
        // When the text was as it is now.
        self.emitted_at_ms = piece.emitted_at_ms;
        Ok(())
    }

    /// The message that says all of it.
    pub(in crate::agent) fn message(&self) -> Bytes {
        let Self { start, text, emitted_at_ms, .. } = self;
        let at = emitted_at_ms.as_ref().map(|at| format!(r#","emittedAtMs":{at}"#)).unwrap_or_default();
        format!(r#"{start}{text}"}}{at}}}"#).into()
    }
}

/// Text that waits for more, each item's in a lane of its own.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    /// In the order in which they began.
    lanes: Vec<Lane>,
    bytes: usize,
    /// The items whose text went last, and when. As many as there are lanes.
    went: VecDeque<(String, Instant)>,
}

#[derive(Debug)]
struct Lane {
    text: Text,
    due: Instant,
}

impl Lanes {
    pub(super) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a piece, which waits so long where it begins a lane, and until [`MOST_WAIT`] after the item's text before it. Gives
    /// what goes on now, because the piece can't be added.
    pub(super) fn add(&mut self, mut piece: Text, wait: Duration, now: Instant) -> Option<Bytes> {
        let own = self.lanes.iter().position(|lane| lane.text.item == piece.item);
        if let Some(lane) = own.map(|at| &mut self.lanes[at]) {
            let before = lane.text.len();
            match lane.text.add(piece) {
                Ok(()) => {
                    self.bytes += lane.text.len() - before;
                    return None;
                }
                Err(other) => piece = other,
            }
        }
        let ended = own.or((self.lanes.len() == LANES).then_some(0)).map(|at| self.take(at, now));
        self.bytes += piece.len();
        let before = self.went.iter().find(|(item, _)| *item == piece.item);
        let due = before.map_or(now + wait, |(_, went)| (*went + MOST_WAIT).max(now + wait));
        self.lanes.push(Lane { text: piece, due });
        ended
    }

    /// When the next lane is ready.
    pub(super) fn due(&self) -> Option<Instant> {
        self.lanes.iter().map(|lane| lane.due).min()
    }

    /// Takes the oldest lane that is ready at `now`.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Bytes> {
        let at = self.lanes.iter().position(|lane| lane.due <= now)?;
        Some(self.take(at, now))
    }

    /// Takes the oldest lane, ready or not.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Bytes> {
        (!self.is_empty()).then(|| self.take(0, now))
    }

    fn take(&mut self, at: usize, now: Instant) -> Bytes {
        let text = self.lanes.remove(at).text;
        self.bytes -= text.len();
        let message = text.message();
        self.went.retain(|(item, _)| *item != text.item);
        self.went.truncate(LANES - 1);
        self.went.push_front((text.item, now));
        message
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn piece(item: &str, delta: &str, at: u64) -> Bytes {
        let params = json!({ "threadId": "t", "turnId": "u", "itemId": item, "delta": delta });
        json!({ "method": "item/agentMessage/delta", "params": params, "emittedAtMs": at }).to_string().into()
    }

    fn merged(first: &[u8], second: &[u8]) -> Option<Bytes> {
        let mut text = Text::read(first)?;
        text.add(Text::read(second)?).ok()?;
        Some(text.message())
    }

    fn delta(message: &[u8]) -> String {
        let message: Value = serde_json::from_slice(message).unwrap();
        message["params"]["delta"].as_str().unwrap().to_owned()
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
    fn lanes_keep_the_order_of_each_item_and_are_bounded() {
        let now = Instant::now();
        let mut lanes = Lanes::default();
        let mut seen = Vec::new();
        let mut add = |lanes: &mut Lanes, item: &str, text: &str| {
            let piece = Text::read(&piece(item, text, 1)).unwrap();
            seen.extend(lanes.add(piece, Duration::ZERO, now).map(|message| delta(&message)));
        };
        for (item, text) in [("a", "1"), ("b", "2"), ("a", "3"), ("b", "4")] {
            add(&mut lanes, item, text);
        }
        // Another place in the same item: nothing of the item overtakes.
        let elsewhere = piece("a", "5", 1);
        let elsewhere = String::from_utf8(elsewhere.into()).unwrap().replace("agentMessage", "plan");
        let ended = lanes.add(Text::read(elsewhere.as_bytes()).unwrap(), Duration::ZERO, now).unwrap();
        assert_eq!(delta(&ended), "13");
        for item in 0..LANES {
            add(&mut lanes, &item.to_string(), "x");
        }
        assert_eq!(seen, ["24", "5"], "the oldest make room");
        assert_eq!(std::iter::from_fn(|| lanes.pop(now)).count(), LANES);
        assert_eq!(lanes.bytes(), 0, "something is still counted");
        assert!(lanes.went.len() <= LANES);
    }

    #[test]
    fn a_lane_is_ready_at_its_time() {
        let now = Instant::now();
        let wait = Duration::from_millis(5);
        let mut lanes = Lanes::default();
        let add = |lanes: &mut Lanes, item: &str, text: &str, wait: Duration| {
            assert_eq!(lanes.add(Text::read(&piece(item, text, 1)).unwrap(), wait, now), None);
        };
        add(&mut lanes, "a", "1", wait);
        add(&mut lanes, "b", "2", Duration::ZERO);
        add(&mut lanes, "a", "3", Duration::from_secs(1));
        assert_eq!(lanes.due(), Some(now));
        assert_eq!(lanes.pop_due(now).map(|message| delta(&message)).as_deref(), Some("2"));
        assert_eq!(lanes.pop_due(now), None);
        // What came later does not make it wait longer.
        assert_eq!(lanes.pop_due(now + wait).map(|message| delta(&message)).as_deref(), Some("13"));
    }

    #[test]
    fn text_that_streams_goes_less_often_than_text_that_comes_slowly() {
        let (mut now, wait) = (Instant::now(), Duration::from_millis(20));
        let mut lanes = Lanes::default();
        for (pause, due) in [(0, 20), (1, 59), (30, 30), (39, 21), (41, 20), (5000, 20)] {
            now += Duration::from_millis(pause);
            assert_eq!(lanes.add(Text::read(&piece("a", "1", 1)).unwrap(), wait, now), None);
            assert_eq!(lanes.due(), Some(now + Duration::from_millis(due)), "after {pause} ms");
            now += Duration::from_millis(due);
            assert!(lanes.pop_due(now).is_some());
        }
    }

    #[test]
    fn the_names_are_sorted() {
        assert!(PIECES.is_sorted());
    }
}
