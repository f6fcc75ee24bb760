//! A connection to a host that has a name, and behind it any number of addresses.
//!
//! A name may lead to an IPv6 and an IPv4 address, of which one goes nowhere from
//! here: no answer comes at all, and the system gives up after minutes. So
//! addresses are tried as RFC 8305 ("Happy Eyeballs") says: in the system's order
//! (RFC 6724), families taking turns, the next one [`HEAD_START`] after the one
//! before or as soon as one fails, and the earlier ones go on meanwhile. The first
//! that connects is taken, the others are dropped. A black hole in front costs a
//! quarter of a second, and not the whole time that there is to connect.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, sleep_until, timeout_at};

/// How long an address is tried alone before the next one is tried too: what RFC 8305 section 8 recommends.
const HEAD_START: Duration = Duration::from_millis(250);

/// Addresses of one name that are tried. Names have a handful; with this many the last is tried within four seconds,
/// which leaves it time to answer, and whoever runs the name's server can't make us dial the world.
const MAX_ADDRESSES: usize = 16;

/// No address of a host could be connected to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The name can't be looked up.
    #[error("its name leads nowhere: {0}")]
    Lookup(#[source] io::Error),
    /// The name exists, and has no address.
    #[error("its name has no address")]
    NoAddress,
    /// Every address failed.
    #[error("{}{source}", all_failed(*tried))]
    Failed {
        /// Addresses that were tried.
        tried: usize,
        /// What the most telling of them said.
        source: io::Error,
    },
    /// The time was over.
    #[error("nothing answers in time{}", beside_silence(*tried, failed.as_ref()))]
    TimedOut {
        /// Addresses that were tried; none while the name was looked up.
        tried: usize,
        /// What one said that failed, rather than being silent.
        failed: Option<io::Error>,
    },
}

fn all_failed(tried: usize) -> String {
    if tried == 1 { String::new() } else { format!("none of its {tried} addresses can be connected to: ") }
}

fn beside_silence(tried: usize, failed: Option<&io::Error>) -> String {
    let addresses = match tried {
        0 => " when its name is looked up".to_owned(),
        1 => String::new(),
        _ => format!(" at {tried} addresses"),
    };
    failed.map_or_else(|| addresses.clone(), |error| format!("{addresses}; one of them says: {error}"))
}

/// Connects to the first address of `host` that answers before `deadline`. Small frames go out at once (`TCP_NODELAY`).
pub(crate) async fn connect(host: &str, port: u16, deadline: Instant) -> Result<TcpStream, DialError> {
    connect_by(host, port, deadline, async |address| {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    })
    .await
}

/// The same by another way of dialling an address.
pub(crate) async fn connect_by<S, F: Future<Output = io::Result<S>>>(
    host: &str,
    port: u16,
    deadline: Instant,
    dial: impl Fn(SocketAddr) -> F,
) -> Result<S, DialError> {
    let found = timeout_at(deadline, lookup_host((host, port))).await;
    let found = found.map_err(|_| DialError::TimedOut { tried: 0, failed: None })?.map_err(DialError::Lookup)?;
    race(&in_turns(found), deadline, dial).await
}

/// Each address once, families taking turns; the system's first stays first, and the order within a family.
fn in_turns(found: impl IntoIterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let (mut first, mut second) = (Vec::<SocketAddr>::new(), Vec::new());
    for address in found {
        let same = first.first().is_none_or(|leader| leader.is_ipv4() == address.is_ipv4());
        let family = if same { &mut first } else { &mut second };
        if !family.contains(&address) {
            family.push(address);
        }
    }
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let rounds = std::iter::from_fn(|| match (first.next(), second.next()) {
        (None, None) => None,
        pair => Some(pair),
    });
    rounds.flat_map(|(one, other)| one.into_iter().chain(other)).take(MAX_ADDRESSES).collect()
}

/// The first of `addresses` that `dial` connects to. All attempts are dropped with this future.
async fn race<S, F: Future<Output = io::Result<S>>>(
    addresses: &[SocketAddr],
    deadline: Instant,
    dial: impl Fn(SocketAddr) -> F,
) -> Result<S, DialError> {
    let mut waiting = addresses.iter();
    let mut attempts = FuturesUnordered::new();
    let mut told: Option<io::Error> = None;
    let mut over = pin!(sleep_until(deadline));
    let mut start_next = pin!(sleep_until(Instant::now()));
    loop {
        if attempts.is_empty() && waiting.len() == 0 {
            let tried = addresses.len();
            return Err(told.map_or(DialError::NoAddress, |source| DialError::Failed { tried, source }));
        }
        tokio::select! {
            // An answer first: with one in hand no other attempt is begun.
            biased;
            Some(answer) = attempts.next() => match answer {
                Ok(stream) => return Ok(stream),
                Err(error) => {
                    told = Some(more_telling(told, error));
                    start_next.as_mut().reset(Instant::now());
                }
            },
            () = &mut over => {
                return Err(DialError::TimedOut { tried: addresses.len() - waiting.len(), failed: told });
            }
            () = &mut start_next, if waiting.len() > 0 => {
                attempts.extend(waiting.next().map(|address| dial(*address)));
                start_next.as_mut().reset(Instant::now() + HEAD_START);
            }
        }
    }
}

/// The later of two errors, unless it only says that there is no way: a machine without IPv6 says so of half the
/// addresses, and why the other half failed is what helps.
fn more_telling(before: Option<io::Error>, error: io::Error) -> io::Error {
    use io::ErrorKind::{AddrNotAvailable, HostUnreachable, NetworkUnreachable};
    let no_way = matches!(error.kind(), AddrNotAvailable | HostUnreachable | NetworkUnreachable);
    match before {
        Some(before) if no_way => before,
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use io::ErrorKind::{ConnectionRefused, NetworkUnreachable};
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    /// How an address of a test answers.
    #[derive(Debug, Clone, Copy)]
    enum Behaviour {
        /// After so many milliseconds.
        Connects(u64),
        /// At once.
        Fails(io::ErrorKind),
        /// Never.
        Silence,
    }
    use Behaviour::{Connects, Fails, Silence};

    /// What a race came to, how long it took, and when which address was tried: milliseconds since its start.
    struct Ran {
        result: Result<usize, DialError>,
        took: u64,
        tries: Vec<(usize, u64)>,
    }

    /// Races addresses that answer like this, on a clock that is paused. Ten seconds, as in life.
    async fn run(answers: &[Behaviour]) -> Ran {
        let addresses: Vec<SocketAddr> =
            (1..=answers.len()).map(|at| SocketAddr::from(([192, 0, 2, 1], at as u16))).collect();
        let start = Instant::now();
        let since = || start.elapsed().as_millis() as u64;
        let tries = Mutex::new(Vec::new());
        let result = race(&addresses, start + Duration::from_secs(10), async |address| {
            let at = usize::from(address.port()) - 1;
            tries.lock().unwrap().push((at, since()));
            match answers[at] {
                Connects(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
                Fails(kind) => return Err(kind.into()),
                Silence => std::future::pending().await,
            }
            Ok(at)
        })
        .await;
        Ran { result, took: since(), tries: tries.into_inner().unwrap() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_black_hole_in_front_costs_its_head_start_and_no_more() {
        let ran = run(&[Silence, Connects(40), Connects(0)]).await;
        assert_eq!(ran.result.unwrap(), 1);
        assert!(ran.took <= 300, "{} ms", ran.took);
        assert_eq!(ran.tries.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [0, 1], "who was tried");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_makes_room_for_the_next_at_once() {
        let ran = run(&[Fails(ConnectionRefused), Fails(ConnectionRefused), Connects(5)]).await;
        assert_eq!(ran.result.unwrap(), 2);
        assert!(ran.took < 50, "{} ms", ran.took);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_address_is_not_given_up_for_a_later_one_that_is_slower() {
        let ran = run(&[Connects(600), Connects(900), Silence]).await;
        assert_eq!(ran.result.unwrap(), 0);
        assert!((600..650).contains(&ran.took), "{} ms", ran.took);
        assert_eq!(ran.tries.len(), 3, "the others were tried meanwhile");
    }

    #[tokio::test(start_paused = true)]
    async fn a_quick_address_is_the_only_one_that_is_tried() {
        let ran = run(&[Connects(200), Connects(0)]).await;
        assert_eq!(ran.result.unwrap(), 0);
        assert_eq!(ran.tries, [(0, 0)]);
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_fail_the_error_counts_them_and_says_what_helps() {
        let ran = run(&[Fails(ConnectionRefused), Fails(NetworkUnreachable)]).await;
        let error = ran.result.unwrap_err();
        assert_eq!(error.to_string(), "none of its 2 addresses can be connected to: connection refused");
        let alone = run(&[Fails(ConnectionRefused)]).await;
        assert_eq!(alone.result.unwrap_err().to_string(), "connection refused");
        assert!(matches!(run(&[]).await.result, Err(DialError::NoAddress)));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_with_the_time_that_there_is() {
        let ran = run(&[Silence, Fails(ConnectionRefused), Silence]).await;
        assert!((10_000..10_050).contains(&ran.took), "{} ms", ran.took);
        let error = ran.result.unwrap_err();
        assert_eq!(error.to_string(), "nothing answers in time at 3 addresses; one of them says: connection refused");
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_of_many_silent_addresses_still_has_time_to_answer() {
        let mut answers = [Silence; MAX_ADDRESSES];
        answers[MAX_ADDRESSES - 1] = Connects(5000);
        assert_eq!(run(&answers).await.result.unwrap(), MAX_ADDRESSES - 1);
    }

    #[test]
    fn families_take_turns_and_the_systems_order_stays() {
        let turns = |found: &[&str]| -> Vec<String> {
            let found = found.iter().map(|address| format!("{address}:1").parse().unwrap());
            in_turns(found).iter().map(|address: &SocketAddr| address.ip().to_string()).collect()
        };
        assert_eq!(
            turns(&["[::1]", "[::2]", "[::3]", "1.1.1.1", "2.2.2.2"]),
            ["::1", "1.1.1.1", "::2", "2.2.2.2", "::3"]
        );
        assert_eq!(turns(&["1.1.1.1", "2.2.2.2", "[::1]"]), ["1.1.1.1", "::1", "2.2.2.2"]);
        assert_eq!(turns(&["1.1.1.1", "2.2.2.2", "1.1.1.1"]), ["1.1.1.1", "2.2.2.2"]);
        assert_eq!(turns(&[]), [""; 0]);
        let many: Vec<String> = (0..100).map(|at| format!("[::{at}]")).collect();
        let mut many: Vec<&str> = many.iter().map(String::as_str).collect();
        many.push("1.1.1.1");
        let tried = turns(&many);
        assert_eq!(tried.len(), MAX_ADDRESSES);
        assert_eq!(tried[1], "1.1.1.1", "the other family is among those that are tried");
    }

    /// A listening socket of loopback that answers nobody: the one connection that it has room for is there already.
    #[cfg(target_os = "linux")]
    async fn black_hole() -> (TcpListener, TcpStream, SocketAddr) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let listener = socket.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let filler = TcpStream::connect(address).await.unwrap();
        (listener, filler, address)
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_real_black_hole_is_passed() {
        let (_listener, _filler, hole) = black_hole().await;
        let good = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let good = (good.local_addr().unwrap(), good);
        let connecting = Mutex::new(Vec::new());
        let deadline = Instant::now() + Duration::from_secs(60);
        let stream = race(&[hole, good.0], deadline, async |address| {
            connecting.lock().unwrap().push(address);
            let answer = TcpStream::connect(address).await;
            connecting.lock().unwrap().retain(|other| *other != address);
            answer
        })
        .await
        .unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good.0);
        assert_eq!(*connecting.lock().unwrap(), [hole], "the first attempt had not ended");
    }

    #[tokio::test]
    async fn a_name_is_looked_up_and_dialled() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let deadline = Instant::now() + Duration::from_secs(60);
        let stream = connect("localhost", port, deadline).await.unwrap();
        assert!(stream.nodelay().unwrap());
        drop((listener, stream));
        let refused = connect("127.0.0.1", port, deadline).await.unwrap_err();
        assert!(matches!(&refused, DialError::Failed { tried: 1, source } if source.kind() == ConnectionRefused));
    }
}
