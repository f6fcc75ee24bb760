//! How a link ends when nothing is wrong with it, and what its peer is told.

use futures_util::future::BoxFuture;
use reachback_proto::close::CloseCode;
use reachback_proto::control::RelayToPeer;

use crate::limits::{Limit, ms};
use crate::link::{Link, LinkError, close};
use crate::refusal::Refusal;
use crate::state::State;

/// How a peer's task ends when nothing is wrong with its link.
pub(super) enum Ending {
    /// The peer is told why it is put out.
    Refused(Refusal),
    /// The relay stops; the peer is told when to come back.
    Restarting,
    /// There is nobody to tell.
    Gone,
}

impl From<Refusal> for Ending {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<LinkError> for Ending {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Gone => Self::Gone,
            LinkError::TooLarge => Self::Refused(Refusal::too_large(None)),
            LinkError::Malformed => Self::Refused(Refusal::malformed("binary messages only")),
            LinkError::Stalled => Self::Refused(Refusal::timeout(Limit::Write)),
        }
    }
}

/// Tells the peer how its link ends, and closes it.
///
/// On the heap, because each link's future would else have the room for its end from its start.
pub(super) fn finish(state: &State, mut link: Link, ending: Ending) -> BoxFuture<'_, ()> {
    Box::pin(async move {
        let write = ms(state.limits().write_ms);
        let (frame, code, reason) = match ending {
            Ending::Gone => return,
            Ending::Refused(refusal) => {
                count(state, &refusal);
                (refusal.frame(), refusal.code, refusal.code.name().to_owned())
            }
            Ending::Restarting => {
                let delay = state.restart_delay().as_millis();
                let reconnect_in_ms = u32::try_from(delay).unwrap_or(u32::MAX);
                let frame = RelayToPeer::Restarting { reconnect_in_ms }.encode();
                (frame, CloseCode::Restarting, delay.to_string())
            }
        };
        if close(&mut link, Some(frame), code, reason, write).await.is_ok() {
            link.linger().await;
        }
    })
}

/// Counts a refusal and logs it.
pub(super) fn count(state: &State, refusal: &Refusal) {
    state.metrics.refused(refusal.code);
    if let Some(limit) = refusal.limit {
        state.metrics.limit(limit);
    }
    tracing::debug!(code = refusal.code.name(), limit = refusal.limit.map(Limit::name), "peer refused or put out");
}
