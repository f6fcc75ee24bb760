//! Session frames: what the plaintext of records is made of.
//!
//! A record holds frames one after another and then zeros; tag 0 ends the
//! frames. The table in `docs/protocol.md` §4 lists tags and fields.

use crate::ids::SessionId;
use crate::wire::{DecodeError, Reader, Write, varint_len};

/// Most channels that a peer may name when it resumes: the open ones and those still closing.
pub const MAX_RESUME_CHANNELS: usize = 256;
/// Longest environment name, in bytes.
pub const MAX_ENVIRONMENT: usize = 256;
/// The environment that is the host itself. Others are named after what they are, such as `ssh:devbox`.
pub const LOCAL_ENVIRONMENT: &str = "local";
/// Longest text of a channel's close, in bytes.
pub const MAX_CLOSE_TEXT: usize = 400;

/// Number of a channel within its session.
pub type ChannelNumber = u64;

/// Why something ends: what a number on the wire says, and what a number of a newer peer is.
macro_rules! reasons {
    ($(#[doc = $about:literal])+ $name:ident { $($(#[doc = $doc:literal])+ $reason:ident = $number:literal,)+ }) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[doc = $doc])+ $reason,)+
            /// A reason of a newer peer.
            Other(u8),
        }

        impl $name {
            /// The number on the wire.
            pub fn number(self) -> u8 {
                match self {
                    $(Self::$reason => $number,)+
                    Self::Other(number) => number,
                }
            }

            /// The reason behind a number.
            pub fn from_number(number: u8) -> Self {
                match number {
                    $($number => Self::$reason,)+
                    other => Self::Other(other),
                }
            }
        }
    };
}

reasons! {
    /// Why a session is not resumed.
    GapReason {
        /// The host does not know the session: it restarted, the session expired, or it is another device's.
        Unknown = 1,
        /// The host ended the session.
        Ended = 2,
    }
}

reasons! {
    /// Why a peer ends the session or the link.
    ByeReason {
        /// Done.
        Normal = 1,
        /// The host took the device off its list.
        Revoked = 2,
        /// The peer shuts down; the session may be resumed, or is a gap.
        ShuttingDown = 3,
        /// The other side broke the protocol.
        ProtocolError = 4,
        /// A limit was reached.
        Limit = 5,
        /// The host keeps the device out for now.
        Paused = 6,
    }
}

reasons! {
    /// Why a channel ends.
    ChannelCloseReason {
        /// Done.
        Done = 1,
        /// Messages were lost; connect again and reload.
        Gap = 2,
        /// The device may not have it, or there is no such environment.
        Refused = 3,
        /// The app-server behind it went away.
        BackendGone = 4,
        /// A limit was reached.
        Limit = 5,
    }
}

/// One frame, borrowing from the record it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A device wants a new session.
    Open,
    /// The host made one.
    Opened {
        /// Its id, for resuming.
        session: SessionId,
    },
    /// A device wants its session back.
    Resume {
        /// The session.
        session: SessionId,
        /// Per channel, the number expected next.
        received: Vec<(ChannelNumber, u64)>,
    },
    /// The host has it still.
    Resumed {
        /// Per channel, the number expected next.
        received: Vec<(ChannelNumber, u64)>,
    },
    /// The host does not have it.
    Gap {
        /// Why.
        reason: GapReason,
    },
    /// The link ends, and unless resumed the session with it.
    Bye {
        /// Why.
        reason: ByeReason,
        /// When to come back, in milliseconds.
        reconnect_in_ms: u64,
    },
    /// Opens a channel. Sequenced.
    ChannelOpen {
        /// The channel.
        channel: ChannelNumber,
        /// Its sequence number: 0.
        seq: u64,
        /// The environment wanted.
        environment: &'a str,
    },
    /// Ends a channel in this direction. Sequenced.
    ChannelClose {
        /// The channel.
        channel: ChannelNumber,
        /// Its sequence number.
        seq: u64,
        /// Why.
        reason: ChannelCloseReason,
        /// For a person.
        text: &'a str,
    },
    /// A fragment of a message. Sequenced.
    Data {
        /// The channel.
        channel: ChannelNumber,
        /// Its sequence number.
        seq: u64,
        /// For a message's first fragment, the length of the whole message.
        first: Option<u64>,
        /// Whether the message ends here.
        last: bool,
        /// The fragment.
        bytes: &'a [u8],
    },
    /// Everything below `next` was handled.
    Ack {
        /// The channel.
        channel: ChannelNumber,
        /// One more than the last number handled.
        next: u64,
    },
    /// Asks for a pong.
    Ping {
        /// Any number.
        id: u64,
    },
    /// Answers a ping.
    Pong {
        /// The number of the ping.
        id: u64,
    },
}

const FIRST: u8 = 1;
const LAST: u8 = 2;

impl<'a> Frame<'a> {
    /// Appends the frame's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Open => out.put_u8(0x01),
            Self::Opened { session } => {
                out.put_u8(0x02);
                out.put(&session.0);
            }
            Self::Resume { session, received } => {
                out.put_u8(0x03);
                out.put(&session.0);
                put_received(out, received);
            }
            Self::Resumed { received } => {
                out.put_u8(0x04);
                put_received(out, received);
            }
            Self::Gap { reason } => out.put(&[0x05, reason.number()]),
            Self::Bye { reason, reconnect_in_ms } => {
                out.put(&[0x06, reason.number()]);
                out.put_varint(*reconnect_in_ms);
            }
            Self::ChannelOpen { channel, seq, environment } => {
                put_sequenced(out, 0x10, *channel, *seq);
                out.put_bytes(environment.as_bytes());
            }
            Self::ChannelClose { channel, seq, reason, text } => {
                put_sequenced(out, 0x11, *channel, *seq);
                out.put_u8(reason.number());
                out.put_bytes(text.as_bytes());
            }
            Self::Data { channel, seq, first, last, bytes } => {
                put_sequenced(out, 0x12, *channel, *seq);
                out.put_u8(if first.is_some() { FIRST } else { 0 } | if *last { LAST } else { 0 });
                if let Some(total) = first {
                    out.put_varint(*total);
                }
                out.put_bytes(bytes);
            }
            Self::Ack { channel, next } => put_sequenced(out, 0x20, *channel, *next),
            Self::Ping { id } => {
                out.put_u8(0x21);
                out.put_varint(*id);
            }
            Self::Pong { id } => {
                out.put_u8(0x22);
                out.put_varint(*id);
            }
        }
    }

    /// Reads the next frame; `None` at the padding or the end of the record.
    pub fn decode(r: &mut Reader<'a>) -> Result<Option<Self>, DecodeError> {
        if r.is_empty() {
            return Ok(None);
        }
        Ok(Some(match r.u8()? {
            0x00 => {
                // A byte hidden in the padding would be a channel nobody looks at.
                return if r.rest().iter().all(|byte| *byte == 0) {
                    Ok(None)
                } else {
                    Err(DecodeError::Invalid { field: "padding" })
                };
            }
            0x01 => Self::Open,
            0x02 => Self::Opened { session: SessionId(r.array()?) },
            0x03 => Self::Resume { session: SessionId(r.array()?), received: received(r)? },
            0x04 => Self::Resumed { received: received(r)? },
            0x05 => Self::Gap { reason: GapReason::from_number(r.u8()?) },
            0x06 => Self::Bye { reason: ByeReason::from_number(r.u8()?), reconnect_in_ms: r.varint()? },
            0x10 => Self::ChannelOpen {
                channel: r.varint()?,
                seq: r.varint()?,
                environment: r.text("environment", MAX_ENVIRONMENT)?,
            },
            0x11 => Self::ChannelClose {
                channel: r.varint()?,
                seq: r.varint()?,
                reason: ChannelCloseReason::from_number(r.u8()?),
                text: r.text("close text", MAX_CLOSE_TEXT)?,
            },
            0x12 => {
                let (channel, seq, flags) = (r.varint()?, r.varint()?, r.u8()?);
                if flags & !(FIRST | LAST) != 0 {
                    return Err(DecodeError::Invalid { field: "data flags" });
                }
                let first = if flags & FIRST != 0 { Some(r.varint()?) } else { None };
                let bytes = r.bytes("fragment", usize::from(u16::MAX))?;
                Self::Data { channel, seq, first, last: flags & LAST != 0, bytes }
            }
            0x20 => Self::Ack { channel: r.varint()?, next: r.varint()? },
            0x21 => Self::Ping { id: r.varint()? },
            0x22 => Self::Pong { id: r.varint()? },
            tag => return Err(DecodeError::UnknownTag { tag }),
        }))
    }
}

/// Bytes that a data frame needs besides its fragment.
pub(crate) fn data_overhead(channel: ChannelNumber, seq: u64, first: Option<u64>, fragment: usize) -> usize {
    2 + varint_len(channel) + varint_len(seq) + first.map_or(0, varint_len) + varint_len(fragment as u64)
}

fn put_sequenced(out: &mut Vec<u8>, tag: u8, channel: ChannelNumber, seq: u64) {
    out.put_u8(tag);
    out.put_varint(channel);
    out.put_varint(seq);
}

fn put_received(out: &mut Vec<u8>, received: &[(ChannelNumber, u64)]) {
    out.put_varint(received.len() as u64);
    for (channel, next) in received {
        out.put_varint(*channel);
        out.put_varint(*next);
    }
}

fn received(r: &mut Reader<'_>) -> Result<Vec<(ChannelNumber, u64)>, DecodeError> {
    let count = r.varint()?;
    let limit = MAX_RESUME_CHANNELS as u64;
    if count > limit {
        return Err(DecodeError::TooLong { field: "resume list", length: count, limit });
    }
    (0..count).map(|_| Ok((r.varint()?, r.varint()?))).collect()
}
