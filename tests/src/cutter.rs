//! A TCP proxy that breaks what runs through it.
//!
//! A link can also be slow. Three kinds of trouble: a *reset* is heard by both ends at once; a *hole*
//! swallows everything and tells nobody, for connections that were there and for
//! new ones; connections that are *lost* stay in the hole whatever comes after,
//! until their owners give them up.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use crate::dice::Dice;
use crate::udp_path::UdpPath;

/// What happens to connections.
#[derive(Debug, Clone, Copy)]
struct Weather {
    /// Connections older than this number of resets are gone.
    resets: u64,
    /// Connections that saw a hole never pass a byte again, though they stay open.
    holes: u64,
    /// Connections older than this number of losses don't even hear of resets.
    losses: u64,
    /// New connections are accepted and pass nothing.
    is_holed: bool,
    /// Bytes per second in each direction of a new connection; `None` for as many as there are.
    rate: Option<u32>,
}

impl Weather {
    fn has_hole_since(&self, born: Self) -> bool {
        born.is_holed || self.holes > born.holes
    }
}

/// A proxy in front of one address. Dropping it cuts everything.
pub struct Cutter {
    addr: SocketAddr,
    weather: watch::Sender<Weather>,
    dials: Arc<Mutex<Vec<Instant>>>,
    passed: Arc<Passed>,
    udp: Option<UdpPath>,
    _task: AbortOnDropHandle<()>,
}

/// Bytes that went through.
#[derive(Debug, Default)]
struct Passed {
    to_server: AtomicU64,
    to_client: AtomicU64,
}

impl Cutter {
    /// Listens on a free port of loopback, in front of `target`.
    pub async fn start(target: SocketAddr) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), target, None)
    }

    /// The same, and what is done to connections is done to datagrams at the same port, which are for `udp_target`.
    pub async fn start_with_udp(target: SocketAddr, udp_target: SocketAddr) -> Self {
        loop {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            // Another test may have this one.
            if let Ok(socket) = UdpSocket::bind(listener.local_addr().unwrap()).await {
                return Self::on(listener, target, Some(UdpPath::start(socket, udp_target)));
            }
        }
    }

    fn on(listener: TcpListener, target: SocketAddr, udp: Option<UdpPath>) -> Self {
        let addr = listener.local_addr().unwrap();
        let (weather, seen) = watch::channel(Weather { resets: 0, holes: 0, losses: 0, is_holed: false, rate: None });
        let (dials, passed) = (Arc::default(), Arc::default());
        let task = tokio::spawn(accept(listener, target, seen, Arc::clone(&dials), Arc::clone(&passed)));
        Self { addr, weather, dials, passed, udp, _task: AbortOnDropHandle::new(task) }
    }

    /// Where to connect instead.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// When each connection so far was made.
    pub fn dials(&self) -> Vec<Instant> {
        self.dials.lock().unwrap().clone()
    }

    /// Bytes that went through so far: from who dials, and to them.
    pub fn passed(&self) -> (u64, u64) {
        (self.passed.to_server.load(Ordering::Relaxed), self.passed.to_client.load(Ordering::Relaxed))
    }

    /// The way of datagrams, alone.
    pub fn udp(&self) -> &UdpPath {
        self.udp.as_ref().expect("a cutter of datagrams")
    }

    /// Resets every connection.
    pub fn reset(&self) {
        self.weather.send_modify(|weather| weather.resets += 1);
        self.udp.iter().for_each(UdpPath::reset);
    }

    /// From now on nothing passes, and nobody is told: what a phone in a tunnel sees.
    pub fn hole(&self) {
        self.weather.send_modify(|weather| {
            weather.holes += 1;
            weather.is_holed = true;
        });
        self.udp.iter().for_each(UdpPath::hole);
    }

    /// New connections carry so many bytes per second each way, and hold no more than a tenth of a second's worth back.
    pub fn slow(&self, bytes_per_second: u32) {
        self.weather.send_modify(|weather| weather.rate = Some(bytes_per_second));
    }

    /// Nothing passes any more on the connections there are, and nobody ever says so to their owners.
    pub fn lose(&self) {
        self.weather.send_modify(|weather| {
            weather.holes += 1;
            weather.losses += 1;
        });
        self.udp.iter().for_each(UdpPath::lose);
    }

    /// New connections pass again; those that fell into the hole stay there until a reset.
    pub fn heal(&self) {
        self.weather.send_modify(|weather| weather.is_holed = false);
        self.udp.iter().for_each(UdpPath::heal);
    }

    /// Cuts everything off, and says so: what a phone in flight mode does. [`Self::online`] ends it.
    pub fn offline(&self) {
        self.hole();
        self.reset();
    }

    /// New connections pass again, and those that were tried meanwhile are told to try again.
    pub fn online(&self) {
        self.heal();
        self.reset();
    }

    /// Cuts at random, `cuts` times: mostly resets, else holes of up to a second whose connections are then reset.
    ///
    /// `silent` of them are losses: the owners have to notice by themselves, and are left alone for [`NOTICED`].
    pub async fn trouble(&self, dice: &mut Dice, cuts: usize, silent: usize) {
        for cut in 0..cuts {
            tokio::time::sleep(dice.between(200, 1000)).await;
            if cut % (cuts / silent) == cuts / silent / 2 {
                self.lose();
                tokio::time::sleep(NOTICED).await;
            } else {
                if dice.roll(5) == 0 {
                    self.hole();
                    tokio::time::sleep(dice.between(100, 1000)).await;
                    self.heal();
                }
                self.reset();
            }
        }
    }
}

/// A link into which nothing comes is probed after 5 s and given up 5 s later; then a new one is made.
pub const NOTICED: Duration = Duration::from_secs(12);

async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    weather: watch::Receiver<Weather>,
    dials: Arc<Mutex<Vec<Instant>>>,
    passed: Arc<Passed>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                dials.lock().unwrap().push(Instant::now());
                connections.spawn(carry(client, target, weather.clone(), Arc::clone(&passed)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn carry(mut client: TcpStream, target: SocketAddr, mut weather: watch::Receiver<Weather>, passed: Arc<Passed>) {
    let born = *weather.borrow_and_update();
    let mut resets = weather.clone();
    let reset = async {
        let told = |now: &Weather| now.resets > born.resets && now.losses == born.losses;
        drop(resets.wait_for(told).await);
    };
    tokio::pin!(reset);
    if born.is_holed {
        reset.await;
        let _ = client.set_zero_linger();
        return;
    }
    let Ok(mut server) = TcpStream::connect(target).await else {
        let _ = client.set_zero_linger();
        return;
    };
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    {
        let passing = async {
            let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
            tokio::join!(
                pass(from_client, to_server, born.rate, &passed.to_server),
                pass(from_server, to_client, born.rate, &passed.to_client),
            );
        };
        let holed = async { drop(weather.wait_for(|now| now.has_hole_since(born)).await) };
        tokio::pin!(passing);
        tokio::select! {
            () = &mut passing => return,
            () = &mut reset => {}
            // Both ends stay open, and nothing passes any more.
            () = holed => reset.await,
        }
    }
    // A reset, not an orderly end.
    let _ = client.set_zero_linger();
    let _ = server.set_zero_linger();
}

/// Passes bytes until they end, as a link of that many bytes per second does.
async fn pass(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, rate: Option<u32>, passed: &AtomicU64) {
    let mut piece = vec![0; rate.map_or(1 << 16, |rate| rate as usize / 10)];
    let mut free = tokio::time::Instant::now();
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        if let Some(rate) = rate {
            free = free.max(tokio::time::Instant::now()) + Duration::from_secs_f64(length as f64 / f64::from(rate));
            tokio::time::sleep_until(free).await;
        }
        if to.write_all(&piece[..length]).await.is_err() {
            return;
        }
        passed.fetch_add(length as u64, Ordering::Relaxed);
    }
    let _ = to.shutdown().await;
}
