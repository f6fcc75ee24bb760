//! The limit of a relay's memory: what its libraries take by themselves, for as many connections as the crowd has.
//!
//! They are at a process that holds them and does nothing else ([`held`](super::held)), and are opened from here.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, ensure};
use bytes::Bytes;
use e2e::authority::Authority;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, IdleTimeout, TransportConfig};
use reachback_proto::endpoint::{Endpoint, QUIC_ALPN};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::held::SILENCE;
use super::people::AT_ONCE;
use super::{FIRST, PATIENCE, Size};
use crate::linux::bare;
use crate::linux::stage::{self, Transport};

/// What an idle host has at a relay.
const HOST: &[Endpoint] = &[Endpoint::Host, Endpoint::HostData];

/// What a device that watches its host has.
const DEVICE: &[Endpoint] = &[Endpoint::Device];

/// What the bare server's memory grew by, in KiB.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    /// For the connections of each host.
    pub(super) host: f64,
    /// For the connection of each device, if there are devices.
    pub(super) device: Option<f64>,
}

/// Opens all that the crowd will have, and closes it again.
pub(super) async fn measure(transport: Transport, size: Size) -> anyhow::Result<Limit> {
    let authority = Authority::new();
    let (roots, (certificate, key)) = (authority.roots(), authority.vouch(bare::NAME));
    let words = [transport.word().as_ref(), roots.as_os_str(), certificate.as_os_str(), key.as_os_str()];
    let (server, address) = stage::this("bare server", "held", words)?;
    let way = Way { transport, address: address.parse()?, tls: bare::trusting(&roots)? };
    let mut all = Connections { way, held: Vec::new() };

    all.open(FIRST, HOST).await?;
    let first = server.memory_at_rest(PATIENCE).await?;
    all.open(size.hosts, HOST).await?;
    let hosts = server.memory_at_rest(PATIENCE).await?;
    all.open(size.devices, DEVICE).await?;
    let devices = server.memory_at_rest(PATIENCE).await?;
    // One that was dropped meanwhile would have cost nothing.
    all.are_held().await?;
    Ok(Limit {
        host: (hosts - first) / size.hosts as f64,
        device: (size.devices > 0).then(|| (devices - hosts) / size.devices as f64),
    })
}

/// How the server is reached.
#[derive(Clone)]
struct Way {
    transport: Transport,
    address: SocketAddr,
    tls: rustls::ClientConfig,
}

/// A WebSocket, over whatever.
trait Socket: Stream<Item = Result<Message, Error>> + Sink<Message, Error = Error> + Send + Unpin {}
impl<S: Stream<Item = Result<Message, Error>> + Sink<Message, Error = Error> + Send + Unpin> Socket for S {}

/// Those that the server holds, as long as this lives.
struct Connections {
    way: Way,
    held: Vec<Box<dyn Socket>>,
}

impl Connections {
    /// So many times these more, each of which the server has answered.
    async fn open(&mut self, count: usize, endpoints: &'static [Endpoint]) -> anyhow::Result<()> {
        let mut left = count;
        while left > 0 {
            let mut opening = JoinSet::new();
            for _ in 0..left.min(AT_ONCE) {
                let way = self.way.clone();
                opening.spawn(async move { timeout(PATIENCE, way.open(endpoints)).await });
            }
            left -= opening.len();
            while let Some(opened) = opening.join_next().await {
                let opened = opened?.context("the bare server does not answer")?;
                self.held.extend(opened.context("the bare server does not take a connection")?);
            }
        }
        Ok(())
    }

    /// The server still answers each of them.
    async fn are_held(&mut self) -> anyhow::Result<()> {
        for socket in &mut self.held {
            let is_held =
                timeout(PATIENCE, is_held(socket)).await.context("the bare server does not answer any more")?;
            is_held.context("the bare server does not hold a connection")?;
        }
        Ok(())
    }
}

impl Way {
    /// What one of the crowd has.
    async fn open(&self, endpoints: &[Endpoint]) -> anyhow::Result<Vec<Box<dyn Socket>>> {
        let mut opened = match self.transport {
            Transport::Wss => self.open_wss(endpoints).await?,
            Transport::Quic => self.open_quic(endpoints).await?,
        };
        for socket in &mut opened {
            is_held(socket).await?;
        }
        Ok(opened)
    }

    /// A connection for each.
    async fn open_wss(&self, endpoints: &[Endpoint]) -> anyhow::Result<Vec<Box<dyn Socket>>> {
        let connector = TlsConnector::from(Arc::new(self.tls.clone()));
        let mut opened: Vec<Box<dyn Socket>> = Vec::with_capacity(endpoints.len());
        for endpoint in endpoints {
            let stream = TcpStream::connect(self.address).await?;
            stream.set_nodelay(true)?;
            let stream = connector.connect(ServerName::try_from(bare::NAME)?, stream).await?;
            let url = format!("ws://{}{}", bare::NAME, endpoint.path());
            opened.push(Box::new(client_async_with_config(url, stream, Some(settings())).await?.0));
        }
        Ok(opened)
    }

    /// A connection with a stream for each.
    async fn open_quic(&self, endpoints: &[Endpoint]) -> anyhow::Result<Vec<Box<dyn Socket>>> {
        let mut tls = self.tls.clone();
        tls.alpn_protocols = vec![QUIC_ALPN.to_vec()];
        let mut transport = TransportConfig::default();
        // Three times before an end takes the connection for gone.
        transport.keep_alive_interval(Some(SILENCE / 3)).max_idle_timeout(Some(IdleTimeout::try_from(SILENCE)?));
        let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
        config.transport_config(Arc::new(transport));
        // A socket of its own, as each of the crowd has.
        let socket = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into())?;
        let connection = socket.connect_with(config, self.address, bare::NAME)?.await?;
        let mut opened: Vec<Box<dyn Socket>> = Vec::with_capacity(endpoints.len());
        for endpoint in endpoints {
            let (mut send, receive) = connection.open_bi().await?;
            send.write_all(&[endpoint.byte()]).await?;
            let stream = tokio::io::join(receive, send);
            opened.push(Box::new(WebSocketStream::from_raw_socket(stream, Role::Client, Some(settings())).await));
        }
        Ok(opened)
    }
}

/// They are in this process, whose memory is not what is measured, but is not to run out.
fn settings() -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(1024).write_buffer_size(0)
}

/// Says a word, and has it back: the buffers that come with the first message are there then, as they are at a relay.
async fn is_held(socket: &mut Box<dyn Socket>) -> anyhow::Result<()> {
    let word = Message::Binary(Bytes::from_static(b"a word"));
    socket.send(word.clone()).await?;
    let back = socket.next().await.context("it has ended")??;
    ensure!(back == word, "it was answered with {back:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use quinn::VarInt;
    use tokio::runtime::{Builder, Runtime};
    use tokio::sync::oneshot;

    use super::super::held::Server;
    use super::*;

    /// A server of this transport, and nothing at it yet. Its QUIC socket, where it has one.
    async fn server(transport: Transport) -> (Runtime, Option<quinn::Endpoint>, Connections) {
        let authority = Authority::new();
        let (certificate, key) = authority.vouch(bare::NAME);
        let papers = bare::Papers { authority: authority.roots(), certificate, key };
        let (server, tls) = (papers.server().unwrap(), bare::trusting(&papers.authority).unwrap());
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (listens, listening) = oneshot::channel();
        runtime.spawn(async move {
            let server = Server::bind(transport, server).await.unwrap();
            let quic = if let Server::Quic(endpoint) = &server { Some(endpoint.clone()) } else { None };
            assert!(listens.send((server.address().unwrap(), quic)).is_ok());
            server.serve().await
        });
        let (address, quic) = listening.await.unwrap();
        (runtime, quic, Connections { way: Way { transport, address, tls }, held: Vec::new() })
    }

    #[tokio::test]
    async fn what_is_opened_is_held_until_the_server_is_gone_and_then_missed() {
        for transport in [Transport::Wss, Transport::Quic] {
            let (runtime, quic, mut all) = server(transport).await;
            all.open(AT_ONCE + 3, HOST).await.unwrap();
            all.open(2, DEVICE).await.unwrap();
            assert_eq!(all.held.len(), 2 * (AT_ONCE + 3) + 2);
            all.are_held().await.unwrap();
            if let Some(quic) = quic {
                assert_eq!(quic.open_connections(), AT_ONCE + 3 + 2, "a host has one with two streams");
                quic.close(VarInt::from_u32(0), b"");
                quic.wait_idle().await;
            }
            runtime.shutdown_background();
            let missed = all.are_held().await.unwrap_err();
            assert_eq!(missed.to_string(), "the bare server does not hold a connection");
        }
    }

    #[tokio::test]
    async fn a_server_that_takes_no_connection_is_told_of() {
        let (runtime, _, mut all) = server(Transport::Wss).await;
        // It vouches for itself, which nobody here believes.
        all.way.tls = bare::trusting(&Authority::new().roots()).unwrap();
        let refused = all.open(1, DEVICE).await.unwrap_err();
        assert_eq!(refused.to_string(), "the bare server does not take a connection");
        assert!(all.held.is_empty());
        runtime.shutdown_background();
    }
}
