//! What carries links in these tests: WebSockets over TCP. `tests/quic/transport.rs` is its counterpart.

use reachback_proto::endpoint::Endpoint;
use reachback_relay::Config;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;

use crate::common::{Carrier, Socket, TestRelay, within};

/// What a relay needs for it beside its defaults.
pub(crate) fn configure(_: &mut Config) {}

/// A link that was not greeted yet.
pub(crate) async fn open(relay: &TestRelay, endpoint: Endpoint) -> Socket {
    let address = relay.relay.local_addr();
    let stream = TcpStream::connect(address).await.expect("the relay accepts");
    upgraded(stream, &format!("ws://{address}{}", endpoint.path())).await
}

/// A WebSocket that was asked for at `url`.
pub(crate) async fn upgraded(stream: TcpStream, url: &str) -> Socket {
    let request = url.into_client_request().expect("a URL");
    upgraded_by(stream, request).await
}

/// The same with a request of one's own.
pub(crate) async fn upgraded_by(stream: TcpStream, request: Request) -> Socket {
    let stream: Box<dyn Carrier> = Box::new(stream);
    within("the upgrade", tokio_tungstenite::client_async(request, stream)).await.expect("a WebSocket").0
}
