//! Control connections of hosts: one per host, the newest run of its agent wins. And data connections that stand by.

use std::time::Duration;

use reachback_proto::close::CloseCode;
use reachback_proto::ids::{BootId, HostId};
use tokio::sync::mpsc;

use super::{Command, Entered, Host, InMemory, Occupied, Presence, Registered, Registration, StandBy};
use crate::limits::Limit;
use crate::refusal::{End, Refusal};

/// Commands that may wait for a control connection.
///
/// When it is full a command is dropped: a host that is asked for a circuit is
/// asked again, and a probe that does not arrive counts as unanswered.
const COMMANDS: usize = 64;

pub(super) struct ControlEntry {
    number: u64,
    pub(super) boot: BootId,
    commands: mpsc::Sender<Command>,
    end: End,
}

pub(super) struct Spare {
    boot: BootId,
    end: End,
}

impl ControlEntry {
    /// Asks the host for a data connection.
    fn want_circuit(&self) {
        let _full = self.commands.try_send(Command::CircuitWanted);
    }
}

impl InMemory {
    pub(super) fn register_now(&self, host: HostId, boot: BootId, dead: Option<u64>) -> Registered {
        let (sender, commands) = mpsc::channel(COMMANDS);
        let end = End::default();
        let mut table = self.table();
        let number = table.number();
        let entry = table.host(host, 0);
        if let Some(old) = entry.control.take() {
            if old.boot != boot && Some(old.number) != dead {
                let occupied = Occupied { number: old.number, commands: old.commands.clone() };
                entry.control = Some(old);
                return Registered::Occupied(occupied);
            }
            let why = "a newer connection of this host took this one's place";
            old.end.end(Refusal::new(CloseCode::Replaced, why));
        }
        // What belongs to an earlier run of the agent is gone with it.
        entry.end_spares(|spare| spare.boot == boot);
        entry.end_circuits_of_other_runs(boot);
        let control = ControlEntry { number, boot, commands: sender, end: end.clone() };
        for _ in 0..entry.wants {
            control.want_circuit();
        }
        entry.control = Some(control);
        entry.presence.send_replace(Presence { online: true, since: (self.0.unix_now)() });
        table.pairings.retain(|_, pairing| pairing.host != host || pairing.boot == boot);
        drop(table);
        let unix_now = self.0.unix_now;
        let entered = self.entered(move |table| {
            table.leave(host, |entry| {
                if entry.control.take_if(|control| control.number == number).is_none() {
                    return;
                }
                // Circuits stay: their sockets are their own. Spares are not worth a risk: the machine may be gone.
                entry.end_spares(|_| false);
                entry.presence.send_replace(Presence { online: false, since: unix_now() });
            });
        });
        Registered::Here(Registration { commands, end, _entered: entered })
    }

    pub(super) fn stand_by_now(&self, host: HostId, boot: BootId) -> Result<StandBy, Refusal> {
        let mut table = self.table();
        let number = table.number();
        let entry = table.hosts.get_mut(&host);
        let Some(entry) = entry.filter(|entry| entry.control.as_ref().is_some_and(|control| control.boot == boot))
        else {
            let what = "open this run's control connection first";
            return Err(Refusal::new(CloseCode::PeerGone, what).retry_after(Duration::from_secs(1)));
        };
        let end = End::default();
        entry.standing_by.insert(number, Spare { boot, end: end.clone() });
        drop(table);
        let entered = self.entered(move |table| table.leave(host, |entry| drop(entry.standing_by.remove(&number))));
        Ok(StandBy { end, _entered: entered })
    }

    pub(super) fn want_now(&self, host: HostId) -> Result<Entered, Refusal> {
        let mut table = self.table();
        let entry = table.host(host, 0);
        if entry.wants + entry.circuits.len() >= self.0.limits.circuits_per_host {
            return Err(Refusal::limited(Limit::CircuitsPerHost, "this host has as many circuits as it may have"));
        }
        entry.wants += 1;
        drop(table);
        Ok(self.entered(move |table| table.leave(host, |entry| entry.wants -= 1)))
    }

    pub(super) fn ask_now(&self, host: HostId) {
        let table = self.table();
        if let Some(control) = table.hosts.get(&host).and_then(|entry| entry.control.as_ref()) {
            control.want_circuit();
        }
    }
}

impl Host {
    /// Ends the data connections that stand by and that `keep` does not want.
    fn end_spares(&mut self, keep: impl Fn(&Spare) -> bool) {
        self.standing_by.retain(|_, spare| {
            let kept = keep(spare);
            if !kept {
                let why = "the control connection that this data connection belongs to is gone";
                spare.end.end(Refusal::new(CloseCode::PeerGone, why));
            }
            kept
        });
    }
}
