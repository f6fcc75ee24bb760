//! The endpoints where hosts and devices open links: WebSocket upgrades.

use std::sync::Arc;

use axum::extract::{Extension, Request, State as Shared};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::TokioIo;
use reachback_proto::endpoint::Endpoint;

use super::proxied;
use crate::peer::Peer;
use crate::state::State;
use crate::tunnel;
use crate::tunnel::ws;

/// `/v1/host`
pub(super) async fn host(state: Shared<Arc<State>>, peer: Extension<Peer>, request: Request) -> Response {
    open(state, peer, request, Endpoint::Host)
}

/// `/v1/host/data`
pub(super) async fn host_data(state: Shared<Arc<State>>, peer: Extension<Peer>, request: Request) -> Response {
    open(state, peer, request, Endpoint::HostData)
}

/// `/v1/device`
pub(super) async fn device(state: Shared<Arc<State>>, peer: Extension<Peer>, request: Request) -> Response {
    open(state, peer, request, Endpoint::Device)
}

/// The upgrade is answered and awaited here, not by axum's extractor: that one spawns a task that nobody
/// owns, and hides the stream below the WebSocket, where strangers' bytes are counted.
fn open(
    Shared(state): Shared<Arc<State>>,
    Extension(peer): Extension<Peer>,
    mut request: Request,
    endpoint: Endpoint,
) -> Response {
    if !trusted_origin(&state, &request) {
        return (StatusCode::FORBIDDEN, "Pages of other origins can't open links.\n").into_response();
    }
    let response = match ws::upgrade(&request) {
        Ok(response) => response,
        Err(error) => {
            tracing::debug!(%error, "not a WebSocket handshake");
            let what = "This is a WebSocket endpoint of Reachback.\n";
            return (StatusCode::UPGRADE_REQUIRED, [(header::UPGRADE, "websocket")], what).into_response();
        }
    };
    let from = proxied::origin(&state.config, peer.address.ip(), request.headers());
    peer.connection.place.comes_from(from);
    let upgrade = hyper::upgrade::on(&mut request);
    let shared = state.clone();
    state.lifecycle.spawn(async move {
        let Ok(stream) = upgrade.await else { return };
        let hello_bytes = shared.limits().hello_bytes;
        let link = ws::accept(TokioIo::new(stream), hello_bytes, endpoint, peer.connection).await;
        tunnel::serve(shared, link, endpoint, from).await;
    });
    response
}

/// Programs send no origin; browsers do, and can't lie about it.
fn trusted_origin(state: &State, request: &Request) -> bool {
    let Some(origin) = request.headers().get(header::ORIGIN) else { return true };
    let host = request.headers().get(header::HOST).and_then(|value| value.to_str().ok());
    origin.to_str().is_ok_and(|origin| state.names.trusts_origin(origin, host.unwrap_or_default()))
}
