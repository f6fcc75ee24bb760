//! Rendezvous of pairings: held in memory, opened by a host for a few minutes. They outlive its control connection.
//!
//! Knowing a rendezvous lets a stranger talk to the host through one circuit at
//! a time; whether it may pair is settled end to end. Connecting does not use a
//! rendezvous up: a link preview or a bystander would spoil it for its owner.

use std::time::Duration;

use reachback_proto::close::CloseCode;
use reachback_proto::ids::{BootId, HostId, RendezvousId};
use tokio::time::Instant;

use super::{InMemory, Opening, PairingEntry, Table};
use crate::refusal::Refusal;

pub(super) struct Pairing {
    pub(super) host: HostId,
    pub(super) boot: BootId,
    expires: Instant,
    /// Number of the device that is on it.
    busy: Option<u64>,
}

impl InMemory {
    pub(super) fn open_pairing_now(
        &self,
        (host, boot): (HostId, BootId),
        rendezvous: RendezvousId,
        lasts: Duration,
        now: Instant,
    ) -> Opening {
        let mut table = self.table();
        table.pairings.retain(|_, pairing| pairing.expires > now || pairing.host == host);
        if let Some(pairing) = table.pairings.get_mut(&rendezvous) {
            if pairing.host != host {
                return Opening::Taken;
            }
            (pairing.boot, pairing.expires) = (boot, now + lasts);
            return Opening::Open;
        }
        if table.pairings.values().filter(|pairing| pairing.host == host).count() >= self.0.limits.pairings_per_host {
            return Opening::TooMany;
        }
        table.pairings.insert(rendezvous, Pairing { host, boot, expires: now + lasts, busy: None });
        Opening::Open
    }

    pub(super) fn close_pairing_now(&self, host: HostId, rendezvous: RendezvousId) {
        let mut table = self.table();
        if table.pairings.get(&rendezvous).is_some_and(|pairing| pairing.host == host) {
            table.pairings.remove(&rendezvous);
        }
    }

    pub(super) fn enter_pairing_now(&self, rendezvous: RendezvousId, now: Instant) -> Result<PairingEntry, Refusal> {
        let mut table = self.table();
        let number = table.number();
        let pairing = table.pairings.get_mut(&rendezvous).filter(|pairing| pairing.expires > now);
        let Some(pairing) = pairing else {
            let what = "no such pairing code is open here: it expired, was used, or is another relay's";
            return Err(Refusal::new(CloseCode::NotFound, what));
        };
        if pairing.busy.is_some() {
            let what = "another device is using this pairing code: try again in a moment";
            return Err(Refusal::new(CloseCode::Limited, what).retry_after(Duration::from_secs(5)));
        }
        pairing.busy = Some(number);
        let host = pairing.host;
        drop(table);
        let entered = self.entered(move |table| {
            if let Some(pairing) = table.pairings.get_mut(&rendezvous) {
                pairing.busy.take_if(|busy| *busy == number);
            }
        });
        Ok(PairingEntry { host, _entered: entered })
    }
}

impl Table {
    pub(super) fn next_expiry(&self, host: HostId) -> Option<Instant> {
        self.pairings.values().filter(|pairing| pairing.host == host).map(|pairing| pairing.expires).min()
    }

    pub(super) fn expired_pairings(&mut self, host: HostId, now: Instant) -> Vec<RendezvousId> {
        let over = |_: &RendezvousId, pairing: &mut Pairing| pairing.host == host && pairing.expires <= now;
        self.pairings.extract_if(over).map(|(rendezvous, _)| rendezvous).collect()
    }

    pub(super) fn prune_pairings(&mut self, now: Instant) {
        let online = |host: &HostId| self.hosts.get(host).is_some_and(|entry| entry.control.is_some());
        self.pairings.retain(|_, pairing| pairing.expires > now || online(&pairing.host));
    }
}
