//! `--transport`: what carries connections to a relay.

use clap::ValueEnum;
use reachback_proto::pairing::Origin;

use crate::link::transports::TransportChoice;
use crate::local_api::Failure;

/// What carries connections to a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum TransportArg {
    /// QUIC where it gets through, else a WebSocket; QUIC is tried again every ten minutes.
    Auto,
    /// QUIC only. The relay needs TLS of its own, and UDP has to get through.
    Quic,
    /// A WebSocket only.
    Wss,
}

impl From<TransportArg> for TransportChoice {
    fn from(arg: TransportArg) -> Self {
        match arg {
            TransportArg::Auto => Self::Auto,
            TransportArg::Quic => Self::Quic,
            TransportArg::Wss => Self::Wss,
        }
    }
}

/// Refuses what can't be: there is no QUIC without TLS.
pub(super) fn check(transport: TransportArg, relay: &Origin) -> Result<(), Failure> {
    if transport != TransportArg::Quic || relay.is_secure() {
        return Ok(());
    }
    let message = format!("there is no QUIC to {relay}: QUIC is always encrypted, and that address is plain HTTP");
    Err(Failure::new("no_quic", message).fix("leave --transport out, or give the relay's https:// address"))
}
