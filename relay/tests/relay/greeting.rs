//! Strangers: what happens before a welcome.

use futures_util::SinkExt;
use reachback_proto::claims::{ProofRole, prove};
use reachback_proto::close::CloseCode;
use reachback_proto::control::{MAX_HELLO, PeerToRelay};
use reachback_proto::endpoint::Endpoint;
use reachback_proto::ids::RelayId;
use tokio_tungstenite::tungstenite::Message;

use crate::common::{Challenge, Client, PEER_NONCE, TestHost, TestRelay, identity, proof};

async fn stranger(relay: &TestRelay) -> (Client, Challenge) {
    let mut client = Client::open(relay, Endpoint::Host).await;
    let challenge = client.challenge().await;
    (client, challenge)
}

/// The hello of `host` with this proof.
fn hello(host: &TestHost, proof: String) -> PeerToRelay {
    let (key, boot) = (host.identity.public(), host.boot);
    PeerToRelay::HostHello { version: 1, key, peer_nonce: PEER_NONCE, boot, proof, enroll_key: None }
}

#[tokio::test]
async fn the_challenge_carries_the_pinned_key_and_a_fresh_nonce() {
    let relay = TestRelay::start().await;
    let (first, second) = (stranger(&relay).await.1, stranger(&relay).await.1);
    assert_eq!(RelayId::of(&first.relay_key), relay.relay.fingerprint());
    assert_ne!(first.nonce, second.nonce);
}

#[tokio::test]
async fn proofs_for_anything_else_are_refused() {
    let relay = TestRelay::start().await;
    let (host, _control) = relay.host().await;
    type Forge = fn(&TestHost, &Challenge) -> String;
    let forgeries: [(&str, Forge); 5] = [
        ("another nonce", |host, challenge| {
            proof(&host.identity, &Challenge { nonce: [0; 32], ..*challenge }, ProofRole::Host, None)
        }),
        ("another key", |_, challenge| proof(&identity(), challenge, ProofRole::Host, None)),
        ("another role", |host, challenge| proof(&host.identity, challenge, ProofRole::HostData, None)),
        ("another relay", |host, challenge| {
            let relay = RelayId([9; 32]);
            prove(&host.identity, relay, &challenge.nonce, ProofRole::Host, None).expect("a proof")
        }),
        ("nothing", |_, _| String::new()),
    ];
    for (what, forge) in forgeries {
        let (mut client, challenge) = stranger(&relay).await;
        client.send(&hello(&host, forge(&host, &challenge))).await;
        let message = client.expect_refused(CloseCode::Unauthorized).await;
        assert!(message.contains("proof"), "{what}: {message}");
    }
}

#[tokio::test]
async fn a_recorded_hello_is_worth_nothing_on_another_connection() {
    let relay = TestRelay::start().await;
    let (host, _control) = relay.host().await;
    let (mut first, challenge) = stranger(&relay).await;
    let recorded = host.hello(&challenge, None);
    first.send(&recorded).await;
    let (mut second, _) = stranger(&relay).await;
    second.send(&recorded).await;
    second.expect_refused(CloseCode::Unauthorized).await;
}

#[tokio::test]
async fn garbage_text_and_the_wrong_hello_are_malformed() {
    let relay = TestRelay::start().await;
    for garbage in [vec![], vec![0xff], vec![0x41, 1, 2, 3], vec![0; 1000]] {
        let (mut client, _) = stranger(&relay).await;
        client.send_bytes(garbage).await;
        client.expect_refused(CloseCode::Malformed).await;
    }
    let (mut client, _) = stranger(&relay).await;
    client.socket.send(Message::Text("hello".into())).await.unwrap();
    client.expect_refused(CloseCode::Malformed).await;

    let host = TestHost::new();
    for endpoint in [Endpoint::HostData, Endpoint::Device] {
        let mut client = Client::open(&relay, endpoint).await;
        let challenge = client.challenge().await;
        client.send(&host.hello(&challenge, None)).await;
        client.expect_refused(CloseCode::Malformed).await;
    }
}

#[tokio::test]
async fn an_unknown_version_is_told_which_are_known() {
    let relay = TestRelay::start().await;
    let host = TestHost::new();
    let (mut client, challenge) = stranger(&relay).await;
    let mut bytes = host.hello(&challenge, None).encode();
    bytes[1] = 9;
    client.send_bytes(bytes).await;
    let message = client.expect_refused(CloseCode::Version).await;
    assert!(message.contains("1 to 2"), "{message}");
}

#[tokio::test]
async fn a_stranger_may_send_4_kib_in_all() {
    let relay = TestRelay::start().await;
    let (mut client, _) = stranger(&relay).await;
    client.send_bytes(vec![0x41; MAX_HELLO + 100]).await;
    client.expect_refused(CloseCode::TooLarge).await;

    // Pings count too: a stranger can't stay and talk.
    let (mut client, _) = stranger(&relay).await;
    for _ in 0..50 {
        // The relay may have closed already.
        let _closed = client.socket.send(Message::Ping(vec![0; 120].into())).await;
    }
    client.expect_refused(CloseCode::TooLarge).await;
    assert_eq!(relay.metric("reachback_relay_limit_reached_total{limit=\"hello_bytes\"}").await, 2);
}

#[tokio::test]
async fn a_hello_much_larger_than_any_message_is_refused_unread() {
    let relay = TestRelay::start().await;
    let (mut client, _) = stranger(&relay).await;
    // The relay closes before it is sent in full.
    let _closed = client.socket.send(Message::Binary(vec![0; 8 << 20].into())).await;
    relay.metric_reaches("reachback_relay_refusals_total{code=\"too_large\"}", 1).await;
}

#[tokio::test]
async fn silence_ends_after_the_hello_time() {
    let relay = TestRelay::with(|config| config.limits.hello_ms = 100).await;
    let (mut client, _) = stranger(&relay).await;
    client.expect_refused(CloseCode::Timeout).await;
    assert_eq!(relay.metric("reachback_relay_limit_reached_total{limit=\"hello_ms\"}").await, 1);
}

#[tokio::test]
async fn an_address_that_knocks_too_often_waits() {
    let one = std::num::NonZeroU32::MIN;
    let relay = TestRelay::with(|config| {
        config.limits.attempts_burst = one;
        config.limits.attempts_per_minute = one;
    })
    .await;
    let _first = stranger(&relay).await;
    let mut second = Client::open(&relay, Endpoint::Host).await;
    let message = second.expect_refused(CloseCode::Limited).await;
    assert!(message.contains("attempts_per_minute"), "{message}");
}
