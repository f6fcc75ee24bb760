//! The web app, which a person meets who opens the relay's address, or scans a pairing code with a camera app.
//!
//! A pairing code is an address with a secret behind the `#`. Browsers don't send
//! that part, and the page's first script removes it from the address bar and the
//! history at once. Nothing comes from elsewhere: the policy allows this relay's
//! own files and connections to it, no script or style inside a page, and no text
//! that becomes a script.
//!
//! The files are those of `web/dist`, in the program itself; a request can't name
//! anything else. A relay that was compiled before the app was built has a page
//! that says so instead, from `assets/`.

use std::borrow::Cow;
use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap,
    HeaderName, HeaderValue, IF_NONE_MATCH, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use data_encoding::HEXLOWER;
use reachback_proto::ids::RelayId;
use rust_embed::{EmbeddedFile, RustEmbed};
use url::Url;

use crate::state::State;

/// The built web app; empty where it was not built.
#[derive(RustEmbed)]
#[folder = "../web/dist"]
#[allow_missing = true]
struct App;

/// What is shown without it.
#[derive(RustEmbed)]
#[folder = "assets"]
struct Unbuilt;

const INDEX: &str = "index.html";
/// Files whose names change with their content.
const HASHED: &str = "assets/";
/// Compressed copies that may lie beside a file: what a browser calls it, and how their names end.
const COMPRESSED: [(&str, &str); 2] = [("br", ".br"), ("gzip", ".gz")];

/// `'self'` covers WebSockets to the same host and port (Content Security Policy 3, section 6.7.2.8). The two policies of
/// Trusted Types are that of Svelte, which makes its templates by it, and the one that lets the address of the app's service
/// worker through.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; font-src 'self'; \
                      manifest-src 'self'; worker-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'; require-trusted-types-for 'script'; \
                      trusted-types svelte-trusted-html reachback-worker";
/// The camera reads pairing codes; nothing else is asked for.
const PERMISSIONS: &str = "accelerometer=(), camera=(self), display-capture=(), geolocation=(), gyroscope=(), \
                           magnetometer=(), microphone=(), midi=(), payment=(), serial=(), usb=()";

/// The page, with this relay's address in it.
pub(crate) struct Page(String);

impl Page {
    /// `url` is an origin, whose text needs no escaping in HTML.
    pub(crate) fn new(url: &Url, fingerprint: &RelayId) -> Self {
        Self::of::<App>(url, fingerprint)
    }

    /// Of this app.
    fn of<Built: RustEmbed>(url: &Url, fingerprint: &RelayId) -> Self {
        let origin = url.origin().ascii_serialization();
        let html = found_in::<Built>(INDEX).map(|file| String::from_utf8_lossy(&file.data).into_owned());
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

/// A file of the app, or of what is shown where there is none: never of both.
fn found(path: &str) -> Option<EmbeddedFile> {
    found_in::<App>(path)
}

/// The same, of this app.
fn found_in<Built: RustEmbed>(path: &str) -> Option<EmbeddedFile> {
    if Built::get(INDEX).is_some() { Built::get(path) } else { Unbuilt::get(path) }
}

fn file(path: &str, headers: &HeaderMap) -> Response {
    // The page itself is at `/`, where its blanks are filled in; compressed copies go by the name of what they are of.
    let is_served = path != INDEX && !COMPRESSED.iter().any(|(_, ending)| path.ends_with(ending));
    let Some(plain) = found(path).filter(|_| is_served) else {
        return nothing_here();
    };
    let (EmbeddedFile { data, metadata }, coding) = compressed(path, headers).unwrap_or((plain, None));
    let tag = format!("\"{}\"", HEXLOWER.encode(&metadata.sha256_hash()[..20]));
    let is_known = headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let mut response = with_policy(kind(path), if is_known { Cow::default() } else { data });
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let head = response.headers_mut();
    head.insert(VARY, HeaderValue::from_name(ACCEPT_ENCODING));
    if let Some(coding) = coding {
        head.insert(CONTENT_ENCODING, HeaderValue::from_static(coding));
    }
    if path.starts_with(HASHED) {
        head.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    }
    if let Ok(tag) = HeaderValue::try_from(tag) {
        head.insert(ETAG, tag);
    }
    response
}

/// The smallest copy of the file that this browser can read, if there is one, and its coding.
fn compressed(path: &str, headers: &HeaderMap) -> Option<(EmbeddedFile, Option<&'static str>)> {
    let accepted = headers.get(ACCEPT_ENCODING)?.to_str().ok()?;
    COMPRESSED
        .iter()
        .filter(|(coding, _)| accepts(accepted, coding))
        .find_map(|(coding, ending)| Some((found(&format!("{path}{ending}"))?, Some(*coding))))
}

/// Whether an `Accept-Encoding` names this coding, other than to refuse it.
fn accepts(accepted: &str, coding: &str) -> bool {
    accepted.split(',').any(|entry| {
        let (name, weight) = entry.split_once(';').unwrap_or((entry, ""));
        let weight = weight.trim().strip_prefix("q=").map_or(Ok(1.0), str::parse::<f32>);
        name.trim().eq_ignore_ascii_case(coding) && weight.is_ok_and(|weight| weight > 0.0)
    })
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

/// The answer to what is not served.
pub(super) fn nothing_here() -> Response {
    (StatusCode::NOT_FOUND, "Nothing is here.\n").into_response()
}

fn with_policy(kind: &'static str, body: impl IntoResponse) -> Response {
    let headers: [(HeaderName, &'static str); 8] = [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (HeaderName::from_static("permissions-policy"), PERMISSIONS),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The app of a tree in which nobody has built it.
    #[derive(RustEmbed)]
    #[folder = "../web/no-such-dist"]
    #[allow_missing = true]
    struct NotBuilt;

    #[test]
    fn a_relay_that_was_built_without_the_app_has_a_page_that_names_the_commands() {
        let (relay, fingerprint) = ("http://127.0.0.1:7420".parse().unwrap(), RelayId([7; 32]));
        let Page(html) = Page::of::<NotBuilt>(&relay, &fingerprint);
        for words in
            ["built without its app", "cargo xtask up", "cargo xtask web build", "reachback join http://127.0.0.1:7420"]
        {
            assert!(html.contains(words), "no `{words}` in {html}");
        }
        assert!(html.contains(&fingerprint.to_string()) && !html.contains("{{"), "{html}");
        for file in ["unbuilt.js", "unbuilt.css"] {
            assert!(html.contains(&format!("\"/{file}\"")) && found_in::<NotBuilt>(file).is_some(), "{file}");
        }
        assert!(found_in::<NotBuilt>("sw.js").is_none(), "a worker would keep this page");
    }

    #[test]
    fn a_coding_is_taken_where_it_is_named_and_not_refused() {
        for (accepted, coding, taken) in [
            ("gzip, deflate, br, zstd", "br", true),
            ("gzip;q=1.0, BR;q=0.5", "br", true),
            ("gzip, br;q=0", "br", false),
            ("gzip, br; q=0.000", "br", false),
            ("gzip, br;q=none", "br", false),
            ("brotli", "br", false),
            ("", "gzip", false),
        ] {
            assert_eq!(accepts(accepted, coding), taken, "{accepted}");
        }
    }
}
