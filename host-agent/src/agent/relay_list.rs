//! What the relay says of the host's device list, and what the host makes of it.
//!
//! The relay may hold a newer version, or know devices as revoked that this list names: it comes from a backup or a
//! copy of the disk, or its last write was lost. The list then goes beyond that version, since the relay would ignore
//! it, and who is revoked is kept out and shown to the owner. A relay that lies can keep devices out in this way, as
//! it can in any other, until the owner lets them in again; it can let nobody in.

use std::sync::Arc;
use std::time::Duration;

use reachback_proto::frame::ByeReason;
use reachback_proto::ids::PublicKey;
use reachback_proto::words::quote;
use tokio::sync::watch;
use tokio::time::sleep;

use super::AgentEvents;
use super::sessions::Sessions;
use crate::audit::{AuditLog, Entry, What};
use crate::local_api::events::DeviceState;
use crate::local_api::{Event, Failure};
use crate::state::devices::{Device, DeviceStore, REVOKED_AT_RELAY};
use crate::state::timestamp::Timestamp;

/// The list is changed no oftener than this, whatever the relay says: it may not keep the disk busy.
const PACE: Duration = Duration::from_secs(1);
/// Devices that are named to the owner; of more there is only the number.
const NAMED: usize = 5;

/// See the module's header.
pub(super) struct RelayList {
    pub(super) devices: Arc<DeviceStore>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) audit: Arc<AuditLog>,
    pub(super) events: AgentEvents,
}

impl RelayList {
    /// Goes on for as long as the tunnel does. `stored` is the version that the relay holds, `revoked` the keys of the
    /// list sent last that it knows as revoked.
    pub(super) async fn run(self, mut stored: watch::Receiver<u64>, mut revoked: watch::Receiver<Vec<PublicKey>>) {
        loop {
            // First who is out, then the new version.
            let names_revoked = tokio::select! {
                biased;
                changed = revoked.changed() => changed.map(|()| true),
                changed = stored.changed() => changed.map(|()| false),
            };
            match names_revoked {
                Ok(true) => {
                    let keys = revoked.borrow_and_update().clone();
                    self.keep_out(&keys, Timestamp::now()).await;
                }
                Ok(false) => {
                    let seen = *stored.borrow_and_update();
                    if let Err(error) = self.devices.outgrow(seen, Timestamp::now()) {
                        tracing::warn!(%error, "the device list could not be written");
                    }
                }
                Err(_) => return,
            }
            sleep(PACE).await;
        }
    }

    async fn keep_out(&self, keys: &[PublicKey], now: Timestamp) {
        let known = self.devices.set_revoked_at_relay(keys, now);
        let kept_out = known.unwrap_or_else(|error| {
            tracing::warn!(%error, "the device list could not be written");
            let list = self.devices.current();
            list.devices.iter().filter(|device| keys.contains(&device.identity)).cloned().collect()
        });
        if kept_out.is_empty() {
            return;
        }
        for device in &kept_out {
            let id = device.device_id;
            // What takes away is done first, whether or not it can be written.
            let what = What::Paused { reason: Some(REVOKED_AT_RELAY.to_owned()) };
            self.audit.holds_anyway(self.audit.write(&Entry { at: now, device_id: id, by: None, what }));
            self.sessions.end(|device| device == id, ByeReason::Paused).await;
            self.events.send(Event::Device { device_id: id, state: DeviceState::Paused });
        }
        self.events.send(Event::Notice(notice(&kept_out)));
    }
}

/// What the owner is told and asked.
fn notice(kept_out: &[Device]) -> Failure {
    let names: Vec<_> = kept_out.iter().take(NAMED).map(|device| quote(&device.name)).collect();
    let names = match kept_out.len().saturating_sub(NAMED) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    };
    let message = format!(
        "The relay knows devices of this host as revoked: {names}. This host's list is older than that; was it restored from a \
         backup? They are kept out."
    );
    Failure::new("revoked_at_relay", message)
        .fix("`reachback devices` shows them; `reachback devices revoke NAME` takes one off the list; one that should come in is paired anew")
}

#[cfg(test)]
mod tests {
    use reachback_proto::scope::Scope;

    use super::*;

    #[test]
    fn the_owner_is_told_the_names_of_some_and_the_number_of_all() {
        let devices: Vec<_> =
            (0..7).map(|n| Device::for_test(&format!("phone {n}"), Scope::View, Timestamp::EPOCH)).collect();
        assert!(notice(&devices[..1]).message.contains("revoked: “phone 0”. "), "{:?}", notice(&devices[..1]));
        let all = notice(&devices).message;
        assert!(all.contains("“phone 4” and 2 more. ") && !all.contains("phone 5"), "{all}");
    }
}
