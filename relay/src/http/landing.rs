//! The page a person sees who opens the relay's address, or scans a pairing code with a camera app.
//!
//! A pairing code is an address with a secret behind the `#`. Browsers don't send
//! that part, and the page's script removes it from the address bar and the
//! history at once. Nothing here pairs or uses a code up, and nothing comes from
//! elsewhere: the policy allows this page's own style and script only.

use std::sync::Arc;

use axum::Router;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use reachback_proto::ids::RelayId;
use url::Url;

use crate::state::State;

const HTML: &str = include_str!("../../assets/landing.html");
const CSS: &str = include_str!("../../assets/landing.css");
const JS: &str = include_str!("../../assets/landing.js");

const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

/// The page, with this relay's address in it.
pub(crate) struct Page(String);

impl Page {
    /// `url` is an origin, whose text needs no escaping in HTML.
    pub(crate) fn new(url: &Url, fingerprint: &RelayId) -> Self {
        let origin = url.origin().ascii_serialization();
        Self(HTML.replace("{{origin}}", &origin).replace("{{fingerprint}}", &fingerprint.to_string()))
    }
}

/// `/`, `/landing.css` and `/landing.js`.
pub(super) fn routes(page: Page) -> Router<Arc<State>> {
    let page: Arc<str> = page.0.into();
    Router::new()
        .route("/", get(move || async move { asset("text/html; charset=utf-8", page.to_string()) }))
        .route("/landing.css", get(async || asset("text/css; charset=utf-8", CSS)))
        .route("/landing.js", get(async || asset("text/javascript; charset=utf-8", JS)))
}

fn asset(kind: &'static str, body: impl IntoResponse) -> Response {
    let headers: [(HeaderName, &'static str); 5] = [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, body).into_response()
}
