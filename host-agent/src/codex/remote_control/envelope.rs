//! The envelopes in which messages of many connections share one socket.
//!
//! ```text
//! to Codex    client_message, client_message_chunk, ack, ping, client_closed
//! from Codex  server_message, server_message_chunk, pong
//! ```
//!
//! An envelope names the connection by `client_id` and `stream_id`, and its
//! place there by `seq_id`. A message too long for one envelope is cut into
//! pieces that share a `seq_id`, in base64. The messages themselves are neither
//! read nor written anew here: what Codex gets and gives are the same bytes.

use std::borrow::Cow;
use std::sync::Arc;

use data_encoding::BASE64;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::codex::Text;

/// The longest envelope that Codex writes: one that would be longer leaves in pieces.
pub(super) const MAX_ENVELOPE: usize = 150 << 10;

/// How much of a message goes in one envelope. In base64 that is 128 KiB, and Codex drops pieces whose envelope is longer than 150 KiB.
pub(super) const PIECE: usize = 96 << 10;

/// The longest message that may come in pieces, as Codex cuts them.
pub(super) const MAX_JOINED: u64 = 100 << 20;

/// The most pieces of one message, each way.
pub(super) const MAX_PIECES: u32 = 1024;

/// Which connection an envelope belongs to, ready to be written in one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Address(Arc<str>);

impl Address {
    /// The address of a client's stream.
    pub(super) fn new(client_id: &str, stream_id: &str) -> Self {
        let string = |text: &str| serde_json::Value::from(text).to_string();
        Self(format!(r#""client_id":{},"stream_id":{}"#, string(client_id), string(stream_id)).into())
    }
}

/// A place in what Codex sends on one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// Which envelope, or which set of pieces.
    pub seq: u64,
    /// Which piece.
    pub segment: Option<u32>,
}

impl Mark {
    /// Before anything was sent.
    pub(super) const NOTHING: Self = Self { seq: 0, segment: None };

    /// Whether an envelope here was received where `heard` was the last one.
    pub(super) fn is_within(self, heard: Self) -> bool {
        let place = |mark: Self| (mark.seq, mark.segment.unwrap_or(u32::MAX));
        place(self) <= place(heard)
    }

    /// Whether an envelope here is the next after `heard`, which was `in_pieces` of a message that is not whole.
    pub(super) fn follows(self, heard: Self, in_pieces: bool) -> bool {
        if in_pieces {
            self.seq == heard.seq && self.segment == heard.segment.and_then(|segment| segment.checked_add(1))
        } else {
            Some(self.seq) == heard.seq.checked_add(1) && self.segment.unwrap_or(0) == 0
        }
    }
}

/// An envelope from Codex, as read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Incoming<'a> {
    /// The client it is for, as we named it.
    pub client_id: Cow<'a, str>,
    /// The stream of that client.
    pub stream_id: Cow<'a, str>,
    /// Where it stands on that stream.
    pub mark: Mark,
    /// What it brings.
    pub body: Body<'a>,
}

/// What an envelope from Codex brings.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Body<'a> {
    /// A message of JSON-RPC, whole.
    Message(&'a str),
    /// A piece of one.
    Piece(Piece<'a>),
    /// The answer to a ping: whether Codex knows the connection.
    Pong {
        /// Whether it does.
        known: bool,
    },
    /// Of a kind that this agent does not know; it is to be acknowledged, and no more.
    Other,
    /// Of a kind that this agent knows, but not in its form: what it brought is lost.
    Broken,
}

/// A piece of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece<'a> {
    /// Which one, from 0.
    pub segment: u32,
    /// How many there are.
    pub count: u32,
    /// How long the whole message is said to be.
    pub size: u64,
    /// Its bytes.
    pub base64: Cow<'a, str>,
}

impl Piece<'_> {
    /// The bytes; `None` when there are none.
    pub(super) fn bytes(&self) -> Option<Vec<u8>> {
        BASE64.decode(self.base64.as_bytes()).ok().filter(|bytes| !bytes.is_empty())
    }
}

/// What is needed to acknowledge an envelope, whatever it brings.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    client_id: Cow<'a, str>,
    #[serde(borrow)]
    stream_id: Cow<'a, str>,
    seq_id: u64,
}

/// Every member that an envelope from Codex may have.
#[derive(Deserialize)]
struct Members<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    client_id: Cow<'a, str>,
    #[serde(borrow)]
    stream_id: Cow<'a, str>,
    seq_id: u64,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    segment_id: Option<u32>,
    segment_count: Option<u32>,
    message_size_bytes: Option<u64>,
    #[serde(borrow)]
    message_chunk_base64: Option<Borrowed<'a>>,
    #[serde(borrow)]
    status: Option<Borrowed<'a>>,
}

/// Borrows in an `Option` too, where nothing is escaped.
#[derive(Deserialize)]
#[serde(transparent)]
struct Borrowed<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Incoming<'a> {
    /// Reads an envelope from Codex; `None` when it does not even say what to acknowledge.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        if let Ok(members) = serde_json::from_str::<Members<'a>>(text) {
            return Some(members.into());
        }
        let Head { client_id, stream_id, seq_id } = serde_json::from_str(text).ok()?;
        Some(Self { client_id, stream_id, mark: Mark { seq: seq_id, segment: None }, body: Body::Broken })
    }
}

impl<'a> From<Members<'a>> for Incoming<'a> {
    fn from(members: Members<'a>) -> Self {
        let Members { client_id, stream_id, seq_id: seq, .. } = members;
        let mut segment = None;
        let body = match &*members.kind {
            "server_message" => members.message.map(|message| Body::Message(message.get())),
            "server_message_chunk" => {
                segment = members.segment_id;
                (|| {
                    let piece = Piece {
                        segment: members.segment_id?,
                        count: members.segment_count?,
                        size: members.message_size_bytes?,
                        base64: members.message_chunk_base64?.0,
                    };
                    let fits = piece.segment < piece.count && piece.count <= MAX_PIECES && piece.size <= MAX_JOINED;
                    fits.then_some(Body::Piece(piece))
                })()
            }
            "pong" => members.status.and_then(|status| match &*status.0 {
                "active" => Some(Body::Pong { known: true }),
                "unknown" => Some(Body::Pong { known: false }),
                _ => None,
            }),
            _ => Some(Body::Other),
        };
        Self { client_id, stream_id, mark: Mark { seq, segment }, body: body.unwrap_or(Body::Broken) }
    }
}

/// Acknowledges everything on a connection up to a mark.
pub(super) fn ack(address: &Address, mark: Mark) -> Text {
    let segment = mark.segment.map(|segment| format!(r#","segment_id":{segment}"#)).unwrap_or_default();
    format!(r#"{{"type":"ack",{},"seq_id":{}{segment}}}"#, address.0, mark.seq).into()
}

/// Asks whether Codex knows a connection, and keeps that from being idle.
pub(super) fn ping(address: &Address) -> Text {
    format!(r#"{{"type":"ping",{}}}"#, address.0).into()
}

/// Ends a connection.
pub(super) fn closed(address: &Address) -> Text {
    format!(r#"{{"type":"client_closed",{}}}"#, address.0).into()
}

/// How many envelopes a message to Codex takes.
pub(super) fn pieces(message: &str) -> usize {
    message.len().div_ceil(PIECE).max(1)
}

/// One of the envelopes of a message to Codex, which must be one value of JSON.
pub(super) fn message(address: &Address, seq: u64, cursor: &str, message: &str, segment: usize) -> Text {
    let count = pieces(message);
    let Address(address) = address;
    if count == 1 {
        return format!(
            r#"{{"type":"client_message",{address},"seq_id":{seq},"cursor":"{cursor}","message":{message}}}"#
        )
        .into();
    }
    let bytes = message.as_bytes();
    let start = (segment * PIECE).min(bytes.len());
    let piece = &bytes[start..(start + PIECE).min(bytes.len())];
    let mut envelope = format!(
        concat!(
            r#"{{"type":"client_message_chunk",{},"seq_id":{},"cursor":"{}","#,
            r#""segment_id":{},"segment_count":{},"message_size_bytes":{},"message_chunk_base64":""#
        ),
        address,
        seq,
        cursor,
        segment,
        count,
        bytes.len()
    );
    envelope.reserve(BASE64.encode_len(piece.len()) + 2);
    BASE64.encode_append(piece, &mut envelope);
    envelope.push_str("\"}");
    envelope.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn value(text: &Text) -> Value {
        serde_json::from_str(text).unwrap()
    }

    /// What Codex makes of the envelopes of one message.
    fn joined(address: &Address, text: &str) -> String {
        let mut joined = Vec::new();
        let count = pieces(text);
        for segment in 0..count {
            let envelope = message(address, 7, "c-7", text, segment);
            assert!(envelope.len() <= MAX_ENVELOPE);
            let envelope = value(&envelope);
            assert_eq!((&envelope["seq_id"], &envelope["cursor"]), (&json!(7), &json!("c-7")));
            assert_eq!((&envelope["client_id"], &envelope["stream_id"]), (&json!("a\"b"), &json!("ü")));
            if count == 1 {
                assert_eq!(envelope["type"], "client_message");
                return envelope["message"].to_string();
            }
            assert_eq!(envelope["type"], "client_message_chunk");
            assert_eq!((&envelope["segment_id"], &envelope["segment_count"]), (&json!(segment), &json!(count)));
            assert_eq!(envelope["message_size_bytes"], text.len());
            joined.extend(BASE64.decode(envelope["message_chunk_base64"].as_str().unwrap().as_bytes()).unwrap());
        }
        String::from_utf8(joined).unwrap()
    }

    #[test]
    fn what_is_cut_joins_to_the_same_whatever_its_length() {
        let address = Address::new("a\"b", "ü");
        for length in [0, 1, PIECE - 3, PIECE - 2, PIECE - 1, PIECE, 2 * PIECE - 2, 2 * PIECE - 1, 10 * PIECE + 5] {
            let text = format!("\"{}\"", "x".repeat(length));
            assert!(joined(&address, &text) == text, "{length} bytes don't join to the same");
        }
        // A cut falls inside a character.
        let text = format!("\"{}\"", "€".repeat(PIECE));
        assert!(joined(&address, &text) == text);
    }

    #[test]
    fn envelopes_of_codex_are_read() {
        let parse = |value: Value| {
            let text = value.to_string();
            let incoming = Incoming::parse(&text)?;
            Some(format!("{:?} {:?}", incoming.mark, incoming.body))
        };
        let with = |members: Value| {
            let mut value = json!({ "client_id": "c", "stream_id": "s", "seq_id": 5 });
            value.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
            parse(value).unwrap()
        };
        let ends = |text: String, end: &str| assert!(text.ends_with(end), "{text}");
        ends(with(json!({ "type": "server_message", "message": { "id": 1 } })), r#"None } Message("{\"id\":1}")"#);
        ends(with(json!({ "type": "pong", "status": "active" })), "Pong { known: true }");
        ends(with(json!({ "type": "pong", "status": "unknown" })), "Pong { known: false }");
        ends(with(json!({ "type": "of the future", "message": 1 })), "Other");
        let piece = |segment: u64, count: u64, size: u64| {
            with(json!({ "type": "server_message_chunk", "segment_id": segment, "segment_count": count,
                "message_size_bytes": size, "message_chunk_base64": "eA==" }))
        };
        ends(piece(1, 2, 9), r#"Some(1) } Piece(Piece { segment: 1, count: 2, size: 9, base64: "eA==" })"#);
        // Each of these is known by its address, and has lost what it brought.
        ends(piece(2, 2, 9), "Broken");
        ends(piece(0, 0, 9), "Broken");
        ends(piece(0, 1025, 9), "Broken");
        ends(piece(0, 2, MAX_JOINED + 1), "Broken");
        ends(piece(u64::MAX, 2, 9), "Broken");
        ends(with(json!({ "type": "server_message" })), "Broken");
        ends(with(json!({ "type": "server_message_chunk", "segment_id": 0 })), "Broken");
        ends(with(json!({ "type": "pong", "status": "asleep" })), "Broken");
        ends(with(json!({ "type": 3 })), "Broken");
        assert_eq!(parse(json!({ "type": "pong", "status": "active", "client_id": "c", "seq_id": 5 })), None);
        assert_eq!(parse(json!({ "type": "server_message", "client_id": "c", "stream_id": "s", "seq_id": -1 })), None);
        assert_eq!(Incoming::parse("not json"), None);
    }

    #[test]
    fn a_message_of_codex_keeps_its_bytes() {
        let message = r#"{ "id":1.50e0 , "a":"\u00fc\/" ,"a":2}"#;
        let text =
            format!(r#"{{"type":"server_message","message":{message},"client_id":"c\"","stream_id":"s","seq_id":2}}"#);
        let incoming = Incoming::parse(&text).unwrap();
        assert_eq!(incoming.body, Body::Message(message));
        assert_eq!((&*incoming.client_id, &*incoming.stream_id), ("c\"", "s"));
    }

    #[test]
    fn acknowledgements_pings_and_ends_are_addressed() {
        let address = Address::new("a\"b", "ü");
        let to = |members: Value| {
            let mut value = json!({ "client_id": "a\"b", "stream_id": "ü" });
            value.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
            value
        };
        let whole = ack(&address, Mark { seq: 3, segment: None });
        assert_eq!(value(&whole), to(json!({ "type": "ack", "seq_id": 3 })));
        let piece = ack(&address, Mark { seq: 3, segment: Some(0) });
        assert_eq!(value(&piece), to(json!({ "type": "ack", "seq_id": 3, "segment_id": 0 })));
        assert_eq!(value(&ping(&address)), to(json!({ "type": "ping" })));
        assert_eq!(value(&closed(&address)), to(json!({ "type": "client_closed" })));
    }

    proptest! {
        #[test]
        fn garbage_is_no_panic(text in ".*", bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Incoming::parse(&text);
            let _ = Incoming::parse(&String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn half_good_envelopes_are_no_panic(
            kind in prop::sample::select(vec!["server_message", "server_message_chunk", "pong", "x"]),
            name in prop::sample::select(vec!["message", "segment_id", "segment_count", "message_size_bytes", "status"]),
            number in any::<f64>(),
            chunk in "[A-Za-z=]{0,8}",
        ) {
            let text = json!({ "type": kind, "client_id": "c", "stream_id": "s", "seq_id": 1, name: number,
                "message_chunk_base64": chunk }).to_string();
            let incoming = Incoming::parse(&text).unwrap();
            if let Body::Piece(piece) = incoming.body {
                piece.bytes();
            }
        }
    }
}
