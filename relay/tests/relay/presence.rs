//! Whether a host is here, as its devices hear it.

use reachback_proto::close::CloseCode;
use reachback_proto::control::{PeerToRelay, RelayToPeer};

use crate::common::{TestRelay, within};

#[tokio::test]
async fn a_device_waits_for_its_host_and_is_attached_when_it_comes() {
    let relay = TestRelay::start().await;
    let (host, control, device) = relay.host_and_device().await;
    drop(control);
    relay.metric_reaches("reachback_relay_links_closed_total{role=\"host\"}", 1).await;
    let mut ours = device.open(&relay).await;
    assert!(ours.expect_presence(false).await > 0);
    let mut control = host.control(&relay).await;
    ours.expect_presence(true).await;
    control.expect(RelayToPeer::CircuitWanted).await;
    let _theirs = host.data(&relay).await;
    assert!(matches!(ours.next().await, RelayToPeer::Attached { .. }));
}

#[tokio::test]
async fn a_watcher_hears_every_change_and_gets_no_circuit() {
    let relay = TestRelay::start().await;
    let (host, control, device) = relay.host_and_device().await;
    let mut watch = device.watch(&relay).await;
    watch.expect_presence(true).await;
    let _spare = host.spare(&relay).await;
    drop(control);
    watch.expect_presence(false).await;
    let _control = host.control(&relay).await;
    watch.expect_presence(true).await;
    watch.send(&PeerToRelay::Ping { id: 9 }).await;
    watch.expect(RelayToPeer::Pong { id: 9 }).await;
    watch.send(&PeerToRelay::DeviceList { version: 1, keys: vec![] }).await;
    watch.expect_refused(CloseCode::Malformed).await;
}

#[tokio::test]
async fn a_waiting_link_that_answers_pings_stays_and_one_that_does_not_ends() {
    let relay = TestRelay::with(|config| {
        config.limits.idle_ping_ms = 50;
        config.limits.silence_ms = 400;
    })
    .await;
    let (host, control, device) = relay.host_and_device().await;
    drop(control);
    let mut answers = device.open(&relay).await;
    answers.expect_presence(false).await;
    // Never read, so never answered.
    let _silent = device.open(&relay).await;
    // Reading answers the transport's pings; the relay's own have no answer, and are all that comes until the other link
    // is dead and the host is back.
    let alive = tokio::spawn(async move {
        let mut pings = Vec::new();
        loop {
            match answers.next().await {
                RelayToPeer::Ping { id } => pings.push(id),
                other => return (pings, other),
            }
        }
    });
    relay.metric_reaches("reachback_relay_limit_reached_total{limit=\"silence_ms\"}", 1).await;
    let _control = host.control(&relay).await;
    let (pings, heard) = within("presence", alive).await.unwrap();
    assert!(
        pings.len() > 2 && pings.iter().copied().eq(1..=pings.len() as u64),
        "a page can't see that we are here: {pings:?}"
    );
    assert!(matches!(heard, RelayToPeer::Presence { online: true, .. }), "{heard:?}");
}
