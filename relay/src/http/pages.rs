//! The page a person sees who opens the relay's address, or scans a pairing code with a camera app.
//!
//! A pairing code is an address with a secret behind the `#`. Browsers don't send
//! that part, and the page's script removes it from the address bar and the
//! history at once. Nothing here pairs or uses a code up, and nothing comes from
//! elsewhere: the policy allows this folder's own files only, and connections to
//! this relay.
//!
//! The files are those of `assets/`, in the program itself; a request can't name
//! anything else.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use data_encoding::HEXLOWER;
use reachback_proto::ids::RelayId;
use rust_embed::{EmbeddedFile, RustEmbed};
use url::Url;

use crate::state::State;

#[derive(RustEmbed)]
#[folder = "assets"]
struct Assets;

const INDEX: &str = "index.html";

/// `'self'` covers WebSockets to the same host and port (Content Security Policy 3, section 6.7.2.8).
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; font-src 'self'; \
                      manifest-src 'self'; worker-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// The page, with this relay's address in it.
pub(crate) struct Page(String);

impl Page {
    /// `url` is an origin, whose text needs no escaping in HTML.
    pub(crate) fn new(url: &Url, fingerprint: &RelayId) -> Self {
        let origin = url.origin().ascii_serialization();
        let html = Assets::get(INDEX).map(|file| String::from_utf8_lossy(&file.data).into_owned());
        let html = html.unwrap_or_default();
        Self(html.replace("{{origin}}", &origin).replace("{{fingerprint}}", &fingerprint.to_string()))
    }
}

/// `/` and the files that it needs.
pub(super) fn routes(page: Page) -> Router<Arc<State>> {
    let page: Arc<str> = page.0.into();
    Router::new()
        .route("/", get(move || async move { with_policy("text/html; charset=utf-8", page.to_string()) }))
        .route("/{*path}", get(async |Path(path): Path<String>, headers: HeaderMap| file(&path, &headers)))
}

fn file(path: &str, headers: &HeaderMap) -> Response {
    // The page itself is at `/`, where its blanks are filled in.
    let Some(EmbeddedFile { data, metadata }) = Assets::get(path).filter(|_| path != INDEX) else {
        return super::nothing_here();
    };
    let tag = format!("\"{}\"", HEXLOWER.encode(&metadata.sha256_hash()[..20]));
    let is_known = headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let mut response =
        if is_known { StatusCode::NOT_MODIFIED.into_response() } else { with_policy(kind(path), data.into_owned()) };
    if let Ok(tag) = HeaderValue::try_from(tag) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

/// The media type of a file, by its name.
fn kind(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("json") => "application/json",
        Some("webmanifest") => "application/manifest+json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("woff2") => "font/woff2",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

fn with_policy(kind: &'static str, body: impl IntoResponse) -> Response {
    let headers: [(HeaderName, &'static str); 5] = [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, body).into_response()
}
