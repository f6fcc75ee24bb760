//! Who is online, who waits for whom.
//!
//! The hub is one table in memory behind one lock, held for lookups only. Tasks
//! own their links; the hub holds ways to reach those tasks:
//!
//! - a host's control connection: a queue of [`Command`]s, and its [`End`];
//! - a spare data connection: a one-shot by which a device asks its task for the
//!   link ([`data`]); waiting devices stand in line the other way round;
//! - a device's link: its [`End`], so that a revocation cuts it wherever it is;
//! - pairing rendezvous, which outlive the host's control connection ([`pairing`]).
//!
//! Everything is entered through a guard whose drop removes its own entry, by a
//! number that is never used twice: a late old connection can't evict a new one.

mod data;
mod device;
mod host;
mod pairing;

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard};

use reachback_proto::ids::{HostId, RendezvousId};
use tokio::sync::watch;

pub(crate) use data::{Claim, Delivery, Offer, Spare};
pub(crate) use device::DeviceEntry;
pub(crate) use host::{Command, Registration};
pub(crate) use pairing::PairingEntry;

use crate::limits::Limits;

/// Whether a host is connected, and since when (seconds since 1970, 0 for never seen).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Presence {
    pub(crate) online: bool,
    pub(crate) since: u64,
}

/// The table. Shared through an `Arc`, which its guards hold too.
pub(crate) struct Hub {
    table: Mutex<Table>,
    limits: Limits,
}

#[derive(Default)]
struct Table {
    hosts: HashMap<HostId, Host>,
    pairings: HashMap<RendezvousId, pairing::Pairing>,
    last_number: u64,
}

struct Host {
    presence: watch::Sender<Presence>,
    control: Option<host::Control>,
    spares: VecDeque<data::SpareEntry>,
    waiters: VecDeque<data::Waiter>,
    devices: HashMap<u64, device::Link>,
    circuits: HashMap<u64, device::CircuitEnd>,
}

impl Hub {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { table: Mutex::default(), limits }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("no code that holds the table panics")
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
            spares: VecDeque::new(),
            waiters: VecDeque::new(),
            devices: HashMap::new(),
            circuits: HashMap::new(),
        })
    }

    /// Removes the host's entry when nothing needs it.
    fn tidy(&mut self, host: HostId) {
        let idle = |h: &Host| {
            h.control.is_none()
                && h.spares.is_empty()
                && h.devices.is_empty()
                && h.circuits.is_empty()
                && h.live_waiters() == 0
        };
        if self.hosts.get(&host).is_some_and(idle) {
            self.hosts.remove(&host);
        }
    }
}
