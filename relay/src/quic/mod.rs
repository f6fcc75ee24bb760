//! QUIC: one connection of a peer, and a stream of it for each link.
//!
//! UDP tells nothing about who sent a packet. So whoever comes without a token that proves its address is sent one
//! (a Retry, RFC 9000 §8.1.2), which takes no memory here and is smaller than what was sent, and has to come again: no
//! handshake is begun, no count is kept, and no other address is held to anything, before that. From then on a
//! connection is one like those over TCP: it takes a token of its address, a place at the [`door`](crate::door), and
//! has so long to prove itself.
//!
//! The first byte of a stream says what it is for ([`Endpoint`]), and the rest is a WebSocket's, so that a link is the
//! same over both. Until one of its streams is let in, a connection has one at a time, and a few KiB in all.

mod connection_ids;
mod endpoint;
mod stream;

use std::net::IpAddr;
use std::sync::Arc;

use futures_util::future::OptionFuture;
use quinn::{ConnectionError, Incoming, VarInt};
use reachback_proto::endpoint::Endpoint;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::task::TaskTracker;

use crate::door::Door;
use crate::limits::{Limit, ms};
use crate::link::Link;
use crate::peer::Connection;
use crate::state::State;
use crate::tunnel;
use crate::tunnel::ws;
pub use endpoint::QuicError;
pub(crate) use endpoint::bind;
use stream::Stream;

/// What all streams of a connection that was let in may have under way to us together: a few dozen that nobody takes
/// do not hold up the others, and nobody has more of our memory.
const RECEIVE_WINDOW: VarInt = VarInt::from_u32(32 * 1024 * 1024);

/// The code of a connection that was closed: why, its links were told.
const DONE: VarInt = VarInt::from_u32(0);

/// Data connections that a host dials at once, beside those that carry circuits or wait.
const DIALS: usize = 16;

/// Streams that a connection may have at once once it was let in; twice as many whenever half of them are there. quinn keeps
/// an entry in two tables for each that may come, some 70 bytes: 11 KiB for all that a host may have, which most never need.
/// A table has a power of two of places and leaves an eighth of them free, so one more would make both twice as large.
const STREAMS_AT_FIRST: usize = 7;

/// Accepts until the relay stops.
pub(crate) async fn accept(state: Arc<State>, door: Arc<Door>, endpoint: quinn::Endpoint) {
    loop {
        let incoming = tokio::select! {
            () = state.lifecycle.soft().cancelled() => return,
            Some(incoming) = endpoint.accept() => incoming,
            else => {
                tracing::error!("the system took the QUIC socket away");
                return;
            }
        };
        if !incoming.remote_address_validated() {
            // One that may not be sent a second token has shown one that is worth nothing.
            let _worthless = incoming.retry();
            continue;
        }
        let from = incoming.remote_address().ip();
        let is_proxy = state.config.is_trusted_proxy(from);
        let entered = match is_proxy || state.attempts.accept(from) {
            true => door.enter(from, is_proxy),
            false => Err(Limit::Accepts),
        };
        match entered {
            Ok(place) => {
                let connection = Arc::new(Connection::new(place, state.metrics.connection()));
                state.lifecycle.spawn(serve(state.clone(), incoming, connection));
            }
            Err(limit) => {
                state.metrics.limit(limit);
                incoming.refuse();
            }
        }
    }
}

/// Serves a connection until it ends. What it begins with is on the heap and goes when it has begun: most connections wait for
/// hours, and a future has the room of the largest part that it awaits for as long as it lives.
fn serve(state: Arc<State>, incoming: Incoming, peer: Arc<Connection>) -> impl Future<Output = ()> + Send {
    let handshake = Box::pin(shake_hands(state.clone(), incoming, peer.clone()));
    let until = Instant::now() + ms(state.limits().unproven_ms);
    let mut stranger = Some(Box::pin(stranger(peer.clone(), until)));
    async move {
        let Some(quic) = handshake.await else { return };
        let streams = TaskTracker::new();
        // It is asked below whether there are any; more may come.
        streams.close();
        let mut room = 0;
        loop {
            let unused = async {
                streams.wait().await;
                Box::pin(sleep(ms(state.limits().hello_ms))).await;
            };
            tokio::select! {
                biased;
                () = state.lifecycle.soft().cancelled() => break,
                Some(ended) = OptionFuture::from(stranger.as_mut()) => match ended {
                    Stranger::LetIn => {
                        stranger = None;
                        quic.set_receive_window(RECEIVE_WINDOW);
                        room = more_streams(&quic, &state, STREAMS_AT_FIRST);
                    }
                    Stranger::PutOut => return quic.close(DONE, b""),
                    Stranger::Late => {
                        state.metrics.limit(Limit::UnprovenTime);
                        break;
                    }
                },
                stream = quic.accept_bi() => match stream {
                    Ok((send, receive)) => {
                        let stream = Stream::new(send, receive, streams.token());
                        let from = quic.remote_address().ip();
                        state.lifecycle.spawn(open(state.clone(), stream, peer.clone(), from));
                        if stranger.is_none() && streams.len() > room / 2 {
                            room = more_streams(&quic, &state, room * 2);
                        }
                    }
                    Err(error) => return tracing::debug!(how = how(&error), "a QUIC connection ended"),
                },
                () = unused => break,
            }
        }
        // Each says goodbye for itself.
        streams.wait().await;
        quic.close(DONE, b"");
    }
}

/// A connection with whoever comes; `None` where there is none in time.
async fn shake_hands(state: Arc<State>, incoming: Incoming, peer: Arc<Connection>) -> Option<quinn::Connection> {
    let handshake = timeout(ms(state.limits().tls_handshake_ms), incoming.accept().ok()?);
    match peer.place.put_out().run_until_cancelled(handshake).await? {
        Ok(Ok(quic)) => {
            tracing::debug!("a QUIC connection is open");
            return Some(quic);
        }
        Ok(Err(error)) => tracing::debug!(how = how(&error), "a QUIC handshake failed"),
        Err(_) => state.metrics.limit(Limit::TlsHandshake),
    }
    None
}

/// How a peer's time as a stranger ends.
enum Stranger {
    LetIn,
    /// A newcomer has taken its place.
    PutOut,
    /// It had time to prove itself, and did not.
    Late,
}

async fn stranger(peer: Arc<Connection>, until: Instant) -> Stranger {
    let put_out = peer.place.put_out();
    tokio::select! {
        biased;
        // Who was put out in this very moment is out.
        () = peer.welcomed() => if put_out.is_cancelled() { Stranger::PutOut } else { Stranger::LetIn },
        () = put_out.cancelled() => Stranger::PutOut,
        () = sleep_until(until) => Stranger::Late,
    }
}

/// How a connection ended. What its peer gave as a reason is the peer's text, and stays out of the log.
fn how(error: &ConnectionError) -> &'static str {
    match error {
        ConnectionError::VersionMismatch => "no version in common",
        ConnectionError::TransportError(_) => "the peer broke the rules of QUIC or TLS",
        ConnectionError::ConnectionClosed(_) => "the peer gave up",
        ConnectionError::ApplicationClosed(_) => "closed by the peer",
        ConnectionError::Reset => "the peer does not know it any more",
        ConnectionError::TimedOut => "silence",
        ConnectionError::LocallyClosed => "closed here",
        ConnectionError::CidsExhausted => "connection ids are used up",
    }
}

/// Lets a peer have so many streams, as far as a host may; how many that are.
fn more_streams(quic: &quinn::Connection, state: &State, wanted: usize) -> usize {
    let limits = state.limits();
    // Its control connection, its circuits, and those that are to become one.
    let most = limits.circuits_per_host.saturating_add(limits.spares_per_host).saturating_add(1 + DIALS);
    let room = wanted.min(most);
    quic.set_max_concurrent_bi_streams(u32::try_from(room).unwrap_or(u32::MAX).into());
    room
}

/// Serves a stream: a link, once its first byte has said what for. How it becomes one is on the heap, as in [`serve`].
fn open(state: Arc<State>, stream: Stream, peer: Arc<Connection>, from: IpAddr) -> impl Future<Output = ()> + Send {
    let link = Box::pin(link(state.clone(), stream, peer));
    async move {
        if let Some((endpoint, link)) = link.await {
            tunnel::serve(state, link, endpoint, from).await;
        }
    }
}

/// What a stream is for, and the link on it; `None` where it does not say so in time.
async fn link(state: Arc<State>, mut stream: Stream, peer: Arc<Connection>) -> Option<(Endpoint, Link)> {
    let Ok(first) = timeout(ms(state.limits().hello_ms), stream.first_byte()).await else {
        state.metrics.limit(Limit::Hello);
        return None;
    };
    let Some(endpoint) = first.and_then(Endpoint::from_byte) else {
        tracing::debug!("a QUIC stream is for nothing that this relay knows");
        return None;
    };
    Some((endpoint, ws::accept(stream, state.limits().hello_bytes, endpoint, peer).await))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::room;

    #[test]
    fn a_connection_that_only_waits_takes_no_room_for_how_it_began() {
        let rooms = [
            ("connection", 384, room(|(state, incoming, peer)| serve(state, incoming, peer))),
            ("stream", 192, room(|(state, stream, peer, from)| open(state, stream, peer, from))),
        ];
        for (what, most, room) in rooms {
            assert!(room <= most, "the future of a QUIC {what} takes {room} bytes for as long as it is there");
        }
    }
}
