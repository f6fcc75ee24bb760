//! A TCP proxy that breaks what runs through it.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

/// What happens to connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Weather {
    /// Connections older than this number of resets are gone.
    resets: u64,
    /// Connections that saw a hole never pass a byte again, though they stay open.
    holes: u64,
    /// New connections are accepted and pass nothing.
    is_holed: bool,
}

/// A proxy in front of one address. Dropping it cuts everything.
pub struct Cutter {
    addr: SocketAddr,
    weather: watch::Sender<Weather>,
    _task: AbortOnDropHandle<()>,
}

impl Cutter {
    /// Listens on a free port of loopback, in front of `target`.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (weather, seen) = watch::channel(Weather { resets: 0, holes: 0, is_holed: false });
        let task = AbortOnDropHandle::new(tokio::spawn(accept(listener, target, seen)));
        Self { addr, weather, _task: task }
    }

    /// Where to connect instead.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Resets every connection.
    pub fn reset(&self) {
        self.weather.send_modify(|weather| weather.resets += 1);
    }

    /// From now on nothing passes, and nobody is told: what a phone in a tunnel sees.
    pub fn hole(&self) {
        self.weather.send_modify(|weather| {
            weather.holes += 1;
            weather.is_holed = true;
        });
    }

    /// New connections pass again; those that fell into the hole stay there.
    pub fn heal(&self) {
        self.weather.send_modify(|weather| weather.is_holed = false);
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, weather: watch::Receiver<Weather>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                connections.spawn(carry(client, target, weather.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn carry(mut client: TcpStream, target: SocketAddr, mut weather: watch::Receiver<Weather>) {
    let born = *weather.borrow_and_update();
    client.set_nodelay(true).unwrap();
    let reset = {
        let mut weather = weather.clone();
        async move { drop(weather.wait_for(|now| now.resets > born.resets).await) }
    };
    tokio::pin!(reset);
    let holed = async {
        if !born.is_holed {
            drop(weather.wait_for(|now| now.holes > born.holes).await);
        }
    };
    let passing = async {
        if born.is_holed {
            std::future::pending::<()>().await;
        }
        let Ok(mut server) = TcpStream::connect(target).await else { return };
        server.set_nodelay(true).unwrap();
        let _ = copy_bidirectional(&mut client, &mut server).await;
    };
    tokio::select! {
        () = passing => return,
        () = &mut reset => {}
        () = holed => {
            // The far end is gone without a word; this end stays open until a reset, or for longer than any patience.
            tokio::select! {
                () = &mut reset => {}
                () = tokio::time::sleep(Duration::from_secs(600)) => {}
            }
        }
    }
    // A reset, not an orderly end.
    let _ = client.set_zero_linger();
}
