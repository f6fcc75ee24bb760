//! Whether a host is online, asked of its relay.

use std::time::Duration;

use reachback_proto::control::RelayToPeer;
use reachback_proto::crypto::keys::Identity;
use reachback_proto::ids::HostId;
use tokio::time::timeout;

use crate::link::relay::{Caller, RelayAddress, RelayError};

/// A relay says so right after its welcome.
const PATIENCE: Duration = Duration::from_secs(10);

/// A host, as its relay sees it. The relay may lie: it can hide a host, not fake one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Presence {
    /// Whether the host is connected.
    pub online: bool,
    /// Since when, in seconds since 1970; 0 when it was never seen.
    pub since: u64,
}

/// Asks the relay.
pub async fn ask(relay: &RelayAddress, identity: &Identity, host: HostId) -> Result<Presence, RelayError> {
    let mut connection = relay.connect(&Caller::Device { identity, host, watch_only: true }).await?;
    match timeout(PATIENCE, connection.receive()).await {
        Ok(Ok(RelayToPeer::Presence { online, since })) => Ok(Presence { online, since }),
        Ok(Ok(_)) => Err(RelayError::Protocol("it does not say whether the host is online")),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(RelayError::TimedOut(relay.origin.to_string())),
    }
}
