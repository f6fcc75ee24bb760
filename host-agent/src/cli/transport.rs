//! `--transport`: what carries connections to a relay; and the proxy and the authorities that the environment names.

use clap::ValueEnum;
use reachback_proto::pairing::Origin;

use crate::link::transports::{TransportChoice, Transports};
use crate::link::way_out::WayOut;
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

/// The variables that say how a relay is reached, for the help of the commands that dial one.
pub(super) const ENVIRONMENT: &str = "\
Environment, as for curl and Codex:
  HTTPS_PROXY           the proxy to the relay: http://[NAME:PASSWORD@]HOST:PORT
  ALL_PROXY             the same, where there is no HTTPS_PROXY
  NO_PROXY              what is reached without it: names, addresses, or *
  CODEX_CA_CERTIFICATE  a PEM file of authorities to trust beside the system's
  SSL_CERT_FILE         a PEM file of authorities to trust in their place";

/// What the environment says of the way to relays. It is read here and nowhere else.
pub(super) fn way_out() -> WayOut {
    WayOut::of(|name| std::env::var_os(name))
}

/// The way to relays by what was chosen.
pub(super) fn transports(choice: impl Into<TransportChoice>) -> Transports {
    Transports::new(choice.into()).through(way_out())
}

/// Refuses what can't be: there is no QUIC without TLS.
pub(super) fn check(transport: TransportArg, relay: &Origin) -> Result<(), Failure> {
    if transport != TransportArg::Quic || relay.is_secure() {
        return Ok(());
    }
    let message = format!("there is no QUIC to {relay}: QUIC is always encrypted, and that address is plain HTTP");
    Err(Failure::new("no_quic", message).fix("leave --transport out, or give the relay's https:// address"))
}
