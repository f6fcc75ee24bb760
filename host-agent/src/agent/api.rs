//! Channel 0: the agent's own JSON-RPC API.
//!
//! | method | scope | result |
//! |---|---|---|
//! | `host/read` | view | `{hostId, hostName, agentVersion, deviceId, scope, codex: {state, version?, adapter?, reason?, fix?}}` |
//! | `environment/list` | view | `{data: [{name, state}]}` |
//! | `device/list` | admin | `{data: [{deviceId, name, platform, scope, paused, expired, addedAt, lastSeen, connected}]}` |
//!
//! and the notification `host/changed` (same members as `host/read`) when Codex's state or the device's scope changes.

use std::sync::Arc;

use bytes::Bytes;
use reachback_proto::ids::{DeviceId, HostId};
use reachback_proto::scope::Scope;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::environments::Environments;
use super::sessions::Sessions;
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

/// What the API tells.
pub struct ApiContext {
    /// This host.
    pub host: HostId,
    /// What people call it.
    pub name: String,
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
    #[serde(default, rename = "params")]
    _params: Option<serde_json::Map<String, Value>>,
}

/// Answers a device until its session ends.
pub async fn serve(
    context: Arc<ApiContext>,
    device: DeviceId,
    mut scope: watch::Receiver<Scope>,
    channel: ChannelHandle,
) {
    let ChannelHandle { sender, mut incoming } = channel;
    let mut codex = context.environments.own().codex.state();
    loop {
        let sent = tokio::select! {
            message = incoming.recv() => match message {
                Some(Incoming::Message { seq, bytes }) => {
                    let now = *scope.borrow();
                    let answer = context.answer(device, now, &bytes);
                    send(&sender, &answer).await && sender.handled(seq).await.is_ok()
                }
                Some(Incoming::Closed { .. }) | None => false,
            },
            changed = codex.changed() => {
                let now = *scope.borrow();
                changed.is_ok() && context.tell(&sender, device, now).await
            }
            changed = scope.changed() => {
                let now = *scope.borrow_and_update();
                changed.is_ok() && context.tell(&sender, device, now).await
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
    pub(super) fn answer(&self, device: DeviceId, scope: Scope, bytes: &[u8]) -> Value {
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
        let (needed, result): (_, fn(&Self, DeviceId, Scope) -> Value) = match request.method.as_str() {
            "host/read" => (Scope::View, Self::host),
            "environment/list" => (Scope::View, Self::environments),
            "device/list" => (Scope::Admin, Self::devices),
            _ => return error(request.id, METHOD_NOT_FOUND, "this host's API has no such method", "method"),
        };
        if scope < needed {
            let text = format!("`{}` needs scope `{needed}`; this device has `{scope}`", request.method);
            return error(request.id, REFUSED, &text, "scope");
        }
        json!({ "id": request.id, "result": result(self, device, scope) })
    }

    async fn tell(&self, sender: &ChannelSender, device: DeviceId, scope: Scope) -> bool {
        send(sender, &json!({ "method": "host/changed", "params": self.host(device, scope) })).await
    }

    fn host(&self, device: DeviceId, scope: Scope) -> Value {
        json!({
            "hostId": self.host,
            "hostName": self.name,
            "agentVersion": env!("CARGO_PKG_VERSION"),
            "deviceId": device,
            "scope": scope,
            "codex": codex(&self.environments.own().codex.state().borrow()),
        })
    }

    fn environments(&self, _: DeviceId, _: Scope) -> Value {
        let environments = self.environments.iter().map(
            |environment| json!({ "name": environment.name, "state": codex(&environment.codex.state().borrow())["state"] }),
        );
        json!({ "data": environments.collect::<Vec<_>>() })
    }

    fn devices(&self, _: DeviceId, _: Scope) -> Value {
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
