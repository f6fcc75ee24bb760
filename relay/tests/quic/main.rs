//! The relay over QUIC: what holds over WebSockets (`tests/relay`) holds here too, and what only QUIC has.

#[path = "../relay/circuits.rs"]
mod circuits;
#[path = "../relay/common.rs"]
mod common;
#[path = "../relay/devices.rs"]
mod devices;
#[path = "../relay/enrolment.rs"]
mod enrolment;
#[path = "../relay/greeting.rs"]
mod greeting;
#[path = "../relay/pairing.rs"]
mod pairing;
#[path = "../relay/presence.rs"]
mod presence;
#[path = "../relay/registration.rs"]
mod registration;
#[path = "../relay/shutdown.rs"]
mod shutdown;
#[path = "../relay/tls.rs"]
mod tls;

mod connection;
mod middlebox;
mod strangers;
mod transport;
