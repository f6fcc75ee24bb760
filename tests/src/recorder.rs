//! What a relay handles: a WebSocket proxy in front of it that keeps every message, unmasked, and can break one,
//! or say something else in its place. Nothing that a relay says after its welcome is signed, so to those behind it
//! this is a relay that lies.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use futures_util::{Sink, SinkExt, Stream, StreamExt, stream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
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

/// A message on its way.
#[derive(Debug)]
pub struct Said<'a> {
    /// The endpoint.
    pub path: &'a str,
    /// Which way it goes.
    pub way: Way,
    /// How many went this way before it on this connection.
    pub before: usize,
    /// What is said.
    pub bytes: &'a [u8],
}

/// What is said instead: nothing, or any number of messages. `None` leaves it as it is.
pub type Lie = Box<dyn Fn(&Said<'_>) -> Option<Vec<Vec<u8>>> + Send>;

#[derive(Default)]
struct Tape {
    connections: Vec<Kept>,
    /// For the next message this way on a device's circuit.
    broken: Option<(Way, Break)>,
    lie: Option<Lie>,
    /// By connection, what is said to the peer out of turn; closed with it.
    asides: Vec<mpsc::UnboundedSender<Bytes>>,
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
        self.tape().connections.clone()
    }

    /// From now on every message goes through this.
    pub fn lie(&self, lie: impl Fn(&Said<'_>) -> Option<Vec<Vec<u8>>> + Send + 'static) {
        self.tape().lie = Some(Box::new(lie));
    }

    /// Says the truth from now on.
    pub fn be_honest(&self) {
        self.tape().lie = None;
    }

    /// Says this to every peer that is connected at this endpoint; gives how many there are.
    pub fn say(&self, path: &str, bytes: &[u8]) -> usize {
        let tape = self.tape();
        let peers = tape.connections.iter().zip(&tape.asides).filter(|(kept, _)| kept.path == path);
        peers.filter(|(_, aside)| aside.send(Bytes::copy_from_slice(bytes)).is_ok()).count()
    }

    /// Breaks the next message of a device's circuit that goes this way.
    pub fn break_next(&self, way: Way, how: Break) {
        self.tape().broken = Some((way, how));
    }

    /// Whether the message to break has come.
    pub fn has_broken(&self) -> bool {
        self.tape().broken.is_none()
    }

    fn tape(&self) -> MutexGuard<'_, Tape> {
        self.tape.lock().unwrap()
    }
}

impl Tape {
    /// Keeps a message; gives what is passed on in its place, and how that is to be broken.
    fn keep(&mut self, connection: usize, way: Way, message: Bytes) -> (Vec<Bytes>, Option<Break>) {
        let kept = &mut self.connections[connection];
        let is_circuit = kept.path == "/v1/device" && kept.is_attached();
        let before = match way {
            Way::Up => kept.up.len(),
            Way::Down => kept.down.len(),
        };
        let said = Said { path: &kept.path, way, before, bytes: &message };
        let instead = self.lie.as_ref().and_then(|lie| lie(&said));
        match way {
            Way::Up => kept.up.push(message.clone()),
            Way::Down => kept.down.push(message.clone()),
        }
        let broken = self.broken.take_if(|(wanted, _)| is_circuit && *wanted == way);
        let messages = instead.map_or_else(|| vec![message], |instead| instead.into_iter().map(Bytes::from).collect());
        (messages, broken.map(|(_, how)| how))
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
    let (aside, mut asides) = mpsc::unbounded_channel();
    let connection = {
        let mut tape = tape.lock().unwrap();
        tape.connections.push(Kept { path, ..Kept::default() });
        tape.asides.push(aside);
        tape.connections.len() - 1
    };
    let (to_client, from_client) = client.split();
    let (to_server, from_server) = server.split();
    let keep = |way| {
        let tape = Arc::clone(&tape);
        move |message| tape.lock().unwrap().keep(connection, way, message)
    };
    let asides = stream::poll_fn(move |cx| asides.poll_recv(cx));
    tokio::select! {
        () = pass(from_client, stream::pending(), to_server, keep(Way::Up)) => {}
        () = pass(from_server, asides, to_client, keep(Way::Down)) => {}
    }
}

/// Passes on what comes `from` one end, and what is said `aside`.
async fn pass(
    mut from: impl Stream<Item = Result<Message, Error>> + Unpin,
    mut aside: impl Stream<Item = Bytes> + Unpin,
    mut to: impl Sink<Message> + Unpin,
    keep: impl Fn(Bytes) -> (Vec<Bytes>, Option<Break>),
) {
    let mut held = Vec::new();
    loop {
        let message = tokio::select! {
            message = from.next() => message,
            Some(bytes) = aside.next() => {
                if to.send(Message::Binary(bytes)).await.is_err() {
                    return;
                }
                continue;
            }
        };
        let (messages, broken) = match message {
            Some(Ok(Message::Binary(bytes))) => keep(bytes),
            Some(Ok(message)) => {
                let is_over = message.is_close();
                if to.send(message).await.is_err() || is_over {
                    return;
                }
                continue;
            }
            _ => return,
        };
        let messages = match broken {
            None => messages,
            Some(Break::Repeat) => [messages.clone(), messages].concat(),
            Some(Break::Alter) => messages.iter().map(altered).collect(),
            Some(Break::Overtake) => {
                held = messages;
                continue;
            }
            Some(Break::Swallow) => continue,
        };
        for bytes in messages.into_iter().chain(std::mem::take(&mut held)) {
            if to.send(Message::Binary(bytes)).await.is_err() {
                return;
            }
        }
    }
}

/// With one bit another.
fn altered(bytes: &Bytes) -> Bytes {
    let mut bytes = bytes.to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    bytes.into()
}
