//! What carries a connection to the relay: messages of bytes, both ways.
//!
//! A WebSocket ([`super::ws`]), over TCP or over a stream of a QUIC connection; what it is made of is known there only.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Sink, Stream};
use reachback_proto::close::CloseCode;

/// A connection to the relay: a stream of what arrives, a sink for what is sent. A flush ends once all of it is written.
pub(crate) trait Transport:
    Stream<Item = io::Result<Received>> + Sink<Bytes, Error = io::Error> + Send + Unpin
{
}
impl<T: Stream<Item = io::Result<Received>> + Sink<Bytes, Error = io::Error> + Send + Unpin> Transport for T {}

/// What arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Received {
    /// A frame, or some of a circuit's bytes.
    Bytes(Bytes),
    /// A sign of life of the transport itself.
    Alive,
    /// The relay ended the connection in an orderly way.
    Closed(Closed),
}

/// How the relay ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Closed {
    /// Why.
    pub code: CloseCode,
    /// When to come back, where the relay restarts and says so.
    pub reconnect_in: Option<Duration>,
}
