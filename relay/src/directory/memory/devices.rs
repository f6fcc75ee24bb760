//! Links of devices, and the circuits they become.

use reachback_proto::close::CloseCode;
use reachback_proto::ids::{BootId, HostId, PublicKey};

use super::{Circuit, DeviceEntry, Host, InMemory};
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

impl InMemory {
    pub(super) fn join_now(&self, host: HostId, key: Option<PublicKey>, seen: u64) -> Result<DeviceEntry, Refusal> {
        let mut table = self.table();
        let number = table.number();
        let entry = table.host(host, seen);
        let same = entry.devices.values().filter(|link| link.key == key).count();
        if key.is_some() && same >= self.0.limits.links_per_device {
            return Err(Refusal::limited(Limit::LinksPerDevice, "this device has as many links as it may have"));
        }
        let end = End::default();
        entry.devices.insert(number, Link { key, end: end.clone() });
        let presence = entry.presence.subscribe();
        drop(table);
        let entered = self.entered(move |table| table.leave(host, |entry| drop(entry.devices.remove(&number))));
        Ok(DeviceEntry { end, presence, _entered: entered })
    }

    pub(super) fn enforce_now(&self, host: HostId, keys: &[PublicKey]) {
        let table = self.table();
        let Some(entry) = table.hosts.get(&host) else { return };
        for link in entry.devices.values().filter(|link| link.key.is_some_and(|key| !keys.contains(&key))) {
            link.end.end(Refusal::new(CloseCode::Revoked, "the host took this device off its list: pair again"));
        }
    }

    pub(super) fn start_circuit_now(&self, host: HostId, end: End) -> Circuit {
        let mut table = self.table();
        let number = table.number();
        let entry = table.host(host, 0);
        let boot = entry.control.as_ref().map(|control| control.boot);
        entry.circuits.insert(number, CircuitEnd { boot, end });
        drop(table);
        let entered = self.entered(move |table| table.leave(host, |entry| drop(entry.circuits.remove(&number))));
        Circuit { number, _entered: entered }
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
