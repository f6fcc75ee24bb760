//! Rendezvous of pairings: held in memory, opened by a host for a few minutes.
//!
//! Knowing a rendezvous lets a stranger talk to the host through one circuit at
//! a time; whether it may pair is settled end to end. Connecting does not use a
//! rendezvous up: a link preview or a bystander would spoil it for its owner.

use std::sync::Arc;
use std::time::Duration;

use reachback_proto::close::CloseCode;
use reachback_proto::ids::{BootId, HostId, RendezvousId};
use tokio::time::Instant;

use super::Hub;
use crate::limits::Limit;
use crate::refusal::Refusal;

pub(super) struct Pairing {
    pub(super) host: HostId,
    pub(super) boot: BootId,
    expires: Instant,
    /// Number of the circuit that is on it.
    busy: Option<u64>,
}

/// Why a rendezvous was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PairingRefused {
    /// The host holds as many as it may.
    #[error("the host holds as many rendezvous as it may")]
    TooMany,
    /// Another host holds this one.
    #[error("another host holds this rendezvous")]
    Taken,
}

/// A device on a rendezvous; leaves it free for the next when dropped.
pub(crate) struct PairingEntry {
    hub: Arc<Hub>,
    rendezvous: RendezvousId,
    number: u64,
    /// The host that opened it.
    pub(crate) host: HostId,
}

impl Hub {
    /// Opens a rendezvous, or gives one that is open more time.
    pub(crate) fn open_pairing(
        &self,
        (host, boot): (HostId, BootId),
        rendezvous: RendezvousId,
        lasts: Duration,
        now: Instant,
    ) -> Result<(), PairingRefused> {
        let mut table = self.table();
        table.pairings.retain(|_, pairing| pairing.expires > now || pairing.host == host);
        if let Some(pairing) = table.pairings.get_mut(&rendezvous) {
            if pairing.host != host {
                return Err(PairingRefused::Taken);
            }
            (pairing.boot, pairing.expires) = (boot, now + lasts);
            return Ok(());
        }
        if table.pairings.values().filter(|pairing| pairing.host == host).count() >= self.limits.pairings_per_host {
            return Err(PairingRefused::TooMany);
        }
        table.pairings.insert(rendezvous, Pairing { host, boot, expires: now + lasts, busy: None });
        Ok(())
    }

    /// Closes a rendezvous of this host; says whether it was open.
    pub(crate) fn close_pairing(&self, host: HostId, rendezvous: RendezvousId) -> bool {
        let mut table = self.table();
        let own = table.pairings.get(&rendezvous).is_some_and(|pairing| pairing.host == host);
        own && table.pairings.remove(&rendezvous).is_some()
    }

    /// When the host's next rendezvous expires.
    pub(crate) fn next_expiry(&self, host: HostId) -> Option<Instant> {
        self.table().pairings.values().filter(|pairing| pairing.host == host).map(|pairing| pairing.expires).min()
    }

    /// Removes and returns the host's rendezvous that are over at `now`.
    pub(crate) fn expired_pairings(&self, host: HostId, now: Instant) -> Vec<RendezvousId> {
        let over = |_: &RendezvousId, pairing: &mut Pairing| pairing.host == host && pairing.expires <= now;
        self.table().pairings.extract_if(over).map(|(rendezvous, _)| rendezvous).collect()
    }

    /// Forgets rendezvous that are over, of hosts that are not here to hear it.
    pub(crate) fn prune_pairings(&self, now: Instant) {
        let mut table = self.table();
        let table = &mut *table;
        let online = |host: &HostId| table.hosts.get(host).is_some_and(|entry| entry.control.is_some());
        table.pairings.retain(|_, pairing| pairing.expires > now || online(&pairing.host));
    }

    /// Puts a device on a rendezvous.
    pub(crate) fn enter_pairing(
        self: &Arc<Self>,
        rendezvous: RendezvousId,
        now: Instant,
    ) -> Result<PairingEntry, Refusal> {
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
        Ok(PairingEntry { hub: self.clone(), rendezvous, number, host })
    }
}

impl PairingRefused {
    /// The code in `PairingClosed`.
    pub(crate) fn code(self) -> CloseCode {
        match self {
            Self::TooMany => CloseCode::Limited,
            Self::Taken => CloseCode::Conflict,
        }
    }

    /// The limit that was met.
    pub(crate) fn limit(self) -> Option<Limit> {
        (self == Self::TooMany).then_some(Limit::PairingsPerHost)
    }
}

impl Drop for PairingEntry {
    fn drop(&mut self) {
        let mut table = self.hub.table();
        if let Some(pairing) = table.pairings.get_mut(&self.rendezvous)
            && pairing.busy == Some(self.number)
        {
            pairing.busy = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;

    const A: (HostId, BootId) = (HostId([1; 16]), BootId([1; 16]));
    const B: (HostId, BootId) = (HostId([2; 16]), BootId([2; 16]));
    const MINUTE: Duration = Duration::from_secs(60);

    fn hub() -> Arc<Hub> {
        Arc::new(Hub::new(Limits { pairings_per_host: 2, ..Limits::default() }))
    }

    fn rendezvous(byte: u8) -> RendezvousId {
        RendezvousId([byte; 16])
    }

    #[test]
    fn a_rendezvous_takes_one_device_at_a_time_until_it_expires() {
        let (hub, now) = (hub(), Instant::now());
        hub.open_pairing(A, rendezvous(1), MINUTE, now).unwrap();
        let entry = hub.enter_pairing(rendezvous(1), now).ok().unwrap();
        assert_eq!(entry.host, A.0);
        assert_eq!(hub.enter_pairing(rendezvous(1), now).err().unwrap().code, CloseCode::Limited);
        drop(entry);
        assert!(hub.enter_pairing(rendezvous(1), now).is_ok(), "connecting used the rendezvous up");
        assert_eq!(hub.enter_pairing(rendezvous(1), now + MINUTE).err().unwrap().code, CloseCode::NotFound);
        assert_eq!(hub.next_expiry(A.0), Some(now + MINUTE));
        assert_eq!(hub.expired_pairings(A.0, now + MINUTE), [rendezvous(1)]);
        assert_eq!(hub.next_expiry(A.0), None);
    }

    #[test]
    fn a_late_device_does_not_free_a_rendezvous_that_was_opened_again() {
        let (hub, now) = (hub(), Instant::now());
        hub.open_pairing(A, rendezvous(1), MINUTE, now).unwrap();
        let late = hub.enter_pairing(rendezvous(1), now).ok().unwrap();
        assert!(hub.close_pairing(A.0, rendezvous(1)));
        hub.open_pairing(A, rendezvous(1), MINUTE, now).unwrap();
        let _current = hub.enter_pairing(rendezvous(1), now).ok().unwrap();
        drop(late);
        assert!(hub.enter_pairing(rendezvous(1), now).is_err());
    }

    #[test]
    fn hosts_hold_a_few_rendezvous_and_not_each_others() {
        let (hub, now) = (hub(), Instant::now());
        hub.open_pairing(A, rendezvous(1), MINUTE, now).unwrap();
        hub.open_pairing(A, rendezvous(2), MINUTE, now).unwrap();
        assert_eq!(hub.open_pairing(A, rendezvous(3), MINUTE, now), Err(PairingRefused::TooMany));
        assert_eq!(hub.open_pairing(A, rendezvous(1), MINUTE * 2, now), Ok(()), "more time was refused");
        assert_eq!(hub.open_pairing(B, rendezvous(1), MINUTE, now), Err(PairingRefused::Taken));
        assert!(!hub.close_pairing(B.0, rendezvous(1)));
        hub.prune_pairings(now + MINUTE);
        assert_eq!(hub.next_expiry(A.0), Some(now + MINUTE * 2));
    }
}
