//! TLS: the relay's own certificate, and where plain HTTP is refused.

use reachback_relay::{Config, ConfigError, Relay, StartError, Tls};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::common::{TestRelay, within};
use crate::tls::connector;

#[tokio::test]
async fn the_generated_certificate_proves_the_relays_key() {
    let relay = TestRelay::with(|config| config.tls = Tls::Generated).await;
    assert_eq!(relay.relay.url().scheme(), "https");
    let stream = TcpStream::connect(relay.relay.local_addr()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = within("the handshake", connector().connect(name, stream)).await.unwrap();
    let certificate = stream.get_ref().1.peer_certificates().unwrap()[0].clone();

    let request = format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", relay.relay.local_addr());
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut page = String::new();
    within("the page", stream.read_to_string(&mut page)).await.unwrap();
    assert!(page.contains(&relay.relay.fingerprint().to_string()), "{page}");

    // RFC 8410: an Ed25519 SubjectPublicKeyInfo is this header and the 32 bytes of the key.
    const HEADER: [u8; 12] = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];
    let at = certificate.windows(12).position(|window| window == HEADER).expect("an Ed25519 key") + 12;
    let key = reachback_proto::ids::PublicKey(certificate[at..at + 32].try_into().unwrap());
    assert_eq!(reachback_proto::ids::RelayId::of(&key), relay.relay.fingerprint());
}

#[tokio::test]
async fn certificate_files_are_served_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let made = rcgen::generate_simple_self_signed(vec!["relay.example".into()]).unwrap();
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let relay = TestRelay::with(|config| config.tls = Tls::Files { cert, key }).await;
    let stream = TcpStream::connect(relay.relay.local_addr()).await.unwrap();
    let name = ServerName::try_from("relay.example").unwrap();
    let stream = within("the handshake", connector().connect(name, stream)).await.unwrap();
    assert_eq!(stream.get_ref().1.peer_certificates().unwrap()[0], *made.cert.der());
}

#[tokio::test]
async fn a_tls_handshake_that_does_not_go_on_ends() {
    let relay = TestRelay::with(|config| {
        config.tls = Tls::Generated;
        config.limits.tls_handshake_ms = 100;
    })
    .await;
    let mut stream = TcpStream::connect(relay.relay.local_addr()).await.unwrap();
    let mut said = Vec::new();
    within("the relay to close", stream.read_to_end(&mut said)).await.unwrap();
    assert_eq!(said, b"");
}

#[tokio::test]
async fn plain_http_on_a_network_address_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let listen = "192.0.2.1:0".parse().unwrap();
    let refused = Relay::start(Config { data: data.clone(), listen, tls: Tls::Off, ..Config::default() }).await;
    assert!(matches!(refused.err(), Some(StartError::Config(ConfigError::PlainOnNetwork { .. }))));
    assert!(!data.exists(), "something was done before the refusal");
}

#[tokio::test]
async fn certificate_files_that_are_not_there_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let tls = Tls::Files { cert: dir.path().join("cert.pem"), key: dir.path().join("key.pem") };
    let config = Config { data: dir.path().join("data"), listen: ([127, 0, 0, 1], 0).into(), tls, ..Config::default() };
    let error = anyhow::Error::from(Relay::start(config).await.err().unwrap());
    assert!(format!("{error:#}").contains("cert.pem"), "{error:#}");
}
