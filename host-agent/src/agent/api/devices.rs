//! `device/…` and `host/allowDevices`: who may control this host.

use reachback_proto::ids::DeviceId;
use reachback_proto::scope::Scope;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::error::Refusal;
use super::{ApiContext, Call, Done, NoParams, Notice};
use crate::agent::changes::{DeviceChangeError, DeviceChanges};
use crate::local_api::Event;
use crate::state::devices::{ChangeError, Device};
use crate::state::timestamp::Timestamp;

#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) struct DeviceListResult {
    /// Oldest first.
    data: Vec<DeviceInfo>,
    /// Whether devices may connect at all.
    allowed: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) struct DeviceInfo {
    #[cfg_attr(test, ts(type = "string"))]
    device_id: DeviceId,
    name: String,
    /// What it said it is, such as "iPhone, Safari".
    platform: String,
    #[cfg_attr(test, ts(type = "Scope"))]
    scope: Scope,
    /// Kept out for now: it alone, or all devices.
    paused: bool,
    /// Paused because it was not seen for long.
    expired: bool,
    /// Paused because the relay knows it as revoked.
    revoked_at_relay: bool,
    /// RFC 3339.
    #[cfg_attr(test, ts(type = "string"))]
    added_at: Timestamp,
    /// RFC 3339.
    #[cfg_attr(test, ts(type = "string"))]
    last_seen: Timestamp,
    connected: bool,
}

/// A device as it is now.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(crate) struct DeviceChanged {
    #[cfg_attr(test, ts(type = "string"))]
    device_id: DeviceId,
    /// `null` once it was revoked.
    device: Option<DeviceInfo>,
    /// Whether devices may connect at all.
    allowed: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) struct DeviceScopeParams {
    #[cfg_attr(test, ts(type = "string"))]
    device_id: DeviceId,
    #[cfg_attr(test, ts(type = "Scope"))]
    scope: Scope,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) struct DevicePauseParams {
    #[cfg_attr(test, ts(type = "string"))]
    device_id: DeviceId,
    paused: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) struct DeviceRevokeParams {
    #[cfg_attr(test, ts(type = "string"))]
    device_id: DeviceId,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) struct AllowDevicesParams {
    allowed: bool,
}

pub(super) async fn list(call: Call, _: NoParams) -> Result<DeviceListResult, Refusal> {
    let list = call.context.changes.devices.current();
    let data = list.devices.iter().map(|device| call.context.device(device, list.paused)).collect();
    Ok(DeviceListResult { data, allowed: !list.paused })
}

pub(super) async fn scope(call: Call, params: DeviceScopeParams) -> Result<DeviceChanged, Refusal> {
    let DeviceScopeParams { device_id, scope } = params;
    change(call, device_id, "device/scope", move |changes, by| async move {
        changes.set_scope(device_id, scope, Some(by)).map(drop)
    })
    .await
}

pub(super) async fn pause(call: Call, params: DevicePauseParams) -> Result<DeviceChanged, Refusal> {
    let DevicePauseParams { device_id, paused } = params;
    change(call, device_id, "device/pause", move |changes, by| async move {
        changes.pause(Some(device_id), paused, Some(by)).await
    })
    .await
}

pub(super) async fn revoke(call: Call, params: DeviceRevokeParams) -> Result<DeviceChanged, Refusal> {
    let DeviceRevokeParams { device_id } = params;
    change(call, device_id, "device/revoke", move |changes, by| async move {
        changes.revoke(device_id, Some(by)).await.map(drop)
    })
    .await
}

pub(super) async fn allow(call: Call, params: AllowDevicesParams) -> Result<Done, Refusal> {
    let (own, paused) = (call.caller.device, !params.allowed);
    change(
        call,
        own,
        "host/allowDevices",
        move |changes, by| async move { changes.pause(None, paused, Some(by)).await },
    )
    .await?;
    Ok(Done {})
}

/// Makes a change to the end, also where it ends the session of the device that asked for it.
async fn change<F: Future<Output = Result<(), DeviceChangeError>> + Send + 'static>(
    call: Call,
    device: DeviceId,
    method: &'static str,
    make: impl FnOnce(DeviceChanges, DeviceId) -> F,
) -> Result<DeviceChanged, Refusal> {
    let by = call.caller.device;
    let changes = call.context.changes.clone();
    call.context.is_admin(by).map_err(|scope| Refusal::scope(method, Scope::Admin, scope))?;
    let made = tokio::spawn(make(changes, by)).await;
    let made = made.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    made.map_err(|error| Refusal::change(device, &error))?;
    Ok(call.context.device_changed(device))
}

impl ApiContext {
    fn device(&self, device: &Device, all_paused: bool) -> DeviceInfo {
        DeviceInfo {
            device_id: device.device_id,
            name: device.name.clone(),
            platform: device.platform.clone(),
            scope: device.scope,
            paused: device.paused || all_paused,
            expired: device.expired,
            revoked_at_relay: device.revoked_at_relay,
            added_at: device.added_at,
            last_seen: device.last_seen,
            connected: self.changes.sessions.presence().get(&device.device_id).copied().unwrap_or(false),
        }
    }

    /// Whether a device may do what needs `admin`, or what it may. Now, not when it asked: what was taken from it meanwhile is not
    /// used any more.
    pub(super) fn is_admin(&self, device: DeviceId) -> Result<(), Scope> {
        let list = self.changes.devices.current();
        let scope = list.device(device).filter(|device| !device.paused && !list.paused).map(|device| device.scope);
        if scope == Some(Scope::Admin) { Ok(()) } else { Err(scope.unwrap_or(Scope::View)) }
    }

    fn device_changed(&self, id: DeviceId) -> DeviceChanged {
        let list = self.changes.devices.current();
        let device = list.device(id).map(|device| self.device(device, list.paused));
        DeviceChanged { device_id: id, device, allowed: !list.paused }
    }

    /// Tells devices of devices, whoever changed them, and what keeps the computer awake.
    pub(in crate::agent) async fn tell_of_devices(&self, mut events: Receiver<Event>) {
        loop {
            match events.recv().await {
                Ok(Event::Device { device_id, .. } | Event::Paired { device_id, .. }) => {
                    self.notices.tell(Notice::DeviceChanged(self.device_changed(device_id)));
                }
                Ok(Event::Awake(status)) => self.notices.tell(Notice::KeepAwakeChanged(status.into())),
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => self.notices.tell(Notice::Missed {}),
                Err(RecvError::Closed) => return,
            }
        }
    }
}

impl Refusal {
    fn change(device: DeviceId, error: &DeviceChangeError) -> Self {
        match error {
            DeviceChangeError::Change(ChangeError::Unknown(_)) => Self::device(device),
            error => {
                tracing::error!(%error, "a device's change of the device list was not written");
                Self::disk()
            }
        }
    }
}
