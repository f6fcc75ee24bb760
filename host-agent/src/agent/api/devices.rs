//! `device/list`: who may control this host.

use reachback_proto::ids::DeviceId;
use reachback_proto::scope::Scope;
use serde::Serialize;

use super::error::Refusal;
use super::{Call, NoParams};
use crate::state::timestamp::Timestamp;

#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) struct DeviceListResult {
    /// Oldest first.
    data: Vec<DeviceInfo>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(ts_rs::TS))]
struct DeviceInfo {
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
    /// RFC 3339.
    #[cfg_attr(test, ts(type = "string"))]
    added_at: Timestamp,
    /// RFC 3339.
    #[cfg_attr(test, ts(type = "string"))]
    last_seen: Timestamp,
    connected: bool,
}

pub(super) async fn list(call: Call, _: NoParams) -> Result<DeviceListResult, Refusal> {
    let connected = call.context.sessions.presence();
    let list = call.context.devices.current();
    let data = list.devices.iter().map(|device| DeviceInfo {
        device_id: device.device_id,
        name: device.name.clone(),
        platform: device.platform.clone(),
        scope: device.scope,
        paused: device.paused || list.paused,
        expired: device.expired,
        added_at: device.added_at,
        last_seen: device.last_seen,
        connected: connected.get(&device.device_id).copied().unwrap_or(false),
    });
    Ok(DeviceListResult { data: data.collect() })
}
