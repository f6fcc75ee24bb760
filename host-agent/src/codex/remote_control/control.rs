//! What remote control asks its backend: to enrol, to pair, who may connect, and the socket.
//!
//! Two kinds of bearer come here. Enrolling, refreshing and the list of clients
//! come with the person's sign-in at the vendor, of which it is only looked at
//! whether it is there: the secret path is what lets Codex in. Pairing and the
//! socket come with a token that this agent gave.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use futures_util::future::BoxFuture;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::timeout;

use super::enrolment::{Grant, GrantError};
use super::envelope;
use super::http::{Cursor, NOT_FOUND, Shared, detail};
use crate::state::remote_control::{MAX_ID, is_id};
use crate::state::timestamp::Timestamp;

/// What Codex has to speak.
const PROTOCOL: &str = "3";
/// Largest message on the socket: with room above what Codex writes, as one that is refused ends the socket for all.
const MAX_ENVELOPE: usize = 4 * envelope::MAX_ENVELOPE;
/// How long a request may take, with what the agent does for it. Codex waits for 30 s.
const ANSWER_TIME: Duration = Duration::from_secs(25);
/// Clients in one answer, where Codex does not say.
const PAGE: usize = 50;
/// Clients in one answer at most.
const MAX_PAGE: usize = 100;

/// What the agent does for those who use Codex's own ways to pair and to list.
pub trait Host: Send + Sync {
    /// Opens a pairing.
    fn pair(&self) -> BoxFuture<'_, Result<PairingCode, Unavailable>>;

    /// Whether a device took that code.
    fn claimed<'a>(&'a self, code: &'a str) -> BoxFuture<'a, bool>;

    /// At most `limit` of those who may connect, after `cursor`.
    fn clients<'a>(&'a self, limit: usize, cursor: Option<&'a str>) -> BoxFuture<'a, Result<ClientPage, Unavailable>>;

    /// Keeps a client out from now on; false where there is none of that id.
    fn revoke<'a>(&'a self, client_id: &'a str) -> BoxFuture<'a, Result<bool, Unavailable>>;
}

/// Why the agent can't do that now, for the person who asked Codex for it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(pub String);

/// An open pairing.
#[derive(Clone, Serialize)]
pub struct PairingCode {
    /// For a QR code.
    pub pairing_code: String,
    /// To type.
    pub manual_pairing_code: String,
    /// When it ends.
    pub expires_at: Timestamp,
}

impl fmt::Debug for PairingCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PairingCode(…, until {})", self.expires_at)
    }
}

/// Some of those who may connect.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ClientPage {
    /// In an order that stays.
    pub items: Vec<Client>,
    /// Where the next ones begin; `None` after the last.
    pub cursor: Option<String>,
}

/// One who may connect, as Codex shows them.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Client {
    /// Which one.
    pub client_id: String,
    /// Its name.
    pub display_name: Option<String>,
    /// Phone, laptop.
    pub device_type: Option<String>,
    /// Of its system.
    pub platform: Option<String>,
    /// Of its system.
    pub os_version: Option<String>,
    /// Of its maker.
    pub device_model: Option<String>,
    /// Of its client.
    pub app_version: Option<String>,
    /// When it was connected last.
    pub last_seen_at: Option<Timestamp>,
}

/// The endpoints, below `chatgpt_base_url`.
pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/wham/remote/control/server/enroll", post(enroll))
        .route("/wham/remote/control/server/refresh", post(refresh))
        .route("/wham/remote/control/server/pair", post(pair))
        .route("/wham/remote/control/server/pair/status", post(pair_status))
        .route("/wham/remote/control/environments/{environment}/clients", get(clients))
        .route("/wham/remote/control/environments/{environment}/clients/{client}", delete(revoke))
        .route("/wham/remote/control/server", get(server))
        .route_layer(from_fn(in_time))
}

async fn in_time(request: Request, next: Next) -> Response {
    match timeout(ANSWER_TIME, next.run(request)).await {
        Ok(response) => response,
        Err(_) => detail(StatusCode::REQUEST_TIMEOUT, "This took too long"),
    }
}

type Answer = Result<Response, Refusal>;

/// A status, and what it is about in words. Nothing of the request is in it.
struct Refusal(StatusCode, Cow<'static, str>);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        detail(self.0, &self.1)
    }
}

#[derive(Deserialize)]
struct Enroll {
    installation_id: String,
}

async fn enroll(shared: State<Arc<Shared>>, headers: HeaderMap, body: Result<Bytes, BytesRejection>) -> Answer {
    signed_in(&headers)?;
    let Enroll { installation_id } = read(body)?;
    let installation = checked(&installation_id)?;
    granted(shared.parts.enrolment.enroll(installation, (shared.parts.clock)()))
}

#[derive(Deserialize)]
struct Refresh {
    server_id: String,
    installation_id: String,
}

async fn refresh(shared: State<Arc<Shared>>, headers: HeaderMap, body: Result<Bytes, BytesRejection>) -> Answer {
    signed_in(&headers)?;
    let Refresh { server_id, installation_id } = read(body)?;
    let installation = checked(&installation_id)?;
    granted(shared.parts.enrolment.refresh(&server_id, installation, (shared.parts.clock)()))
}

fn granted(grant: Result<Grant, GrantError>) -> Answer {
    match grant {
        Ok(grant) => Ok(Json(json!({
            "server_id": grant.server_id,
            "environment_id": grant.environment_id,
            "remote_control_token": grant.token.expose(),
            "expires_at": grant.expires_at,
        }))
        .into_response()),
        Err(GrantError::Unknown) => Err(no_such_server()),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "codex could not be enrolled for remote control");
            Err(refusal(StatusCode::SERVICE_UNAVAILABLE, "The agent could not write that down; its log says why"))
        }
    }
}

#[derive(Deserialize)]
struct Status {
    #[serde(alias = "pairing_code")]
    manual_pairing_code: String,
}

async fn pair(shared: State<Arc<Shared>>, headers: HeaderMap) -> Answer {
    holds_token(&shared, &headers)?;
    let code = shared.parts.host.pair().await.map_err(unavailable)?;
    let (server_id, environment_id) = shared.parts.enrolment.ids();
    let PairingCode { pairing_code, manual_pairing_code, expires_at } = code;
    let answer = json!({
        "pairing_code": pairing_code,
        "manual_pairing_code": manual_pairing_code,
        "server_id": server_id,
        "environment_id": environment_id,
        "expires_at": expires_at,
    });
    Ok(Json(answer).into_response())
}

async fn pair_status(shared: State<Arc<Shared>>, headers: HeaderMap, body: Result<Bytes, BytesRejection>) -> Answer {
    holds_token(&shared, &headers)?;
    let Status { manual_pairing_code } = read(body)?;
    let claimed = shared.parts.host.claimed(&manual_pairing_code).await;
    Ok(Json(json!({ "claimed": claimed })).into_response())
}

async fn clients(shared: State<Arc<Shared>>, Path(environment): Path<String>, headers: HeaderMap, uri: Uri) -> Answer {
    signed_in(&headers)?;
    is_ours(&shared, &environment)?;
    let (mut limit, mut cursor) = (PAGE, None);
    for (name, value) in url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
        match &*name {
            "limit" => limit = value.parse().map_err(|_| bad("limit is no number"))?,
            "cursor" if value.len() <= MAX_ID => cursor = Some(value.into_owned()),
            "cursor" => return Err(bad("cursor is none of ours")),
            _ => {}
        }
    }
    let limit = limit.clamp(1, MAX_PAGE);
    let page = shared.parts.host.clients(limit, cursor.as_deref()).await.map_err(unavailable)?;
    Ok(Json(page).into_response())
}

async fn revoke(
    shared: State<Arc<Shared>>,
    Path((environment, client)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer {
    signed_in(&headers)?;
    is_ours(&shared, &environment)?;
    match shared.parts.host.revoke(&client).await.map_err(unavailable)? {
        true => Ok(Json(json!({})).into_response()),
        false => Err(nothing_here()),
    }
}

async fn server(
    shared: State<Arc<Shared>>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Answer {
    if shared.stop.is_cancelled() {
        return Err(refusal(StatusCode::SERVICE_UNAVAILABLE, "The agent is stopping"));
    }
    holds_token(&shared, &headers)?;
    if !text(&headers, "x-codex-server-id").is_some_and(|id| shared.parts.enrolment.is_server(id)) {
        return Err(no_such_server());
    }
    if text(&headers, "x-codex-protocol-version") != Some(PROTOCOL) {
        return Err(bad("This agent speaks version 3 of the remote control protocol: use a Codex that does too"));
    }
    let cursor = match headers.get("x-codex-subscribe-cursor").map(|value| value.to_str()) {
        None => None,
        Some(Ok(cursor)) if cursor.len() <= MAX_ID => Some(Cursor(cursor.to_owned())),
        Some(_) => return Err(bad("x-codex-subscribe-cursor is none of ours")),
    };
    let upgrade = upgrade.map_err(|_| refusal(StatusCode::UPGRADE_REQUIRED, "This is a WebSocket endpoint"))?;
    let State(shared) = shared;
    // The library spawns what follows: it is counted, and ends with the server.
    let counted = shared.open.token();
    let answer =
        upgrade.max_message_size(MAX_ENVELOPE).max_frame_size(MAX_ENVELOPE).on_upgrade(move |socket| async move {
            tokio::select! {
                () = shared.stop.cancelled() => {}
                () = (shared.parts.sockets)(socket, cursor) => {}
            }
            drop(counted);
        });
    Ok(answer)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = text(headers, header::AUTHORIZATION.as_str())?.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// That Codex is signed in; as whom is not looked at.
fn signed_in(headers: &HeaderMap) -> Result<(), Refusal> {
    bearer(headers).map(|_| ()).ok_or_else(unauthorized)
}

fn holds_token(shared: &Shared, headers: &HeaderMap) -> Result<(), Refusal> {
    let is_ours = |token: &str| shared.parts.enrolment.admits(token, (shared.parts.clock)());
    bearer(headers).is_some_and(is_ours).then_some(()).ok_or_else(unauthorized)
}

fn is_ours(shared: &Shared, environment: &str) -> Result<(), Refusal> {
    shared.parts.enrolment.is_environment(environment).then_some(()).ok_or_else(nothing_here)
}

fn checked(installation: &str) -> Result<&str, Refusal> {
    is_id(installation).then_some(installation).ok_or_else(|| bad("installation_id is no id"))
}

/// What a body says. What is wrong with it is not quoted.
fn read<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, Refusal> {
    let body = body.map_err(|rejected| refusal(rejected.status(), "The body could not be read"))?;
    serde_json::from_slice(&body).map_err(|_| bad("The body is not what this endpoint takes"))
}

fn refusal(status: StatusCode, what: &'static str) -> Refusal {
    Refusal(status, Cow::Borrowed(what))
}

fn bad(what: &'static str) -> Refusal {
    refusal(StatusCode::BAD_REQUEST, what)
}

fn unauthorized() -> Refusal {
    refusal(StatusCode::UNAUTHORIZED, "Unauthorized")
}

fn nothing_here() -> Refusal {
    refusal(StatusCode::NOT_FOUND, NOT_FOUND)
}

/// In these words Codex understands that it has to enrol anew.
fn no_such_server() -> Refusal {
    refusal(StatusCode::NOT_FOUND, "Remote app server not found")
}

fn unavailable(why: Unavailable) -> Refusal {
    Refusal(StatusCode::SERVICE_UNAVAILABLE, Cow::Owned(why.0))
}
