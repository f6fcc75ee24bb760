//! Accepting connections.
//!
//! One task accepts and spawns one task per connection, which does the TLS
//! handshake and speaks HTTP/1.1 until the connection ends or becomes a link.
//! No error of accept ends it: see [`accepting`](crate::accepting).

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use reachback_proto::control::CIRCUIT_TLS_BUFFER;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tower::Service;

use crate::accepting::Accepting;
use crate::bursts::Bursts;
use crate::door::Door;
use crate::limits::{Limit, ms};
use crate::peer::{Connection, Peer};
use crate::proxy_protocol;
use crate::state::State;

/// Largest HTTP head. Ours have a dozen short headers; proxies add some.
const MAX_HEAD: usize = 16 * 1024;

/// Accepts until the relay stops.
pub(crate) async fn accept(
    state: Arc<State>,
    door: Arc<Door>,
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
) {
    let mut accepting = Accepting::new("peers");
    loop {
        let (stream, address) = tokio::select! {
            () = state.lifecycle.soft().cancelled() => return,
            accepted = accepting.next(|| listener.accept()) => accepted,
        };
        let from = address.ip();
        let is_proxy = state.config.is_trusted_proxy(from);
        // Before a byte is read or a task is made: closing it is all that it costs.
        let entered = match is_proxy || state.attempts.accept(from) {
            true => door.enter(from, is_proxy),
            false => Err(Limit::Accepts),
        };
        let place = match entered {
            Ok(place) => place,
            Err(limit) => {
                state.metrics.limit(limit);
                continue;
            }
        };
        let put_out = place.put_out().clone();
        let connection = Arc::new(Connection::new(place, state.metrics.connection()));
        let peer = Peer { address, connection };
        let serving = serve(state.clone(), stream, tls.clone(), router.clone(), peer);
        state.lifecycle.spawn(async move {
            tokio::select! {
                () = serving => {}
                () = put_out.cancelled() => {}
            }
        });
    }
}

/// Learns from a proxy whom it passes on; false where the connection has to end.
async fn introduce(state: &State, stream: &mut TcpStream, peer: &mut Peer) -> bool {
    let from = match timeout(ms(state.limits().http_head_ms), proxy_protocol::read(stream)).await {
        Ok(Ok(from)) => from,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a proxy did not introduce a connection");
            return false;
        }
        Err(_) => return false,
    };
    let Some(from) = from else { return true };
    peer.address = from;
    peer.connection.place.comes_from(from.ip());
    let may_connect = state.attempts.accept(from.ip());
    if !may_connect {
        state.metrics.limit(Limit::Accepts);
    }
    may_connect
}

/// Serves a connection until it ends or becomes a link.
async fn serve(state: Arc<State>, mut stream: TcpStream, tls: Option<TlsAcceptor>, router: Router, mut peer: Peer) {
    let is_introduced = state.config.proxy_protocol && state.config.is_trusted_proxy(peer.address.ip());
    if is_introduced && !introduce(&state, &mut stream, &mut peer).await {
        return;
    }
    // Small frames go out at once. A socket that refuses the option is dead, which the next read finds.
    let _dead = stream.set_nodelay(true);
    let stream = Bursts::new(stream);
    let Some(tls) = tls else { return speak(&state, stream, router, peer).await };
    match timeout(ms(state.limits().tls_handshake_ms), tls.accept(stream)).await {
        Ok(Ok(mut stream)) => {
            stream.get_mut().1.set_buffer_limit(Some(CIRCUIT_TLS_BUFFER));
            speak(&state, stream, router, peer).await;
        }
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => state.metrics.limit(Limit::TlsHandshake),
    }
}

async fn speak<S>(state: &State, stream: S, router: Router, peer: Peer)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        router.clone().call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(ms(state.limits().http_head_ms))
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let limits = state.limits();
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = state.lifecycle.soft().cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = sleep(ms(limits.unproven_ms)) => {
            state.metrics.limit(Limit::UnprovenTime);
            // An answer on its way is finished, if the peer takes it.
            connection.as_mut().graceful_shutdown();
            match timeout(ms(limits.write_ms), connection).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::trace!(%error, "an HTTP connection failed");
    }
}
