//! The relay over QUIC: one connection, and a stream of it for each link.
//!
//! What it is for: a host whose address changes goes on with the connection that it has, and a lost packet holds up one
//! circuit and not all.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, IdleTimeout, TokenMemoryCache, TokenStore, TransportConfig, VarInt};
use reachback_proto::endpoint::{Endpoint, QUIC_ALPN};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::dial::{self, DialError};
use super::transport::Transport;
use super::ws::{self, WebSocket};

/// Says that we are there after this long without another word: middleboxes forget UDP after 30 s and more
/// (RFC 9000 §10.1.2).
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A connection is gone after this long without a word, as any connection to a relay.
const SILENCE: VarInt = VarInt::from_u32(45_000);

/// What one circuit may have under way to us. A megabyte fills a link of 80 Mbit/s and 100 ms.
const STREAM_WINDOW: VarInt = VarInt::from_u32(1024 * 1024);

/// The same for all circuits together: a few dozen that are not read hold up no other.
const WINDOW: VarInt = VarInt::from_u32(32 * 1024 * 1024);

/// Proofs of our address that relays have given us, for one more connection each.
#[derive(Default)]
pub(super) struct Tokens(Arc<TokenMemoryCache>);

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens")
    }
}

/// A connection to a relay. It ends when the last clone and the last of its links is dropped.
#[derive(Debug, Clone)]
pub(crate) struct QuicConnection(Connection);

impl QuicConnection {
    /// Connects to the first address of `host` that answers before `deadline`.
    pub(super) async fn dial(
        host: &str,
        port: u16,
        tls: rustls::ClientConfig,
        tokens: &Tokens,
        deadline: Instant,
    ) -> Result<Self, DialError> {
        let config = client_config(tls, tokens);
        dial::connect_by(host, port, deadline, |address| connect(address, host.to_owned(), config.clone())).await
    }

    /// Opens a link on it.
    pub(super) async fn open(&self, endpoint: Endpoint) -> io::Result<Box<dyn Transport>> {
        let (mut send, receive) = self.0.open_bi().await?;
        send.write_all(&[endpoint.byte()]).await?;
        let stream = tokio::io::join(receive, send);
        Ok(Box::new(WebSocket(WebSocketStream::from_raw_socket(stream, Role::Client, Some(ws::config())).await)))
    }
}

async fn connect(address: SocketAddr, host: String, config: ClientConfig) -> io::Result<QuicConnection> {
    // Of no address of ours: when that one changes, packets leave from the new one.
    let any = if address.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = quinn::Endpoint::client(SocketAddr::new(any, 0))?;
    let connecting = socket.connect_with(config, address, &host).map_err(io::Error::other)?;
    Ok(QuicConnection(connecting.await?))
}

fn client_config(mut tls: rustls::ClientConfig, tokens: &Tokens) -> ClientConfig {
    tls.alpn_protocols = vec![QUIC_ALPN.to_vec()];
    let tls = QuicClientConfig::try_from(tls).expect("ring has the cipher that QUIC begins with");
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(STREAM_WINDOW)
        .receive_window(WINDOW)
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(IdleTimeout::from(SILENCE)));
    let mut config = ClientConfig::new(Arc::new(tls));
    config.transport_config(Arc::new(transport)).token_store(Arc::clone(&tokens.0) as Arc<dyn TokenStore>);
    config
}
