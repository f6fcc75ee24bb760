//! How bare hops reach each other: TLS over TCP, a connection for each that is carried, or streams of one QUIC connection.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{Connection, Endpoint, EndpointConfig, RecvStream, SendStream, TokioRuntime, TransportConfig, VarInt};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::OnceCell;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::linux::carrying::Place;
use crate::linux::stage::Transport;

/// What the certificates are for.
pub(crate) const NAME: &str = "localhost";

/// What the hops speak over QUIC.
const ALPN: &[u8] = b"bare";

/// The room of a UDP socket, as a relay asks for it (`relay/src/quic/endpoint.rs`).
const SOCKET_BYTES: usize = 4 << 20;

/// A connection of whatever kind.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// By which the hops know each other.
#[derive(Debug, clap::Args)]
pub(crate) struct Papers {
    /// The file with the certificate of the authority that vouches for all of them.
    pub(crate) authority: PathBuf,
    /// The file with the certificate for [`NAME`].
    pub(crate) certificate: PathBuf,
    /// The file with its key.
    pub(crate) key: PathBuf,
}

impl Papers {
    /// Lets in over TLS.
    pub(super) fn acceptor(&self) -> anyhow::Result<TlsAcceptor> {
        Ok(Arc::new(self.server()?).into())
    }

    /// Lets in over QUIC.
    pub(super) fn endpoint(&self, address: SocketAddr) -> anyhow::Result<Endpoint> {
        let mut tls = self.server()?;
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
        config.transport_config(transport_config());
        let socket = socket(address)?;
        Ok(Endpoint::new(EndpointConfig::default(), Some(config), socket, Arc::new(TokioRuntime))?)
    }

    /// The end that others come to.
    pub(crate) fn server(&self) -> anyhow::Result<ServerConfig> {
        let chain = CertificateDer::pem_file_iter(&self.certificate)?.collect::<Result<_, _>>()?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        Ok(ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::from_pem_file(&self.key)?)?)
    }
}

/// Where connections are carried to.
pub(super) enum Far {
    /// A Unix socket.
    Path(PathBuf),
    /// A TLS connection each.
    Tls(SocketAddr, TlsConnector),
    /// A stream each, of the one connection that the first of them makes.
    Quic(SocketAddr, quinn::ClientConfig, OnceCell<Connection>),
}

impl Far {
    /// Whoever is at an address is known by this authority.
    pub(super) fn new(to: Place, transport: Transport, authority: &Path) -> anyhow::Result<Self> {
        let address = match to {
            Place::Path(path) => return Ok(Self::Path(path)),
            Place::Address(address) => address,
        };
        let mut tls = trusting(authority)?;
        Ok(match transport {
            Transport::Wss => Self::Tls(address, Arc::new(tls).into()),
            Transport::Quic => {
                tls.alpn_protocols = vec![ALPN.to_vec()];
                let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
                config.transport_config(transport_config());
                Self::Quic(address, config, OnceCell::new())
            }
        })
    }

    /// One more connection.
    pub(super) async fn connect(&self) -> anyhow::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Path(path) => Box::new(UnixStream::connect(path).await?),
            Self::Tls(address, connector) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Box::new(connector.connect(ServerName::try_from(NAME)?, stream).await?)
            }
            Self::Quic(address, config, kept) => {
                let connection = kept.get_or_try_init(|| connection(*address, config.clone())).await?;
                joined(connection.open_bi().await?)
            }
        })
    }
}

/// The end that comes to others, whom this authority vouches for.
pub(crate) fn trusting(authority: &Path) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority)?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

async fn connection(to: SocketAddr, config: quinn::ClientConfig) -> anyhow::Result<Connection> {
    let socket = socket((Ipv4Addr::LOCALHOST, 0).into())?;
    let endpoint = Endpoint::new(EndpointConfig::default(), None, socket, Arc::new(TokioRuntime))?;
    Ok(endpoint.connect_with(config, to, NAME)?.await?)
}

/// Both halves of a stream.
pub(super) fn joined((send, receive): (SendStream, RecvStream)) -> Box<dyn Stream> {
    Box::new(tokio::io::join(receive, send))
}

/// A UDP port with [`SOCKET_BYTES`], as far as the system gives them.
pub(crate) fn socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    let room = SockRef::from(&socket);
    room.set_recv_buffer_size(SOCKET_BYTES)?;
    room.set_send_buffer_size(SOCKET_BYTES)?;
    Ok(socket)
}

/// With the library's own windows, 1.2 MiB a stream, and its 100 streams at once, each of which is a connection that is
/// carried: more than there ever are together, and fewer than there are one after the other. Nobody is missed: a client here
/// does nothing while others have their turns.
fn transport_config() -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport.max_concurrent_uni_streams(VarInt::from_u32(0)).max_idle_timeout(None);
    Arc::new(transport)
}
