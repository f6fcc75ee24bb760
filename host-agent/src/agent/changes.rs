//! Changes of what devices may do: recorded, done, told, and ended where a session is concerned.
//!
//! `reachback devices` and the API of a device with scope `admin` both come here.

use std::sync::Arc;

use reachback_proto::frame::ByeReason;
use reachback_proto::ids::DeviceId;
use reachback_proto::scope::Scope;

use super::AgentEvents;
use super::sessions::Sessions;
use crate::audit::{AuditError, AuditLog, Entry, What};
use crate::local_api::events::{DeviceState, Event, Failure};
use crate::state::devices::{ChangeError, Device, DeviceStore};
use crate::state::timestamp::Timestamp;

/// See the module's header.
#[derive(Clone)]
pub(crate) struct DeviceChanges {
    /// The devices accepted.
    pub devices: Arc<DeviceStore>,
    /// Their sessions.
    pub sessions: Arc<Sessions>,
    /// Where changes are recorded.
    pub audit: Arc<AuditLog>,
    /// Who is told.
    pub events: AgentEvents,
}

/// What the owner is told of a change that holds and that the audit log does not have.
pub(super) fn unrecorded(error: &AuditError) -> Failure {
    Failure::new("unrecorded", format!("something was taken away, and that is not recorded: {error}"))
        .fix("make room on the disk; `reachback devices`, `workspace list` and `ssh list` say how it is now")
}

/// By whose word: a device's, or the owner's at the host.
pub(crate) type By = Option<DeviceId>;

/// Nothing was changed, or it holds without being on the disk: see [`DeviceStore`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceChangeError {
    /// It could not be recorded, and so was not given.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The list was not changed, or not written.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

impl DeviceChanges {
    /// For a home of which no agent runs, and that is locked: nobody is connected, and nobody is told.
    pub(crate) fn without_agent(devices: DeviceStore, audit: AuditLog) -> Self {
        let events = AgentEvents::unheard();
        Self { devices: Arc::new(devices), sessions: Arc::default(), audit: Arc::new(audit), events }
    }

    /// Takes a device off the list.
    pub(crate) async fn revoke(&self, id: DeviceId, by: By) -> Result<Device, DeviceChangeError> {
        self.known(id)?;
        let device = self.taken_away(self.devices.remove(id, Timestamp::now()), &[id], &What::Revoked, by)?;
        self.sessions.end(|device| device == id, ByeReason::Revoked).await;
        self.events.send(Event::Device { device_id: id, state: DeviceState::Revoked });
        Ok(device)
    }

    /// Changes what a device may do, at once, under open sessions too.
    pub(crate) fn set_scope(&self, id: DeviceId, scope: Scope, by: By) -> Result<Device, DeviceChangeError> {
        let before = self.known(id)?.scope;
        let what = What::ScopeChanged { scope };
        if scope > before {
            self.record(id, what, by)?;
            self.devices.set_scope(id, scope, Timestamp::now())?;
        } else {
            self.taken_away(self.devices.set_scope(id, scope, Timestamp::now()), &[id], &what, by)?;
        }
        self.events.send(Event::Device { device_id: id, state: DeviceState::ScopeChanged });
        Ok(self.known(id)?)
    }

    /// Keeps one device out, or lets it in again; without an id, all of them.
    pub(crate) async fn pause(&self, id: Option<DeviceId>, on: bool, by: By) -> Result<(), DeviceChangeError> {
        let meant = |device: &&Device| id.is_none_or(|id| id == device.device_id);
        let ids: Vec<_> = self.devices.current().devices.iter().filter(meant).map(|device| device.device_id).collect();
        let set = || self.devices.set_paused(id, on, Timestamp::now());
        if on {
            self.taken_away(set(), &ids, &What::Paused { reason: None }, by)?;
            self.sessions.end(|device| id.is_none_or(|id| id == device), ByeReason::Paused).await;
        } else {
            for id in &ids {
                self.record(*id, What::Resumed, by)?;
            }
            set()?;
        }
        let state = if on { DeviceState::Paused } else { DeviceState::Resumed };
        let list = self.devices.current();
        for device in list.devices.iter().filter(meant) {
            self.events.send(Event::Device { device_id: device.device_id, state });
        }
        Ok(())
    }

    fn known(&self, id: DeviceId) -> Result<Device, ChangeError> {
        self.devices.current().device(id).cloned().ok_or(ChangeError::Unknown(id))
    }

    /// What gives is written first, or not done.
    fn record(&self, device_id: DeviceId, what: What, by: By) -> Result<(), AuditError> {
        self.audit.write(&Entry { at: Timestamp::now(), device_id, by, what })
    }

    /// What takes away is done first, whether or not it can be written. It holds also where the list is not on the disk yet.
    fn taken_away<T>(
        &self,
        done: Result<T, ChangeError>,
        ids: &[DeviceId],
        what: &What,
        by: By,
    ) -> Result<T, ChangeError> {
        if matches!(done, Ok(_) | Err(ChangeError::File(_))) {
            // Each is tried, and what fails is said once.
            let written = ids.iter().map(|id| self.record(*id, what.clone(), by)).fold(Ok(()), Result::and);
            self.audit.holds_anyway(written);
        }
        done
    }
}
