//! A relay that keeps what it handles: a WebSocket proxy that records every message, unmasked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::{accept_hdr_async, client_async};
use tokio_util::task::AbortOnDropHandle;

/// See the module's header.
pub struct Recorder {
    addr: SocketAddr,
    kept: Arc<Mutex<Kept>>,
    _task: AbortOnDropHandle<()>,
}

/// What was recorded, all connections together.
#[derive(Default, Clone)]
pub struct Kept {
    /// From peers to the relay.
    pub up: Vec<u8>,
    /// From the relay to peers.
    pub down: Vec<u8>,
}

impl Recorder {
    /// Listens on a free port of loopback, in front of the relay at `target`.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let kept = Arc::default();
        let task = AbortOnDropHandle::new(tokio::spawn(accept(listener, target, Arc::clone(&kept))));
        Self { addr, kept, _task: task }
    }

    /// Where to connect instead.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Everything so far.
    pub fn kept(&self) -> Kept {
        self.kept.lock().unwrap().clone()
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, kept: Arc<Mutex<Kept>>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (client, _) = accepted.unwrap();
                connections.spawn(carry(client, target, Arc::clone(&kept)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

#[expect(clippy::result_large_err, reason = "the library's own callback type")]
async fn carry(client: TcpStream, target: SocketAddr, kept: Arc<Mutex<Kept>>) {
    client.set_nodelay(true).unwrap();
    let mut path = String::new();
    let upgrade = |request: &Request, response: Response| {
        path = request.uri().path().to_owned();
        Ok(response)
    };
    let Ok(client) = accept_hdr_async(client, upgrade).await else { return };
    let Ok(server) = TcpStream::connect(target).await else { return };
    server.set_nodelay(true).unwrap();
    let Ok((server, _)) = client_async(format!("ws://{target}{path}"), server).await else { return };
    let (mut to_client, mut from_client) = client.split();
    let (mut to_server, mut from_server) = server.split();
    let up = async {
        while let Some(Ok(message)) = from_client.next().await {
            kept.lock().unwrap().up.extend_from_slice(&message.clone().into_data());
            if to_server.send(message).await.is_err() {
                return;
            }
        }
        let _ = to_server.close().await;
    };
    let down = async {
        while let Some(Ok(message)) = from_server.next().await {
            kept.lock().unwrap().down.extend_from_slice(&message.clone().into_data());
            if to_client.send(message).await.is_err() {
                return;
            }
        }
        let _ = to_client.close().await;
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}
