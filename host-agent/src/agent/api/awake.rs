//! `host/keepAwake`: whether the host's computer is kept awake while devices may come.

use reachback_proto::scope::Scope;
use serde::{Deserialize, Serialize};

use super::Call;
use super::error::Refusal;
use crate::local_api::{AwakeState, AwakeStatus};

#[derive(Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub(super) struct KeepAwakeParams {
    /// Whether it is to be; without it, only tells how it is.
    on: Option<bool>,
}

/// Whether the host's computer is kept awake, as it is now.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub(crate) struct KeepAwakeInfo {
    /// Whether it is to be.
    on: bool,
    /// Whether it is.
    state: KeepAwakeState,
    /// Why it is not, or not altogether, for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// What one does about that, mostly at the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

/// Stable words: a client translates these.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(ts_rs::TS))]
enum KeepAwakeState {
    /// Nobody wants it.
    Off,
    /// It is.
    Held,
    /// Only from what the system does by itself when nobody is there; a desktop may have it sleep all the same.
    Partly,
    /// It is not plugged in.
    OnBattery,
    /// No device could come.
    NoAccess,
    /// Nothing on this system would do it.
    NotOffered,
    /// The system does not do it.
    Failed,
}

pub(super) async fn keep_awake(call: Call, params: KeepAwakeParams) -> Result<KeepAwakeInfo, Refusal> {
    let (context, by) = (&call.context, call.caller.device);
    let Some(on) = params.on else { return Ok(context.awake.look().await.into()) };
    context.is_admin(by).map_err(|scope| Refusal::scope("host/keepAwake", Scope::Admin, scope))?;
    let set = context.awake.set(on, Some(by), &context.changes.audit).await;
    let status = set.map_err(|error| {
        tracing::error!(%error, on, "a device's word on keeping this machine awake was not written");
        Refusal::keep_awake(on)
    })?;
    Ok(status.into())
}

impl From<AwakeStatus> for KeepAwakeInfo {
    fn from(AwakeStatus { on, state, reason, fix }: AwakeStatus) -> Self {
        let state = match state {
            AwakeState::Off => KeepAwakeState::Off,
            AwakeState::Held => KeepAwakeState::Held,
            AwakeState::Partly => KeepAwakeState::Partly,
            AwakeState::OnBattery => KeepAwakeState::OnBattery,
            AwakeState::NoAccess => KeepAwakeState::NoAccess,
            AwakeState::NotOffered => KeepAwakeState::NotOffered,
            // No agent runs: this one does.
            AwakeState::Failed | AwakeState::NoAgent => KeepAwakeState::Failed,
        };
        Self { on, state, reason, fix }
    }
}
