//! How a link ends when nothing is wrong with it, and what its peer is told.

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
pub(super) async fn finish(state: &State, link: &mut Link, ending: Ending) {
    let write = ms(state.limits().write_ms);
    let told = match ending {
        Ending::Gone => return,
        Ending::Refused(refusal) => {
            count(state, &refusal);
            let (frame, code) = (refusal.frame(), refusal.code);
            close(link, Some(frame), code, code.name().to_owned(), write).await
        }
        Ending::Restarting => {
            let delay = state.restart_delay().as_millis();
            let reconnect_in_ms = u32::try_from(delay).unwrap_or(u32::MAX);
            let frame = RelayToPeer::Restarting { reconnect_in_ms }.encode();
            close(link, Some(frame), CloseCode::Restarting, delay.to_string(), write).await
        }
    };
    if told.is_ok() {
        link.linger().await;
    }
}

/// Counts a refusal and logs it.
pub(super) fn count(state: &State, refusal: &Refusal) {
    state.metrics.refused(refusal.code);
    if let Some(limit) = refusal.limit {
        state.metrics.limit(limit);
    }
    tracing::debug!(code = refusal.code.name(), limit = refusal.limit.map(Limit::name), "peer refused or put out");
}
