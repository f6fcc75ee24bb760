//! Strangers: an address is proved before anything else, and then a connection has one stream and little time.

use std::num::NonZeroU32;

use futures_util::FutureExt;
use quinn::{ConnectionError, VarInt};
use reachback_proto::endpoint::Endpoint;

use crate::common::{Client, TestRelay, within};
use crate::middlebox::Middlebox;
use crate::transport::{client_config, client_from, connect, connect_from, open_on};

fn limit(name: &str) -> String {
    format!("reachback_relay_limit_reached_total{{limit=\"{name}\"}}")
}

const CONNECTIONS: &str = "reachback_relay_connections_opened_total";

/// Asking for it opens one, over TCP.
async fn connections(relay: &TestRelay) -> u64 {
    relay.metric(CONNECTIONS).await
}

#[tokio::test]
async fn an_address_that_is_not_proved_costs_one_small_datagram_and_nothing_else() {
    // One connection is all that the address may ever have.
    let relay = TestRelay::with(|config| config.limits.unproven = 2).await;
    let middlebox = Middlebox::before(relay.relay.local_addr()).await;
    middlebox.swallow_answers();
    let before = connections(&relay).await;
    let forged: Vec<_> = (0..20)
        .map(|_| client_from(2).connect_with(client_config(), middlebox.address, "localhost").expect("an address"))
        .collect();
    within("twenty answers", async {
        while middlebox.to_client().len() < 20 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let (asked, answered) = (middlebox.to_relay(), middlebox.to_client());
    assert!(answered.iter().all(|datagram| datagram.is_retry()), "a handshake was begun: {answered:?}");
    let most = answered.iter().map(|datagram| datagram.length).max();
    let least = asked.iter().map(|datagram| datagram.length).min();
    assert!(most < least, "an answer of {most:?} bytes to a question of {least:?}");
    assert_eq!(connections(&relay).await, before + 1, "what is forged is counted");
    drop(forged);
}

#[tokio::test]
async fn who_was_here_before_needs_no_second_round_trip_and_each_token_is_good_once() {
    let relay = TestRelay::start().await;
    let middlebox = Middlebox::before(relay.relay.local_addr()).await;
    let config = client_config();
    // The relay gives two tokens with each connection, of which each connection but the first takes one.
    for (round, retries) in [(1, 1), (2, 1), (3, 1)] {
        let connecting =
            client_from(1).connect_with(config.clone(), middlebox.address, "localhost").expect("an address");
        let connection = within("the connection", connecting).await.expect("the relay accepts");
        // What the relay says comes after the tokens.
        Client::over(open_on(&connection, Endpoint::Host).await).challenge().await;
        let seen = middlebox.to_client().into_iter().filter(|datagram| datagram.is_retry()).count();
        assert_eq!(seen, retries, "connection {round}");
        connection.close(VarInt::from_u32(0), b"");
    }
}

#[tokio::test]
async fn an_address_connects_so_often_over_quic_and_another_does_not_pay() {
    let two = NonZeroU32::new(2).unwrap();
    let relay = TestRelay::with(|config| {
        config.limits.accepts_burst = two;
        config.limits.accepts_per_minute = two;
    })
    .await;
    for _ in 0..2 {
        connect_from(2, &relay).await.expect("the relay accepts");
    }
    let refused = connect_from(2, &relay).await.unwrap_err();
    assert!(
        matches!(&refused, ConnectionError::ConnectionClosed(closed) if closed.error_code == quinn::TransportErrorCode::CONNECTION_REFUSED),
        "{refused}"
    );
    connect_from(3, &relay).await.expect("another address has a bucket of its own");
    assert_eq!(relay.metric(&limit("accepts_per_minute")).await, 1);
}

#[tokio::test]
async fn a_stranger_has_one_stream_and_so_many_bytes() {
    let relay = TestRelay::start().await;
    let connection = connect(&relay).await;
    let (mut send, _receive) = connection.open_bi().await.unwrap();
    assert!(connection.open_bi().now_or_never().is_none(), "a stranger opens a second stream");
    assert!(connection.open_uni().now_or_never().is_none(), "a stranger opens a stream that has no answer");
    assert!(connection.send_datagram(vec![0; 10].into()).is_err(), "a stranger sends datagrams");
    // Nothing of it is read before the first byte's meaning is known, and this one has none.
    let sent = send.write(&[0xff; 1 << 20]).await.unwrap();
    assert!(sent <= 16 * 1024, "{sent} bytes");
    assert!(within("the end of the stream", send.stopped()).await.is_ok());
    drop(send);
    // The next one may be opened only then.
    Client::over(open_on(&connection, Endpoint::Device).await).challenge().await;
}

async fn ended(relay: &TestRelay) -> ConnectionError {
    let connection = connect(relay).await;
    within("the relay to close", connection.closed()).await
}

#[tokio::test]
async fn a_connection_without_a_stream_and_one_that_does_not_prove_itself_end() {
    let relay = TestRelay::with(|config| config.limits.hello_ms = 100).await;
    assert!(matches!(ended(&relay).await, ConnectionError::ApplicationClosed(_)));

    let relay = TestRelay::with(|config| config.limits.unproven_ms = 300).await;
    let connection = connect(&relay).await;
    let mut refused = 0;
    while connection.close_reason().is_none() {
        // Until the connection is closed in the midst of it.
        let Ok((mut send, mut receive)) = connection.open_bi().await else { break };
        let _closed = send.write_all(&[Endpoint::Host.byte()]).await;
        let _closed = send.finish();
        let _closed = receive.read_to_end(1 << 20).await;
        refused += 1;
    }
    let ended = within("the relay to close", connection.closed()).await;
    assert!(refused > 1, "it was let in, or had one try");
    assert!(matches!(ended, ConnectionError::ApplicationClosed(_)), "{ended}");
    assert_eq!(relay.metric(&limit("unproven_ms")).await, 1);
}

#[tokio::test]
async fn a_stream_that_says_nothing_is_a_stranger_too() {
    let relay = TestRelay::with(|config| config.limits.hello_ms = 200).await;
    let connection = connect(&relay).await;
    // The relay hears of a stream with its first byte; an end without one is no byte either.
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    send.finish().unwrap();
    assert_eq!(within("the end of the stream", receive.read(&mut [0; 10])).await.unwrap(), None);
}

#[tokio::test]
async fn the_oldest_stranger_of_an_address_makes_room() {
    let relay = TestRelay::with(|config| config.limits.unproven_per_address = 3).await;
    let (_host, mut control) = relay.host().await;
    let mut strangers = Vec::new();
    for _ in 0..4 {
        strangers.push(connect_from(2, &relay).await.expect("the relay accepts"));
    }
    within("the oldest to make room", strangers[0].closed()).await;
    assert!(strangers[1..].iter().all(|stranger| stranger.close_reason().is_none()));
    assert_eq!(relay.metric(&limit("unproven_per_address")).await, 1);
    control.send(&reachback_proto::control::PeerToRelay::Ping { id: 3 }).await;
    control.expect(reachback_proto::control::RelayToPeer::Pong { id: 3 }).await;
}

#[tokio::test]
async fn a_handshake_that_does_not_go_on_ends() {
    let relay = TestRelay::with(|config| config.limits.tls_handshake_ms = 100).await;
    let middlebox = Middlebox::before(relay.relay.local_addr()).await;
    middlebox.swallow_all_but_retries();
    let connecting = client_from(1).connect_with(client_config(), middlebox.address, "localhost").expect("an address");
    let limit = limit("tls_handshake_ms");
    tokio::select! {
        () = relay.metric_reaches(&limit, 1) => {}
        ended = connecting => panic!("the handshake ended: {ended:?}"),
    }
}
