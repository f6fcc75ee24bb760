//! The directory of one process: a table in memory behind one lock, held for look-ups only.

mod devices;
mod hosts;
mod pairings;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use reachback_proto::ids::{BootId, HostId, PublicKey, RendezvousId};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{
    Answer, Circuit, Command, DeviceEntry, Directory, Entered, Occupied, Opening, PairingEntry, Presence, Registered,
    Registration, StandBy,
};
use crate::limits::Limits;
use crate::refusal::End;

/// A directory that no other process shares.
pub(crate) struct InMemory(Arc<Shared>);

struct Shared {
    table: Mutex<Table>,
    limits: Limits,
    unix_now: fn() -> u64,
}

#[derive(Default)]
struct Table {
    hosts: HashMap<HostId, Host>,
    pairings: HashMap<RendezvousId, pairings::Pairing>,
    last_number: u64,
}

struct Host {
    presence: watch::Sender<Presence>,
    control: Option<hosts::ControlEntry>,
    standing_by: HashMap<u64, hosts::Spare>,
    /// Devices that want a data connection.
    wants: usize,
    devices: HashMap<u64, devices::Link>,
    circuits: HashMap<u64, devices::CircuitEnd>,
}

impl InMemory {
    /// `unix_now` tells the seconds since 1970.
    pub(crate) fn new(limits: Limits, unix_now: fn() -> u64) -> Self {
        Self(Arc::new(Shared { table: Mutex::default(), limits, unix_now }))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table()
    }

    /// What is in the table until this is dropped, and is taken out then by `leave`.
    fn entered(&self, leave: impl Fn(&mut Table) + Send + Sync + 'static) -> Entered {
        Entered::until_dropped(Guard { shared: self.0.clone(), leave })
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("no code that holds the table panics")
    }
}

struct Guard<F: Fn(&mut Table)> {
    shared: Arc<Shared>,
    leave: F,
}

impl<F: Fn(&mut Table)> Drop for Guard<F> {
    fn drop(&mut self) {
        (self.leave)(&mut self.shared.table());
    }
}

impl Table {
    /// A number for a connection or a circuit, unique in this process.
    fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// The host's entry, made when there is none. `seen` is what is known of an absent host.
    fn host(&mut self, host: HostId, seen: u64) -> &mut Host {
        self.hosts.entry(host).or_insert_with(|| Host {
            presence: watch::Sender::new(Presence { online: false, since: seen }),
            control: None,
            standing_by: HashMap::new(),
            wants: 0,
            devices: HashMap::new(),
            circuits: HashMap::new(),
        })
    }

    /// Changes the host's entry, and removes it when nothing needs it any more.
    fn leave(&mut self, host: HostId, change: impl FnOnce(&mut Host)) {
        let Some(entry) = self.hosts.get_mut(&host) else { return };
        change(entry);
        if entry.is_idle() {
            self.hosts.remove(&host);
        }
    }
}

impl Host {
    fn is_idle(&self) -> bool {
        self.control.is_none()
            && self.standing_by.is_empty()
            && self.wants == 0
            && self.devices.is_empty()
            && self.circuits.is_empty()
    }
}

impl Directory for InMemory {
    fn register(&self, host: HostId, boot: BootId, dead: Option<u64>) -> Answer<'_, Registered> {
        Box::pin(async move { Ok(self.register_now(host, boot, dead)) })
    }

    fn stand_by(&self, host: HostId, boot: BootId) -> Answer<'_, StandBy> {
        Box::pin(async move { self.stand_by_now(host, boot) })
    }

    fn want(&self, host: HostId) -> Answer<'_, Entered> {
        Box::pin(async move { self.want_now(host) })
    }

    fn ask(&self, host: HostId) -> Answer<'_, ()> {
        Box::pin(async move {
            self.ask_now(host);
            Ok(())
        })
    }

    fn join(&self, host: HostId, key: Option<PublicKey>, seen: u64) -> Answer<'_, DeviceEntry> {
        Box::pin(async move { self.join_now(host, key, seen) })
    }

    fn enforce(&self, host: HostId, keys: Vec<PublicKey>) -> Answer<'_, ()> {
        Box::pin(async move {
            self.enforce_now(host, &keys);
            Ok(())
        })
    }

    fn start_circuit(&self, host: HostId, end: End) -> Answer<'_, Circuit> {
        Box::pin(async move { Ok(self.start_circuit_now(host, end)) })
    }

    fn open_pairing(
        &self,
        host: (HostId, BootId),
        rendezvous: RendezvousId,
        lasts: Duration,
        now: Instant,
    ) -> Answer<'_, Opening> {
        Box::pin(async move { Ok(self.open_pairing_now(host, rendezvous, lasts, now)) })
    }

    fn close_pairing(&self, host: HostId, rendezvous: RendezvousId) -> Answer<'_, ()> {
        Box::pin(async move {
            self.close_pairing_now(host, rendezvous);
            Ok(())
        })
    }

    fn next_expiry(&self, host: HostId) -> Option<Instant> {
        self.table().next_expiry(host)
    }

    fn expired_pairings(&self, host: HostId, now: Instant) -> Answer<'_, Vec<RendezvousId>> {
        Box::pin(async move { Ok(self.table().expired_pairings(host, now)) })
    }

    fn prune_pairings(&self, now: Instant) -> Answer<'_, ()> {
        Box::pin(async move {
            self.table().prune_pairings(now);
            Ok(())
        })
    }

    fn enter_pairing(&self, rendezvous: RendezvousId, now: Instant) -> Answer<'_, PairingEntry> {
        Box::pin(async move { self.enter_pairing_now(rendezvous, now) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::contract;

    #[tokio::test]
    async fn the_directory_of_one_process_keeps_the_contract_and_forgets_who_left() {
        let directory = InMemory::new(contract::limits(), contract::unix_now);
        contract::all(&directory, &directory).await;
        assert!(directory.table().hosts.is_empty(), "a host that nobody needs is remembered");
    }
}
