//! Channel 0: the agent's own JSON-RPC API.
//!
//! | method | scope | result |
//! |---|---|---|
//! | `host/read` | view | `{apiVersion, features, limits, now, hostId, hostName, relays: [{url, key}], agentVersion, deviceId, scope, codex: {state, version?, adapter?, reason?, fix?}}` |
//! | `environment/list` | view | `{data: [{name, state}]}` |
//! | `device/list` | admin | `{data: [{deviceId, name, platform, scope, paused, expired, addedAt, lastSeen, connected}]}` |
//!
//! and the notification `host/changed` (same members as `host/read`) when Codex's state, the device's scope or the
//! relay's key changes.
//!
//! `host/read` is how two builds of different age meet: a client looks for a name in `features` and never compares
//! versions; it ignores members that it does not know, and so does the agent in `params`. A client that takes less than
//! the largest message says so in `params.largestMessage` (bytes), and larger answers are refused in words from then on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use reachback_proto::ids::{DeviceId, HostId, PublicKey};
use reachback_proto::scope::Scope;
use reachback_proto::session::{MAX_MESSAGE_TO_DEVICE, MAX_MESSAGE_TO_HOST, SessionLimits};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::environments::Environments;
use super::sessions::{DETACHED_LIMIT, MAX_PER_DEVICE, Sessions};
use crate::codex::CodexState;
use crate::firewall::unread;
use crate::session::{ChannelHandle, ChannelSender, Incoming};
use crate::state::devices::DeviceStore;

/// A device may not ask for this; the same number as the firewall's.
const REFUSED: i32 = -32010;
/// JSON-RPC's numbers.
const INVALID_REQUEST: i32 = -32600;
const METHOD_NOT_FOUND: i32 = -32601;
/// A request of the API is small; nothing larger is parsed.
const MAX_REQUEST: usize = 64 * 1024;

/// Of what stands here. It grows when something that is here means something else, and then both are served for a while.
const API_VERSION: u32 = 1;
/// What a client may ask for beside `host/read`, by name. A name never changes its meaning.
const FEATURES: [&str; 3] = ["devices", "environments", "largestMessage"];
/// The least that a client may say it takes, in bytes: what Codex's smaller answers and any error need.
const LEAST_MESSAGE: usize = 1 << 20;

/// What the API tells.
pub struct ApiContext {
    /// This host.
    pub host: HostId,
    /// What people call it.
    pub name: String,
    /// Where devices reach its relay.
    pub relay_url: String,
    /// The relay's identity key, once it is known.
    pub relay_key: watch::Receiver<Option<PublicKey>>,
    /// Where devices work.
    pub environments: Arc<Environments>,
    /// The devices accepted.
    pub devices: Arc<DeviceStore>,
    /// Their sessions.
    pub sessions: Arc<Sessions>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    id: Value,
    method: String,
    #[serde(default)]
    params: Option<serde_json::Map<String, Value>>,
}

/// One device's session, as the API knows it.
pub struct Caller {
    /// The device.
    pub device: DeviceId,
    /// The largest message that it takes on this session, in bytes.
    pub largest: Arc<AtomicUsize>,
}

/// Answers a device until its session ends.
pub async fn serve(
    context: Arc<ApiContext>,
    caller: Caller,
    mut scope: watch::Receiver<Scope>,
    channel: ChannelHandle,
) {
    let ChannelHandle { sender, mut incoming } = channel;
    let mut codex = context.environments.own().codex.state();
    let mut relay = context.relay_key.clone();
    loop {
        let sent = tokio::select! {
            message = incoming.recv() => match message {
                Some(Incoming::Message { seq, bytes }) => {
                    let now = *scope.borrow();
                    let answer = context.answer(&caller, now, &bytes);
                    send(&sender, &answer).await && sender.handled(seq).await.is_ok()
                }
                Some(Incoming::Closed { .. }) | None => false,
            },
            changed = codex.changed() => {
                let now = *scope.borrow();
                changed.is_ok() && context.tell(&sender, &caller, now).await
            }
            changed = relay.changed() => {
                let now = *scope.borrow();
                changed.is_ok() && context.tell(&sender, &caller, now).await
            }
            changed = scope.changed() => {
                let now = *scope.borrow_and_update();
                changed.is_ok() && context.tell(&sender, &caller, now).await
            }
        };
        if !sent {
            return;
        }
    }
}

async fn send(sender: &ChannelSender, message: &Value) -> bool {
    sender.send(Bytes::from(message.to_string())).await.is_ok()
}

impl ApiContext {
    pub(super) fn answer(&self, caller: &Caller, scope: Scope, bytes: &[u8]) -> Value {
        if bytes.len() > MAX_REQUEST {
            return error(Value::Null, INVALID_REQUEST, "the request is too long", "malformed");
        }
        let Ok(request) = serde_json::from_slice::<Request>(bytes) else {
            let unread = unread::requests(bytes).into_iter().next();
            let id = unread.as_ref().and_then(|unread| serde_json::from_str(unread.id.get()).ok());
            let words =
                unread.and_then(|unread| unread.fault).unwrap_or_else(|| "not a request of this API".to_owned());
            return error(id.unwrap_or_default(), INVALID_REQUEST, &words, "malformed");
        };
        if !request.id.is_u64() && request.id.as_str().is_none_or(|id| id.len() > 128) {
            return error(request.id, INVALID_REQUEST, "an id is a number or a short text", "malformed");
        }
        let (needed, result): (_, fn(&Self, &Caller, Scope) -> Value) = match request.method.as_str() {
            "host/read" => (Scope::View, Self::host),
            "environment/list" => (Scope::View, Self::environments),
            "device/list" => (Scope::Admin, Self::devices),
            _ => return error(request.id, METHOD_NOT_FOUND, "this host's API has no such method", "method"),
        };
        if scope < needed {
            let text = format!("`{}` needs scope `{needed}`; this device has `{scope}`", request.method);
            return error(request.id, REFUSED, &text, "scope");
        }
        if let Some(largest) = request.params.as_ref().and_then(|params| params.get("largestMessage"))
            && request.method == "host/read"
        {
            let Some(bytes) = largest.as_u64().and_then(|bytes| usize::try_from(bytes).ok()) else {
                return error(request.id, REFUSED, "`largestMessage` is a number of bytes", "params");
            };
            caller.largest.store(bytes.clamp(LEAST_MESSAGE, MAX_MESSAGE_TO_DEVICE), Ordering::Relaxed);
        }
        json!({ "id": request.id, "result": result(self, caller, scope) })
    }

    async fn tell(&self, sender: &ChannelSender, caller: &Caller, scope: Scope) -> bool {
        send(sender, &json!({ "method": "host/changed", "params": self.host(caller, scope) })).await
    }

    fn host(&self, caller: &Caller, scope: Scope) -> Value {
        let relay = |key: PublicKey| json!({ "url": self.relay_url, "key": key });
        json!({
            "apiVersion": API_VERSION,
            "features": FEATURES,
            "limits": {
                "messageToHost": MAX_MESSAGE_TO_HOST,
                "messageToDevice": caller.largest.load(Ordering::Relaxed),
                "request": MAX_REQUEST,
                "channels": SessionLimits::default().channels,
                "sessions": MAX_PER_DEVICE,
                "detachedSeconds": DETACHED_LIMIT.as_secs(),
            },
            "now": now_ms(),
            "hostId": self.host,
            "hostName": self.name,
            "relays": self.relay_key.borrow().map(relay).into_iter().collect::<Vec<_>>(),
            "agentVersion": env!("CARGO_PKG_VERSION"),
            "deviceId": caller.device,
            "scope": scope,
            "codex": codex(&self.environments.own().codex.state().borrow()),
        })
    }

    fn environments(&self, _: &Caller, _: Scope) -> Value {
        let environments = self.environments.iter().map(
            |environment| json!({ "name": environment.name, "state": codex(&environment.codex.state().borrow())["state"] }),
        );
        json!({ "data": environments.collect::<Vec<_>>() })
    }

    fn devices(&self, _: &Caller, _: Scope) -> Value {
        let connected = self.sessions.presence();
        let list = self.devices.current();
        let devices = list.devices.iter().map(|device| {
            json!({
                "deviceId": device.device_id,
                "name": device.name,
                "platform": device.platform,
                "scope": device.scope,
                "paused": device.paused || list.paused,
                "expired": device.expired,
                "addedAt": device.added_at,
                "lastSeen": device.last_seen,
                "connected": connected.get(&device.device_id).copied().unwrap_or(false),
            })
        });
        json!({ "data": devices.collect::<Vec<_>>() })
    }
}

/// Milliseconds since 1970, by the host's clock: by how much it is off, a device can tell and show times corrected.
fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

fn codex(state: &CodexState) -> Value {
    match state {
        CodexState::Starting => json!({ "state": "starting" }),
        CodexState::Ready { version, adapter, .. } => {
            json!({ "state": "ready", "version": version, "adapter": adapter })
        }
        CodexState::Failed { reason, fix } => json!({ "state": "failed", "reason": reason, "fix": fix }),
        _ => json!({ "state": "stopped" }),
    }
}

fn error(id: Value, code: i32, message: &str, reason: &str) -> Value {
    json!({ "id": id, "error": { "code": code, "message": message, "data": { "reason": reason } } })
}
