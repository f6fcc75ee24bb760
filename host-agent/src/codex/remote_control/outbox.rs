//! What goes to Codex, in order, kept until Codex must have got it.
//!
//! Codex acknowledges nothing. What it tells, when it comes with a new socket,
//! is the cursor of the last message that it took; what was sent after that one
//! is sent again, and what it had taken all the same it drops by its number.
//! `initialize` it does not drop: it ends the connection that has begun already.
//!
//! One message is sent whole before the next: Codex joins the pieces of one
//! message per client at a time.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::envelope::{self, Address};
use crate::codex::Text;

/// Bytes that are kept after they were sent. What the system's own buffers hold on a loopback socket is less.
const MAX_SENT_BYTES: usize = 16 << 20;

/// Messages that are kept after they were sent.
const MAX_SENT: usize = 4096;

/// See the module's header.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    entries: VecDeque<Entry>,
    /// How many of the entries were sent on this socket.
    sent: usize,
    /// The bytes of those.
    sent_bytes: usize,
    /// How many pieces of the next one were.
    pieces: usize,
    /// The number of the last entry.
    last: u64,
    /// The last entry of each stream that was sent and is no longer kept.
    dropped: HashMap<Arc<str>, u64>,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    stream: Arc<str>,
    address: Address,
    what: What,
}

#[derive(Debug)]
enum What {
    Message { seq: u64, text: Text, is_new: bool },
    Closed,
}

impl Entry {
    fn bytes(&self) -> usize {
        match &self.what {
            What::Message { text, .. } => text.len(),
            What::Closed => 0,
        }
    }
}

/// An envelope to be written.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) envelope: Text,
    /// The stream whose message has been handed out for the first time with this, and how long that is.
    pub(super) sent: Option<(Arc<str>, usize)>,
}

impl Outbox {
    /// Adds a message.
    pub(super) fn push(&mut self, stream: &Arc<str>, address: &Address, seq: u64, text: Text) {
        self.add(stream, address, What::Message { seq, text, is_new: true });
    }

    /// Ends a stream: nothing of it is sent any more, but that it has ended; not even that where it never began.
    pub(super) fn close(&mut self, stream: &Arc<str>, address: &Address) {
        if self.entries.get(self.sent).is_some_and(|entry| entry.stream == *stream) {
            self.pieces = 0;
        }
        let mut index = 0;
        let (mut sent, mut sent_bytes) = (0, 0);
        let mut has_begun = true;
        self.entries.retain(|entry| {
            let stays = entry.stream != *stream;
            if !stays && matches!(entry.what, What::Message { seq: 1, is_new: true, .. }) {
                has_begun = false;
            }
            if stays && index < self.sent {
                sent += 1;
                sent_bytes += entry.bytes();
            }
            index += 1;
            stays
        });
        (self.sent, self.sent_bytes) = (sent, sent_bytes);
        self.dropped.remove(stream);
        if has_begun {
            self.add(stream, address, What::Closed);
        }
    }

    fn add(&mut self, stream: &Arc<str>, address: &Address, what: What) {
        self.last += 1;
        let (stream, address) = (Arc::clone(stream), address.clone());
        self.entries.push_back(Entry { number: self.last, stream, address, what });
    }

    /// The next envelope, which counts as sent from now on.
    pub(super) fn next(&mut self, prefix: &str) -> Option<Outgoing> {
        let entry = self.entries.get_mut(self.sent)?;
        let mut outgoing = match &entry.what {
            What::Closed => Outgoing { envelope: envelope::closed(&entry.address), sent: None },
            What::Message { seq, text, .. } => {
                let cursor = format!("{prefix}-{}", entry.number);
                let envelope = envelope::message(&entry.address, *seq, &cursor, text, self.pieces);
                self.pieces += 1;
                if self.pieces < envelope::pieces(text) {
                    return Some(Outgoing { envelope, sent: None });
                }
                Outgoing { envelope, sent: None }
            }
        };
        if let What::Message { text, is_new: is_new @ true, .. } = &mut entry.what {
            *is_new = false;
            outgoing.sent = Some((Arc::clone(&entry.stream), text.len()));
        }
        self.pieces = 0;
        self.sent += 1;
        self.sent_bytes += entry.bytes();
        while self.sent > MAX_SENT || self.sent_bytes > MAX_SENT_BYTES {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.sent -= 1;
            self.sent_bytes -= oldest.bytes();
            if let What::Message { .. } = oldest.what {
                self.dropped.insert(oldest.stream, oldest.number);
            }
        }
        Some(outgoing)
    }

    /// Starts over on a new socket, behind the last entry that Codex took. Streams of which Codex knows are not begun
    /// again. The streams of which something is neither there nor kept are given back.
    pub(super) fn rewind(&mut self, taken: u64, is_known: impl Fn(&str) -> bool) -> Vec<Arc<str>> {
        while self.sent > 0 && self.entries.front().is_some_and(|entry| entry.number <= taken) {
            self.entries.pop_front();
            self.sent -= 1;
        }
        (self.sent, self.sent_bytes, self.pieces) = (0, 0, 0);
        self.entries.retain(|entry| match entry.what {
            What::Message { seq: 1, .. } => !is_known(&entry.stream),
            _ => true,
        });
        self.dropped.iter().filter(|(_, number)| **number > taken).map(|(stream, _)| Arc::clone(stream)).collect()
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self { last: self.last, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    struct Sent(Outbox);

    impl Sent {
        fn push(&mut self, stream: &str, seq: u64, text: impl Into<Text>) {
            self.0.push(&stream.into(), &Address::new("c", stream), seq, text.into());
        }

        fn close(&mut self, stream: &str) {
            self.0.close(&stream.into(), &Address::new("c", stream));
        }

        /// What goes out until nothing is left, `stream:seq`, with the piece where there are several.
        fn all(&mut self) -> Vec<String> {
            std::iter::from_fn(|| self.0.next("p")).map(|outgoing| brief(&outgoing.envelope)).collect()
        }
    }

    fn brief(envelope: &str) -> String {
        let value: Value = serde_json::from_str(envelope).unwrap();
        let stream = value["stream_id"].as_str().unwrap();
        match (&value["seq_id"], &value["segment_id"]) {
            (Value::Null, _) => format!("{stream} ends"),
            (seq, Value::Null) => format!("{stream}:{seq}"),
            (seq, piece) => format!("{stream}:{seq}.{piece}"),
        }
    }

    fn long(pieces: usize) -> String {
        format!("\"{}\"", "x".repeat(pieces * envelope::PIECE - 2))
    }

    fn outbox() -> Sent {
        Sent(Outbox::default())
    }

    #[test]
    fn what_codex_did_not_take_is_sent_again_and_nothing_else() {
        let mut outbox = outbox();
        for seq in 1..=3 {
            outbox.push("a", seq, "{}");
            outbox.push("b", seq, "{}");
        }
        assert_eq!(outbox.all(), ["a:1", "b:1", "a:2", "b:2", "a:3", "b:3"]);
        assert!(outbox.0.rewind(3, |_| true).is_empty());
        outbox.push("a", 4, "{}");
        assert_eq!(outbox.all(), ["b:2", "a:3", "b:3", "a:4"]);
        outbox.0.rewind(7, |_| true);
        assert!(outbox.all().is_empty());
    }

    #[test]
    fn a_stream_of_which_codex_knows_is_not_begun_again() {
        let mut outbox = outbox();
        outbox.push("a", 1, "{}");
        outbox.push("b", 1, "{}");
        outbox.push("a", 2, "{}");
        outbox.all();
        outbox.0.rewind(0, |stream| stream == "a");
        assert_eq!(outbox.all(), ["b:1", "a:2"]);
    }

    #[test]
    fn a_message_cut_off_between_its_pieces_is_sent_from_its_first_one() {
        let mut outbox = outbox();
        outbox.push("a", 1, long(3));
        outbox.push("a", 2, "{}");
        for piece in 0..2 {
            let outgoing = outbox.0.next("p").unwrap();
            assert_eq!(brief(&outgoing.envelope), format!("a:1.{piece}"));
            assert!(outgoing.sent.is_none(), "it is not whole");
        }
        outbox.0.rewind(0, |_| false);
        assert_eq!(outbox.all(), ["a:1.0", "a:1.1", "a:1.2", "a:2"]);
    }

    #[test]
    fn a_message_counts_as_sent_once_and_with_its_last_piece() {
        let mut outbox = outbox();
        outbox.push("a", 1, long(2));
        assert!(outbox.0.next("p").unwrap().sent.is_none());
        assert_eq!(outbox.0.next("p").unwrap().sent, Some(("a".into(), 2 * envelope::PIECE)));
        outbox.0.rewind(0, |_| false);
        assert!(outbox.0.next("p").unwrap().sent.is_none());
        assert!(outbox.0.next("p").unwrap().sent.is_none());
    }

    #[test]
    fn of_a_stream_that_ended_nothing_but_that_is_sent() {
        let mut outbox = outbox();
        outbox.push("a", 1, "{}");
        outbox.push("b", 1, "{}");
        assert_eq!(brief(&outbox.0.next("p").unwrap().envelope), "a:1");
        outbox.push("a", 2, "{}");
        outbox.push("b", 2, "{}");
        outbox.close("a");
        assert_eq!(outbox.all(), ["b:1", "b:2", "a ends"]);
        outbox.0.rewind(0, |_| true);
        assert_eq!(outbox.all(), ["b:2", "a ends"]);
    }

    #[test]
    fn the_end_of_a_stream_whose_message_is_half_sent_leaves_the_next_one_whole() {
        let mut outbox = outbox();
        outbox.push("a", 1, "{}");
        outbox.push("a", 2, long(3));
        outbox.push("b", 1, long(2));
        outbox.0.next("p").unwrap();
        outbox.0.next("p").unwrap();
        outbox.close("a");
        assert_eq!(outbox.all(), ["b:1.0", "b:1.1", "a ends"]);
    }

    #[test]
    fn of_a_stream_that_never_began_nothing_is_sent() {
        let mut outbox = outbox();
        outbox.push("a", 1, long(3));
        outbox.push("a", 2, "{}");
        outbox.0.next("p").unwrap();
        outbox.close("a");
        assert!(outbox.all().is_empty());
    }

    #[test]
    fn a_stream_of_which_too_much_was_sent_to_keep_is_lost_where_codex_did_not_take_it() {
        let mut outbox = outbox();
        for seq in 1..=5 {
            outbox.push("a", seq, "{}");
        }
        let most = long(MAX_SENT_BYTES / envelope::PIECE);
        outbox.push("b", 1, most.clone());
        outbox.push("b", 2, most);
        let _ = outbox.all();
        assert_eq!(outbox.0.entries.len(), 1, "one of the long ones is kept");
        assert!(outbox.0.rewind(6, |_| true).is_empty());
        assert_eq!(outbox.0.rewind(5, |_| true), ["b".into()]);
        let mut both = outbox.0.rewind(4, |_| true);
        both.sort_unstable();
        assert_eq!(both, ["a".into(), "b".into()]);
        outbox.close("a");
        assert_eq!(outbox.0.rewind(0, |_| true), ["b".into()]);
    }

    #[test]
    fn what_is_not_sent_yet_is_kept_whatever_codex_says_that_it_took() {
        let mut outbox = outbox();
        outbox.push("a", 1, "{}");
        outbox.0.rewind(u64::MAX, |_| false);
        assert_eq!(outbox.all(), ["a:1"]);
    }
}
