//! Data connections: spares of a host, and devices in line for one.
//!
//! Links move between tasks. The task of a spare keeps reading it, to notice
//! its end, until a device's task claims it: the device leaves the sending half
//! of a one-shot, and the spare's task sends the link through it. When no spare
//! is there the device's half stands in line, and the next data connection's
//! task takes it from there. A link that nobody takes comes back to its task.

use std::sync::Arc;

use reachback_proto::close::CloseCode;
use reachback_proto::ids::{BootId, HostId};
use tokio::sync::oneshot;

use super::{Host, Hub};
use crate::limits::Limit;
use crate::link::Link;
use crate::refusal::{End, Refusal};

/// Where a claimed link is sent.
pub(crate) type Delivery = oneshot::Sender<Link>;

pub(super) struct SpareEntry {
    number: u64,
    pub(super) boot: BootId,
    claim: oneshot::Sender<Delivery>,
    end: End,
}

pub(super) type Waiter = Delivery;

/// What to do with a new data connection.
pub(crate) enum Offer {
    /// A device is in line: send it the link.
    Deliver(Delivery),
    /// Wait as a spare.
    Wait(Spare),
}

/// A spare in the hub; leaves it when dropped.
pub(crate) struct Spare {
    hub: Arc<Hub>,
    host: HostId,
    number: u64,
    /// A device that wants the link.
    pub(crate) claim: oneshot::Receiver<Delivery>,
    /// When the spare must end.
    pub(crate) end: End,
}

/// A device's claim on a data connection. Dropped, it leaves the line.
pub(crate) type Claim = oneshot::Receiver<Link>;

impl Hub {
    /// Offers a data connection of a host's running agent.
    pub(crate) fn offer(self: &Arc<Self>, host: HostId, boot: BootId) -> Result<Offer, Refusal> {
        let mut table = self.table();
        let number = table.number();
        let entry = table.hosts.get_mut(&host);
        let Some(entry) = entry.filter(|entry| entry.control.as_ref().is_some_and(|control| control.boot == boot))
        else {
            let what = "open this run's control connection first";
            return Err(Refusal::new(CloseCode::PeerGone, what).retry_after(std::time::Duration::from_secs(1)));
        };
        while let Some(waiter) = entry.waiters.pop_front() {
            if !waiter.is_closed() {
                return Ok(Offer::Deliver(waiter));
            }
        }
        if entry.spares.len() >= self.limits.spares_per_host {
            return Err(Refusal::limited(Limit::SparesPerHost, "enough idle data connections of this host are here"));
        }
        let (sender, claim) = oneshot::channel();
        let end = End::default();
        entry.spares.push_back(SpareEntry { number, boot, claim: sender, end: end.clone() });
        drop(table);
        Ok(Offer::Wait(Spare { hub: self.clone(), host, number, claim, end }))
    }

    /// Claims a data connection of the host, now or when it dials one.
    pub(crate) fn claim(&self, host: HostId) -> Result<Claim, Refusal> {
        let mut table = self.table();
        let entry = table.host(host, 0);
        entry.waiters.retain(|waiter| !waiter.is_closed());
        if entry.waiters.len() + entry.circuits.len() >= self.limits.circuits_per_host {
            return Err(Refusal::limited(Limit::CircuitsPerHost, "this host has as many circuits as it may have"));
        }
        let (mut delivery, claim) = oneshot::channel();
        // Newest first: the older a spare, the likelier a middlebox has forgotten it.
        while let Some(spare) = entry.spares.pop_back() {
            match spare.claim.send(delivery) {
                Ok(()) => return Ok(claim),
                Err(unused) => delivery = unused,
            }
        }
        entry.waiters.push_back(delivery);
        if let Some(control) = &entry.control {
            control.want_circuit();
        }
        Ok(claim)
    }
}

impl Host {
    /// Devices that still stand in line.
    pub(super) fn live_waiters(&self) -> usize {
        self.waiters.iter().filter(|waiter| !waiter.is_closed()).count()
    }

    /// Ends the spares that `keep` does not want.
    pub(super) fn drop_spares(&mut self, keep: impl Fn(&SpareEntry) -> bool) {
        self.spares.retain(|spare| {
            let kept = keep(spare);
            if !kept {
                let why = "the control connection that this data connection belongs to is gone";
                spare.end.end(Refusal::new(CloseCode::PeerGone, why));
            }
            kept
        });
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        let mut table = self.hub.table();
        if let Some(entry) = table.hosts.get_mut(&self.host) {
            entry.spares.retain(|spare| spare.number != self.number);
            table.tidy(self.host);
        }
    }
}
