//! What carries links in these tests: streams of QUIC connections. `tests/relay/transport.rs` is its counterpart.

use std::net::SocketAddr;
use std::sync::Arc;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, ConnectionError};
use reachback_proto::endpoint::{Endpoint, QUIC_ALPN};
use reachback_relay::{Config, Quic, Tls};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::common::{Carrier, Socket, TestRelay, within};
use crate::tls;

/// What a relay needs for it beside its defaults.
pub(crate) fn configure(config: &mut Config) {
    config.tls = Tls::Generated;
    config.quic = Quic::On;
}

/// A link that was not greeted yet, on a connection of its own.
pub(crate) async fn open(relay: &TestRelay, endpoint: Endpoint) -> Socket {
    open_on(&connect(relay).await, endpoint).await
}

/// A link on this connection.
pub(crate) async fn open_on(connection: &Connection, endpoint: Endpoint) -> Socket {
    let (mut send, receive) = within("a stream", connection.open_bi()).await.expect("the relay takes a stream");
    send.write_all(&[endpoint.byte()]).await.expect("the relay reads");
    let stream: Box<dyn Carrier> = Box::new(tokio::io::join(receive, send));
    WebSocketStream::from_raw_socket(stream, Role::Client, None).await
}

/// A connection to the relay.
pub(crate) async fn connect(relay: &TestRelay) -> Connection {
    connect_from(1, relay).await.expect("the relay accepts")
}

/// A connection from 127.0.0.`last`, if the relay takes it.
pub(crate) async fn connect_from(last: u8, relay: &TestRelay) -> Result<Connection, ConnectionError> {
    let connecting = client_from(last).connect_with(client_config(), relay.relay.local_addr(), "localhost");
    within("the connection", connecting.expect("an address")).await
}

/// A socket of 127.0.0.`last`. Connections that were made with it outlive it.
pub(crate) fn client_from(last: u8) -> quinn::Endpoint {
    quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, last], 0))).expect("a socket")
}

pub(crate) fn client_config() -> ClientConfig {
    let mut tls = tls::client();
    tls.alpn_protocols = vec![QUIC_ALPN.to_vec()];
    ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).expect("TLS 1.3")))
}
