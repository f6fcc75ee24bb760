//! How a host becomes known, and stays so.

use reachback_proto::close::CloseCode;
use reachback_relay::EnrollKey;

use crate::common::{TestHost, TestRelay};

#[tokio::test]
async fn a_host_without_a_key_is_told_how_to_enrol() {
    let relay = TestRelay::start().await;
    let message = TestHost::new().knock(&relay, None).await.expect_refused(CloseCode::Unauthorized).await;
    assert!(message.contains("reachback-relay enroll"), "{message}");
}

#[tokio::test]
async fn an_enrolment_key_lets_one_host_in_for_good() {
    let relay = TestRelay::start().await;
    let key = relay.relay.create_enroll_key().await.unwrap();
    let host = TestHost::new();
    host.control_with(&relay, Some(key.clone())).await;
    host.control(&relay).await;
    let mut other = TestHost::new().knock(&relay, Some(key)).await;
    other.expect_refused(CloseCode::Unauthorized).await;
}

#[tokio::test]
async fn invented_and_expired_keys_are_refused() {
    let relay = TestRelay::with(|config| config.limits.enroll_key_ms = 0).await;
    let expired = relay.relay.create_enroll_key().await.unwrap();
    for key in [EnrollKey("invented".into()), expired] {
        let message = TestHost::new().knock(&relay, Some(key)).await.expect_refused(CloseCode::Unauthorized).await;
        assert!(message.contains("enrolment key"), "{message}");
    }
}

#[tokio::test]
async fn a_known_host_does_not_use_a_key_up() {
    let relay = TestRelay::start().await;
    let (host, _control) = relay.host().await;
    let key = relay.relay.create_enroll_key().await.unwrap();
    host.control_with(&relay, Some(key.clone())).await;
    TestHost::new().control_with(&relay, Some(key)).await;
}

#[tokio::test]
async fn hosts_lists_and_the_relays_key_survive_a_restart() {
    let relay = TestRelay::start().await;
    let (host, control, device) = relay.host_and_device().await;
    let fingerprint = relay.relay.fingerprint();
    drop(control);
    let relay = TestRelay::on(relay.stop().await, |_| {}).await;
    assert_eq!(relay.relay.fingerprint(), fingerprint);
    assert!(device.open(&relay).await.expect_presence(false).await > 0, "when the host was last seen was lost");
    host.control(&relay).await;
}

#[tokio::test]
async fn hosts_and_lists_survive_a_relay_that_is_killed() {
    let relay = TestRelay::start().await;
    let (host, _control, device) = relay.host_and_device().await;
    let TestRelay { relay, dir } = relay;
    // Nothing is flushed or told; the lock goes with the last handle.
    drop(relay);
    let relay = TestRelay::on(dir, |_| {}).await;
    let _control = host.control(&relay).await;
    device.open(&relay).await.expect_presence(true).await;
}

#[tokio::test]
async fn the_key_file_is_there_until_a_host_has_used_it() {
    let relay = TestRelay::with(|config| config.enroll_file = true).await;
    let path = relay.relay.enroll_file().unwrap().to_owned();
    let key = std::fs::read_to_string(&path).unwrap();
    TestHost::new().control_with(&relay, Some(EnrollKey(key.trim().to_owned()))).await;
    assert!(!path.exists());
    let relay = TestRelay::on(relay.stop().await, |config| config.enroll_file = true).await;
    assert_eq!(relay.relay.enroll_file(), None);
}
