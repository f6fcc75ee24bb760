//! The two ends of a tunnel through an iroh relay, for the benchmark.
//!
//! TCP at both, a stream of one QUIC connection for each of TCP, and no way but the relay between them: what Reachback's host and
//! a laptop have, without a session, channels and a firewall.

use std::net::SocketAddr;

use clap::Parser;
use iroh::endpoint::{Connection, presets};
use iroh::{Endpoint, EndpointAddr, EndpointId, RelayMap, RelayMode, RelayUrl};
use tokio::io::{copy_bidirectional, join};
use tokio::net::{TcpListener, TcpStream};

const ALPN: &[u8] = b"reachback bench";

#[derive(Parser)]
enum End {
    /// Connect what comes through the relay to an address; says its id with a line
    Listen { relay: RelayUrl, to: SocketAddr },
    /// Carry what connects to an address to the other end; says with a line where it listens
    Connect { relay: RelayUrl, to: EndpointId, from: SocketAddr },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match End::parse() {
        End::Listen { relay, to } => listen(relay, to).await,
        End::Connect { relay, to, from } => connect(relay, to, from).await,
    }
}

async fn endpoint(relay: &RelayUrl) -> anyhow::Result<Endpoint> {
    let relays = RelayMode::Custom(RelayMap::from(relay.clone()));
    let builder = Endpoint::builder(presets::Minimal).relay_mode(relays).clear_ip_transports();
    let endpoint = builder.alpns(vec![ALPN.to_vec()]).bind().await?;
    endpoint.online().await;
    Ok(endpoint)
}

async fn listen(relay: RelayUrl, to: SocketAddr) -> anyhow::Result<()> {
    let endpoint = endpoint(&relay).await?;
    println!("listening {}", endpoint.id());
    while let Some(incoming) = endpoint.accept().await {
        let connection = incoming.await?;
        tokio::spawn(async move {
            // It ends when the other end does.
            while let Ok((send, receive)) = connection.accept_bi().await {
                tokio::spawn(async move {
                    let mut stream = tcp(TcpStream::connect(to).await?)?;
                    copy_bidirectional(&mut stream, &mut join(receive, send)).await
                });
            }
        });
    }
    Ok(())
}

async fn connect(relay: RelayUrl, to: EndpointId, from: SocketAddr) -> anyhow::Result<()> {
    let endpoint = endpoint(&relay).await?;
    let connection: Connection = endpoint.connect(EndpointAddr::new(to).with_relay_url(relay), ALPN).await?;
    let listener = TcpListener::bind(from).await?;
    println!("listening {}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        let (connection, mut stream) = (connection.clone(), tcp(stream)?);
        tokio::spawn(async move {
            let (send, receive) = connection.open_bi().await?;
            anyhow::Ok(copy_bidirectional(&mut stream, &mut join(receive, send)).await?)
        });
    }
}

fn tcp(stream: TcpStream) -> std::io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    Ok(stream)
}
