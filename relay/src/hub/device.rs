//! Links of devices, and the circuits they become.

use std::sync::Arc;

use reachback_proto::close::CloseCode;
use reachback_proto::ids::{BootId, HostId, PublicKey};
use tokio::sync::watch;

use super::{Host, Hub, Presence};
use crate::limits::Limit;
use crate::refusal::{End, Refusal};

pub(super) struct Link {
    /// The key it proved; `None` for a pairing.
    key: Option<PublicKey>,
    end: End,
}

pub(super) struct CircuitEnd {
    /// The run of the agent at the other end; `None` when none was registered as it started.
    boot: Option<BootId>,
    end: End,
}

/// A device's link in the hub, from before its key is looked up; leaves it when dropped.
pub(crate) struct DeviceEntry {
    hub: Arc<Hub>,
    host: HostId,
    number: u64,
    /// When the link must end.
    pub(crate) end: End,
    /// Whether the host is here.
    pub(crate) presence: watch::Receiver<Presence>,
}

/// A circuit in the hub; leaves it when dropped.
pub(crate) struct Circuit {
    hub: Arc<Hub>,
    host: HostId,
    /// Its number, for logs of both ends.
    pub(crate) number: u64,
}

impl Hub {
    /// Enters a device's link; `seen` is when the store last saw the host. A pairing has no key.
    ///
    /// The device list is looked up *after* this. A list that changes meanwhile
    /// either is seen by that look-up, or finds this entry and ends it.
    pub(crate) fn join(
        self: &Arc<Self>,
        host: HostId,
        key: Option<PublicKey>,
        seen: u64,
    ) -> Result<DeviceEntry, Refusal> {
        let mut table = self.table();
        let number = table.number();
        let entry = table.host(host, seen);
        let same = entry.devices.values().filter(|link| link.key == key).count();
        if key.is_some() && same >= self.limits.links_per_device {
            return Err(Refusal::limited(Limit::LinksPerDevice, "this device has as many links as it may have"));
        }
        let end = End::default();
        entry.devices.insert(number, Link { key, end: end.clone() });
        let presence = entry.presence.subscribe();
        drop(table);
        Ok(DeviceEntry { hub: self.clone(), host, number, end, presence })
    }

    /// Ends the links of devices that are not in `keys`.
    pub(crate) fn enforce(&self, host: HostId, keys: &[PublicKey]) {
        let table = self.table();
        let Some(entry) = table.hosts.get(&host) else { return };
        for link in entry.devices.values().filter(|link| link.key.is_some_and(|key| !keys.contains(&key))) {
            link.end.end(Refusal::new(CloseCode::Revoked, "the host took this device off its list: pair again"));
        }
    }

    /// Enters a circuit with the host; `end` is that of the device's link.
    pub(crate) fn start_circuit(self: &Arc<Self>, host: HostId, end: End) -> Circuit {
        let mut table = self.table();
        let number = table.number();
        let entry = table.host(host, 0);
        let boot = entry.control.as_ref().map(|control| control.boot);
        entry.circuits.insert(number, CircuitEnd { boot, end });
        drop(table);
        Circuit { hub: self.clone(), host, number }
    }
}

impl Host {
    /// Ends circuits whose agent is gone because another run of it registered.
    pub(super) fn end_circuits_of_other_runs(&self, boot: BootId) {
        for circuit in self.circuits.values().filter(|circuit| circuit.boot.is_some_and(|b| b != boot)) {
            circuit.end.end(Refusal::new(CloseCode::PeerGone, "the host's agent was started again"));
        }
    }
}

impl Drop for DeviceEntry {
    fn drop(&mut self) {
        let mut table = self.hub.table();
        if let Some(entry) = table.hosts.get_mut(&self.host) {
            entry.devices.remove(&self.number);
            table.tidy(self.host);
        }
    }
}

impl Drop for Circuit {
    fn drop(&mut self) {
        let mut table = self.hub.table();
        if let Some(entry) = table.hosts.get_mut(&self.host) {
            entry.circuits.remove(&self.number);
            table.tidy(self.host);
        }
    }
}
