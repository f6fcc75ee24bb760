//! The relay's QUIC socket and how it is set up.
//!
//! Three secrets come from the relay's identity, so that a relay that was started again can tell peers of the one
//! before that their connections are gone (stateless reset, RFC 9000 §10.3), and takes the tokens that it gave.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{NoInitialCipherSuite, QuicServerConfig};
use quinn::{Endpoint, EndpointConfig, IdleTimeout, ServerConfig, TokioRuntime, TransportConfig, VarInt};
use reachback_proto::crypto::keys::Identity;
use reachback_proto::endpoint::QUIC_ALPN;
use ring::hkdf::{self, HKDF_SHA256};
use ring::hmac::{self, HMAC_SHA256};
use socket2::SockRef;

use super::connection_ids::ConnectionIds;
use crate::limits::{Limits, ms};

/// What one stream may have under way to us. A megabyte fills a link of 80 Mbit/s and 100 ms.
const STREAM_WINDOW: VarInt = VarInt::from_u32(1024 * 1024);

/// What a connection that was not let in yet may have under way to us: hellos of a few KiB, and a WebSocket's framing.
const STRANGERS_WINDOW: VarInt = VarInt::from_u32(16 * 1024);

/// Connections that were asked for and not looked at yet, and what may be kept of each and of all: they are looked at
/// at once.
const MAX_INCOMING: usize = 256;
const INCOMING_BYTES: u64 = 8 * 1024;
const ALL_INCOMING_BYTES: u64 = 1024 * 1024;

/// After a crash each host hears with its next packet that its connection is gone. The library would tell 50 a second.
/// Only who knows ids of ours is told, and with fewer bytes than came.
const RESETS_APART: Duration = Duration::from_millis(1);

/// Room for packets that the system has and we did not take yet, and the other way round. All connections share one
/// socket. Where 200 hosts came back at once, the 208 KiB that Linux gives unasked lost one packet in 25, and who loses
/// one of a handshake waits a second and more.
const SOCKET_BYTES: usize = 4 * 1024 * 1024;

/// Why QUIC can't be offered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuicError {
    /// TLS can't be used for it.
    #[error("its TLS can't be used for QUIC")]
    Tls(#[from] NoInitialCipherSuite),
    /// The port can't be had.
    #[error("UDP port {} can't be had", address.port())]
    Socket {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// Takes the UDP port at `address`, and offers what `tls` offers.
pub(crate) fn bind(
    address: SocketAddr,
    identity: &Identity,
    mut tls: rustls::ServerConfig,
    limits: &Limits,
) -> Result<Endpoint, QuicError> {
    let secrets = Secrets::of(identity);
    tls.alpn_protocols = vec![QUIC_ALPN.to_vec()];
    let mut server = ServerConfig::new(Arc::new(QuicServerConfig::try_from(tls)?), secrets.tokens);
    server.transport_config(Arc::new(transport(limits)));
    server
        .max_incoming(MAX_INCOMING)
        .incoming_buffer_size(INCOMING_BYTES)
        .incoming_buffer_size_total(ALL_INCOMING_BYTES);
    let mut config = EndpointConfig::new(secrets.resets);
    let connection_ids = secrets.connection_ids;
    config.cid_generator(move || Box::new(ConnectionIds::new(connection_ids.clone()))).min_reset_interval(RESETS_APART);
    let no_socket = |source| QuicError::Socket { address, source };
    let socket = socket(address).map_err(no_socket)?;
    Endpoint::new(config, Some(server), socket, Arc::new(TokioRuntime)).map_err(no_socket)
}

/// The UDP port, with as much of [`SOCKET_BYTES`] as the system gives.
fn socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    let room = SockRef::from(&socket);
    // A system that refuses instead of giving less has its own number go on.
    let _ = (room.set_recv_buffer_size(SOCKET_BYTES), room.set_send_buffer_size(SOCKET_BYTES));
    let (received, sent) = (room.recv_buffer_size()?, room.send_buffer_size()?);
    if received.min(sent) < SOCKET_BYTES {
        tracing::info!(
            received,
            sent,
            wanted = SOCKET_BYTES,
            "the system keeps few UDP packets for us, which many hosts that come at once may overrun: net.core.rmem_max in docs/operations.md"
        );
    }
    Ok(socket)
}

fn transport(limits: &Limits) -> TransportConfig {
    let mut transport = TransportConfig::default();
    let silence = IdleTimeout::try_from(ms(limits.silence_ms)).unwrap_or(VarInt::MAX.into());
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(STREAM_WINDOW)
        .receive_window(STRANGERS_WINDOW)
        .max_idle_timeout(Some(silence));
    transport
}

struct Secrets {
    tokens: Arc<hkdf::Prk>,
    resets: Arc<hmac::Key>,
    connection_ids: Arc<hmac::Key>,
}

impl Secrets {
    fn of(identity: &Identity) -> Self {
        let root = hkdf::Salt::new(HKDF_SHA256, b"reachback relay quic v1").extract(identity.seed().expose());
        let expanded = "SHA-256 gives a key of its own length";
        let tokens = root.expand(&[b"tokens"], HKDF_SHA256).expect(expanded).into();
        let resets = root.expand(&[b"resets"], HMAC_SHA256).expect(expanded).into();
        let connection_ids = root.expand(&[b"connection ids"], HMAC_SHA256).expect(expanded).into();
        Self { tokens: Arc::new(tokens), resets: Arc::new(resets), connection_ids: Arc::new(connection_ids) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_has_more_room_than_the_system_gives_unasked() {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let (ours, unasked) = (socket(address).unwrap(), UdpSocket::bind(address).unwrap());
        let rooms = |socket: &UdpSocket| {
            let room = SockRef::from(socket);
            (room.recv_buffer_size().unwrap(), room.send_buffer_size().unwrap())
        };
        let (ours, unasked) = (rooms(&ours), rooms(&unasked));
        assert!(ours.0 > unasked.0 && ours.1 > unasked.1, "{ours:?}, and unasked {unasked:?}");
    }
}
