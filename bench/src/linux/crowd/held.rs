//! A process that accepts connections as a relay has them, holds them until they end, and does nothing else.
//!
//! The same libraries with the same settings: TLS and WebSockets, or QUIC with a WebSocket on each stream. What a
//! connection costs here is what they take by themselves, and what a relay of them has to be compared with.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures_util::{SinkExt, StreamExt};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{
    EndpointConfig, IdleTimeout, Incoming, RecvStream, SendStream, ServerConfig, TokioRuntime, TransportConfig, VarInt,
};
use reachback_proto::control::{CIRCUIT_TLS_BUFFER, MAX_CIRCUIT_CHUNK, MAX_CONTROL};
use reachback_proto::endpoint::{Endpoint, QUIC_ALPN};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config};

use crate::linux::bare;
use crate::linux::stage::Transport;

/// Hold connections, and do nothing else.
#[derive(Debug, clap::Args)]
pub(in crate::linux) struct Args {
    /// What carries them
    #[arg(value_enum)]
    transport: Transport,
    #[command(flatten)]
    papers: bare::Papers,
}

/// Holds until it is killed; says when it listens and where, with a line.
pub(in crate::linux) fn run(args: Args) -> anyhow::Result<()> {
    // As the relay has it.
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let server = Server::bind(args.transport, args.papers.server()?).await?;
        println!("listening {}", server.address()?);
        server.serve().await
    })
}

/// What listens.
pub(super) enum Server {
    Wss(TcpListener, TlsAcceptor),
    Quic(quinn::Endpoint),
}

impl Server {
    pub(super) async fn bind(transport: Transport, mut tls: rustls::ServerConfig) -> anyhow::Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Ok(match transport {
            Transport::Wss => Self::Wss(TcpListener::bind(address).await?, Arc::new(tls).into()),
            Transport::Quic => {
                tls.alpn_protocols = vec![QUIC_ALPN.to_vec()];
                let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
                config.transport_config(Arc::new(quic_settings()?));
                let (settings, socket) = (EndpointConfig::default(), bare::socket(address)?);
                Self::Quic(quinn::Endpoint::new(settings, Some(config), socket, Arc::new(TokioRuntime))?)
            }
        })
    }

    pub(super) fn address(&self) -> anyhow::Result<SocketAddr> {
        Ok(match self {
            Self::Wss(listener, _) => listener.local_addr()?,
            Self::Quic(endpoint) => endpoint.local_addr()?,
        })
    }

    pub(super) async fn serve(self) -> anyhow::Result<()> {
        match self {
            Self::Wss(listener, acceptor) => loop {
                let (stream, _) = listener.accept().await.context("no connection can be accepted")?;
                let acceptor = acceptor.clone();
                // What only the handshake needs is in a box of its own, and gone after it.
                tokio::spawn(async move { answer(Box::pin(open(acceptor, stream)).await).await });
            },
            Self::Quic(endpoint) => {
                while let Some(incoming) = endpoint.accept().await {
                    tokio::spawn(accept_streams(incoming));
                }
                anyhow::bail!("the system took the QUIC socket away")
            }
        }
    }
}

type Socket<S> = Box<WebSocketStream<S>>;

/// A WebSocket over TLS; its path says what for.
async fn open(
    acceptor: TlsAcceptor,
    stream: TcpStream,
) -> anyhow::Result<Socket<tokio_rustls::server::TlsStream<TcpStream>>> {
    stream.set_nodelay(true)?;
    let mut stream = acceptor.accept(stream).await?;
    stream.get_mut().1.set_buffer_limit(Some(CIRCUIT_TLS_BUFFER));
    let mut endpoint = None;
    #[expect(clippy::result_large_err, reason = "the library's own callback type")]
    let callback = |request: &Request, response: Response| {
        let path = request.uri().path();
        endpoint = ENDPOINTS.into_iter().find(|endpoint| endpoint.path() == path);
        if endpoint.is_some() { Ok(response) } else { Err(ErrorResponse::new(None)) }
    };
    // Only for the request: what is held has buffers by its endpoint.
    let asked = accept_hdr_async_with_config(stream, callback, Some(ws_settings(Endpoint::Host))).await?;
    Ok(over(asked.into_inner(), endpoint.context("a WebSocket for nothing")?).await)
}

/// The streams of a QUIC connection, each with a task.
async fn accept_streams(incoming: Incoming) {
    let connection = match Box::pin(async { anyhow::Ok(incoming.accept()?.await?) }).await {
        Ok(connection) => connection,
        Err(error) => return eprintln!("bare server: {error:#}"),
    };
    // To its end, however that comes: whoever is at the other one finds out.
    while let Ok((send, receive)) = connection.accept_bi().await {
        tokio::spawn(async move { answer(Box::pin(begin(send, receive)).await).await });
    }
}

/// A WebSocket over a stream; its first byte says what for.
async fn begin(
    send: SendStream,
    mut receive: RecvStream,
) -> anyhow::Result<Socket<tokio::io::Join<RecvStream, SendStream>>> {
    let endpoint = Endpoint::from_byte(receive.read_u8().await?).context("a stream for nothing")?;
    Ok(over(tokio::io::join(receive, send), endpoint).await)
}

async fn over<S: AsyncRead + AsyncWrite + Unpin>(stream: S, endpoint: Endpoint) -> Socket<S> {
    Box::new(WebSocketStream::from_raw_socket(stream, Role::Server, Some(ws_settings(endpoint))).await)
}

/// Waits for messages, to the connection's end, and gives each back: so whoever sent it knows that it is held.
async fn answer<S: AsyncRead + AsyncWrite + Unpin>(opened: anyhow::Result<Socket<S>>) {
    let mut socket = match opened {
        Ok(socket) => socket,
        Err(error) => return eprintln!("bare server: {error:#}"),
    };
    while let Some(Ok(message)) = socket.next().await {
        if matches!(message, Message::Binary(_)) && socket.send(message).await.is_err() {
            return;
        }
    }
}

const ENDPOINTS: [Endpoint; 3] = [Endpoint::Host, Endpoint::HostData, Endpoint::Device];

/// As `WsLink::accept` has it (`relay/src/tunnel/ws.rs`).
fn ws_settings(endpoint: Endpoint) -> WebSocketConfig {
    let max_message = match endpoint {
        Endpoint::Host => MAX_CONTROL,
        Endpoint::HostData | Endpoint::Device => MAX_CIRCUIT_CHUNK,
    };
    WebSocketConfig::default()
        .read_buffer_size(1024)
        .write_buffer_size(4 * 1024)
        .max_write_buffer_size(2 * MAX_CIRCUIT_CHUNK)
        .max_message_size(Some(max_message))
        .max_frame_size(Some(max_message))
}

/// As the relay has it for a connection that was let in: `transport` in `relay/src/quic/endpoint.rs`, with the streams and
/// the window that `relay/src/quic/mod.rs` gives then.
fn quic_settings() -> anyhow::Result<TransportConfig> {
    let mut settings = TransportConfig::default();
    settings
        .max_concurrent_bidi_streams(VarInt::from_u32(8))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(1024 * 1024))
        .receive_window(VarInt::from_u32(32 * 1024 * 1024))
        .max_idle_timeout(Some(IdleTimeout::try_from(SILENCE)?));
    Ok(settings)
}

/// How long a connection may be silent: both ends have it.
pub(super) const SILENCE: Duration = Duration::from_secs(45);
