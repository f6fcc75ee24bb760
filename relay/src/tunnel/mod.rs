//! Links to hosts and devices, from the transport inwards.
//!
//! ```text
//!   ws.rs                   a transport: messages in, messages out, a close with a code; over TCP and over a QUIC stream
//!   greet.rs                challenge, hello, welcome: the same for all
//!   host.rs data.rs         a host's control connection; its data connections
//!   device.rs               a device that waits for its host, or pairs
//!   circuit.rs              two links spliced
//!   ending.rs               what a peer is told at the end
//! ```
//!
//! Only the transport knows what it is made of. The rest takes a [`Link`].

mod circuit;
mod data;
mod device;
mod ending;
mod greet;
mod host;
pub(crate) mod ws;

use std::net::IpAddr;
use std::sync::Arc;

use reachback_proto::endpoint::Endpoint;

use crate::link::Link;
use crate::state::State;
use ending::finish;

/// Serves one peer from challenge to close.
pub(crate) async fn serve(state: Arc<State>, mut link: Link, endpoint: Endpoint, from: IpAddr) {
    // Each kind of peer has its own part on the heap. Else all would have the room of the one that needs most, and of the greeting.
    let result = match Box::pin(greet::greet(&state, &mut link, endpoint, from)).await {
        Ok(greet::Hello::Host(hello)) => Box::pin(host::serve(&state, &mut link, hello)).await,
        // These hand their link on; what is left of it is closed where it ends.
        Ok(greet::Hello::Data(hello)) => return Box::pin(data::serve(&state, link, hello)).await,
        Ok(greet::Hello::Device(hello)) => return Box::pin(device::serve(&state, link, hello)).await,
        Ok(greet::Hello::Pairing(hello)) => return Box::pin(device::serve_pairing(&state, link, hello, from)).await,
        Err(ending) => Err(ending),
    };
    if let Err(ending) = result {
        finish(&state, &mut link, ending).await;
    }
}
