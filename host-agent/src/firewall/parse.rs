//! The strict reading of one device message.
//!
//! A message is UTF-8, one JSON object, no duplicate key at any depth, and
//! exactly one of request, notification, response and error, with known
//! top-level members only. What passes is written anew, value by value
//! ([`transcode`]), so Codex never sees bytes that were read differently here:
//! no second `method`, no escape that hides one, no white space, no trailing
//! text. There is no tree: the envelope borrows `params` from the message, and
//! each value goes straight from the reader to the output, so a 64 MiB message
//! costs its own size once more and nothing else.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use reachback_proto::session::MAX_MESSAGE_TO_HOST;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Deepest nesting of arrays and objects in a device's message. Codex's own go to about 12.
pub(crate) const MAX_DEPTH: usize = 64;
/// Most members of one object in a device's message: bounds what the check for duplicate keys remembers.
pub(crate) const MAX_MEMBERS: usize = 4096;
/// Longest id that is a text, in bytes; the stock terminal UI's are under 60.
pub(crate) const MAX_ID: usize = 256;
/// Longest method name, in bytes; Codex's longest is 43.
pub(crate) const MAX_METHOD: usize = 128;

/// Why a message is not one that can be checked. Never holds bytes of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// More than [`MAX_MESSAGE_TO_HOST`] bytes.
    #[error("the message has {length} bytes, the limit is {MAX_MESSAGE_TO_HOST}")]
    TooLong {
        /// The message's length.
        length: usize,
    },
    #[error("the message is not UTF-8")]
    NotUtf8,
    /// Not one JSON object with known members, each once, within the limits.
    #[error("the message is not one JSON-RPC object: line {line} column {column}")]
    NotAnObject {
        /// Where reading stopped.
        line: usize,
        /// Where reading stopped.
        column: usize,
    },
    /// An object, but no request, notification, response or error.
    #[error("the message is none of request, notification, response and error")]
    NoKind,
    /// A member below the top level that occurs twice, or nesting, members or numbers beyond the limits.
    #[error("a value in the message is not well formed: line {line} column {column}")]
    Value {
        /// Where reading stopped, counted within the value.
        line: usize,
        /// Where reading stopped, counted within the value.
        column: usize,
    },
}

/// The id of a request: Codex counts, the stock terminal UI also uses texts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RequestId {
    Number(i64),
    /// A text of at most [`MAX_ID`] bytes.
    Text(String),
}

impl RequestId {
    /// The text, where it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Number(_) => None,
            Self::Text(text) => Some(text),
        }
    }
}

impl serde::Serialize for RequestId {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) => s.serialize_i64(*number),
            Self::Text(text) => s.serialize_str(text),
        }
    }
}

impl<'de> serde::Deserialize<'de> for RequestId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct IdVisitor;
        impl Visitor<'_> for IdVisitor {
            type Value = RequestId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "an integer or a text of at most {MAX_ID} bytes")
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<RequestId, E> {
                Ok(RequestId::Number(number))
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<RequestId, E> {
                number.try_into().map(RequestId::Number).map_err(|_| E::custom("the id is out of range"))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RequestId, E> {
                if text.len() > MAX_ID {
                    return Err(E::custom("the id is too long"));
                }
                Ok(RequestId::Text(text.to_owned()))
            }
        }
        d.deserialize_any(IdVisitor)
    }
}

/// One message, its parts borrowed from the bytes it came in.
#[derive(Debug)]
pub(crate) enum Message<'a> {
    /// Wants an answer.
    Request {
        /// The sender's number for it.
        id: RequestId,
        /// What is asked.
        method: Cow<'a, str>,
        /// Not checked yet below the top level.
        params: Option<&'a RawValue>,
    },
    /// Wants none.
    Notification {
        /// What is said.
        method: Cow<'a, str>,
        /// Not checked yet below the top level.
        params: Option<&'a RawValue>,
    },
    /// Answers a request of the other side.
    Response {
        /// The other side's number.
        id: RequestId,
        /// Not checked yet below the top level.
        result: &'a RawValue,
    },
    /// Refuses a request of the other side.
    Error {
        /// The other side's number.
        id: RequestId,
        /// Not checked yet below the top level.
        error: &'a RawValue,
    },
}

/// Reads one message strictly at its top level; [`transcode`] reads the rest.
pub(crate) fn parse(bytes: &[u8]) -> Result<Message<'_>, ParseError> {
    if bytes.len() > MAX_MESSAGE_TO_HOST {
        return Err(ParseError::TooLong { length: bytes.len() });
    }
    let text = std::str::from_utf8(bytes).map_err(|_| ParseError::NotUtf8)?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let envelope = reader
        .deserialize_map(EnvelopeVisitor)
        .and_then(|envelope| reader.end().map(|()| envelope))
        .map_err(|e| ParseError::NotAnObject { line: e.line(), column: e.column() })?;
    envelope.into_message()
}

#[derive(Default)]
struct Envelope<'a> {
    id: Option<RequestId>,
    method: Option<Cow<'a, str>>,
    params: Option<&'a RawValue>,
    result: Option<&'a RawValue>,
    error: Option<&'a RawValue>,
    trace: Option<&'a RawValue>,
}

impl<'a> Envelope<'a> {
    fn into_message(self) -> Result<Message<'a>, ParseError> {
        // Trace contexts are read, so that they hide nothing, and not passed on: a device has no part in the host's tracing.
        if let Some(trace) = self.trace {
            transcode(trace, &mut Vec::new())?;
        }
        let traced = self.trace.is_some();
        match (self.id, self.method, self.params, self.result, self.error) {
            (Some(id), Some(method), params, None, None) => Ok(Message::Request { id, method, params }),
            (None, Some(method), params, None, None) if !traced => Ok(Message::Notification { method, params }),
            (Some(id), None, None, Some(result), None) if !traced => Ok(Message::Response { id, result }),
            (Some(id), None, None, None, Some(error)) if !traced => Ok(Message::Error { id, error }),
            _ => Err(ParseError::NoKind),
        }
    }
}

struct EnvelopeVisitor;

impl<'de> Visitor<'de> for EnvelopeVisitor {
    type Value = Envelope<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON-RPC message")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Envelope<'de>, A::Error> {
        fn once<T, E: serde::de::Error>(slot: &mut Option<T>, value: T) -> Result<(), E> {
            if slot.replace(value).is_some() { Err(E::custom("a member occurs twice")) } else { Ok(()) }
        }

        let mut envelope = Envelope::default();
        let mut version = None;
        while let Some(key) = map.next_key_seed(Text)? {
            match key.as_ref() {
                "id" => once(&mut envelope.id, map.next_value()?)?,
                "method" => {
                    let method = map.next_value_seed(Text)?;
                    if method.len() > MAX_METHOD {
                        return Err(A::Error::custom("the method's name is too long"));
                    }
                    once(&mut envelope.method, method)?;
                }
                "params" => once(&mut envelope.params, map.next_value()?)?,
                "result" => once(&mut envelope.result, map.next_value()?)?,
                "error" => once(&mut envelope.error, map.next_value()?)?,
                "trace" => once(&mut envelope.trace, map.next_value()?)?,
                "jsonrpc" => once(&mut version, map.next_value_seed(Text)?)?,
                _ => return Err(A::Error::custom("unknown member")),
            }
        }
        match version.as_deref() {
            None | Some("2.0") => Ok(envelope),
            Some(_) => Err(A::Error::custom("unknown version of JSON-RPC")),
        }
    }
}

/// Reads a text, borrowed from the input where it holds no escapes.
pub(super) struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

/// Checks a value to its bottom and appends it, written anew, to `out`.
pub(crate) fn transcode(raw: &RawValue, out: &mut Vec<u8>) -> Result<(), ParseError> {
    // What is long is mostly one text, and one without escapes is written as it was read.
    if let Some(text) = raw.get().strip_prefix('"').and_then(|text| text.strip_suffix('"'))
        && !needs_escape(text.as_bytes())
    {
        out.extend_from_slice(raw.get().as_bytes());
        return Ok(());
    }
    let mut reader = serde_json::Deserializer::from_str(raw.get());
    Transcode { out, depth: 0 }
        .deserialize(&mut reader)
        .and_then(|()| reader.end())
        .map_err(|e| ParseError::Value { line: e.line(), column: e.column() })
}

/// Writes a text as JSON. Most of what is long needs no escape, and is written as it is.
pub(super) fn write_text<E: serde::de::Error>(out: &mut Vec<u8>, text: &str) -> Result<(), E> {
    if needs_escape(text.as_bytes()) {
        return serde_json::to_writer(out, text).map_err(E::custom);
    }
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
    Ok(())
}

/// Whether a byte of a text can't stand in JSON by itself (RFC 8259, section 7). Without a branch for each: many are looked at at once.
fn needs_escape(text: &[u8]) -> bool {
    let is_special = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
    text.chunks(64).any(|bytes| bytes.iter().fold(false, |found, byte| found | is_special(*byte)))
}

/// So few keys are compared one by one; that is sooner done than a hash of each.
const FEW_KEYS: usize = 16;

/// The keys of one object, each once, at most [`MAX_MEMBERS`].
#[derive(Default)]
pub(super) struct Keys<'de> {
    /// At most [`FEW_KEYS`].
    few: Vec<Cow<'de, str>>,
    /// All, where they are more.
    many: HashSet<Cow<'de, str>>,
}

impl<'de> Keys<'de> {
    pub(super) fn insert<E: serde::de::Error>(&mut self, key: Cow<'de, str>) -> Result<(), E> {
        if self.many.len() >= MAX_MEMBERS {
            return Err(E::custom("an object has too many members"));
        }
        if self.few.len() >= FEW_KEYS {
            self.many.extend(self.few.drain(..));
        }
        let is_new = if self.many.is_empty() {
            let is_new = !self.few.contains(&key);
            self.few.push(key);
            is_new
        } else {
            self.many.insert(key)
        };
        if is_new { Ok(()) } else { Err(E::custom("a member occurs twice")) }
    }
}

/// Reads any value and writes it to `out` as it goes.
pub(super) struct Transcode<'o> {
    pub(super) out: &'o mut Vec<u8>,
    pub(super) depth: usize,
}

impl Transcode<'_> {
    fn deeper<E: serde::de::Error>(&self) -> Result<usize, E> {
        if self.depth >= MAX_DEPTH { Err(E::custom("nested too deeply")) } else { Ok(self.depth + 1) }
    }
}

impl<'de> DeserializeSeed<'de> for Transcode<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Transcode<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.out.extend_from_slice(b"null");
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
        Ok(())
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        serde_json::to_writer(self.out, &value).map_err(E::custom)
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        serde_json::to_writer(self.out, &value).map_err(E::custom)
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        serde_json::to_writer(self.out, &value).map_err(E::custom)
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<(), E> {
        write_text(self.out, value)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let depth = self.deeper()?;
        let Self { out, .. } = self;
        out.push(b'[');
        let mut first = true;
        loop {
            let before = out.len();
            if !first {
                out.push(b',');
            }
            if seq.next_element_seed(Transcode { out: &mut *out, depth })?.is_none() {
                out.truncate(before);
                break;
            }
            first = false;
        }
        out.push(b']');
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let depth = self.deeper()?;
        let Self { out, .. } = self;
        let mut keys = Keys::default();
        out.push(b'{');
        let mut first = true;
        while let Some(key) = map.next_key_seed(Text)? {
            if !std::mem::take(&mut first) {
                out.push(b',');
            }
            write_text(out, &key)?;
            out.push(b':');
            keys.insert(key)?;
            map.next_value_seed(Transcode { out: &mut *out, depth })?;
        }
        out.push(b'}');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> Result<String, ParseError> {
        let raw: &RawValue = serde_json::from_str(text).unwrap();
        let mut out = Vec::new();
        transcode(raw, &mut out).map(|()| String::from_utf8(out).unwrap())
    }

    #[test]
    fn the_four_kinds_are_told_apart() {
        assert!(matches!(parse(br#"{"id":1,"method":"a"}"#), Ok(Message::Request { params: None, .. })));
        assert!(matches!(
            parse(br#"{"jsonrpc":"2.0","id":"x","method":"a","params":null,"trace":{}}"#),
            Ok(Message::Request { params: Some(_), .. })
        ));
        assert!(matches!(parse(br#"{"method":"a","params":{}}"#), Ok(Message::Notification { .. })));
        assert!(matches!(parse(br#"{"id":0,"result":null}"#), Ok(Message::Response { id: RequestId::Number(0), .. })));
        assert!(matches!(parse(br#"{"id":0,"error":{}}"#), Ok(Message::Error { .. })));
    }

    #[test]
    fn escapes_in_keys_and_methods_are_what_they_denote() {
        let Ok(Message::Notification { method, .. }) = parse(br#"{"meth\u006fd":"initi\u0061lized"}"#) else {
            panic!("an escaped key is the key");
        };
        assert_eq!(method, "initialized");
        assert!(matches!(parse(br#"{"method":"a","meth\u006fd":"b"}"#), Err(ParseError::NotAnObject { .. })));
    }

    #[test]
    fn everything_else_is_refused() {
        let long_id = format!(r#"{{"id":"{}","method":"a"}}"#, "x".repeat(MAX_ID + 1));
        let long_method = format!(r#"{{"id":1,"method":"{}"}}"#, "x".repeat(MAX_METHOD + 1));
        let refused: &[&str] = &[
            "",
            "1",
            "[]",
            r#"[{"id":1,"method":"a"}]"#,
            "{}",
            r#"{"id":1}"#,
            r#"{"id":1,"method":"a"} x"#,
            r#"{"id":1,"method":"a"}{"id":1,"method":"b"}"#,
            r#"{"id":1,"id":1,"method":"a"}"#,
            r#"{"id":1,"method":"a","params":{},"params":{}}"#,
            r#"{"id":1,"method":"a","result":1}"#,
            r#"{"id":1,"method":"a","error":{}}"#,
            r#"{"id":1,"result":1,"error":{}}"#,
            r#"{"id":1,"result":1,"params":{}}"#,
            r#"{"id":1,"result":1,"trace":{}}"#,
            r#"{"result":1}"#,
            r#"{"error":{}}"#,
            r#"{"id":1,"method":"a","trace":{"a":1,"a":2}}"#,
            r#"{"id":1,"method":"a","extra":1}"#,
            r#"{"id":1,"Method":"a"}"#,
            r#"{"id":1.5,"method":"a"}"#,
            r#"{"id":18446744073709551615,"method":"a"}"#,
            r#"{"id":null,"method":"a"}"#,
            r#"{"id":{},"method":"a"}"#,
            r#"{"id":1,"method":1}"#,
            r#"{"id":1,"method":null}"#,
            r#"{"jsonrpc":"1.0","id":1,"method":"a"}"#,
            r#"{"id":1,"method":"\ud800"}"#,
            &long_id,
            &long_method,
        ];
        for text in refused {
            assert!(parse(text.as_bytes()).is_err(), "{text} was read as a message");
        }
        assert_eq!(parse(b"{\"id\":1,\"method\":\"\xff\"}").unwrap_err(), ParseError::NotUtf8);
        let huge = vec![b' '; MAX_MESSAGE_TO_HOST + 1];
        assert_eq!(parse(&huge).unwrap_err(), ParseError::TooLong { length: MAX_MESSAGE_TO_HOST + 1 });
    }

    #[test]
    fn values_are_written_anew() {
        assert_eq!(
            canonical(" { \"a\" : [ 1 , -2.5, 1e2, true , null, \"\\u0061\\n\" ] } ").unwrap(),
            r#"{"a":[1,-2.5,100.0,true,null,"a\n"]}"#
        );
        assert_eq!(canonical("[]").unwrap(), "[]");
        assert_eq!(canonical("{}").unwrap(), "{}");
    }

    #[test]
    fn a_text_is_written_as_the_library_writes_it_wherever_it_needs_an_escape() {
        let written = |text: &str| {
            let mut out = Vec::new();
            write_text::<serde_json::Error>(&mut out, text).unwrap();
            out
        };
        for special in (0..=0x2fff).filter_map(char::from_u32) {
            let text = format!("a{special}");
            assert_eq!(written(&text), serde_json::to_vec(&text).unwrap(), "{special:?}");
        }
        for length in [0, 1, 63, 64, 65, 1000] {
            for special in ['"', '\\', '\n', '\u{1f}', '\u{7f}', 'x', '\u{e9}'] {
                let text = format!("{}{special}{}", "x".repeat(length), "y".repeat(100));
                assert_eq!(written(&text), serde_json::to_vec(&text).unwrap(), "{special:?} after {length} bytes");
            }
        }
    }

    #[test]
    fn duplicate_keys_are_refused_at_any_depth() {
        let nested = |inner: &str, depth: usize| format!("{}{inner}{}", "[".repeat(depth), "]".repeat(depth));
        for depth in [0, 1, 5, 40] {
            assert!(canonical(&nested(r#"{"a":1,"b":2}"#, depth)).is_ok());
            assert!(canonical(&nested(r#"{"a":1,"a":2}"#, depth)).is_err(), "duplicate at depth {depth}");
            assert!(canonical(&nested(r#"{"a":1,"\u0061":2}"#, depth)).is_err(), "escaped duplicate at depth {depth}");
        }
    }

    #[test]
    fn depth_and_members_are_bounded() {
        let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(canonical(&deep(MAX_DEPTH)).is_ok());
        assert!(canonical(&deep(MAX_DEPTH + 1)).is_err());
        let wide =
            |count: usize| format!("{{{}}}", (0..count).map(|i| format!("\"{i}\":0")).collect::<Vec<_>>().join(","));
        assert!(canonical(&wide(MAX_MEMBERS)).is_ok());
        assert!(canonical(&wide(MAX_MEMBERS + 1)).is_err());
        for count in [1, FEW_KEYS - 1, FEW_KEYS, FEW_KEYS + 1, FEW_KEYS + 2, MAX_MEMBERS - 1] {
            for again in [0, count / 2, count - 1] {
                let twice = wide(count).replace('}', &format!(",\"{again}\":0}}"));
                assert!(canonical(&twice).is_err(), "{again} of {count} members occurs twice");
            }
        }
        // The envelope's reader goes over what is nested without recursion.
        let bomb = format!(r#"{{"id":1,"method":"a","params":{}}}"#, deep(1_000_000));
        let Ok(Message::Request { params: Some(params), .. }) = parse(bomb.as_bytes()) else {
            panic!("the envelope is fine");
        };
        assert!(transcode(params, &mut Vec::new()).is_err());
    }
}
