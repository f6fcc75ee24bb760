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

use futures_util::future::BoxFuture;
use reachback_proto::endpoint::Endpoint;

use crate::link::Link;
use crate::state::State;
use ending::finish;

/// Serves one peer from challenge to close.
pub(crate) async fn serve(state: Arc<State>, mut link: Link, endpoint: Endpoint, from: IpAddr) {
    // What a link goes through is on the heap, part by part. Most links wait for hours, and a future
    // has the room of the largest part that it awaits for as long as it lives.
    let serving: BoxFuture<'_, ()> = match Box::pin(greet::greet(&state, &mut link, endpoint, from)).await {
        Ok(greet::Hello::Host(hello)) => Box::pin(host::serve(&state, link, hello)),
        Ok(greet::Hello::Data(hello)) => Box::pin(data::serve(&state, link, hello)),
        Ok(greet::Hello::Device(hello)) => Box::pin(device::serve(&state, link, hello)),
        Ok(greet::Hello::Pairing(hello)) => Box::pin(device::serve_pairing(&state, link, hello, from)),
        Err(ending) => finish(&state, link, ending),
    };
    serving.await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::room;

    #[test]
    fn a_link_that_only_waits_takes_no_room_for_what_it_may_do_later() {
        let rooms = [
            ("host", room(|(state, link, hello): (&'static State, _, _)| host::serve(state, link, hello))),
            ("host_data", room(|(state, link, hello): (&'static State, _, _)| data::serve(state, link, hello))),
            ("device", room(|(state, link, hello): (&'static Arc<State>, _, _)| device::serve(state, link, hello))),
        ];
        for (link, room) in rooms {
            assert!(room <= 1280, "the future of a {link} link takes {room} bytes for as long as the link is there");
        }
    }
}
