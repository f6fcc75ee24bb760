//! One control connection per host: replacement, conflict, silence.

use reachback_proto::close::CloseCode;
use reachback_proto::control::{PeerToRelay, RelayToPeer};

use crate::common::{TestRelay, within};

#[tokio::test]
async fn the_newest_connection_of_a_run_replaces_the_older() {
    let relay = TestRelay::start().await;
    let (host, mut old) = relay.host().await;
    let mut new = host.control(&relay).await;
    old.expect_refused(CloseCode::Replaced).await;
    relay.metric_reaches("reachback_relay_links_closed_total{role=\"host\"}", 1).await;
    // The old one's end must not have taken the new one's place away.
    new.send(&PeerToRelay::Ping { id: 3 }).await;
    new.expect(RelayToPeer::Pong { id: 3 }).await;
    let mut data = host.data(&relay).await;
    drop(new);
    data.expect_refused(CloseCode::PeerGone).await;
}

#[tokio::test]
async fn two_machines_with_one_key_hear_of_the_conflict_and_the_first_stays() {
    let relay = TestRelay::start().await;
    let (host, mut first) = relay.host().await;
    let clone = host.another_run();
    let (first, mut second) = tokio::join!(
        async {
            let RelayToPeer::Ping { id } = first.next().await else { panic!("wanted a ping") };
            first.send(&PeerToRelay::Pong { id }).await;
            first.expect(RelayToPeer::Conflict).await;
            first
        },
        clone.knock(&relay, None)
    );
    second.expect_refused(CloseCode::Conflict).await;
    drop(first);
}

#[tokio::test]
async fn a_run_that_no_longer_answers_gives_its_place_to_the_next() {
    let relay = TestRelay::with(|config| config.limits.conflict_probe_ms = 100).await;
    let (host, mut control, device) = relay.host_and_device().await;
    let (mut ours, mut theirs) = relay.circuit(&host, &mut control, &device).await;
    let next = host.another_run();
    let mut new = next.control(&relay).await;
    assert!(matches!(control.next().await, RelayToPeer::Ping { .. }));
    control.expect_refused(CloseCode::Replaced).await;
    // The old run's circuits are gone with it.
    assert_eq!(ours.closed().await, CloseCode::PeerGone);
    assert_eq!(theirs.closed().await, CloseCode::PeerGone);
    relay.circuit(&next, &mut new, &device).await;
}

#[tokio::test]
async fn a_wrong_pong_does_not_count_as_an_answer() {
    let relay = TestRelay::with(|config| config.limits.conflict_probe_ms = 200).await;
    let (host, mut control) = relay.host().await;
    let (mut control, _new) = tokio::join!(
        async {
            let RelayToPeer::Ping { id } = control.next().await else { panic!("wanted a ping") };
            control.send(&PeerToRelay::Pong { id: id + 1 }).await;
            control
        },
        async { host.another_run().control(&relay).await }
    );
    control.expect_refused(CloseCode::Replaced).await;
}

#[tokio::test]
async fn a_silent_host_is_pinged_and_then_given_up() {
    let relay = TestRelay::with(|config| {
        config.limits.control_ping_ms = 50;
        config.limits.silence_ms = 300;
    })
    .await;
    let (_host, mut control, device) = relay.host_and_device().await;
    let mut watch = device.watch(&relay).await;
    watch.expect_presence(true).await;
    let refused = within("the relay to give up", async {
        loop {
            match control.next().await {
                RelayToPeer::Ping { .. } => {}
                RelayToPeer::Refused { code, .. } => return code,
                other => panic!("{other:?}"),
            }
        }
    })
    .await;
    assert_eq!(CloseCode::from_number(refused), CloseCode::Timeout);
    watch.expect_presence(false).await;
}

#[tokio::test]
async fn a_second_hello_on_a_control_connection_is_malformed() {
    let relay = TestRelay::start().await;
    let (host, mut control) = relay.host().await;
    let challenge = crate::common::Challenge { relay_key: host.identity.public(), nonce: [0; 32] };
    control.send(&host.hello(&challenge, None)).await;
    control.expect_refused(CloseCode::Malformed).await;
}
