//! The agent's loopback address for Codex, where the vendor's backend would be.
//!
//! Other users of the machine reach it too, and so do pages in its browsers and the
//! commands that Codex runs. So a connection has to be of the Codex that is expected
//! ([`callers`](super::callers)), where the system tells; a request has to be addressed to 127.0.0.1 by a program (no `Origin`, no `Sec-Fetch-*`), and to know
//! the secret path; whoever does not learns nothing. The secret alone would not
//! do: Codex has it in its arguments, which all users see.
//! Behind that, [`control`] answers what remote control asks, and the rest goes
//! [`upstream`](super::upstream).
//!
//! Requests hold the person's sign-in at the vendor. Nothing of them is logged,
//! kept, or said again in an answer.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ws::WebSocket;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use futures_util::future::BoxFuture;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use reachback_relay::accepting::Accepting;
use reachback_relay::vital;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use tracing::{Instrument, debug, debug_span, warn};

use super::callers::Callers;
use super::control::{self, Host};
use super::enrolment::Enrolment;
use super::upstream::Upstream;
use crate::state::timestamp::Timestamp;

/// Connections at a time. Codex has a handful; others wait.
const MAX_CONNECTIONS: usize = 64;
/// Requests at a time that are passed on, each with a connection of its own. The other half of the connections is for what is
/// answered here: however long the vendor takes, Codex can enrol.
const MAX_PASSED: usize = MAX_CONNECTIONS / 2;
/// After how many seconds a request that found no place may come again.
const AGAIN: HeaderValue = HeaderValue::from_static("1");
/// How long a request's head may take. A program on the same machine has it ready.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// Largest head. The sign-in in it is a few KiB.
const MAX_HEAD: usize = 64 * 1024;
/// Largest body of what remote control asks: a few ids.
const MAX_BODY: usize = 16 * 1024;
/// How long answers on their way go on after a stop.
const GRACE: Duration = Duration::from_secs(2);

/// What the vendor's backend says of what it does not have. Codex does without.
pub(super) const NOT_FOUND: &str = "Not Found";

/// The paths that are answered here and never passed on begin so, whatever follows.
const CONTROL: [&str; 3] = ["wham", "remote", "control"];

/// Where an envelope stream goes on: what Codex got last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cursor(pub String);

/// Takes over a socket that Codex opened. The future is dropped when the server stops.
pub(super) type Sockets = Arc<dyn Fn(WebSocket, Option<Cursor>) -> BoxFuture<'static, ()> + Send + Sync>;

/// What a server works with.
pub(super) struct Parts {
    /// Where it is, and whom it lets in.
    pub enrolment: Enrolment,
    /// Which programs may speak here at all.
    pub callers: Callers,
    /// Who pairs and lists devices.
    pub host: Arc<dyn Host>,
    /// Who takes over sockets.
    pub sockets: Sockets,
    /// Where everything else goes; `None` answers 404.
    pub upstream: Option<Upstream>,
    /// What time it is.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts")
            .field("enrolment", &self.enrolment)
            .field("upstream", &self.upstream)
            .finish_non_exhaustive()
    }
}

/// What every request is answered from.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) parts: Parts,
    /// Cancelled when no socket is to be opened any more.
    pub(super) stop: CancellationToken,
    /// The sockets that are open.
    pub(super) open: TaskTracker,
    /// Places of requests that are passed on.
    passing: Arc<Semaphore>,
}

/// A request as it comes in, before it is known to be Codex's.
struct Gate {
    /// What its `Host` has to be.
    authority: String,
    shared: Arc<Shared>,
    router: Router,
}

/// Answers Codex until `stop`, then lets answers on their way end for two seconds.
///
/// `listener` is the one that came with the enrolment.
pub(super) async fn serve(parts: Parts, listener: TcpListener, stop: CancellationToken) {
    let authority = format!("127.0.0.1:{}", parts.enrolment.port());
    let passing = Arc::new(Semaphore::new(MAX_PASSED));
    let shared = Arc::new(Shared { parts, stop: stop.clone(), open: TaskTracker::new(), passing });
    let router =
        control::routes().fallback(pass).layer(DefaultBodyLimit::max(MAX_BODY)).with_state(Arc::clone(&shared));
    let gate = Arc::new(Gate { authority, shared: Arc::clone(&shared), router });

    let mut connections = JoinSet::new();
    let mut accepting = Accepting::new("codex's remote control");
    loop {
        let free = connections.len() < MAX_CONNECTIONS;
        tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next() => vital::raise(ended),
            (stream, from) = accepting.next(|| listener.accept()), if free => {
                let gate = Arc::clone(&gate);
                connections.spawn(speak(stream, from, gate).instrument(debug_span!("remote control")));
            }
        }
    }
    drop(listener);
    shared.open.close();
    let ending = async {
        while let Some(ended) = connections.join_next().await {
            vital::raise(ended);
        }
        shared.open.wait().await;
    };
    // Connections that are left are aborted with the set.
    let _ = timeout(GRACE, ending).await;
}

/// One connection, for one request: what waits on loopback costs less than a connection that idles.
async fn speak(stream: TcpStream, from: SocketAddr, gate: Arc<Gate>) {
    let admitted = match stream.local_addr() {
        Ok(to) => gate.shared.parts.callers.admit(from, to).await,
        // It is closed already.
        Err(_) => return,
    };
    if let Err(stranger) = admitted {
        warn!("{stranger} was refused at codex's remote control");
        return;
    }
    // A socket that refuses the option is dead, which the next read finds.
    let _dead = stream.set_nodelay(true);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let gate = Arc::clone(&gate);
        async move { Ok::<_, Infallible>(last(gate.enter(request.map(Body::new)).await)) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if connection.await.is_err() {
        // Why is not said: an error can quote the request.
        debug!("a connection of codex's remote control broke off");
    }
}

/// An answer that ends its connection, unless that becomes a socket.
///
/// The library's own setting for this writes "close" over the "upgrade" of a socket too.
fn last(mut answer: Response) -> Response {
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

impl Gate {
    async fn enter(&self, mut request: Request) -> Response {
        if !self.is_addressed(&request) || is_of_a_page(request.headers()) {
            return StatusCode::FORBIDDEN.into_response();
        }
        let Some(uri) = self.below_the_secret(request.uri()) else {
            return StatusCode::NOT_FOUND.into_response();
        };
        *request.uri_mut() = uri;
        // Routers are always ready, and never fail.
        match self.router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    /// Whether it says that it is for exactly this address: a page whose name was pointed here says its own.
    fn is_addressed(&self, request: &Request) -> bool {
        let mut hosts = request.headers().get_all(header::HOST).iter();
        let is_ours = |host: &str| host == self.authority;
        let named = request.uri().authority().is_none_or(|authority| is_ours(authority.as_str()));
        let header = hosts.next().and_then(|host| host.to_str().ok()).is_some_and(is_ours);
        named && header && hosts.next().is_none()
    }

    /// What is asked for, without the secret in front of it.
    fn below_the_secret(&self, uri: &Uri) -> Option<Uri> {
        let path = uri.path_and_query()?.as_str().strip_prefix('/')?;
        let (prefix, rest) = path.split_once('/')?;
        if !self.shared.parts.enrolment.is_prefix(prefix) {
            return None;
        }
        let rest = rest.strip_prefix("backend-api")?;
        rest.starts_with('/').then(|| rest.parse().ok())?
    }
}

/// Browsers say of each request where it comes from, in one of these ways at least; programs don't.
fn is_of_a_page(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ORIGIN) || headers.keys().any(|name| name.as_str().starts_with("sec-fetch-"))
}

/// What is not remote control's.
async fn pass(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let Some(upstream) = shared.parts.upstream.as_ref().filter(|_| may_pass(request.uri().path())) else {
        return not_found();
    };
    if upstream.is_at(shared.parts.enrolment.port()) {
        return not_found();
    }
    let Ok(place) = Arc::clone(&shared.passing).try_acquire_owned() else {
        debug!("a request of codex was not passed on: there are {MAX_PASSED} already");
        let mut answer = refused(StatusCode::SERVICE_UNAVAILABLE);
        answer.headers_mut().insert(header::RETRY_AFTER, AGAIN);
        return answer;
    };
    match upstream.pass(request, place).await {
        Ok(answer) => answer,
        Err(error) => {
            debug!(error = &error as &dyn std::error::Error, "a request of codex was not passed on");
            refused(error.status())
        }
    }
}

/// Whether a path is not one of remote control, however the other end reads it.
fn may_pass(path: &str) -> bool {
    let path = path.strip_prefix('/').unwrap_or(path);
    let inner = path.strip_suffix('/').unwrap_or(path);
    if !path.is_empty() && inner.split('/').any(leads_elsewhere) {
        return false;
    }
    let mut segments = inner.split('/');
    for word in CONTROL {
        match segments.next() {
            // What it says in other letters is not worth finding out.
            Some(segment) if segment.contains('%') => return false,
            Some(segment) if segment.eq_ignore_ascii_case(word) => {}
            _ => return true,
        }
    }
    false
}

/// Whether a part of a path is none, or makes another path of what is around it.
fn leads_elsewhere(segment: &str) -> bool {
    let decoded = segment.to_ascii_lowercase().replace("%2e", ".").replace("%2f", "/").replace("%5c", "/");
    segment.is_empty() || decoded.split(['/', '\\']).any(|part| part == "." || part == "..")
}

/// An answer as the vendor's backend words it.
pub(super) fn detail(status: StatusCode, text: &str) -> Response {
    (status, Json(json!({ "detail": text }))).into_response()
}

fn not_found() -> Response {
    detail(StatusCode::NOT_FOUND, NOT_FOUND)
}

fn refused(status: StatusCode) -> Response {
    detail(status, status.canonical_reason().unwrap_or_default())
}

#[cfg(test)]
mod tests;
