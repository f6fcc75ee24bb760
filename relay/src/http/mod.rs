//! The HTTP side: a page for people, health and metrics, and the way in for links.
//!
//! Requests must be addressed to a name of this relay (else 421), so that a web
//! page whose name was pointed here can't use a visitor's browser to talk to it.

mod links;
mod pages;
mod proxied;
mod status;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State as Shared};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};

use reachback_proto::endpoint::Endpoint;

use crate::state::State;

/// Everything the relay serves. `page` is shown at `/`.
pub(crate) fn router(state: Arc<State>, page: pages::Page) -> Router {
    let named = Router::new()
        .route(Endpoint::Host.path(), any(links::host))
        .route(Endpoint::HostData.path(), any(links::host_data))
        .route(Endpoint::Device.path(), any(links::device))
        .route("/metrics", get(status::metrics))
        .merge(pages::routes(page))
        .fallback(not_found)
        .layer(from_fn_with_state(state.clone(), check_name));
    // Probes of a container platform address an IP that nobody configured.
    Router::new()
        .route("/healthz", get(status::healthz))
        .route("/readyz", get(status::readyz))
        .merge(named)
        .with_state(state)
}

pub(crate) use pages::Page;

async fn check_name(Shared(state): Shared<Arc<State>>, request: Request, next: Next) -> Response {
    let named = request.uri().authority().map(ToString::to_string);
    let header = request.headers().get(header::HOST).and_then(|value| value.to_str().ok());
    match named.as_deref().or(header) {
        Some(authority) if state.names.answers_to(authority) => next.run(request).await,
        _ => {
            let what = "This relay is not configured for that name. Add it to `names`, or set the public URL.\n";
            (StatusCode::MISDIRECTED_REQUEST, what).into_response()
        }
    }
}

async fn not_found() -> Response {
    pages::nothing_here()
}
