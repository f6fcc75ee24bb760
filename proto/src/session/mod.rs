//! The session: messages on several channels that arrive exactly once and in
//! order over any number of links, or an explicit gap.
//!
//! A driver owns the sockets and the cryptography. It feeds opened records in
//! ([`Session::handle_record`]), takes plaintexts out
//! ([`Session::poll_transmit`]), and looks at [`Session::poll_event`] and
//! [`Session::poll_timeout`] after each. Both ends are this one type:
//!
//! - On each channel, in each direction, frames are numbered when they are
//!   *sent* and kept until the other side has *handled* them. Messages are cut
//!   into fragments only when there is room for one, so a keystroke on one
//!   channel waits for a record of another, never for a message.
//! - A new link starts with `Open` or `Resume`. Both sides say what they expect
//!   next, and what lies before is not sent again. Nothing else depends on
//!   which link a frame came over.
//! - What is queued and unacknowledged is bounded. A host whose device is away
//!   gives up a channel that overflows and says so: it closes with
//!   [`ChannelCloseReason::Gap`], after what was already numbered.
//!
//! `window` bounds what is in flight per channel; `liveness` says when a
//! link is dead.

mod channel;
mod liveness;
mod window;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::crypto::records::MAX_RECORD_PLAINTEXT;
use crate::frame::{
    ByeReason, ChannelCloseReason, ChannelNumber, Frame, GapReason, MAX_CLOSE_TEXT, MAX_ENVIRONMENT,
    MAX_RESUME_CHANNELS,
};
use crate::ids::SessionId;
use crate::wire::{DecodeError, MAX_VARINT, Reader};
use channel::{Arrival, Channel, Handled, Outgoing};
use liveness::{Liveness, PROBE_AFTER, PROBE_LIMIT, Verdict};

/// The channel of the host agent's own API; always open.
pub const API_CHANNEL: ChannelNumber = 0;
/// Largest message from a device, in bytes: what Codex's app-server takes (64 MiB, measured).
pub const MAX_MESSAGE_TO_HOST: usize = 64 << 20;
/// Largest message to a device, in bytes. Codex's app-server answers without a limit of its own; its terminal UI takes
/// 128 MiB (`REMOTE_APP_SERVER_MAX_WEBSOCKET_MESSAGE_SIZE`), so whatever opens directly opens through a session.
pub const MAX_MESSAGE_TO_DEVICE: usize = 160 << 20;
/// Acknowledgements wait at most this long for data to ride on.
pub const ACK_DELAY: Duration = Duration::from_millis(20);
/// Messages that come in a trickle are acknowledged so often, and the first of them within [`ACK_DELAY`]: a record that only
/// acknowledges costs the link as much as one with a short message.
pub const TRICKLE_ACK_DELAY: Duration = Duration::from_millis(250);
/// A trickle has fewer bytes than this between two acknowledgements.
pub const TRICKLE_BYTES: usize = 4 * 1024;
/// Acknowledgements wait for at most this many bytes that were stored or handled.
pub const ACK_BYTES: usize = 32 * 1024;
/// A link whose `Open` or `Resume` has no answer for this long is dead: as long as for anything else unanswered.
pub const ATTACH_LIMIT: Duration = PROBE_AFTER.saturating_add(PROBE_LIMIT);

/// Channels beside the API's, those still closing included. Half of what a peer may name when it resumes: the other
/// side may be behind by as many.
const MAX_CHANNELS: usize = MAX_RESUME_CHANNELS / 2;

/// Which end of the session this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// Opens sessions and channels.
    Device,
    /// Accepts them.
    Host,
}

impl Side {
    /// The largest message that this side takes, in bytes.
    pub const fn max_message(self) -> usize {
        match self {
            Self::Device => MAX_MESSAGE_TO_DEVICE,
            Self::Host => MAX_MESSAGE_TO_HOST,
        }
    }

    const fn other(self) -> Self {
        match self {
            Self::Device => Self::Host,
            Self::Host => Self::Device,
        }
    }
}

/// Bounds of one session; every number is in bytes unless named otherwise.
#[derive(Debug, Clone)]
pub struct SessionLimits {
    /// Channels open at once. Default 32.
    pub channels: usize,
    /// Queued on one channel, counting neither the message on its way nor a last one that crosses the line: a
    /// large one would else be the end of its channel as soon as anything follows it. Default 16 MiB.
    pub channel_queue: usize,
    /// Queued on all channels. Default 192 MiB: the largest message, and two channels' queues.
    pub session_queue: usize,
    /// Received and not yet handled, incomplete messages included. Default 160 MiB: two of the largest that a host
    /// receives, and change. A device's is 352 MiB, for the same reason.
    pub receive_buffer: usize,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self { channels: 32, channel_queue: 16 << 20, session_queue: 192 << 20, receive_buffer: 160 << 20 }
    }
}

impl SessionLimits {
    /// What a device's end of a session is bounded by.
    pub fn device() -> Self {
        Self { receive_buffer: 352 << 20, ..Self::default() }
    }
}

/// What the driver has to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The link carries the session now.
    Established {
        /// The session.
        session: SessionId,
        /// Whether it went on where it was, rather than being new.
        resumed: bool,
    },
    /// The device opened a channel.
    ChannelOpened {
        /// The channel.
        channel: ChannelNumber,
        /// The environment it wants.
        environment: String,
    },
    /// A whole message. Call [`Session::handled`] with its number once it is taken.
    Message {
        /// The channel.
        channel: ChannelNumber,
        /// Its number.
        seq: u64,
        /// The message.
        bytes: Bytes,
    },
    /// The other side closed a channel, or the channel was lost with its session.
    ChannelClosed {
        /// The channel.
        channel: ChannelNumber,
        /// Why.
        reason: ChannelCloseReason,
        /// For a person.
        text: String,
    },
    /// A device's session is gone: its channels are closed, what was unacknowledged is lost, a new session is being opened.
    SessionLost {
        /// Why.
        reason: GapReason,
    },
    /// The other side ends the link.
    Bye {
        /// Why.
        reason: ByeReason,
        /// When to come back.
        reconnect_in: Duration,
    },
    /// Nothing was heard for too long: drop the link and make another.
    LinkDead,
}

/// The other side broke the protocol. The link ends; so does the session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// Not frames.
    #[error("record does not hold frames")]
    Decode(#[from] DecodeError),
    /// A frame that this side may not receive, or not now.
    #[error("unexpected {0} frame")]
    Unexpected(&'static str),
    /// A number was skipped.
    #[error("channel {channel}: frame {seq} where {expected} was next")]
    Skipped {
        /// The channel.
        channel: ChannelNumber,
        /// The number that came.
        seq: u64,
        /// The number that was next.
        expected: u64,
    },
    /// Something was acknowledged that was never sent, or taken back.
    #[error("channel {channel}: acknowledged up to {next}, which was not sent")]
    BadAck {
        /// The channel.
        channel: ChannelNumber,
        /// The number acknowledged.
        next: u64,
    },
    /// Fragments that do not make a message.
    #[error("channel {channel}: fragments do not make a message: {what}")]
    BadFragment {
        /// The channel.
        channel: ChannelNumber,
        /// What is wrong.
        what: &'static str,
    },
    /// More was sent than this side is willing to hold.
    #[error("{0} bytes received and not handled, over the limit")]
    ReceiveBuffer(usize),
}

/// A channel could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// More than a host keeps for a device, those still closing included.
    #[error("too many channels are open or closing")]
    TooMany,
    /// The environment's name is over [`MAX_ENVIRONMENT`].
    #[error("the environment's name is longer than {MAX_ENVIRONMENT} bytes")]
    Environment,
}

/// A message could not be queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// There is no such channel, or this side or the other closed it.
    #[error("channel is closed")]
    Closed,
    /// The message is larger than the other side takes, see [`Side::max_message`].
    #[error("message of {length} bytes is over the limit of {limit}")]
    TooLong {
        /// The message's length.
        length: usize,
        /// The most that the other side takes.
        limit: usize,
    },
    /// The queue was full: the channel was given up and closes with a gap.
    #[error("queue is full; the channel was closed with a gap")]
    Overflow,
}

/// What a device asks for in its first record on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attach {
    /// A new session.
    Open,
    /// This session again.
    Resume(SessionId),
}

impl Attach {
    /// Reads a link's first record without changing anything, to find the session it belongs to.
    pub fn peek(record: &[u8]) -> Result<Self, SessionError> {
        match Frame::decode(&mut Reader::new(record))? {
            Some(Frame::Open) => Ok(Self::Open),
            Some(Frame::Resume { session, .. }) => Ok(Self::Resume(session)),
            _ => Err(SessionError::Unexpected("first")),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Down,
    /// Device: `Open` or `Resume` is unanswered; host: neither came yet. Everything else waits, pings too: the host
    /// looks for the session in the first record alone.
    Attaching,
    Up,
}

/// One end of a session. See the module's header.
#[derive(Debug)]
pub struct Session {
    side: Side,
    id: Option<SessionId>,
    limits: SessionLimits,
    link: Link,
    /// When the link began.
    linked: Instant,
    liveness: Liveness,
    channels: BTreeMap<ChannelNumber, Channel>,
    /// Device: the next number to give out. Host: one more than the largest seen.
    next_channel: ChannelNumber,
    /// Channels with something to send, each once, in turn.
    turn: VecDeque<ChannelNumber>,
    /// Unsequenced frames for this link, encoded.
    control: VecDeque<Vec<u8>>,
    pong: Option<u64>,
    acks: BTreeSet<ChannelNumber>,
    /// Acknowledgements for channels that are over: the other side missed the last ones.
    stale_acks: BTreeMap<ChannelNumber, u64>,
    ack_due: Option<Instant>,
    /// When this side last acknowledged anything on this link.
    acked: Option<Instant>,
    ack_bytes: usize,
    /// Received and not handled, all channels.
    received_bytes: usize,
    events: VecDeque<Event>,
}

impl Session {
    /// A device's end. It has no id until a host gives it one.
    pub fn device(limits: SessionLimits, now: Instant) -> Self {
        Self::new(Side::Device, None, limits, now)
    }

    /// A host's end of a new session with this random id.
    pub fn host(id: SessionId, limits: SessionLimits, now: Instant) -> Self {
        Self::new(Side::Host, Some(id), limits, now)
    }

    fn new(side: Side, id: Option<SessionId>, limits: SessionLimits, now: Instant) -> Self {
        Self {
            side,
            id,
            limits,
            link: Link::Down,
            linked: now,
            liveness: Liveness::new(now),
            channels: BTreeMap::from([(API_CHANNEL, Channel::default())]),
            next_channel: API_CHANNEL + 1,
            turn: VecDeque::new(),
            control: VecDeque::new(),
            pong: None,
            acks: BTreeSet::new(),
            stale_acks: BTreeMap::new(),
            ack_due: None,
            acked: None,
            ack_bytes: 0,
            received_bytes: 0,
            events: VecDeque::new(),
        }
    }

    /// The session's id, once there is one.
    pub fn id(&self) -> Option<SessionId> {
        self.id
    }

    /// Whether a link carries the session now.
    pub fn is_up(&self) -> bool {
        self.link == Link::Up
    }

    // --- links ---------------------------------------------------------

    /// A new link is there; the one before is over, and nothing from it may be fed in any more.
    pub fn link_up(&mut self, now: Instant) {
        self.link_down();
        self.linked = now;
        self.liveness = Liveness::new(now);
        match (self.side, self.id) {
            (Side::Host, _) => self.link = Link::Attaching,
            (Side::Device, None) => {
                // What is queued waits for the answer: if that were lost, a second
                // `Open` would send it again, to a session that knows nothing of the first.
                self.link = Link::Attaching;
                self.push_control(&Frame::Open);
            }
            (Side::Device, Some(session)) => {
                self.link = Link::Attaching;
                let received = self.expected();
                self.push_control(&Frame::Resume { session, received });
            }
        }
    }

    /// The link is gone.
    pub fn link_down(&mut self) {
        self.link = Link::Down;
        self.control.clear();
        self.pong = None;
        self.turn.clear();
        self.ack_due = None;
        self.acked = None;
    }

    // --- sending -------------------------------------------------------

    /// Opens a channel to an environment. Device only.
    pub fn open_channel(&mut self, environment: &str) -> Result<ChannelNumber, OpenError> {
        debug_assert!(self.side == Side::Device);
        if environment.len() > MAX_ENVIRONMENT {
            return Err(OpenError::Environment);
        }
        if self.channels.len() > MAX_CHANNELS {
            return Err(OpenError::TooMany);
        }
        let number = self.next_channel;
        self.next_channel += 1;
        let mut channel = Channel::default();
        channel.enqueue(Outgoing::Open(environment.to_owned()));
        self.channels.insert(number, channel);
        self.take_turn(number);
        Ok(number)
    }

    /// Queues a message. On overflow the channel is given up, see [`SendError::Overflow`].
    pub fn send(&mut self, number: ChannelNumber, message: Bytes) -> Result<(), SendError> {
        let (length, limit) = (message.len(), self.side.other().max_message());
        if length > limit {
            return Err(SendError::TooLong { length, limit });
        }
        let channel = self.channels.get_mut(&number).filter(|c| !c.is_closing()).ok_or(SendError::Closed)?;
        if channel.waiting_bytes() >= self.limits.channel_queue {
            self.give_up(number);
            return Err(SendError::Overflow);
        }
        channel.enqueue(Outgoing::message(message));
        self.take_turn(number);
        if self.queued_bytes() > self.limits.session_queue {
            // The channel that holds most pays, which need not be the one that came last.
            let largest = self.channels.iter().max_by_key(|(_, c)| c.queued_bytes()).map(|(n, _)| *n);
            let largest = largest.expect("a message was just queued");
            self.give_up(largest);
            if largest == number {
                return Err(SendError::Overflow);
            }
            self.events.push_back(Event::ChannelClosed {
                channel: largest,
                reason: ChannelCloseReason::Gap,
                text: "session queue is full".into(),
            });
        }
        Ok(())
    }

    /// Bytes queued or in flight on a channel, for back-pressure towards the sender.
    pub fn backlog(&self, number: ChannelNumber) -> usize {
        self.channels.get(&number).map_or(0, |c| c.queued_bytes() + c.in_flight())
    }

    /// How long the latest acknowledgement on a channel took: the link's way there and back with what is queued on it, and
    /// up to [`ACK_DELAY`] on the other side. `None` before the first on this link.
    pub fn delay(&self, number: ChannelNumber) -> Option<Duration> {
        self.channels.get(&number).and_then(Channel::delay)
    }

    /// Bytes that this end holds: queued, in flight, or received and not handled.
    pub fn held_bytes(&self) -> usize {
        let sending = self.channels.values().map(|c| c.queued_bytes() + c.in_flight()).sum::<usize>();
        sending + self.received_bytes
    }

    /// Of these, what was received and is not handled yet, on all channels.
    pub fn unhandled_bytes(&self) -> usize {
        self.received_bytes
    }

    /// Closes a channel after what is queued on it.
    pub fn close_channel(&mut self, number: ChannelNumber, reason: ChannelCloseReason, text: &str) {
        let Some(channel) = self.channels.get_mut(&number).filter(|c| !c.is_closing()) else { return };
        channel.enqueue(Outgoing::Close(reason, clipped(text, MAX_CLOSE_TEXT).to_owned()));
        self.discard_received(number);
        self.take_turn(number);
    }

    /// Closes a channel, and takes back what the other side does not have: from here on, what of it arrived stays as it is, and the
    /// rest never arrives. For one whose user is told that the connection broke, and may say the same again on another.
    pub fn withdraw_channel(&mut self, number: ChannelNumber, reason: ChannelCloseReason, text: &str) {
        let Some(channel) = self.channels.get_mut(&number).filter(|c| !c.is_closing()) else { return };
        channel.withdraw(reason, clipped(text, MAX_CLOSE_TEXT).to_owned());
        self.discard_received(number);
        self.take_turn(number);
    }

    /// Ends the link with a last word. The driver drops it once [`Self::poll_transmit`] has nothing more.
    pub fn bye(&mut self, reason: ByeReason, reconnect_in: Duration) {
        if self.link != Link::Down {
            let reconnect_in_ms = reconnect_in.as_millis().min(u128::from(u32::MAX)) as u64;
            self.turn.clear();
            self.push_control(&Frame::Bye { reason, reconnect_in_ms });
        }
    }

    /// The consumer has taken a message: acknowledge it.
    pub fn handled(&mut self, number: ChannelNumber, seq: u64, now: Instant) {
        let Some(channel) = self.channels.get_mut(&number) else { return };
        let Handled { freed, last, acknowledge } = channel.handled(seq);
        self.received_bytes -= freed;
        if acknowledge {
            self.owe_ack(number, last, now);
        }
        self.forget_if_over(number);
    }

    // --- records in ----------------------------------------------------

    /// Takes the plaintext of one opened record. What comes after a `Bye` counts for nothing.
    pub fn handle_record(&mut self, record: &[u8], now: Instant) -> Result<(), SessionError> {
        self.liveness.heard(now);
        let mut r = Reader::new(record);
        while self.link != Link::Down
            && let Some(frame) = Frame::decode(&mut r)?
        {
            self.handle_frame(frame, now)?;
        }
        Ok(())
    }

    fn handle_frame(&mut self, frame: Frame<'_>, now: Instant) -> Result<(), SessionError> {
        match (self.side, self.link, frame) {
            (Side::Host, Link::Attaching, Frame::Open) => {
                self.opened(now);
                Ok(())
            }
            (Side::Host, Link::Attaching, Frame::Resume { session, received }) if Some(session) == self.id => {
                self.resumed(&received, now)
            }
            (Side::Device, Link::Attaching, Frame::Opened { session }) if self.id.is_none() => {
                self.id = Some(session);
                self.events.push_back(Event::Established { session, resumed: false });
                self.start_sending(&BTreeMap::new(), now);
                Ok(())
            }
            (Side::Device, Link::Attaching, Frame::Resumed { received }) if self.id.is_some() => {
                self.resumed(&received, now)
            }
            (Side::Device, Link::Attaching, Frame::Gap { reason }) if self.id.is_some() => {
                self.lost(reason);
                Ok(())
            }
            (_, Link::Up | Link::Attaching, Frame::Bye { reason, reconnect_in_ms }) => {
                let reconnect_in = Duration::from_millis(reconnect_in_ms.min(u64::from(u32::MAX)));
                self.events.push_back(Event::Bye { reason, reconnect_in });
                self.link_down();
                Ok(())
            }
            (_, Link::Up, frame) => self.handle_up(frame, now),
            (_, _, frame) => Err(SessionError::Unexpected(name(&frame))),
        }
    }

    fn handle_up(&mut self, frame: Frame<'_>, now: Instant) -> Result<(), SessionError> {
        match frame {
            // One answer is enough for any number of pings, so a flood of them costs nothing.
            Frame::Ping { id } => self.pong = Some(id),
            Frame::Pong { .. } => {}
            Frame::Ack { channel, next } => return self.acknowledged(channel, next, now),
            Frame::ChannelOpen { channel, seq, environment } => {
                let arrival = Arrival::Open(environment);
                return self.arrived(channel, seq, arrival, now);
            }
            Frame::ChannelClose { channel, seq, reason, text } => {
                return self.arrived(channel, seq, Arrival::Close(reason, text), now);
            }
            Frame::Data { channel, seq, first, last, bytes } => {
                return self.arrived(channel, seq, Arrival::Fragment { first, last, bytes }, now);
            }
            frame => return Err(SessionError::Unexpected(name(&frame))),
        }
        Ok(())
    }

    fn arrived(
        &mut self,
        number: ChannelNumber,
        seq: u64,
        arrival: Arrival<'_>,
        now: Instant,
    ) -> Result<(), SessionError> {
        if !self.channels.contains_key(&number) {
            if number < self.next_channel {
                // The channel is over here; the other side missed our last acknowledgement.
                self.stale_acks.insert(number, (seq + 1).min(MAX_VARINT));
                if self.stale_acks.len() > MAX_RESUME_CHANNELS {
                    return Err(SessionError::Unexpected("stale"));
                }
                self.ack_due.get_or_insert(now + ACK_DELAY);
                return Ok(());
            }
            if self.side == Side::Device || !matches!(arrival, Arrival::Open(_)) {
                return Err(SessionError::Unexpected("unknown channel's"));
            }
            if self.channels.len() > MAX_CHANNELS {
                return Err(SessionError::Unexpected("too many channels'"));
            }
            self.next_channel = number + 1;
            self.channels.insert(number, Channel::default());
        }
        let open = self.channels.values().filter(|c| !c.is_closing()).count();
        let channel = self.channels.get_mut(&number).expect("looked up or made above");
        let size = arrival.len();
        let outcome = channel.arrived(number, seq, arrival, self.side)?;
        self.received_bytes += outcome.held;
        if self.received_bytes > self.limits.receive_buffer {
            return Err(SessionError::ReceiveBuffer(self.received_bytes));
        }
        self.liveness.heard_sequenced();
        if outcome.acknowledge {
            self.owe_ack(number, size, now);
        }
        match outcome.event {
            Some(Event::ChannelOpened { .. }) if open > self.limits.channels + 1 => {
                self.close_channel(number, ChannelCloseReason::Limit, "too many channels are open");
            }
            Some(Event::ChannelClosed { channel, reason, text }) => {
                self.discard_received(number);
                self.drop_queue(number);
                self.close_channel(number, ChannelCloseReason::Done, "");
                self.events.push_back(Event::ChannelClosed { channel, reason, text });
            }
            Some(event) => self.events.push_back(event),
            None => {}
        }
        self.forget_if_over(number);
        Ok(())
    }

    fn acknowledged(&mut self, number: ChannelNumber, next: u64, now: Instant) -> Result<(), SessionError> {
        let Some(channel) = self.channels.get_mut(&number) else { return Ok(()) };
        channel.acknowledged(number, next, now)?;
        if channel.has_more() {
            self.take_turn(number);
        }
        self.forget_if_over(number);
        Ok(())
    }

    // --- attaching -----------------------------------------------------

    fn opened(&mut self, now: Instant) {
        let session = self.id.expect("a host's session has an id from the start");
        self.push_control(&Frame::Opened { session });
        self.events.push_back(Event::Established { session, resumed: false });
        self.start_sending(&BTreeMap::new(), now);
    }

    fn resumed(&mut self, received: &[(ChannelNumber, u64)], now: Instant) -> Result<(), SessionError> {
        let peer: BTreeMap<_, _> = received.iter().copied().collect();
        for (number, channel) in &self.channels {
            if let Some(next) = peer.get(number) {
                channel.check_resume(*number, *next)?;
            }
        }
        let session = self.id.expect("a session that is resumed has an id");
        if self.side == Side::Host {
            let received = self.expected();
            self.push_control(&Frame::Resumed { received });
        }
        self.events.push_back(Event::Established { session, resumed: true });
        self.start_sending(&peer, now);
        Ok(())
    }

    fn lost(&mut self, reason: GapReason) {
        self.id = None;
        self.received_bytes = 0;
        self.acks.clear();
        self.stale_acks.clear();
        self.events.push_back(Event::SessionLost { reason });
        for (number, channel) in std::mem::take(&mut self.channels) {
            if number != API_CHANNEL && !channel.is_closing() {
                self.events.push_back(Event::ChannelClosed {
                    channel: number,
                    reason: ChannelCloseReason::Gap,
                    text: "the host no longer has this session".into(),
                });
            }
        }
        self.channels.insert(API_CHANNEL, Channel::default());
        self.push_control(&Frame::Open);
    }

    /// From here on sequenced frames flow: again what the peer lacks, then what is new.
    fn start_sending(&mut self, peer_expects: &BTreeMap<ChannelNumber, u64>, now: Instant) {
        self.link = Link::Up;
        self.turn.clear();
        for (number, channel) in &mut self.channels {
            channel.rewind(peer_expects.get(number).copied());
            // Acknowledgements may have been lost with the old link: say them again.
            if channel.handled_next() > 0 {
                self.acks.insert(*number);
            }
            // In ascending order, so that channels are opened in the order of their numbers.
            if channel.has_more() {
                self.turn.push_back(*number);
            }
        }
        // At once: the other side's window may be full of what they are about.
        if !self.acks.is_empty() || !self.stale_acks.is_empty() {
            self.ack_due = Some(now);
        }
    }

    fn expected(&self) -> Vec<(ChannelNumber, u64)> {
        self.channels.iter().map(|(number, channel)| (*number, channel.expected())).collect()
    }

    // --- records out ---------------------------------------------------

    /// Fills `out` with the plaintext of the next record; `false` when there is nothing to send now.
    ///
    /// `out` is cleared first and never grows beyond [`MAX_RECORD_PLAINTEXT`].
    pub fn poll_transmit(&mut self, out: &mut Vec<u8>, now: Instant) -> bool {
        out.clear();
        if self.link == Link::Down {
            return false;
        }
        for frame in self.control.drain(..) {
            out.extend_from_slice(&frame);
        }
        if let Some(id) = self.pong.take() {
            Frame::Pong { id }.encode(out);
        }
        if self.link == Link::Up {
            let due = self.ack_bytes >= ACK_BYTES || self.ack_due.is_some_and(|due| due <= now);
            if due || !self.turn.is_empty() || !out.is_empty() {
                self.transmit_acks(out, now);
            }
            self.transmit_data(out, now);
        }
        debug_assert!(out.len() <= MAX_RECORD_PLAINTEXT);
        !out.is_empty()
    }

    fn transmit_acks(&mut self, out: &mut Vec<u8>, now: Instant) {
        if !self.acks.is_empty() {
            self.acked = Some(now);
        }
        // An ack is at most 17 bytes: 128 channels and 256 stale ones fit beside the longest control frames.
        for number in std::mem::take(&mut self.acks) {
            if let Some(channel) = self.channels.get(&number) {
                Frame::Ack { channel: number, next: channel.handled_next() }.encode(out);
            }
        }
        for (channel, next) in std::mem::take(&mut self.stale_acks) {
            Frame::Ack { channel, next }.encode(out);
        }
        self.ack_due = None;
        self.ack_bytes = 0;
    }

    fn transmit_data(&mut self, out: &mut Vec<u8>, now: Instant) {
        while let Some(number) = self.turn.pop_front() {
            let Some(channel) = self.channels.get_mut(&number) else { continue };
            let before = out.len();
            let full = !channel.transmit(number, MAX_RECORD_PLAINTEXT, out, now);
            if full && out.len() == before {
                // Nothing went out: it begins the next record.
                self.turn.push_front(number);
                return;
            }
            if full || channel.has_more() {
                self.turn.push_back(number);
            }
            if full {
                return;
            }
        }
    }

    // --- time ----------------------------------------------------------

    /// When [`Self::handle_timeout`] wants to be called, if nothing happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.link {
            Link::Down => return None,
            Link::Attaching => return Some(self.linked + ATTACH_LIMIT),
            Link::Up => {}
        }
        let liveness = self.liveness.next(self.oldest_unacked());
        Some(self.ack_due.map_or(liveness, |due| due.min(liveness)))
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        let verdict = match self.link {
            Link::Down => return,
            Link::Attaching if now >= self.linked + ATTACH_LIMIT => Verdict::Dead,
            Link::Attaching => Verdict::Alive,
            Link::Up => self.liveness.check(self.oldest_unacked(), now),
        };
        match verdict {
            Verdict::Alive => {}
            Verdict::Ping(id) => self.push_control(&Frame::Ping { id }),
            Verdict::Dead => {
                self.link_down();
                self.events.push_back(Event::LinkDead);
            }
        }
    }

    /// What happened since the last call.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    // --- helpers -------------------------------------------------------

    fn oldest_unacked(&self) -> Option<Instant> {
        self.channels.values().filter_map(Channel::oldest_unacked).min()
    }

    fn queued_bytes(&self) -> usize {
        self.channels.values().map(Channel::queued_bytes).sum()
    }

    fn push_control(&mut self, frame: &Frame<'_>) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        self.control.push_back(bytes);
    }

    fn take_turn(&mut self, number: ChannelNumber) {
        if self.link == Link::Up && !self.turn.contains(&number) {
            self.turn.push_back(number);
        }
    }

    fn owe_ack(&mut self, number: ChannelNumber, bytes: usize, now: Instant) {
        self.acks.insert(number);
        self.ack_bytes += bytes;
        // What opens or closes a channel is no trickle: somebody may wait for the end of it.
        let is_trickle = bytes > 0 && self.ack_bytes < TRICKLE_BYTES;
        let next = self.acked.filter(|_| is_trickle).map(|acked| acked + TRICKLE_ACK_DELAY);
        let due = next.map_or(now + ACK_DELAY, |next| next.max(now + ACK_DELAY));
        self.ack_due = Some(self.ack_due.map_or(due, |earlier| earlier.min(due)));
    }

    fn give_up(&mut self, number: ChannelNumber) {
        self.drop_queue(number);
        self.close_channel(number, ChannelCloseReason::Gap, "messages were lost: the device was away or too slow");
    }

    fn drop_queue(&mut self, number: ChannelNumber) {
        if let Some(channel) = self.channels.get_mut(&number) {
            channel.drop_queue();
        }
    }

    fn discard_received(&mut self, number: ChannelNumber) {
        if let Some(channel) = self.channels.get_mut(&number) {
            self.received_bytes -= channel.discard_received();
            self.acks.insert(number);
        }
    }

    fn forget_if_over(&mut self, number: ChannelNumber) {
        if number != API_CHANNEL
            && let Some(channel) = self.channels.get(&number)
            && channel.is_over()
        {
            // The last acknowledgement must still go out, if it has not.
            if self.acks.remove(&number) {
                self.stale_acks.insert(number, channel.handled_next());
            }
            self.channels.remove(&number);
        }
    }
}

fn clipped(text: &str, limit: usize) -> &str {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn name(frame: &Frame<'_>) -> &'static str {
    match frame {
        Frame::Open => "Open",
        Frame::Opened { .. } => "Opened",
        Frame::Resume { .. } => "Resume",
        Frame::Resumed { .. } => "Resumed",
        Frame::Gap { .. } => "Gap",
        Frame::Bye { .. } => "Bye",
        Frame::ChannelOpen { .. } => "ChannelOpen",
        Frame::ChannelClose { .. } => "ChannelClose",
        Frame::Data { .. } => "Data",
        Frame::Ack { .. } => "Ack",
        Frame::Ping { .. } => "Ping",
        Frame::Pong { .. } => "Pong",
    }
}

#[cfg(test)]
mod tests;
