//! Who is at the other end of a connection, where it came from, and what it counts against.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::door::Place;
use crate::metrics::Open;

/// A connection that counts against the limits for as long as this lives.
pub(crate) struct Connection {
    /// Its place among all others.
    pub(crate) place: Place,
    welcomed: CancellationToken,
    _open: Open,
}

impl Connection {
    /// A connection in its place; `open` counts it among those that are open.
    pub(crate) fn new(place: Place, open: Open) -> Self {
        Self { place, welcomed: CancellationToken::new(), _open: open }
    }

    /// A peer at its other end is let in.
    pub(crate) fn welcome(&self) {
        self.place.keep();
        self.welcomed.cancel();
    }

    /// Returns once a peer was let in.
    pub(crate) async fn welcomed(&self) {
        self.welcomed.cancelled().await;
    }
}

/// Who is at the other end, as an extension of each request.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// Its connection; a link keeps it.
    pub(crate) connection: Arc<Connection>,
}
