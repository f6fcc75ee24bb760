//! Strangers: how many connections they get, for how long, and who has to make room.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use reachback_proto::close::CloseCode;
use reachback_proto::control::{PeerToRelay, RelayToPeer};
use reachback_proto::endpoint::Endpoint;
use reachback_proto::ids::RendezvousId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::common::{Challenge, Client, TestDevice, TestHost, TestRelay, pair, within};
use crate::transport::{upgraded, upgraded_by};

/// Connects from 127.0.0.`last`.
async fn from(last: u8, relay: &TestRelay) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from(([127, 0, 0, last], 0))).expect("an address of loopback");
    socket.connect(relay.relay.local_addr()).await.expect("the relay accepts")
}

/// Asks for the relay's health on a connection that is then kept.
async fn ask(stream: &mut TcpStream, relay: &TestRelay) -> io::Result<()> {
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {}\r\n\r\n", relay.relay.local_addr());
    stream.write_all(request.as_bytes()).await?;
    let mut start = [0; 12];
    within("an answer", stream.read_exact(&mut start)).await?;
    assert_eq!(&start, b"HTTP/1.1 200");
    // The rest of the answer is small and comes with it.
    let mut rest = [0; 4096];
    stream.read(&mut rest).await.map(drop)
}

/// Waits until the relay has closed a connection.
async fn closed(mut stream: TcpStream) {
    let mut said = Vec::new();
    // A reset is as good as an end.
    let _reset = within("the relay to close", stream.read_to_end(&mut said)).await;
}

fn limit(name: &str) -> String {
    format!("reachback_relay_limit_reached_total{{limit=\"{name}\"}}")
}

/// A link of a device from 127.0.0.`last` that was welcomed.
async fn device_from(last: u8, relay: &TestRelay, device: &TestDevice) -> Client {
    let url = format!("ws://{}{}", relay.relay.local_addr(), Endpoint::Device.path());
    let mut client = Client::over(upgraded(from(last, relay).await, &url).await);
    device.greet(&mut client, true).await;
    client.expect_welcome().await;
    client
}

#[tokio::test]
async fn one_address_that_takes_every_connection_locks_nobody_out() {
    let relay = TestRelay::with(|config| {
        config.limits.connections = 40;
        config.limits.unproven = 30;
        config.limits.unproven_per_address = 100;
    })
    .await;
    let (host, _control, device) = relay.host_and_device().await;
    let mut strangers = Vec::new();
    for _ in 0..50 {
        let mut stream = from(1, &relay).await;
        ask(&mut stream, &relay).await.expect("an answer");
        strangers.push(stream);
    }
    // More than there is room for beside them; each proves itself, and is kept.
    let mut kept = Vec::new();
    for _ in 0..9 {
        kept.push(device_from(2, &relay, &device).await);
        // The stranger goes on as before.
        let mut stream = from(1, &relay).await;
        ask(&mut stream, &relay).await.expect("an answer");
        strangers.push(stream);
    }
    for link in &mut kept {
        link.expect_presence(true).await;
    }
    relay.metric_reaches(&limit("unproven"), 20).await;
    drop(host);
}

#[tokio::test]
async fn who_has_proved_a_key_or_pairs_is_not_put_out() {
    let relay = TestRelay::with(|config| {
        config.limits.connections = 8;
        config.limits.unproven = 3;
    })
    .await;
    let (host, mut control, device) = relay.host_and_device().await;
    let rendezvous = RendezvousId([9; 16]);
    control.send(&PeerToRelay::PairingOpen { rendezvous, seconds: 60 }).await;
    control.expect(RelayToPeer::PairingOpened { rendezvous }).await;
    let mut watcher = device.watch(&relay).await;
    watcher.expect_presence(true).await;
    let mut pairing = pair(&relay, rendezvous).await;
    pairing.expect_welcome().await;
    control.expect(RelayToPeer::CircuitWanted).await;
    for _ in 0..50 {
        ask(&mut from(1, &relay).await, &relay).await.expect("an answer");
    }
    control.send(&PeerToRelay::Ping { id: 3 }).await;
    control.expect(RelayToPeer::Pong { id: 3 }).await;
    watcher.send(&PeerToRelay::Ping { id: 4 }).await;
    watcher.expect(RelayToPeer::Pong { id: 4 }).await;
    let mut theirs = host.data(&relay).await;
    let RelayToPeer::CircuitStart { .. } = theirs.next().await else { panic!("the pairing is gone") };
}

#[tokio::test]
async fn an_address_has_so_many_strangers_and_none_of_them_keeps_another_out() {
    let relay = TestRelay::with(|config| config.limits.unproven_per_address = 3).await;
    let (_host, _control, device) = relay.host_and_device().await;
    let mut strangers = Vec::new();
    for _ in 0..3 {
        let mut stream = from(2, &relay).await;
        ask(&mut stream, &relay).await.expect("an answer");
        strangers.push(stream);
    }
    ask(&mut from(3, &relay).await, &relay).await.expect("another address has a share of its own");
    assert_eq!(relay.metric(&limit("unproven_per_address")).await, 0);

    // Somebody else in the same office: the oldest of its strangers makes room, and who has proved a key is none.
    let mut kept = Vec::new();
    for _ in 0..6 {
        kept.push(device_from(2, &relay, &device).await);
        let mut stream = from(2, &relay).await;
        ask(&mut stream, &relay).await.expect("an answer");
        strangers.push(stream);
    }
    relay.metric_reaches(&limit("unproven_per_address"), 6).await;
    for oldest in strangers.drain(..6) {
        closed(oldest).await;
    }
    for link in &mut kept {
        link.expect_presence(true).await;
    }
}

#[tokio::test]
async fn an_address_connects_so_often_and_another_does_not_pay() {
    let two = std::num::NonZeroU32::new(2).unwrap();
    let relay = TestRelay::with(|config| {
        config.limits.accepts_burst = two;
        config.limits.accepts_per_minute = two;
    })
    .await;
    for _ in 0..2 {
        ask(&mut from(2, &relay).await, &relay).await.expect("an answer");
    }
    closed(from(2, &relay).await).await;
    ask(&mut from(3, &relay).await, &relay).await.expect("an answer");
    assert_eq!(relay.metric(&limit("accepts_per_minute")).await, 1);
}

#[tokio::test]
async fn a_stranger_stays_so_long_whatever_it_does_and_a_peer_for_as_long_as_it_likes() {
    let relay = TestRelay::with(|config| {
        config.limits.unproven_ms = 1500;
        config.limits.http_head_ms = 60_000;
    })
    .await;
    let (_host, mut control) = relay.host().await;
    let mut stream = from(2, &relay).await;
    let busy = async {
        while ask(&mut stream, &relay).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within("the end of a busy stranger", busy).await;
    closed(from(2, &relay).await).await;
    relay.metric_reaches(&limit("unproven_ms"), 2).await;
    control.send(&PeerToRelay::Ping { id: 3 }).await;
    control.expect(RelayToPeer::Pong { id: 3 }).await;
}

/// With which code the relay refuses a device that it does not know, whose upgrade says whom it comes for.
async fn forwarded(last: u8, relay: &TestRelay, device: &TestDevice, header: &str) -> CloseCode {
    let mut request = format!("ws://{}/v1/device", relay.relay.local_addr()).into_client_request().expect("a URL");
    request.headers_mut().insert("x-forwarded-for", header.parse().expect("a header's value"));
    let stream = from(last, relay).await;
    let mut client = Client::over(upgraded_by(stream, request).await);
    match client.next().await {
        RelayToPeer::Challenge { relay_key, nonce, .. } => {
            device.answer(&mut client, &Challenge { relay_key, nonce }, true).await
        }
        RelayToPeer::Refused { code, .. } => return CloseCode::from_number(code),
        other => panic!("neither a challenge nor a refusal: {other:?}"),
    }
    match client.next().await {
        RelayToPeer::Refused { code, .. } => CloseCode::from_number(code),
        other => panic!("an unknown device was let in: {other:?}"),
    }
}

#[tokio::test]
async fn what_a_trusted_proxy_says_counts_and_what_others_say_does_not() {
    let two = std::num::NonZeroU32::new(2).unwrap();
    let relay = TestRelay::with(|config| {
        config.trusted_proxies = vec!["127.0.0.2/32".parse().unwrap()];
        config.limits.attempts_burst = two;
        config.limits.attempts_per_minute = std::num::NonZeroU32::MIN;
    })
    .await;
    let device = TestDevice::of(&TestHost::new());
    let code = async |last, header: &str| forwarded(last, &relay, &device, header).await;
    // Through the proxy each address has its own share.
    for header in ["198.51.100.1", "203.0.113.7, 198.51.100.1", "198.51.100.2", "198.51.100.2"] {
        assert_eq!(code(2, header).await, CloseCode::Unauthorized, "{header}");
    }
    for header in ["198.51.100.1", "1.1.1.1, 198.51.100.2"] {
        assert_eq!(code(2, header).await, CloseCode::Limited, "{header}");
    }
    // A stranger is who it is, whatever it writes.
    assert_eq!(code(3, "198.51.100.3").await, CloseCode::Unauthorized);
    assert_eq!(code(3, "198.51.100.4").await, CloseCode::Unauthorized);
    assert_eq!(code(3, "198.51.100.5").await, CloseCode::Limited);
}

#[tokio::test]
async fn a_proxys_connections_are_not_counted_as_one_address() {
    let two = std::num::NonZeroU32::new(2).unwrap();
    let relay = TestRelay::with(|config| {
        config.trusted_proxies = vec!["127.0.0.2/32".parse().unwrap()];
        config.limits.unproven_per_address = 2;
        config.limits.accepts_burst = two;
        config.limits.accepts_per_minute = two;
    })
    .await;
    let mut open = Vec::new();
    for _ in 0..10 {
        let mut stream = from(2, &relay).await;
        ask(&mut stream, &relay).await.expect("an answer");
        open.push(stream);
    }
}

#[tokio::test]
async fn a_proxy_that_passes_connections_on_as_they_are_says_whose_they_are() {
    let two = std::num::NonZeroU32::new(2).unwrap();
    let relay = TestRelay::with(|config| {
        config.trusted_proxies = vec!["127.0.0.2/32".parse().unwrap()];
        config.proxy_protocol = true;
        config.metrics_from = vec!["198.51.100.9/32".parse().unwrap()];
        config.limits.accepts_burst = two;
        config.limits.accepts_per_minute = two;
        config.limits.unproven_per_address = 10;
    })
    .await;
    let through = async |header: &str| {
        let mut stream = from(2, &relay).await;
        stream.write_all(header.as_bytes()).await?;
        ask(&mut stream, &relay).await.map(|()| stream)
    };
    let a = "PROXY TCP4 198.51.100.1 127.0.0.1 4711 443\r\n";
    let b = "PROXY TCP4 198.51.100.2 127.0.0.1 4711 443\r\n";
    for header in [a, a, b, b, "PROXY UNKNOWN\r\n", "PROXY UNKNOWN\r\n", "PROXY UNKNOWN\r\n"] {
        through(header).await.expect("an answer");
    }
    assert!(through(a).await.is_err(), "more than the address may make");
    // A proxy says it always; a stranger is not asked, and can't say it.
    assert!(ask(&mut from(2, &relay).await, &relay).await.is_err(), "no introduction");
    ask(&mut from(3, &relay).await, &relay).await.expect("an answer");
    let mut stranger = from(3, &relay).await;
    stranger.write_all(b.as_bytes()).await.unwrap();
    let mut start = [0; 12];
    within("an answer", stranger.read_exact(&mut start)).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 400", "a header of a stranger is no HTTP");
    // Whoever comes through is not at this machine, but may be one that metrics are for.
    for (address, answer) in [("198.51.100.3", b"HTTP/1.1 403"), ("198.51.100.9", b"HTTP/1.1 200")] {
        let mut stream = from(2, &relay).await;
        let own = relay.relay.local_addr();
        let request = format!("PROXY TCP4 {address} 127.0.0.1 1 443\r\nGET /metrics HTTP/1.1\r\nHost: {own}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        within("an answer", stream.read_exact(&mut start)).await.unwrap();
        assert_eq!(&start, answer, "{address}");
    }
}

/// `cargo test -p reachback-relay --test relay door::figures -- --ignored --nocapture`, with room for 20,000 files.
#[tokio::test]
#[ignore = "measures"]
async fn figures() {
    for caps in [true, false] {
        let relay = TestRelay::with(|config| {
            config.limits.links_per_device = 100;
            if !caps {
                config.limits.unproven_per_address = usize::MAX;
            }
        })
        .await;
        let (_host, _control, device) = relay.host_and_device().await;
        let mut strangers = Vec::new();
        for _ in 0..8000 {
            let mut stream = from(1, &relay).await;
            let answered = ask(&mut stream, &relay).await.is_ok();
            strangers.extend(answered.then_some(stream));
        }
        let begin = std::time::Instant::now();
        let mut newcomers = Vec::new();
        for last in 0..81 {
            newcomers.push(device_from(2 + last / 10, &relay, &device).await);
        }
        println!(
            "caps: {caps}; strangers answered: {}; newcomers in: {} in {:?}",
            strangers.len(),
            newcomers.len(),
            begin.elapsed()
        );
    }
}
