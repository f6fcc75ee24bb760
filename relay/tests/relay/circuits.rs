//! Data connections and circuits.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use reachback_proto::claims::ProofRole;
use reachback_proto::close::CloseCode;
use reachback_proto::control::{CircuitOrigin, MAX_CIRCUIT_CHUNK, PeerToRelay, RelayToPeer};
use reachback_proto::endpoint::Endpoint;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use crate::common::{Client, PEER_NONCE, TestDevice, TestHost, TestRelay, proof, within};

#[tokio::test]
async fn bytes_go_both_ways_and_the_host_hears_who_is_there() {
    let relay = TestRelay::start().await;
    let (host, mut control, device) = relay.host_and_device().await;
    let mut ours = device.open(&relay).await;
    ours.expect_presence(true).await;
    control.expect(RelayToPeer::CircuitWanted).await;
    let mut theirs = host.data(&relay).await;
    let RelayToPeer::CircuitStart { circuit, origin } = theirs.next().await else { panic!("not a CircuitStart") };
    assert_eq!(origin, CircuitOrigin::Device { key: device.identity.public() });
    ours.expect(RelayToPeer::Attached { circuit }).await;

    ours.send_bytes(b"to host".to_vec()).await;
    assert_eq!(theirs.read(7).await, b"to host");
    theirs.send_bytes(b"to device".to_vec()).await;
    assert_eq!(ours.read(9).await, b"to device");
    assert_eq!(relay.metric("reachback_relay_circuit_bytes_total{direction=\"to_host\"}").await, 7);
    assert_eq!(relay.metric("reachback_relay_circuit_bytes_total{direction=\"to_device\"}").await, 9);
}

#[tokio::test]
async fn a_spare_is_used_without_asking_the_host() {
    let relay = TestRelay::start().await;
    let (host, mut control, device) = relay.host_and_device().await;
    let mut spare = host.spare(&relay).await;
    let mut ours = device.open(&relay).await;
    ours.expect_presence(true).await;
    assert!(matches!(ours.next().await, RelayToPeer::Attached { .. }));
    assert!(matches!(spare.next().await, RelayToPeer::CircuitStart { .. }));
    // Were a circuit wanted, it would come before the answer.
    control.send(&PeerToRelay::Ping { id: 1 }).await;
    control.expect(RelayToPeer::Pong { id: 1 }).await;
}

#[tokio::test]
async fn a_spare_that_died_is_passed_over() {
    let relay = TestRelay::start().await;
    let (host, mut control, device) = relay.host_and_device().await;
    drop(host.spare(&relay).await);
    let mut ours = device.open(&relay).await;
    ours.expect_presence(true).await;
    control.expect(RelayToPeer::CircuitWanted).await;
    let mut theirs = host.data(&relay).await;
    assert!(matches!(theirs.next().await, RelayToPeer::CircuitStart { .. }));
}

#[tokio::test]
async fn enough_spares_are_enough_and_they_wait_in_silence() {
    let relay = TestRelay::with(|config| config.limits.spares_per_host = 1).await;
    let (host, _control) = relay.host().await;
    let mut first = host.spare(&relay).await;
    let message = host.data(&relay).await.expect_refused(CloseCode::Limited).await;
    assert!(message.contains("spares_per_host"), "{message}");
    first.send_bytes(b"too early".to_vec()).await;
    first.expect_refused(CloseCode::Malformed).await;
}

#[tokio::test]
async fn data_connections_belong_to_a_known_host_that_is_connected() {
    let relay = TestRelay::start().await;
    let (host, control) = relay.host().await;
    let mut other_run = host.another_run().data(&relay).await;
    other_run.expect_refused(CloseCode::PeerGone).await;
    let mut spare = host.spare(&relay).await;
    drop(control);
    spare.expect_refused(CloseCode::PeerGone).await;

    let stranger = TestHost::new();
    let mut client = Client::open(&relay, Endpoint::HostData).await;
    let challenge = client.challenge().await;
    let proof = proof(&stranger.identity, &challenge, ProofRole::HostData, None);
    let (key, boot) = (stranger.identity.public(), stranger.boot);
    client.send(&PeerToRelay::HostDataHello { version: 1, key, peer_nonce: PEER_NONCE, boot, proof }).await;
    client.expect_refused(CloseCode::Unauthorized).await;
}

#[tokio::test]
async fn a_device_that_speaks_before_it_is_attached_is_refused() {
    let relay = TestRelay::start().await;
    let (_host, _control, device) = relay.host_and_device().await;
    let mut ours = device.open(&relay).await;
    ours.expect_presence(true).await;
    ours.send_bytes(b"early".to_vec()).await;
    ours.expect_refused(CloseCode::Malformed).await;
}

#[tokio::test]
async fn megabytes_arrive_whole_and_in_order() {
    let relay = TestRelay::start().await;
    let (host, mut control, device) = relay.host_and_device().await;
    let (ours, mut theirs) = relay.circuit(&host, &mut control, &device).await;
    let all: Vec<u8> = (0..4u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let (mut to_relay, _from_relay) = ours.socket.split();
    let sent = all.clone();
    let sending = tokio::spawn(async move {
        // Sizes around every boundary: the buffers', the limit's.
        let mut rest = &sent[..];
        for size in [1, 125, 126, 4095, 4096, 65_535, 65_536, MAX_CIRCUIT_CHUNK].iter().cycle() {
            let (chunk, tail) = rest.split_at((*size).min(rest.len()));
            to_relay.send(Message::Binary(chunk.to_vec().into())).await.unwrap();
            rest = tail;
            if rest.is_empty() {
                return to_relay;
            }
        }
        unreachable!("the cycle has no end");
    });
    assert!(theirs.read(all.len()).await == all, "the bytes that arrived are others than those that were sent");
    drop(sending.await.unwrap());
}

#[tokio::test]
async fn the_last_bytes_arrive_before_an_orderly_close() {
    let relay = TestRelay::start().await;
    let (host, mut control, device) = relay.host_and_device().await;
    let (mut ours, mut theirs) = relay.circuit(&host, &mut control, &device).await;
    for _ in 0..8 {
        ours.send_bytes(vec![5; MAX_CIRCUIT_CHUNK]).await;
    }
    ours.socket.send(Message::Close(Some(CloseFrame { code: 1000.into(), reason: "".into() }))).await.unwrap();
    assert_eq!(theirs.read(8 * MAX_CIRCUIT_CHUNK).await.len(), 8 * MAX_CIRCUIT_CHUNK);
    assert_eq!(theirs.closed().await, CloseCode::Normal);
}

#[tokio::test]
async fn an_end_that_vanishes_or_breaks_the_rules_ends_the_circuit() {
    let relay = TestRelay::start().await;
    let (host, mut control, device) = relay.host_and_device().await;
    let (ours, mut theirs) = relay.circuit(&host, &mut control, &device).await;
    drop(ours);
    assert_eq!(theirs.closed().await, CloseCode::PeerGone);

    let (mut ours, mut theirs) = relay.circuit(&host, &mut control, &device).await;
    ours.socket.send(Message::Text("words".into())).await.unwrap();
    assert_eq!(ours.closed().await, CloseCode::Malformed);
    assert_eq!(theirs.closed().await, CloseCode::PeerGone);

    let (mut ours, mut theirs) = relay.circuit(&host, &mut control, &device).await;
    theirs.send_bytes(vec![0; MAX_CIRCUIT_CHUNK + 1]).await;
    assert_eq!(theirs.closed().await, CloseCode::TooLarge);
    assert_eq!(ours.closed().await, CloseCode::PeerGone);
}

#[tokio::test]
async fn a_slow_reader_holds_up_its_sender_and_nobody_else() {
    let relay = TestRelay::start().await;
    let (host, mut control, device) = relay.host_and_device().await;
    let (_reads_nothing, theirs) = relay.circuit(&host, &mut control, &device).await;
    let (mut flood, _rest) = theirs.socket.split();
    let mut accepted = 0;
    // The kernel's buffers at both ends take some; the relay takes a message and a buffer.
    while timeout(Duration::from_millis(500), flood.send(Message::Binary(vec![0; MAX_CIRCUIT_CHUNK].into())))
        .await
        .is_ok()
    {
        accepted += MAX_CIRCUIT_CHUNK;
        assert!(accepted < 64 << 20, "the relay swallows what the reader does not take");
    }
    let (mut ours, mut other) = relay.circuit(&host, &mut control, &device).await;
    ours.send_bytes(b"still here".to_vec()).await;
    assert_eq!(other.read(10).await, b"still here");
}

#[tokio::test]
async fn a_reader_that_never_reads_is_cut_off() {
    let relay = TestRelay::with(|config| config.limits.write_ms = 200).await;
    let (host, mut control, device) = relay.host_and_device().await;
    let (_reads_nothing, theirs) = relay.circuit(&host, &mut control, &device).await;
    let (mut flood, mut answers) = theirs.socket.split();
    let flooding = tokio::spawn(async move {
        while flood.send(Message::Binary(vec![0; MAX_CIRCUIT_CHUNK].into())).await.is_ok() {}
        flood
    });
    within("the circuit's end", async { while let Some(Ok(_)) = answers.next().await {} }).await;
    assert_eq!(relay.metric("reachback_relay_limit_reached_total{limit=\"write_ms\"}").await, 1);
    drop(answers);
    drop(within("the flood to stop", flooding).await.unwrap());
}

#[tokio::test]
async fn a_circuit_without_a_byte_ends() {
    let relay = TestRelay::with(|config| config.limits.circuit_idle_ms = 200).await;
    let (host, mut control, device) = relay.host_and_device().await;
    let (mut ours, mut theirs) = relay.circuit(&host, &mut control, &device).await;
    assert_eq!(ours.closed().await, CloseCode::Timeout);
    assert_eq!(theirs.closed().await, CloseCode::Timeout);
    relay.metric_reaches("reachback_relay_circuits_closed_total{origin=\"device\"}", 1).await;
}

#[tokio::test]
async fn circuits_outlive_the_control_connection_of_the_same_run() {
    let relay = TestRelay::start().await;
    let (host, mut control, device) = relay.host_and_device().await;
    let (mut ours, mut theirs) = relay.circuit(&host, &mut control, &device).await;
    let mut watch = device.watch(&relay).await;
    watch.expect_presence(true).await;
    drop(control);
    watch.expect_presence(false).await;
    let _again = host.control(&relay).await;
    watch.expect_presence(true).await;
    ours.send_bytes(b"on".to_vec()).await;
    assert_eq!(theirs.read(2).await, b"on");
}

#[tokio::test]
async fn a_host_has_so_many_circuits_and_no_more() {
    let relay = TestRelay::with(|config| config.limits.circuits_per_host = 1).await;
    let (host, mut control, device) = relay.host_and_device().await;
    let _circuit = relay.circuit(&host, &mut control, &device).await;
    let mut second = device.open(&relay).await;
    let message = second.expect_refused(CloseCode::Limited).await;
    assert!(message.contains("circuits_per_host"), "{message}");
}

#[tokio::test]
async fn a_host_that_missed_the_request_is_asked_again() {
    let relay = TestRelay::with(|config| config.limits.circuit_reminder_ms = 100).await;
    let (host, mut control) = relay.host().await;
    let device = TestDevice::of(&host);
    control.list_devices(1, &[&device]).await;
    let _waits = device.open(&relay).await;
    for _ in 0..3 {
        control.expect(RelayToPeer::CircuitWanted).await;
    }
}
