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

use quinn::{ConnectionError, Incoming, VarInt};
use reachback_proto::endpoint::Endpoint;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::task::TaskTracker;

use crate::door::Door;
use crate::limits::{Limit, ms};
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
const STREAMS_AT_FIRST: usize = 8;

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

/// Serves a connection until it ends.
async fn serve(state: Arc<State>, incoming: Incoming, peer: Arc<Connection>) {
    let limits = state.limits();
    let unproven = Instant::now() + ms(limits.unproven_ms);
    let Ok(handshake) = incoming.accept() else { return };
    let put_out = peer.place.put_out();
    let handshake = timeout(ms(limits.tls_handshake_ms), handshake);
    let quic = match put_out.run_until_cancelled(handshake).await {
        Some(Ok(Ok(quic))) => quic,
        Some(Ok(Err(error))) => return tracing::debug!(how = how(&error), "a QUIC handshake failed"),
        Some(Err(_)) => return state.metrics.limit(Limit::TlsHandshake),
        None => return,
    };
    tracing::debug!("a QUIC connection is open");
    let streams = TaskTracker::new();
    // It is asked below whether there are any; more may come.
    streams.close();
    let mut is_welcome = false;
    let mut room = 0;
    loop {
        let unused = async {
            streams.wait().await;
            sleep(ms(limits.hello_ms)).await;
        };
        tokio::select! {
            biased;
            () = state.lifecycle.soft().cancelled() => break,
            () = put_out.cancelled() => return quic.close(DONE, b""),
            () = peer.welcomed(), if !is_welcome => {
                is_welcome = true;
                quic.set_receive_window(RECEIVE_WINDOW);
                room = more_streams(&quic, &state, STREAMS_AT_FIRST);
            }
            stream = quic.accept_bi() => match stream {
                Ok((send, receive)) => {
                    let stream = Stream::new(send, receive, streams.token());
                    let from = quic.remote_address().ip();
                    state.lifecycle.spawn(open(state.clone(), stream, peer.clone(), from));
                    if is_welcome && streams.len() > room / 2 {
                        room = more_streams(&quic, &state, room * 2);
                    }
                }
                Err(error) => return tracing::debug!(how = how(&error), "a QUIC connection ended"),
            },
            () = sleep_until(unproven), if !is_welcome => {
                state.metrics.limit(Limit::UnprovenTime);
                break;
            }
            () = unused => break,
        }
    }
    // Each says goodbye for itself.
    streams.wait().await;
    quic.close(DONE, b"");
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

/// Serves a stream: a link, once its first byte has said what for.
async fn open(state: Arc<State>, mut stream: Stream, peer: Arc<Connection>, from: IpAddr) {
    let Ok(first) = timeout(ms(state.limits().hello_ms), stream.first_byte()).await else {
        return state.metrics.limit(Limit::Hello);
    };
    let Some(endpoint) = first.and_then(Endpoint::from_byte) else {
        return tracing::debug!("a QUIC stream is for nothing that this relay knows");
    };
    let link = ws::accept(stream, state.limits().hello_bytes, endpoint, peer).await;
    tunnel::serve(state, link, endpoint, from).await;
}
