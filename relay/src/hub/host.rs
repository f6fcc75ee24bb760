//! Control connections of hosts: one per host, the newest run of its agent wins.

use std::sync::Arc;

use reachback_proto::close::CloseCode;
use reachback_proto::ids::{BootId, HostId};
use tokio::sync::{mpsc, oneshot};

use super::{Hub, Presence};
use crate::refusal::{End, Refusal};

/// Commands that may wait for a control connection.
///
/// When it is full a command is dropped: a host that is asked for a circuit is
/// asked again, and a probe that does not arrive counts as unanswered.
const COMMANDS: usize = 64;

/// What the hub asks of a control connection's task.
#[derive(Debug)]
pub(crate) enum Command {
    /// Tell the host that a data connection is wanted.
    CircuitWanted,
    /// Ask the host for a sign of life, and answer when it came.
    Probe(oneshot::Sender<()>),
    /// Tell the host that another machine uses its key.
    Conflict,
}

pub(super) struct Control {
    number: u64,
    pub(super) boot: BootId,
    commands: mpsc::Sender<Command>,
    end: End,
}

impl Control {
    /// Asks the host for a data connection.
    pub(super) fn want_circuit(&self) {
        let _full = self.commands.try_send(Command::CircuitWanted);
    }
}

/// Another run of this host's agent holds the registration.
pub(crate) struct Occupied {
    /// Number of its control connection.
    pub(crate) number: u64,
    /// Its queue, to probe it.
    pub(crate) commands: mpsc::Sender<Command>,
}

/// A host's control connection in the hub. Dropping it takes the host offline, unless a newer one took its place.
pub(crate) struct Registration {
    hub: Arc<Hub>,
    host: HostId,
    number: u64,
    /// What the hub asks of the connection.
    pub(crate) commands: mpsc::Receiver<Command>,
    /// When the connection must end.
    pub(crate) end: End,
    unix_now: fn() -> u64,
}

impl Hub {
    /// Makes this connection the host's, putting an older one of the same run out.
    ///
    /// A connection of another run keeps its place, unless it is the one with
    /// the number `dead`, which did not answer a probe.
    pub(crate) fn register(
        self: &Arc<Self>,
        host: HostId,
        boot: BootId,
        dead: Option<u64>,
        unix_now: fn() -> u64,
    ) -> Result<Registration, Occupied> {
        let (sender, commands) = mpsc::channel(COMMANDS);
        let end = End::default();
        let mut table = self.table();
        let number = table.number();
        let entry = table.host(host, 0);
        if let Some(old) = entry.control.take() {
            if old.boot != boot && Some(old.number) != dead {
                let occupied = Occupied { number: old.number, commands: old.commands.clone() };
                entry.control = Some(old);
                return Err(occupied);
            }
            let why = "a newer connection of this host took this one's place";
            old.end.end(Refusal::new(CloseCode::Replaced, why));
        }
        // What belongs to an earlier run of the agent is gone with it.
        entry.drop_spares(|spare| spare.boot == boot);
        entry.end_circuits_of_other_runs(boot);
        let control = Control { number, boot, commands: sender, end: end.clone() };
        for _ in 0..entry.live_waiters() {
            control.want_circuit();
        }
        entry.control = Some(control);
        entry.presence.send_replace(Presence { online: true, since: unix_now() });
        table.pairings.retain(|_, pairing| pairing.host != host || pairing.boot == boot);
        drop(table);
        Ok(Registration { hub: self.clone(), host, number, commands, end, unix_now })
    }

    /// Asks the host for a data connection again: the first request, or the host's dial, may have been lost.
    pub(crate) fn remind(&self, host: HostId) {
        let table = self.table();
        if let Some(control) = table.hosts.get(&host).and_then(|entry| entry.control.as_ref()) {
            control.want_circuit();
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut table = self.hub.table();
        let Some(entry) = table.hosts.get_mut(&self.host) else { return };
        if entry.control.as_ref().is_none_or(|control| control.number != self.number) {
            return;
        }
        entry.control = None;
        // Circuits stay: their sockets are their own. Spares are not worth a risk: the machine may be gone.
        entry.drop_spares(|_| false);
        entry.presence.send_replace(Presence { online: false, since: (self.unix_now)() });
        table.tidy(self.host);
    }
}
