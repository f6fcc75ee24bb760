//! Device lists: who may reach a host, and how that ends.

use std::time::{Duration, Instant};

use reachback_proto::claims::ProofRole;
use reachback_proto::close::CloseCode;
use reachback_proto::control::{PeerToRelay, RelayToPeer};
use reachback_proto::endpoint::Endpoint;
use reachback_proto::ids::PublicKey;

use crate::common::{Client, PEER_NONCE, TestDevice, TestHost, TestRelay, proof};

#[tokio::test]
async fn a_device_that_is_not_listed_is_told_to_pair_again() {
    let relay = TestRelay::start().await;
    let (host, _control, _device) = relay.host_and_device().await;
    let (unlisted, nowhere) = (TestDevice::of(&host), TestDevice::of(&TestHost::new()));
    // A host that does not exist looks the same as one that does not list the device.
    let mut messages = vec![];
    for device in [unlisted, nowhere] {
        messages.push(device.knock(&relay, false).await.expect_refused(CloseCode::Unauthorized).await);
    }
    assert!(messages[0].contains("pair again") && messages[0] == messages[1], "{messages:?}");
}

#[tokio::test]
async fn a_proof_for_another_host_is_refused() {
    let relay = TestRelay::start().await;
    let (_host, _control, device) = relay.host_and_device().await;
    let mut client = Client::open(&relay, Endpoint::Device).await;
    let challenge = client.challenge().await;
    let proof = proof(&device.identity, &challenge, ProofRole::Device, Some(TestHost::new().id()));
    let (key, host) = (device.identity.public(), device.host);
    client
        .send(&PeerToRelay::DeviceHello { version: 1, key, peer_nonce: PEER_NONCE, host, watch_only: false, proof })
        .await;
    client.expect_refused(CloseCode::Unauthorized).await;
}

#[tokio::test]
async fn a_revoked_device_loses_its_circuit_within_a_second() {
    let relay = TestRelay::start().await;
    let (host, mut control, device) = relay.host_and_device().await;
    let (mut ours, mut theirs) = relay.circuit(&host, &mut control, &device).await;
    let since = Instant::now();
    control.list_devices(2, &[]).await;
    assert_eq!(ours.closed().await, CloseCode::Revoked);
    assert_eq!(theirs.closed().await, CloseCode::PeerGone);
    assert!(since.elapsed() < Duration::from_secs(1), "revoking took {:?}", since.elapsed());
    device.knock(&relay, false).await.expect_refused(CloseCode::Unauthorized).await;
}

#[tokio::test]
async fn revoking_ends_waiting_and_watching_links_of_that_device_only() {
    let relay = TestRelay::start().await;
    let (host, mut control, device) = relay.host_and_device().await;
    let other = TestDevice::of(&host);
    control.list_devices(2, &[&device, &other]).await;
    let (mut waits, mut watches) = (device.open(&relay).await, device.watch(&relay).await);
    let mut stays = other.watch(&relay).await;
    for client in [&mut waits, &mut watches, &mut stays] {
        client.expect_presence(true).await;
    }
    control.expect(RelayToPeer::CircuitWanted).await;
    control.list_devices(3, &[&other]).await;
    waits.expect_refused(CloseCode::Revoked).await;
    watches.expect_refused(CloseCode::Revoked).await;
    stays.send(&PeerToRelay::Ping { id: 5 }).await;
    stays.expect(RelayToPeer::Pong { id: 5 }).await;
}

#[tokio::test]
async fn an_older_list_changes_nothing_and_is_answered_with_the_version_in_force() {
    let relay = TestRelay::start().await;
    let (host, mut control, device) = relay.host_and_device().await;
    control.list_devices(7, &[&device]).await;
    control.list_devices(7, &[&device]).await;
    control.send(&PeerToRelay::DeviceList { version: 6, keys: vec![] }).await;
    control.expect(RelayToPeer::DeviceListStored { version: 7 }).await;
    device.open(&relay).await.expect_presence(true).await;
    control.expect(RelayToPeer::CircuitWanted).await;
    drop(host);
}

#[tokio::test]
async fn a_revoked_key_that_comes_back_stays_out_and_a_host_of_version_2_hears_of_it() {
    let relay = TestRelay::start().await;
    let (host, mut control, lost) = relay.host_and_device().await;
    let (kept, newer) = (TestDevice::of(&host), TestDevice::of(&host));
    control.list_devices(7, &[&lost, &kept]).await;
    control.list_devices(8, &[&kept]).await;
    lost.knock(&relay, true).await.expect_refused(CloseCode::Unauthorized).await;
    // As old as it is, under the version in force, and under one of today: each may come from a backup.
    let keys = [&lost, &kept, &newer].map(|device| device.identity.public());
    for (version, stored) in [(7, 8), (8, 8), (9, 9)] {
        control.send(&PeerToRelay::DeviceList { version, keys: keys.to_vec() }).await;
        control.expect(RelayToPeer::DeviceListStored { version: stored }).await;
        lost.knock(&relay, true).await.expect_refused(CloseCode::Unauthorized).await;
        kept.watch(&relay).await;
    }
    newer.watch(&relay).await;
    drop(control);

    let mut control = host.control_of_version(2, &relay).await;
    for (version, stored) in [(7, 9), (9, 9), (10, 10)] {
        control.send(&PeerToRelay::DeviceList { version, keys: keys.to_vec() }).await;
        control.expect(RelayToPeer::DevicesRevoked { keys: vec![keys[0]] }).await;
        control.expect(RelayToPeer::DeviceListStored { version: stored }).await;
    }
    lost.knock(&relay, true).await.expect_refused(CloseCode::Unauthorized).await;
    control.list_devices(11, &[&kept]).await;
}

#[tokio::test]
async fn a_list_that_is_too_long_is_refused() {
    let relay = TestRelay::start().await;
    let (_host, mut control) = relay.host().await;
    control.send(&PeerToRelay::DeviceList { version: 1, keys: vec![PublicKey([1; 32]); 257] }).await;
    control.expect_refused(CloseCode::Malformed).await;
    let (_host, mut control) = relay.host().await;
    control.send_bytes(vec![0x50; 20_000]).await;
    control.expect_refused(CloseCode::TooLarge).await;
}

#[tokio::test]
async fn a_device_has_so_many_links_and_no_more() {
    let relay = TestRelay::with(|config| config.limits.links_per_device = 1).await;
    let (_host, _control, device) = relay.host_and_device().await;
    let first = device.watch(&relay).await;
    let message = device.knock(&relay, true).await.expect_refused(CloseCode::Limited).await;
    assert!(message.contains("links_per_device"), "{message}");
    drop(first);
    relay.metric_reaches("reachback_relay_links_closed_total{role=\"watch\"}", 1).await;
    device.watch(&relay).await;
}
