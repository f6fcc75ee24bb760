//! What an agent does now and then: writing down who was seen and how often the same was refused, and pausing who was not
//! seen for long.
//!
//! No wall clock decides that. One that was wrong once (a computer whose time is
//! not set yet, a date typed wrongly) would pause every device at a stroke. What
//! counts is the time in which a device could have been seen: this agent ran, and
//! was connected to its relay. It is measured in turns of a timer, which stands still
//! while the process is stopped or the computer sleeps, and summed in the device list.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use reachback_proto::frame::ByeReason;
use reachback_proto::ids::DeviceId;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::AgentEvents;
use super::sessions::Sessions;
use super::tunnel::TunnelState;
use crate::audit::{AuditLog, Entry, What};
use crate::local_api::Event;
use crate::local_api::events::DeviceState;
use crate::state::devices::{DeviceStore, EXPIRED};
use crate::state::timestamp::Timestamp;

/// How often it does so.
const PERIOD: Duration = Duration::from_secs(600);
/// How often repeated refusals are written down.
const COUNTS: Duration = Duration::from_secs(60);
/// Periods of an hour, the unit of the device list.
const HOUR: u32 = 6;

/// See the module's header.
pub(super) struct Housekeeping {
    pub(super) devices: Arc<DeviceStore>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) tunnel: watch::Receiver<TunnelState>,
    pub(super) audit: Arc<AuditLog>,
    pub(super) events: AgentEvents,
}

impl Housekeeping {
    /// Goes on for ever. `present` says which devices have a session, and whether that is connected; `clock`, what time it is.
    pub(super) async fn run(
        self,
        present: impl Fn() -> HashMap<DeviceId, bool> + Send,
        clock: impl Fn() -> Timestamp + Send,
    ) {
        let mut ticks = interval_at(Instant::now() + PERIOD, PERIOD);
        // A process that was stopped for days makes up for none of its turns.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut counts = interval_at(Instant::now() + COUNTS, COUNTS);
        counts.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut periods = 0;
        self.forget_former();
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = counts.tick() => {
                    if let Err(error) = self.audit.flush(clock()) {
                        tracing::error!(%error, "how often refusals came was not recorded yet");
                    }
                    continue;
                }
            }
            if matches!(*self.tunnel.borrow(), TunnelState::Connected { .. }) {
                periods += 1;
            }
            if periods == HOUR {
                periods = 0;
                self.hour(&present(), clock()).await;
            }
            if let Err(error) = self.devices.flush() {
                tracing::warn!(%error, "when devices were last seen could not be written");
            }
            self.forget_former();
        }
    }

    fn forget_former(&self) {
        let list = self.devices.current();
        if let Err(error) = self.audit.forget_former(|device| list.device(device).is_some()) {
            tracing::warn!(%error, "what the audit log has of former devices could not be looked at");
        }
    }

    /// An hour has passed in which devices could be seen.
    async fn hour(&self, present: &HashMap<DeviceId, bool>, now: Timestamp) {
        let expired = self.devices.hour_passed(|device| present.get(&device).copied().unwrap_or(false), now);
        for device in expired {
            let id = device.device_id;
            tracing::info!(device = %id.short(), "not seen in 90 days of running: paused");
            if let Err(error) = self.devices.set_expired(id, now) {
                tracing::warn!(%error, "the device list could not be written");
            }
            // What takes away is done first, whether or not it can be written.
            let what = What::Paused { reason: Some(EXPIRED.to_owned()) };
            self.audit.holds_anyway(self.audit.write(&Entry { at: now, device_id: id, by: None, what }));
            // One that came in at this very moment.
            self.sessions.end(|device| device == id, ByeReason::Paused).await;
            self.events.send(Event::Device { device_id: id, state: DeviceState::Paused });
        }
    }
}

#[cfg(test)]
mod tests;
