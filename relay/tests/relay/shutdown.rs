//! How a relay stops, and what keeps two from running on one directory.

use reachback_proto::close::CloseCode;
use reachback_proto::control::RelayToPeer;
use reachback_proto::endpoint::Endpoint;
use reachback_relay::{Config, Relay, StartError};

use crate::common::{Client, TestRelay, within};

/// Expects the notice and the close, with one delay within the bounds for a handful of connections.
async fn expect_restart_notice(client: &mut Client) {
    let RelayToPeer::Restarting { reconnect_in_ms } = client.next().await else { panic!("no notice") };
    assert!((500..=510).contains(&reconnect_in_ms), "{reconnect_in_ms}");
    let (code, reason) = client.close_frame().await;
    assert_eq!((code, reason), (CloseCode::Restarting, reconnect_in_ms.to_string()));
}

#[tokio::test]
async fn every_link_is_told_when_to_come_back() {
    let relay = TestRelay::start().await;
    let (host, mut control, device) = relay.host_and_device().await;
    let (mut ours, mut theirs) = relay.circuit(&host, &mut control, &device).await;
    let mut spare = host.spare(&relay).await;
    let mut watch = device.watch(&relay).await;
    watch.expect_presence(true).await;
    let mut stranger = Client::open(&relay, Endpoint::Host).await;
    stranger.challenge().await;

    let TestRelay { relay, dir: _dir } = relay;
    let stopping = tokio::spawn(async move { relay.shutdown().await });
    for client in [&mut control, &mut spare, &mut watch, &mut stranger] {
        expect_restart_notice(client).await;
    }
    for client in [&mut ours, &mut theirs] {
        let (code, reason) = client.close_frame().await;
        assert_eq!(code, CloseCode::Restarting);
        assert!(reason.parse::<u32>().is_ok(), "{reason}");
    }
    within("the relay to stop", stopping).await.unwrap();
}

#[tokio::test]
async fn peers_that_do_not_go_are_cut_after_the_grace_period() {
    let relay = TestRelay::with(|config| config.limits.shutdown_grace_ms = 100).await;
    let (host, mut control, device) = relay.host_and_device().await;
    let (_never_reads, theirs) = relay.circuit(&host, &mut control, &device).await;
    drop(theirs);
    relay.stop().await;
}

#[tokio::test]
async fn a_dropped_relay_cuts_its_links_and_frees_its_directory() {
    let relay = TestRelay::start().await;
    let (_host, mut control) = relay.host().await;
    let TestRelay { relay, dir } = relay;
    drop(relay);
    assert_eq!(control.message().await, None);
    TestRelay::on(dir, |_| {}).await;
}

#[tokio::test]
async fn two_relays_do_not_share_a_directory() {
    let relay = TestRelay::start().await;
    let data = relay.dir.path().join("data");
    let listen = ([127, 0, 0, 1], 0).into();
    let second = Relay::start(Config { data, listen, ..Config::default() }).await;
    assert!(matches!(second.err(), Some(StartError::Locked { .. })));
}

#[tokio::test]
async fn a_taken_address_and_a_broken_identity_are_named() {
    let relay = TestRelay::start().await;
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let listen = relay.relay.local_addr();
    let error = Relay::start(Config { data: data.clone(), listen, ..Config::default() }).await.err().unwrap();
    assert!(error.to_string().contains(&listen.to_string()), "{error}");

    std::fs::write(data.join("identity.json"), "{}").unwrap();
    let listen = ([127, 0, 0, 1], 0).into();
    let error = Relay::start(Config { data, listen, ..Config::default() }).await.err().unwrap();
    assert!(matches!(error, StartError::Identity(_)), "{error:?}");
    assert!(error.to_string().contains("identity.json"), "{error}");
}
