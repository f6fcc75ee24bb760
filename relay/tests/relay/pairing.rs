//! Rendezvous of pairings.

use reachback_proto::close::CloseCode;
use reachback_proto::control::{CircuitOrigin, MAX_RENDEZVOUS_SECONDS, PeerToRelay, RelayToPeer};
use reachback_proto::ids::RendezvousId;

use crate::common::{Client, TestHost, TestRelay, pair};

const HERE: RendezvousId = RendezvousId([8; 16]);

async fn open(control: &mut Client, rendezvous: RendezvousId, seconds: u32) {
    control.send(&PeerToRelay::PairingOpen { rendezvous, seconds }).await;
    control.expect(RelayToPeer::PairingOpened { rendezvous }).await;
}

/// The circuit of a device on `HERE`: its end, the host's end.
async fn meet(relay: &TestRelay, host: &TestHost, control: &mut Client) -> (Client, Client) {
    let mut device = pair(relay, HERE).await;
    device.expect_welcome().await;
    control.expect(RelayToPeer::CircuitWanted).await;
    let mut data = host.data(relay).await;
    let RelayToPeer::CircuitStart { circuit, origin } = data.next().await else { panic!("not a CircuitStart") };
    assert_eq!(origin, CircuitOrigin::Pairing { rendezvous: HERE });
    device.expect(RelayToPeer::Attached { circuit }).await;
    (device, data)
}

fn closed(rendezvous: RendezvousId, code: CloseCode) -> RelayToPeer {
    RelayToPeer::PairingClosed { rendezvous, code: code.number() }
}

#[tokio::test]
async fn an_open_rendezvous_takes_one_device_after_another() {
    let relay = TestRelay::start().await;
    let (host, mut control) = relay.host().await;
    open(&mut control, HERE, 60).await;
    let (mut device, mut data) = meet(&relay, &host, &mut control).await;
    device.send_bytes(b"noise".to_vec()).await;
    assert_eq!(data.read(5).await, b"noise");

    let message = pair(&relay, HERE).await.expect_refused(CloseCode::Limited).await;
    assert!(message.contains("another device"), "{message}");
    drop(device);
    assert_eq!(data.closed().await, CloseCode::PeerGone);
    relay.metric_reaches("reachback_relay_links_closed_total{role=\"pairing\"}", 1).await;
    meet(&relay, &host, &mut control).await;
}

#[tokio::test]
async fn an_unknown_a_closed_and_an_expired_rendezvous_look_the_same() {
    let relay = TestRelay::start().await;
    let (_host, mut control) = relay.host().await;
    let mut messages = vec![pair(&relay, HERE).await.expect_refused(CloseCode::NotFound).await];

    open(&mut control, HERE, 60).await;
    control.send(&PeerToRelay::PairingClose { rendezvous: HERE }).await;
    control.expect(closed(HERE, CloseCode::Normal)).await;
    messages.push(pair(&relay, HERE).await.expect_refused(CloseCode::NotFound).await);

    open(&mut control, HERE, 1).await;
    control.expect(closed(HERE, CloseCode::Timeout)).await;
    messages.push(pair(&relay, HERE).await.expect_refused(CloseCode::NotFound).await);
    messages.dedup();
    assert_eq!(messages.len(), 1, "{messages:?}");
}

#[tokio::test]
async fn a_rendezvous_lasts_at_most_the_time_of_the_protocol() {
    let relay = TestRelay::start().await;
    let (_host, mut control) = relay.host().await;
    for seconds in [0, MAX_RENDEZVOUS_SECONDS + 1] {
        control.send(&PeerToRelay::PairingOpen { rendezvous: HERE, seconds }).await;
        control.expect(closed(HERE, CloseCode::Malformed)).await;
    }
}

#[tokio::test]
async fn hosts_hold_a_few_rendezvous_and_only_their_own() {
    let relay = TestRelay::with(|config| config.limits.pairings_per_host = 1).await;
    let (_host, mut control) = relay.host().await;
    let (_other, mut other) = relay.host().await;
    open(&mut control, HERE, 60).await;
    open(&mut control, HERE, 60).await;
    let second = RendezvousId([9; 16]);
    control.send(&PeerToRelay::PairingOpen { rendezvous: second, seconds: 60 }).await;
    control.expect(closed(second, CloseCode::Limited)).await;
    other.send(&PeerToRelay::PairingOpen { rendezvous: HERE, seconds: 60 }).await;
    other.expect(closed(HERE, CloseCode::Conflict)).await;
    other.send(&PeerToRelay::PairingClose { rendezvous: HERE }).await;
    other.expect(closed(HERE, CloseCode::Normal)).await;
    pair(&relay, HERE).await.expect_welcome().await;
    control.expect(RelayToPeer::CircuitWanted).await;
}

#[tokio::test]
async fn guessing_is_slow() {
    let one = std::num::NonZeroU32::MIN;
    let relay = TestRelay::with(|config| {
        config.limits.pairing_attempts_burst = one;
        config.limits.pairing_attempts_per_minute = one;
    })
    .await;
    pair(&relay, HERE).await.expect_refused(CloseCode::NotFound).await;
    let message = pair(&relay, HERE).await.expect_refused(CloseCode::Limited).await;
    assert!(message.contains("pairing_attempts_per_minute"), "{message}");
}

#[tokio::test]
async fn a_device_hears_when_the_host_does_not_come() {
    let relay = TestRelay::with(|config| config.limits.pairing_attach_ms = 100).await;
    let (_host, mut control) = relay.host().await;
    open(&mut control, HERE, 60).await;
    let mut device = pair(&relay, HERE).await;
    device.expect_welcome().await;
    device.expect_refused(CloseCode::PeerGone).await;
}

#[tokio::test]
async fn a_rendezvous_outlives_the_control_connection_but_not_the_run() {
    let relay = TestRelay::start().await;
    let (host, mut control) = relay.host().await;
    open(&mut control, HERE, 60).await;
    drop(control);
    relay.metric_reaches("reachback_relay_links_closed_total{role=\"host\"}", 1).await;
    let mut control = host.control(&relay).await;
    meet(&relay, &host, &mut control).await;
    drop(control);
    relay.metric_reaches("reachback_relay_links_closed_total{role=\"host\"}", 2).await;
    let _next = host.another_run().control(&relay).await;
    pair(&relay, HERE).await.expect_refused(CloseCode::NotFound).await;
}

#[tokio::test]
async fn a_pairing_circuit_does_not_last_for_ever() {
    let relay = TestRelay::with(|config| config.limits.pairing_circuit_ms = 100).await;
    let (host, mut control) = relay.host().await;
    open(&mut control, HERE, 60).await;
    let (mut device, _data) = meet(&relay, &host, &mut control).await;
    assert_eq!(device.closed().await, CloseCode::Timeout);
}
