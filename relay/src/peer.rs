//! Who is at the other end of a connection, where it came from, and what it counts against.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::door::Place;
use crate::metrics::Open;

/// A connection that counts against the limits for as long as this lives.
pub(crate) struct Connection {
    /// Its place among all others.
    pub(crate) place: Place,
    _open: Open,
}

impl Connection {
    /// A connection in its place; `open` counts it among those that are open.
    pub(crate) fn new(place: Place, open: Open) -> Self {
        Self { place, _open: open }
    }
}

/// Who is at the other end, as an extension of each request.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// Its connection; a link keeps it.
    pub(crate) connection: Arc<Connection>,
}

/// Which endpoint a peer came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// `/v1/host`
    Host,
    /// `/v1/host/data`
    HostData,
    /// `/v1/device`
    Device,
}
