//! Who is online, and at which relay process.
//!
//! A task enters what it owns: a host's control connection, a data connection
//! that stands by, a device's link, a circuit. It gets a guard whose drop takes
//! out that entry and no other, so that a late old connection can't evict a new
//! one, and ways to be reached: an [`End`], a queue of [`Command`]s, the host's
//! [`Presence`]. The directory holds the other ends of these and never a link: a
//! data connection comes to the process where a device waits, and the two meet
//! in the [`hub`](crate::hub) there.
//!
//! So several processes can share a directory that carries a few small messages
//! and none of the circuits' bytes. [`InMemory`] is that of one process.
//! `contract.rs` has the tests that each implementation must pass.

#[cfg(test)]
mod contract;
mod memory;

use std::time::Duration;

use futures_util::future::BoxFuture;
use reachback_proto::ids::{BootId, HostId, PublicKey, RendezvousId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::refusal::{End, Refusal};

pub(crate) use memory::InMemory;

/// What a directory answers; or what the peer is told for whom it was asked, be that a limit or that the directory failed.
pub(crate) type Answer<'a, T> = BoxFuture<'a, Result<T, Refusal>>;

/// Who is online. What is entered at one process is found at every other.
///
/// A future that is dropped before it is ready leaves no entry behind.
pub(crate) trait Directory: Send + Sync {
    /// Makes this control connection the host's, putting an older one of the same run out.
    ///
    /// A connection of another run keeps its place, unless it is the one with the number `dead`, which did not answer a
    /// probe. What belongs to another run ends when this one is registered: data connections that stand by, circuits,
    /// rendezvous. The host is asked for a data connection for each device that wants one.
    fn register(&self, host: HostId, boot: BootId, dead: Option<u64>) -> Answer<'_, Registered>;

    /// Enters a data connection of the run of the host's agent that is registered; refused when another is, or none.
    fn stand_by(&self, host: HostId, boot: BootId) -> Answer<'_, StandBy>;

    /// Enters a device that wants a data connection of the host, within the limit of circuits. See also [`Self::ask`].
    fn want(&self, host: HostId) -> Answer<'_, Entered>;

    /// Asks the host for a data connection to this process, if it is online. Requests may be lost: ask again.
    fn ask(&self, host: HostId) -> Answer<'_, ()>;

    /// Enters a device's link; `seen` is when the store last saw the host. A pairing has no key.
    ///
    /// The device list is looked up *after* this. A list that changes meanwhile either is seen by that look-up, or
    /// finds this entry and ends it.
    fn join(&self, host: HostId, key: Option<PublicKey>, seen: u64) -> Answer<'_, DeviceEntry>;

    /// Ends the links of devices that are not in `keys`.
    fn enforce(&self, host: HostId, keys: Vec<PublicKey>) -> Answer<'_, ()>;

    /// Enters a circuit with the host; `end` is that of the device's link.
    fn start_circuit(&self, host: HostId, end: End) -> Answer<'_, Circuit>;

    /// Opens a rendezvous, or gives one that is open more time.
    fn open_pairing(
        &self,
        host: (HostId, BootId),
        rendezvous: RendezvousId,
        lasts: Duration,
        now: Instant,
    ) -> Answer<'_, Opening>;

    /// Closes a rendezvous, if it is this host's.
    fn close_pairing(&self, host: HostId, rendezvous: RendezvousId) -> Answer<'_, ()>;

    /// When the next rendezvous of a host expires whose control connection is at this process, which so knows it.
    fn next_expiry(&self, host: HostId) -> Option<Instant>;

    /// Removes and returns the host's rendezvous that are over at `now`.
    fn expired_pairings(&self, host: HostId, now: Instant) -> Answer<'_, Vec<RendezvousId>>;

    /// Forgets rendezvous that are over, of hosts that are not here to hear it.
    fn prune_pairings(&self, now: Instant) -> Answer<'_, ()>;

    /// Puts a device on a rendezvous, which takes one at a time.
    fn enter_pairing(&self, rendezvous: RendezvousId, now: Instant) -> Answer<'_, PairingEntry>;
}

/// Something that is in the directory for as long as this lives.
pub(crate) struct Entered {
    _guard: Box<dyn Send + Sync>,
}

impl Entered {
    /// `guard` takes it out when it is dropped.
    fn until_dropped(guard: impl Send + Sync + 'static) -> Self {
        Self { _guard: Box::new(guard) }
    }
}

/// Whether a host is connected, and since when (seconds since 1970, 0 for never seen).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Presence {
    pub(crate) online: bool,
    pub(crate) since: u64,
}

/// What the directory asks of a control connection's task.
#[derive(Debug)]
pub(crate) enum Command {
    /// Tell the host that a data connection is wanted.
    CircuitWanted,
    /// Ask the host for a sign of life, and answer when it came.
    Probe(oneshot::Sender<()>),
    /// Tell the host that another machine uses its key.
    Conflict,
}

/// What became of a control connection.
pub(crate) enum Registered {
    /// It is the host's.
    Here(Registration),
    /// Another run of the host's agent holds the place.
    Occupied(Occupied),
}

/// A host's control connection. Dropping it takes the host offline, unless a newer one took its place.
pub(crate) struct Registration {
    /// What is asked of the connection.
    pub(crate) commands: mpsc::Receiver<Command>,
    /// When the connection must end.
    pub(crate) end: End,
    _entered: Entered,
}

/// Another run of this host's agent holds the registration.
pub(crate) struct Occupied {
    /// Number of its control connection.
    pub(crate) number: u64,
    /// Its queue, to probe it.
    pub(crate) commands: mpsc::Sender<Command>,
}

/// A data connection that no device has taken yet.
pub(crate) struct StandBy {
    /// When it must end: with the control connection of its run.
    pub(crate) end: End,
    _entered: Entered,
}

/// A device's link, from before its key is looked up.
pub(crate) struct DeviceEntry {
    /// When the link must end.
    pub(crate) end: End,
    /// Whether the host is here.
    pub(crate) presence: watch::Receiver<Presence>,
    _entered: Entered,
}

pub(crate) struct Circuit {
    /// Its number, for logs of both ends.
    pub(crate) number: u64,
    _entered: Entered,
}

/// What became of a rendezvous that a host wants to open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opening {
    Open,
    /// The host holds as many as it may.
    TooMany,
    /// Another host holds this one.
    Taken,
}

/// A device on a rendezvous, which is free for the next when this is dropped.
pub(crate) struct PairingEntry {
    /// The host that opened it.
    pub(crate) host: HostId,
    _entered: Entered,
}
