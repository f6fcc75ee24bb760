//! One channel's two directions: numbering, cutting, keeping and reassembling.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::window::Window;
use super::{Event, SessionError, Side, TRICKLE_BYTES};
use crate::frame::{ChannelCloseReason, ChannelNumber, Frame, data_overhead};

/// A fragment smaller than this is not worth cutting a message for, when the record is nearly full.
const MIN_FRAGMENT: usize = 512;
/// What an unacknowledged frame costs beside its bytes, so that many tiny messages are bounded too.
const FRAME_COST: usize = 64;

/// Something to send, not yet numbered.
#[derive(Debug)]
pub(super) enum Outgoing {
    Open(String),
    Message { bytes: Bytes, sent: usize },
    Close(ChannelCloseReason, String),
}

impl Outgoing {
    pub(super) fn message(bytes: Bytes) -> Self {
        Self::Message { bytes, sent: 0 }
    }

    fn len(&self) -> usize {
        match self {
            Self::Message { bytes, sent } => bytes.len() - sent + FRAME_COST,
            Self::Open(_) | Self::Close(..) => FRAME_COST,
        }
    }
}

/// A numbered frame, kept until it is acknowledged.
#[derive(Debug)]
struct Kept {
    what: KeptFrame,
    /// When it was sent; for one sent again on a later link, when that was.
    sent: Instant,
    resent: bool,
}

#[derive(Debug)]
enum KeptFrame {
    Open(String),
    Close(ChannelCloseReason, String),
    Fragment { first: Option<u64>, last: bool, bytes: Bytes },
}

impl Kept {
    fn len(&self) -> usize {
        match &self.what {
            KeptFrame::Fragment { bytes, .. } => bytes.len() + FRAME_COST,
            KeptFrame::Open(_) | KeptFrame::Close(..) => FRAME_COST,
        }
    }

    fn encode(&self, channel: ChannelNumber, seq: u64, out: &mut Vec<u8>) {
        match &self.what {
            KeptFrame::Open(environment) => Frame::ChannelOpen { channel, seq, environment }.encode(out),
            KeptFrame::Close(reason, text) => Frame::ChannelClose { channel, seq, reason: *reason, text }.encode(out),
            KeptFrame::Fragment { first, last, bytes } => {
                Frame::Data { channel, seq, first: *first, last: *last, bytes }.encode(out);
            }
        }
    }
}

/// A sequenced frame that came in.
#[derive(Debug)]
pub(super) enum Arrival<'a> {
    Open(&'a str),
    Close(ChannelCloseReason, &'a str),
    Fragment { first: Option<u64>, last: bool, bytes: &'a [u8] },
}

impl Arrival<'_> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Fragment { bytes, .. } => bytes.len(),
            Self::Open(_) | Self::Close(..) => 0,
        }
    }
}

/// What an arrival led to.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) event: Option<Event>,
    /// Whether the acknowledgement moved, or has to be said again.
    pub(super) acknowledge: bool,
    /// Bytes that this side now holds.
    pub(super) held: usize,
}

#[derive(Debug)]
struct Partial {
    total: usize,
    bytes: BytesMut,
}

/// See the module's header.
#[derive(Debug, Default)]
pub(super) struct Channel {
    // Sending.
    queue: VecDeque<Outgoing>,
    queued_bytes: usize,
    kept: VecDeque<Kept>,
    kept_bytes: usize,
    /// Number of `kept`'s first frame.
    base: u64,
    /// How many of `kept` need not be sent (again) on this link.
    sent: usize,
    window: Window,
    /// Close is queued or numbered.
    closing: bool,
    /// What the other side does not have is not to reach it any more, see [`Self::withdraw`].
    withdrawn: bool,

    // Receiving.
    expected: u64,
    /// Whole messages given out and not handled, oldest first.
    unhandled: VecDeque<Unhandled>,
    partial: Option<Partial>,
    remote_closed: bool,
}

/// A whole message that was given out.
#[derive(Debug)]
struct Unhandled {
    /// Of its last fragment.
    seq: u64,
    size: usize,
    /// What of it came with its last fragment.
    last: usize,
    /// Handled out of turn.
    is_done: bool,
}

/// What it led to that a message was handled.
#[derive(Debug, Default)]
pub(super) struct Handled {
    /// Bytes that are held no more.
    pub(super) freed: usize,
    /// Of these, what came with its last fragment: those before it were acknowledged when they were stored.
    pub(super) last: usize,
    /// Whether the acknowledgement moved.
    pub(super) acknowledge: bool,
}

impl Channel {
    pub(super) fn enqueue(&mut self, outgoing: Outgoing) {
        self.closing |= matches!(outgoing, Outgoing::Close(..));
        self.queued_bytes += outgoing.len();
        self.queue.push_back(outgoing);
    }

    /// Forgets what is not numbered yet, except that a channel be opened.
    pub(super) fn drop_queue(&mut self) {
        self.queue.retain(|outgoing| matches!(outgoing, Outgoing::Open(_)));
        self.queued_bytes = self.queue.iter().map(Outgoing::len).sum();
        self.closing = self.kept.iter().any(|kept| matches!(kept.what, KeptFrame::Close(..)));
    }

    /// Closes the channel in place of what is not numbered yet, and from [`Self::rewind`] on of what the other side does not have.
    pub(super) fn withdraw(&mut self, reason: ChannelCloseReason, text: String) {
        self.drop_queue();
        self.withdrawn = true;
        self.enqueue(Outgoing::Close(reason, text));
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// What is queued behind the message on its way.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.queued_bytes - self.queue.front().map_or(0, Outgoing::len)
    }

    pub(super) fn in_flight(&self) -> usize {
        self.kept_bytes
    }

    /// How long the latest acknowledgement on this link took.
    pub(super) fn delay(&self) -> Option<Duration> {
        self.window.delay()
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing
    }

    /// Both directions are closed and nothing is owed to this side.
    pub(super) fn is_over(&self) -> bool {
        self.closing && self.remote_closed && self.queue.is_empty() && self.kept.is_empty() && self.unhandled.is_empty()
    }

    pub(super) fn oldest_unacked(&self) -> Option<Instant> {
        // Frames not yet sent on this link wait for room, not for an acknowledgement.
        self.kept.front().filter(|_| self.sent > 0).map(|kept| kept.sent)
    }

    // --- sending -------------------------------------------------------

    pub(super) fn has_more(&self) -> bool {
        self.sent < self.kept.len() || (!self.queue.is_empty() && self.kept_bytes < self.window.limit())
    }

    /// A link begins; the peer has everything below `peer_expects`, or does not know the channel: not yet, or not any more.
    pub(super) fn rewind(&mut self, peer_expects: Option<u64>) {
        let has = peer_expects.unwrap_or(0).saturating_sub(self.base);
        self.sent = usize::try_from(has).map_or(self.kept.len(), |n| n.min(self.kept.len()));
        self.window = Window::default();
        // What was sent over another link says nothing about the delay of this one.
        self.kept.iter_mut().for_each(|kept| kept.resent = true);
        // Of one that it does not know any more it may still acknowledge every number.
        if self.withdrawn && peer_expects.is_some() {
            self.drop_unsent();
        }
    }

    /// Takes back the messages that were numbered and need to be sent again: the other side does not have them, and what
    /// lies on the link before is not read any more. Their numbers go to what follows.
    fn drop_unsent(&mut self) {
        for Kept { what, .. } in self.kept.split_off(self.sent).into_iter().rev() {
            let again = match what {
                KeptFrame::Open(environment) => Outgoing::Open(environment),
                KeptFrame::Close(reason, text) => Outgoing::Close(reason, text),
                KeptFrame::Fragment { .. } => continue,
            };
            self.queued_bytes += again.len();
            self.queue.push_front(again);
        }
        self.kept_bytes = self.kept.iter().map(Kept::len).sum();
    }

    /// Writes frames until this channel's turn is over; `false` when the record is full first.
    ///
    /// A turn is everything small, or one fragment of something large: what is
    /// left of the record is at most one record's worth.
    pub(super) fn transmit(&mut self, number: ChannelNumber, limit: usize, out: &mut Vec<u8>, now: Instant) -> bool {
        while self.sent < self.kept.len() {
            let seq = self.base + self.sent as u64;
            let before = out.len();
            let kept = &mut self.kept[self.sent];
            kept.encode(number, seq, out);
            if out.len() > limit {
                out.truncate(before);
                return false;
            }
            kept.sent = now;
            kept.resent = true;
            self.sent += 1;
        }
        while self.kept_bytes < self.window.limit() {
            let Some(outgoing) = self.queue.front_mut() else { break };
            let seq = self.base + self.kept.len() as u64;
            let queued_before = outgoing.len();
            let (what, done) = match outgoing {
                Outgoing::Open(environment) => (KeptFrame::Open(std::mem::take(environment)), true),
                Outgoing::Close(reason, text) => (KeptFrame::Close(*reason, std::mem::take(text)), true),
                Outgoing::Message { bytes, sent } => {
                    let first = (*sent == 0).then_some(bytes.len() as u64);
                    let rest = bytes.len() - *sent;
                    let room = limit.saturating_sub(out.len());
                    let overhead = data_overhead(number, seq, first, rest.min(room));
                    let size = rest.min(room.saturating_sub(overhead));
                    if size < rest.min(MIN_FRAGMENT) {
                        return false;
                    }
                    let fragment = bytes.slice(*sent..*sent + size);
                    *sent += size;
                    let last = *sent == bytes.len();
                    (KeptFrame::Fragment { first, last, bytes: fragment }, last)
                }
            };
            let kept = Kept { what, sent: now, resent: false };
            let before = out.len();
            kept.encode(number, seq, out);
            if out.len() > limit {
                // An open, a close or an empty message: others were measured above.
                out.truncate(before);
                self.put_back(kept);
                return false;
            }
            if done {
                self.queued_bytes -= queued_before;
                self.queue.pop_front();
            } else if let Some(outgoing) = self.queue.front() {
                self.queued_bytes -= queued_before - outgoing.len();
            }
            self.kept_bytes += kept.len();
            self.kept.push_back(kept);
            self.sent += 1;
            if !done {
                break;
            }
        }
        true
    }

    fn put_back(&mut self, kept: Kept) {
        match (self.queue.front_mut(), kept.what) {
            (Some(Outgoing::Open(slot)), KeptFrame::Open(text)) => *slot = text,
            (Some(Outgoing::Close(_, slot)), KeptFrame::Close(_, text)) => *slot = text,
            _ => {}
        }
    }

    pub(super) fn check_resume(&self, channel: ChannelNumber, next: u64) -> Result<(), SessionError> {
        if next < self.base || next > self.base + self.kept.len() as u64 {
            return Err(SessionError::BadAck { channel, next });
        }
        Ok(())
    }

    pub(super) fn acknowledged(&mut self, channel: ChannelNumber, next: u64, now: Instant) -> Result<(), SessionError> {
        if next > self.base + self.kept.len() as u64 {
            return Err(SessionError::BadAck { channel, next });
        }
        let limited = !self.queue.is_empty();
        let now_known = usize::try_from(next.saturating_sub(self.base)).unwrap_or(usize::MAX);
        let bytes: usize = self.kept.iter().take(now_known).map(|kept| kept.len() - FRAME_COST).sum();
        let is_trickle = bytes < TRICKLE_BYTES;
        while self.base < next {
            let kept = self.kept.pop_front().expect("next is within what is kept");
            self.base += 1;
            self.kept_bytes -= kept.len();
            self.sent = self.sent.saturating_sub(1);
            if !kept.resent {
                self.window.acknowledged(kept.len(), kept.sent, (limited, is_trickle), now);
            }
        }
        Ok(())
    }

    // --- receiving -----------------------------------------------------

    pub(super) fn expected(&self) -> u64 {
        self.expected
    }

    /// Everything below this was handled: messages taken, other fragments stored.
    pub(super) fn handled_next(&self) -> u64 {
        self.unhandled.front().map_or(self.expected, |message| message.seq)
    }

    pub(super) fn arrived(
        &mut self,
        channel: ChannelNumber,
        seq: u64,
        arrival: Arrival<'_>,
        side: Side,
    ) -> Result<Outcome, SessionError> {
        if seq < self.expected {
            return Ok(Outcome { acknowledge: true, ..Outcome::default() });
        }
        if seq > self.expected {
            return Err(SessionError::Skipped { channel, seq, expected: self.expected });
        }
        if self.remote_closed {
            return Err(SessionError::Unexpected("closed channel's"));
        }
        let opens = side == Side::Host && seq == 0 && channel != super::API_CHANNEL;
        if opens != matches!(arrival, Arrival::Open(_)) {
            return Err(SessionError::Unexpected("out of place ChannelOpen or first"));
        }
        self.expected += 1;
        match arrival {
            Arrival::Open(environment) => Ok(Outcome {
                event: Some(Event::ChannelOpened { channel, environment: environment.to_owned() }),
                acknowledge: true,
                held: 0,
            }),
            Arrival::Close(reason, text) => {
                self.remote_closed = true;
                let event = Event::ChannelClosed { channel, reason, text: text.to_owned() };
                // Whoever closed first is not told about the answer to it.
                let event = Some(event).filter(|_| !self.closing);
                Ok(Outcome { event, acknowledge: true, held: 0 })
            }
            Arrival::Fragment { first, last, bytes } => {
                self.fragment(channel, seq, first, last, bytes, side.max_message())
            }
        }
    }

    fn fragment(
        &mut self,
        channel: ChannelNumber,
        seq: u64,
        first: Option<u64>,
        last: bool,
        bytes: &[u8],
        limit: usize,
    ) -> Result<Outcome, SessionError> {
        let bad = |what| SessionError::BadFragment { channel, what };
        if self.closing {
            // This side is done with the channel: take and forget.
            return Ok(Outcome { acknowledge: true, ..Outcome::default() });
        }
        let message = match (first, self.partial.as_mut()) {
            (Some(_), Some(_)) => return Err(bad("a message begins inside another")),
            (None, None) => return Err(bad("a message begins without its length")),
            (Some(total), None) => {
                let total = usize::try_from(total).ok().filter(|total| *total <= limit);
                let total = total.ok_or(bad("message over the limit"))?;
                match last {
                    true if total == bytes.len() => Bytes::copy_from_slice(bytes),
                    false if bytes.len() < total && !bytes.is_empty() => {
                        // Grows as bytes arrive: a claimed length costs nothing.
                        self.partial = Some(Partial { total, bytes: BytesMut::from(bytes) });
                        return Ok(Outcome { acknowledge: true, held: bytes.len(), event: None });
                    }
                    _ => return Err(bad("length does not fit")),
                }
            }
            (None, Some(partial)) => {
                let have = partial.bytes.len() + bytes.len();
                if bytes.is_empty() || have > partial.total || last != (have == partial.total) {
                    return Err(bad("length does not fit"));
                }
                partial.bytes.extend_from_slice(bytes);
                if !last {
                    return Ok(Outcome { acknowledge: true, held: bytes.len(), event: None });
                }
                self.partial.take().expect("matched above").bytes.freeze()
            }
        };
        let (size, last) = (message.len() + FRAME_COST, bytes.len() + FRAME_COST);
        self.unhandled.push_back(Unhandled { seq, size, last, is_done: false });
        let event = Some(Event::Message { channel, seq, bytes: message });
        Ok(Outcome { event, acknowledge: false, held: bytes.len() + FRAME_COST })
    }

    /// A message was handled; one that is not known is none.
    pub(super) fn handled(&mut self, seq: u64) -> Handled {
        let before = self.handled_next();
        let Some(message) = self.unhandled.iter_mut().find(|message| message.seq == seq && !message.is_done) else {
            return Handled::default();
        };
        message.is_done = true;
        let (freed, last) = (message.size, message.last);
        while self.unhandled.front().is_some_and(|message| message.is_done) {
            self.unhandled.pop_front();
        }
        Handled { freed, last, acknowledge: self.handled_next() != before }
    }

    /// Nobody will take what was received: count it as handled. Returns the bytes freed.
    pub(super) fn discard_received(&mut self) -> usize {
        let messages: usize =
            self.unhandled.iter().filter(|message| !message.is_done).map(|message| message.size).sum();
        self.unhandled.clear();
        messages + self.partial.take().map_or(0, |partial| partial.bytes.len())
    }
}
