//! Health and metrics, for the machines that watch the relay.

use std::sync::Arc;

use axum::extract::{Extension, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::peer::Peer;
use crate::state::State;

/// The process is up.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// New links are welcome: the database answers and the relay is not stopping.
pub(super) async fn readyz(Shared(state): Shared<Arc<State>>) -> Response {
    if state.lifecycle.soft().is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response();
    }
    match state.store.check().await {
        Ok(()) => "ready\n".into_response(),
        Err(error) => {
            tracing::error!(%error, "not ready");
            (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n").into_response()
        }
    }
}

/// Counters; for this machine and those that the configuration names.
pub(super) async fn metrics(
    Shared(state): Shared<Arc<State>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
) -> Response {
    // A proxy on this machine brings the whole world in over loopback, and says so.
    let forwarded = ["forwarded", "via", "x-forwarded-for"].iter().any(|name| headers.contains_key(*name));
    let is_for_them = state.config.shows_metrics_to(peer.address.ip()) && !forwarded;
    if !state.config.public_metrics && !is_for_them {
        let what = "Metrics are for this machine only; `metrics_from` and `public_metrics` change that.\n";
        return (StatusCode::FORBIDDEN, what).into_response();
    }
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], state.metrics.text()).into_response()
}
