//! A way for datagrams that breaks: what [`Cutter`](crate::cutter::Cutter) is for TCP.
//!
//! It behaves like a box that translates addresses: each client has a port of its own towards the server. A *reset* is
//! the box started again, with new ports and nothing said; a *hole* swallows everything for as long as it is there; what
//! is *lost* never passes again, and its owner has to come with another socket. A *short* way lets the first datagrams of a
//! client pass and drops what follows.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// What happens to datagrams.
#[derive(Debug, Clone, Copy, Default)]
struct Weather {
    resets: u64,
    losses: u64,
    is_holed: bool,
    /// How many datagrams of a client pass; `None` for all.
    short: Option<usize>,
}

impl Weather {
    /// Whether one more datagram passes of a client that came in this weather, of which so many have passed.
    fn lets_pass(&self, now: &Self, passed: &AtomicUsize) -> bool {
        let is_open = !now.is_holed && self.losses == now.losses;
        is_open && self.short.is_none_or(|short| passed.fetch_add(1, Ordering::Relaxed) < short)
    }
}

/// A way to one address. Dropping it ends it.
pub struct UdpPath {
    weather: watch::Sender<Weather>,
    _task: AbortOnDropHandle<()>,
}

/// What is kept of a client.
struct Flow {
    /// Towards the server.
    socket: Arc<UdpSocket>,
    born: Weather,
    passed: Arc<AtomicUsize>,
    _answers: AbortOnDropHandle<()>,
}

impl UdpPath {
    /// From what arrives at `socket` to `target`, and back.
    pub fn start(socket: UdpSocket, target: SocketAddr) -> Self {
        let (weather, seen) = watch::channel(Weather::default());
        let task = tokio::spawn(forward(Arc::new(socket), target, seen));
        Self { weather, _task: AbortOnDropHandle::new(task) }
    }

    /// Clients come from other ports from now on.
    pub fn reset(&self) {
        self.weather.send_modify(|weather| weather.resets += 1);
    }

    /// Nothing passes, until [`Self::heal`].
    pub fn hole(&self) {
        self.weather.send_modify(|weather| weather.is_holed = true);
    }

    /// What comes passes again.
    pub fn heal(&self) {
        self.weather.send_modify(|weather| weather.is_holed = false);
    }

    /// Of each client that comes from now on, so many datagrams pass, either way together; of all, as many as come.
    pub fn shorten(&self, datagrams: Option<usize>) {
        self.weather.send_modify(|weather| weather.short = datagrams);
    }

    /// Nothing passes any more of the clients that there are.
    pub fn lose(&self) {
        self.weather.send_modify(|weather| weather.losses += 1);
    }
}

async fn forward(clients: Arc<UdpSocket>, target: SocketAddr, weather: watch::Receiver<Weather>) {
    let mut flows = HashMap::<SocketAddr, Flow>::new();
    let mut datagram = [0; 2048];
    loop {
        let Ok((length, from)) = clients.recv_from(&mut datagram).await else { continue };
        let now = *weather.borrow();
        let is_stale = |flow: &Flow| flow.born.resets < now.resets && flow.born.losses == now.losses;
        if flows.get(&from).is_none_or(is_stale) {
            flows.insert(from, flow(&clients, from, target, &weather).await);
        }
        let flow = &flows[&from];
        if flow.born.lets_pass(&now, &flow.passed) {
            // A server that is away says so here; nobody hears it.
            let _away = flow.socket.send(&datagram[..length]).await;
        }
    }
}

async fn flow(
    clients: &Arc<UdpSocket>,
    client: SocketAddr,
    target: SocketAddr,
    weather: &watch::Receiver<Weather>,
) -> Flow {
    let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.expect("a socket"));
    socket.connect(target).await.expect("an address");
    let born = *weather.borrow();
    let (clients, from_server, weather) = (Arc::clone(clients), Arc::clone(&socket), weather.clone());
    let passed = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&passed);
    let answers = tokio::spawn(async move {
        let mut datagram = [0; 2048];
        loop {
            let Ok(length) = from_server.recv(&mut datagram).await else { continue };
            let now = *weather.borrow();
            if born.lets_pass(&now, &counted) {
                let _gone = clients.send_to(&datagram[..length], client).await;
            }
        }
    });
    Flow { socket, born, passed, _answers: AbortOnDropHandle::new(answers) }
}
