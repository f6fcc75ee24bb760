//! What a relay handles: a WebSocket proxy in front of it that keeps every message, unmasked, and can break one.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{accept_hdr_async, client_async};
use tokio_util::task::AbortOnDropHandle;

/// See the module's header.
pub struct Recorder {
    addr: SocketAddr,
    tape: Arc<Mutex<Tape>>,
    _task: AbortOnDropHandle<()>,
}

/// One connection's messages.
#[derive(Debug, Default, Clone)]
pub struct Kept {
    /// The endpoint.
    pub path: String,
    /// From the peer to the relay.
    pub up: Vec<Bytes>,
    /// From the relay to the peer.
    pub down: Vec<Bytes>,
}

/// How one message is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// It is delivered twice.
    Repeat,
    /// One bit of it is another.
    Alter,
    /// The next one overtakes it.
    Overtake,
    /// It is not delivered.
    Swallow,
}

/// Which way a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From a peer to the relay.
    Up,
    /// From the relay to a peer.
    Down,
}

#[derive(Default)]
struct Tape {
    connections: Vec<Kept>,
    /// For the next message this way on a device's circuit.
    broken: Option<(Way, Break)>,
}

impl Recorder {
    /// Listens on a free port of loopback, in front of the relay at `target`.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let tape = Arc::default();
        let task = AbortOnDropHandle::new(tokio::spawn(accept(listener, target, Arc::clone(&tape))));
        Self { addr, tape, _task: task }
    }

    /// Where to connect instead.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Every connection so far.
    pub fn kept(&self) -> Vec<Kept> {
        self.tape.lock().unwrap().connections.clone()
    }

    /// Breaks the next message of a device's circuit that goes this way.
    pub fn break_next(&self, way: Way, how: Break) {
        self.tape.lock().unwrap().broken = Some((way, how));
    }

    /// Whether the message to break has come.
    pub fn has_broken(&self) -> bool {
        self.tape.lock().unwrap().broken.is_none()
    }
}

impl Tape {
    /// Keeps a message, and says how it is to be broken.
    fn keep(&mut self, connection: usize, way: Way, message: &Bytes) -> Option<Break> {
        let kept = &mut self.connections[connection];
        let is_circuit = kept.path == "/v1/device" && kept.is_attached();
        match way {
            Way::Up => kept.up.push(message.clone()),
            Way::Down => kept.down.push(message.clone()),
        }
        let broken = self.broken.filter(|(wanted, _)| is_circuit && *wanted == way)?;
        self.broken = None;
        Some(broken.1)
    }
}

impl Kept {
    /// Whether the messages are a circuit's by now: a device says one thing before, its hello.
    fn is_attached(&self) -> bool {
        self.up.len() > 1
    }

    /// What a device said on its circuit.
    pub fn circuit(&self) -> &[Bytes] {
        self.up.get(1..).unwrap_or_default()
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, tape: Arc<Mutex<Tape>>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (client, _) = accepted.unwrap();
                connections.spawn(carry(client, target, Arc::clone(&tape)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn carry(client: TcpStream, target: SocketAddr, tape: Arc<Mutex<Tape>>) {
    client.set_nodelay(true).unwrap();
    let mut path = String::new();
    #[expect(clippy::result_large_err, reason = "the library's own callback type")]
    let upgrade = |request: &Request, response: Response| {
        path = request.uri().path().to_owned();
        Ok(response)
    };
    let Ok(client) = accept_hdr_async(client, upgrade).await else { return };
    let Ok(server) = TcpStream::connect(target).await else { return };
    server.set_nodelay(true).unwrap();
    let Ok((server, _)) = client_async(format!("ws://{target}{path}"), server).await else { return };
    let connection = {
        let mut tape = tape.lock().unwrap();
        tape.connections.push(Kept { path, ..Kept::default() });
        tape.connections.len() - 1
    };
    let (to_client, from_client) = client.split();
    let (to_server, from_server) = server.split();
    let keep = |way| {
        let tape = Arc::clone(&tape);
        move |message: &Bytes| tape.lock().unwrap().keep(connection, way, message)
    };
    tokio::select! {
        () = pass(from_client, to_server, keep(Way::Up)) => {}
        () = pass(from_server, to_client, keep(Way::Down)) => {}
    }
}

async fn pass(
    mut from: impl Stream<Item = Result<Message, Error>> + Unpin,
    mut to: impl Sink<Message> + Unpin,
    keep: impl Fn(&Bytes) -> Option<Break>,
) {
    let mut held = None;
    while let Some(Ok(message)) = from.next().await {
        let broken = match &message {
            Message::Binary(bytes) => keep(bytes),
            Message::Close(_) => {
                let _ = to.send(message).await;
                return;
            }
            _ => None,
        };
        let messages = match broken {
            None => vec![message],
            Some(Break::Repeat) => vec![message.clone(), message],
            Some(Break::Alter) => {
                let mut bytes = message.into_data().to_vec();
                *bytes.last_mut().unwrap() ^= 1;
                vec![Message::binary(bytes)]
            }
            Some(Break::Overtake) => {
                held = Some(message);
                continue;
            }
            Some(Break::Swallow) => continue,
        };
        for message in messages.into_iter().chain(held.take()) {
            if to.send(message).await.is_err() {
                return;
            }
        }
    }
}
