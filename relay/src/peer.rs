//! Who is at the other end of a connection, where it came from, and what it counts against.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::Notify;

use crate::door::Place;
use crate::metrics::Open;

/// A connection that counts against the limits for as long as this lives.
pub(crate) struct Connection {
    /// Its place among all others.
    pub(crate) place: Place,
    welcomed: Notify,
    _open: Open,
}

impl Connection {
    /// A connection in its place; `open` counts it among those that are open.
    pub(crate) fn new(place: Place, open: Open) -> Self {
        Self { place, welcomed: Notify::new(), _open: open }
    }

    /// A peer at its other end is let in.
    pub(crate) fn welcome(&self) {
        self.place.keep();
        self.welcomed.notify_one();
    }

    /// Returns when a peer was let in since this was last asked: one asks.
    pub(crate) async fn welcomed(&self) {
        self.welcomed.notified().await;
    }
}

/// Who is at the other end, as an extension of each request.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// Its connection; a link keeps it.
    pub(crate) connection: Arc<Connection>,
}
