//! Something on the way of datagrams, which counts them, keeps what a test asks for, and can swallow them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;
use tokio_util::task::AbortOnDropHandle;

/// Forwards between one client and a relay.
pub(crate) struct Middlebox {
    /// Where the client has to send to.
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct State {
    to_relay: Mutex<Vec<Datagram>>,
    to_client: Mutex<Vec<Datagram>>,
    swallows: AtomicBool,
    swallows_all_but_retries: AtomicBool,
}

/// The start of a datagram that passed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Datagram {
    pub(crate) first_byte: u8,
    pub(crate) length: usize,
}

impl Datagram {
    /// Whether it begins with a Retry packet (RFC 9000 §17.2.5): long header, type 3.
    pub(crate) fn is_retry(self) -> bool {
        self.first_byte & 0xf0 == 0xf0
    }
}

impl Middlebox {
    pub(crate) async fn before(relay: SocketAddr) -> Self {
        let bound = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let (address, state) = (bound.local_addr().expect("an address"), Arc::<State>::default());
        let task = tokio::spawn(forward(bound, relay, Arc::clone(&state)));
        Self { address, state, _task: AbortOnDropHandle::new(task) }
    }

    /// What came from the client, swallowed or not.
    pub(crate) fn to_relay(&self) -> Vec<Datagram> {
        self.state.to_relay.lock().expect("a lock").clone()
    }

    /// What the relay answered.
    pub(crate) fn to_client(&self) -> Vec<Datagram> {
        self.state.to_client.lock().expect("a lock").clone()
    }

    /// From now on, an address can be proved, and no handshake goes on.
    pub(crate) fn swallow_all_but_retries(&self) {
        self.state.swallows_all_but_retries.store(true, Ordering::SeqCst);
    }

    /// From now on, nothing of the relay's gets through to the client.
    pub(crate) fn swallow_answers(&self) {
        self.state.swallows.store(true, Ordering::SeqCst);
    }
}

impl State {
    fn lets_through(&self, answer: Datagram) -> bool {
        let only_retries = self.swallows_all_but_retries.load(Ordering::SeqCst);
        !self.swallows.load(Ordering::SeqCst) && (answer.is_retry() || !only_retries)
    }
}

async fn forward(client_side: UdpSocket, relay: SocketAddr, state: Arc<State>) {
    let relay_side = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    relay_side.connect(relay).await.expect("an address");
    let (mut client, mut up, mut down) = (None, [0; 2048], [0; 2048]);
    loop {
        tokio::select! {
            Ok((length, from)) = client_side.recv_from(&mut up) => {
                client = Some(from);
                state.to_relay.lock().expect("a lock").push(Datagram { first_byte: up[0], length });
                let _gone = relay_side.send(&up[..length]).await;
            }
            Ok(length) = relay_side.recv(&mut down) => {
                let datagram = Datagram { first_byte: down[0], length };
                state.to_client.lock().expect("a lock").push(datagram);
                if let Some(client) = client.filter(|_| state.lets_through(datagram)) {
                    let _gone = client_side.send_to(&down[..length], client).await;
                }
            }
        }
    }
}
