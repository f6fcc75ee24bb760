//! A device's requests that [`parse`](super::parse) does not take: who is to be told what.
//!
//! A client waits for an answer to every request, some without end. So a JSON
//! object that has an `id` and a `method` is answered whatever else is wrong with
//! it, by its own id where there is exactly one to read. This reading is lenient and nothing
//! of it goes to Codex; what is said goes back to the device that sent it, once,
//! and is no larger than what came in by more than a few hundred bytes.
//!
//! Without a `method` nobody is told: `{"id":1}` may be what is left of an answer,
//! and an error under its number would end a request of the device's own.

use std::borrow::Cow;
use std::fmt;

use reachback_proto::session::MAX_MESSAGE_TO_HOST;
use reachback_proto::words::quote;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::parse::{MAX_ID, MAX_METHOD, RequestId};

/// Longest id that is written back, in bytes of JSON; one that is longer becomes `null`.
const MAX_SHOWN_ID: usize = 64 * 1024;
/// Most requests of a batch that are answered one by one; those after share one answer without an id.
const MAX_BATCH: usize = 32;

/// A request that is not taken.
#[derive(Debug)]
pub(crate) struct Unread {
    /// A text or a number, byte for byte: read and written anew, a number could become its neighbour. `null` where there is
    /// none, as JSON-RPC has it.
    pub(crate) id: Box<RawValue>,
    /// What is asked, where it says so once.
    pub(crate) method: Option<String>,
    /// What is wrong, for the device; `None` where it lies deeper than is looked here.
    pub(crate) fault: Option<String>,
}

/// The requests in a message that could not be parsed: one, those of a batch, or none.
pub(crate) fn requests(bytes: &[u8]) -> Vec<Unread> {
    if bytes.len() > MAX_MESSAGE_TO_HOST {
        return Vec::new();
    }
    // The same check first: the reader below skips over values without looking into their texts.
    let Ok(text) = std::str::from_utf8(bytes) else { return Vec::new() };
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = match text.trim_start().starts_with('[') {
        true => reader.deserialize_seq(Batch),
        false => Request.deserialize(&mut reader).map(|request| request.into_iter().collect()),
    };
    read.and_then(|requests| reader.end().map(|()| requests)).unwrap_or_default()
}

/// Whether this is meant as a message: one JSON object, not too long, with what makes a request, a notification or an answer.
pub(crate) fn is_message(bytes: &[u8]) -> bool {
    if bytes.len() > MAX_MESSAGE_TO_HOST {
        return false;
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let mut reader = serde_json::Deserializer::from_str(text);
    let found = reader.deserialize_map(Members).and_then(|found| reader.end().map(|()| found));
    found.is_ok_and(|found| ["method", "result", "error"].iter().any(|name| found.once.contains(name)))
}

/// What was found of one request so far.
#[derive(Default)]
struct Found {
    /// The id; `null` where it can't be written back, or there are two.
    id: Option<Box<RawValue>>,
    /// The method; `None` inside where it is none, or there are two.
    method: Option<Option<String>>,
    /// Which of the members that occur once were there.
    once: Vec<&'static str>,
    /// The first thing that is wrong.
    fault: Option<String>,
}

impl Found {
    fn member(&mut self, key: &[u8], value: &RawValue) {
        let known = ["id", "method", "params", "result", "error", "trace", "jsonrpc"];
        let Some(name) = known.into_iter().find(|name| name.as_bytes() == key) else {
            let name = quote(String::from_utf8_lossy(key));
            return self.wrong(|| format!("{name} is no member of a request"));
        };
        let again = self.once.contains(&name);
        if again {
            self.wrong(|| format!("`{name}` occurs twice"));
        } else {
            self.once.push(name);
        }
        match name {
            "id" => self.id(value, again),
            "method" => self.method(value, again),
            "result" | "error" => self.wrong(|| format!("a request has no `{name}`")),
            "jsonrpc" if text(value).as_deref() != Some("2.0") => {
                self.wrong(|| "the version of JSON-RPC here is \"2.0\"".to_owned());
            }
            _ => {}
        }
    }

    fn id(&mut self, value: &RawValue, again: bool) {
        let raw = value.get();
        let is_short = raw.len() <= MAX_SHOWN_ID;
        let can_return = match raw.as_bytes().first() {
            Some(b'"') => is_short && text(value).is_some(),
            Some(b'-' | b'0'..=b'9') => is_short,
            _ => false,
        };
        match serde_json::from_str::<RequestId>(raw) {
            Ok(_) => {}
            Err(_) if raw.starts_with('"') && raw.len() > MAX_ID => {
                self.wrong(|| format!("the id is longer than {MAX_ID} bytes"));
            }
            Err(_) => self.wrong(|| "an id is a text, or a whole number of 64 bits with a sign".to_owned()),
        }
        let is_certain = !again || self.id.as_ref().is_some_and(|id| id.get() == raw);
        self.id = Some(if can_return && is_certain { value } else { RawValue::NULL }.to_owned());
    }

    fn method(&mut self, value: &RawValue, again: bool) {
        let method = text(value);
        match &method {
            None => self.wrong(|| "the method is not a text".to_owned()),
            Some(name) if name.len() > MAX_METHOD => {
                self.wrong(|| format!("the method's name is longer than {MAX_METHOD} bytes"));
            }
            Some(_) => {}
        }
        self.method = Some(method.filter(|name| !again && name.len() <= MAX_METHOD).map(Cow::into_owned));
    }

    fn wrong(&mut self, words: impl FnOnce() -> String) {
        self.fault.get_or_insert_with(words);
    }

    fn into_request(self) -> Option<Unread> {
        let Self { id, method, fault, .. } = self;
        Some(Unread { id: id?, method: method?, fault })
    }
}

fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Cow<'_, str>>(value.get()).ok()
}

/// Reads any value; `None` when it is nothing that waits for an answer.
struct Request;

impl<'de> DeserializeSeed<'de> for Request {
    type Value = Option<Unread>;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        let raw = <&RawValue as serde::Deserialize>::deserialize(d)?;
        if !raw.get().starts_with('{') {
            return Ok(None);
        }
        Ok(serde_json::Deserializer::from_str(raw.get()).deserialize_map(Members).ok().and_then(Found::into_request))
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON-RPC message")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found, A::Error> {
        let mut found = Found::default();
        while let Some(key) = map.next_key_seed(Key)? {
            found.member(&key, map.next_value()?);
        }
        Ok(found)
    }
}

/// A key, also one that is not Unicode (half of a surrogate pair): it is wrong, and hides nothing.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, [u8]>;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_bytes(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, [u8]>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_bytes<E>(self, key: &'de [u8]) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(key))
    }

    fn visit_bytes<E>(self, key: &[u8]) -> Result<Self::Value, E> {
        Ok(Cow::Owned(key.to_owned()))
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(key.as_bytes()))
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(key.as_bytes().to_owned()))
    }
}

struct Batch;

impl<'de> Visitor<'de> for Batch {
    type Value = Vec<Unread>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a batch")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<Unread>, A::Error> {
        let words = || Some("batches are not taken here: send each request by itself".to_owned());
        let mut requests = Vec::new();
        while requests.len() < MAX_BATCH {
            let Some(request) = seq.next_element_seed(Request)? else { return Ok(requests) };
            requests.extend(request.map(|request| Unread { fault: words(), ..request }));
        }
        let mut more = false;
        while seq.next_element::<IgnoredAny>()?.is_some() {
            more = true;
        }
        if more {
            requests.push(Unread { id: RawValue::NULL.to_owned(), method: None, fault: words() });
        }
        Ok(requests)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The one request in this text: its id, and what is wrong.
    #[track_caller]
    fn one(text: &str) -> (String, String) {
        let mut requests = requests(text.as_bytes());
        assert_eq!(requests.len(), 1, "{text}: {requests:?}");
        let Unread { id, fault, .. } = requests.remove(0);
        (id.get().to_owned(), fault.unwrap_or_default())
    }

    #[test]
    fn what_is_wrong_is_named_under_the_requests_own_id() {
        let long_method = format!(r#"{{"id":7,"method":"{}"}}"#, "x".repeat(MAX_METHOD + 1));
        for (text, words) in [
            (r#"{"id":7,"method":"a","extra":1}"#, "“extra” is no member"),
            (r#"{"extra":1,"method":"a","id":7}"#, "“extra” is no member"),
            (r#"{"id":7,"method":"a","\ud800":1}"#, "no member"),
            (r#"{"id":7,"method":"a","params":{},"params":{}}"#, "`params` occurs twice"),
            (r#"{"id":7,"method":"a","meth\u006fd":"b"}"#, "`method` occurs twice"),
            (r#"{"id":7,"id":7,"method":"a"}"#, "`id` occurs twice"),
            (r#"{"id":7,"method":"a","result":1}"#, "no `result`"),
            (r#"{"id":7,"method":"a","error":{}}"#, "no `error`"),
            (r#"{"id":7,"method":1}"#, "method is not a text"),
            (r#"{"id":7,"method":null}"#, "method is not a text"),
            (r#"{"id":7,"method":"\ud800"}"#, "method is not a text"),
            (&long_method, "longer than 128 bytes"),
            (r#"{"jsonrpc":"1.0","id":7,"method":"a"}"#, "\"2.0\""),
            (r#"{"jsonrpc":2,"id":7,"method":"a"}"#, "\"2.0\""),
            (r#"[{"id":7,"method":"a"},{"method":"b"},{"id":1,"result":2},3]"#, "batches"),
        ] {
            let (id, fault) = one(text);
            assert_eq!(id, "7", "{text}");
            assert!(fault.contains(words), "{text}: {fault}");
        }
    }

    #[test]
    fn an_id_is_written_back_as_it_was_read_or_not_at_all() {
        let text = |length: usize| "é".repeat(length / 2);
        let with = |id: &str| one(&format!(r#"{{"id":{id},"method":"a"}}"#)).0;
        let longest = format!("\"{}\"", text(MAX_SHOWN_ID - 2));
        let numbers = ["-1", "1.50", "-2.174435247548526e-44", "18446744073709551615", "1e999"];
        for id in numbers.into_iter().chain([r#""\u0061\n""#, &longest]) {
            assert_eq!(with(id), id);
        }
        let lost = ["null", "true", "{}", "[1]", r#""\ud800""#, &format!("\"{}\"", text(MAX_SHOWN_ID)), "1,\"id\":2"];
        for id in lost {
            assert_eq!(with(id), "null", "{id:.80}");
        }
    }

    #[test]
    fn nobody_is_told_about_what_is_no_request() {
        for text in [
            "",
            "1",
            "[]",
            "{}",
            r#"{"id":1}"#,
            r#"{"id":1,"result":1,"error":{}}"#,
            r#"{"method":"a","extra":1}"#,
            r#"{"id":1,"method":"a""#,
            r#"{"id":1,"method":"a"} x"#,
            r#"[{"id":1,"result":1}]"#,
        ] {
            assert!(requests(text.as_bytes()).is_empty(), "{text}");
        }
        assert!(requests(b"{\"id\":1,\"method\":\"\xff\"}").is_empty());
    }

    #[test]
    fn a_batch_gets_a_bounded_number_of_answers() {
        let batch = |count: usize| format!("[{}]", vec![r#"{"id":1,"method":"a"}"#; count].join(","));
        assert_eq!(requests(batch(MAX_BATCH).as_bytes()).len(), MAX_BATCH);
        let answers = requests(batch(10 * MAX_BATCH).as_bytes());
        assert_eq!((answers.len(), answers[MAX_BATCH].id.get()), (MAX_BATCH + 1, "null"));
    }
}
