//! Why a peer is not let in, or is put out: code, delay, and words for a person.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reachback_proto::close::CloseCode;
use reachback_proto::control::{MAX_REFUSAL_MESSAGE, RelayToPeer};
use reachback_proto::wire::DecodeError;
use tokio_util::sync::CancellationToken;

use crate::limits::Limit;
use crate::store::StoreError;

/// A refusal, as the peer hears it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The code in the frame and in the close.
    pub(crate) code: CloseCode,
    /// When trying again makes sense.
    pub(crate) retry_after: Duration,
    /// The limit that was met.
    pub(crate) limit: Option<Limit>,
    message: String,
}

impl Refusal {
    /// A refusal without a delay. `message` says what was refused and what to do; nothing in it comes from the peer.
    pub(crate) fn new(code: CloseCode, message: impl Into<String>) -> Self {
        Self { code, retry_after: Duration::ZERO, limit: None, message: message.into() }
    }

    /// The same, saying when to try again.
    pub(crate) fn retry_after(self, retry_after: Duration) -> Self {
        Self { retry_after, ..self }
    }

    fn from_limit(code: CloseCode, limit: Limit, message: impl Into<String>) -> Self {
        Self { limit: Some(limit), ..Self::new(code, message) }
    }

    /// A limit of the relay was met.
    pub(crate) fn limited(limit: Limit, what: &str) -> Self {
        let message = format!("{what}; the relay's operator can raise the limit `{}`", limit.name());
        Self::from_limit(CloseCode::Limited, limit, message)
    }

    /// The peer was silent for too long.
    pub(crate) fn timeout(limit: Limit) -> Self {
        Self::from_limit(CloseCode::Timeout, limit, format!("nothing arrived in time (`{}`)", limit.name()))
    }

    /// A frame over a limit.
    pub(crate) fn too_large(limit: Option<Limit>) -> Self {
        Self { limit, ..Self::new(CloseCode::TooLarge, "a message was larger than this connection may carry now") }
    }

    /// Bytes that are not what belongs here.
    pub(crate) fn malformed(what: &str) -> Self {
        Self::new(CloseCode::Malformed, what)
    }

    /// The frame as bytes.
    pub(crate) fn frame(&self) -> Vec<u8> {
        let mut message = self.message.clone();
        message.truncate(message.floor_char_boundary(MAX_REFUSAL_MESSAGE));
        let retry_after_ms = u32::try_from(self.retry_after.as_millis()).unwrap_or(u32::MAX);
        RelayToPeer::Refused { code: self.code.number(), retry_after_ms, message }.encode()
    }
}

impl From<DecodeError> for Refusal {
    fn from(error: DecodeError) -> Self {
        // These errors name fields and lengths, never contents.
        Self::malformed(&error.to_string())
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        tracing::error!(%error, cause, "a peer was refused");
        Self::new(CloseCode::Internal, "the relay could not answer; its log has the cause")
            .retry_after(Duration::from_secs(5))
    }
}

/// A way to end a link from outside its task; the first reason counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct End(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    why: OnceLock<Refusal>,
    token: CancellationToken,
}

impl End {
    /// Ends the link.
    pub(crate) fn end(&self, why: Refusal) {
        if self.0.why.set(why).is_ok() {
            self.0.token.cancel();
        }
    }

    /// Whether the link should end.
    pub(crate) fn is_over(&self) -> bool {
        self.0.token.is_cancelled()
    }

    /// Waits until the link should end.
    pub(crate) async fn ended(&self) -> Refusal {
        self.0.token.cancelled().await;
        self.0.why.get().cloned().expect("the reason is set before the token is cancelled")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_reason_to_end_counts() {
        let end = End::default();
        end.end(Refusal::new(CloseCode::Revoked, "one"));
        end.end(Refusal::new(CloseCode::Normal, "two"));
        assert_eq!(end.ended().await.code, CloseCode::Revoked);
    }

    #[test]
    fn a_long_message_is_cut_to_what_a_frame_holds() {
        let frame = Refusal::malformed(&"ü".repeat(MAX_REFUSAL_MESSAGE)).frame();
        assert!(RelayToPeer::decode(&frame).is_ok());
    }
}
