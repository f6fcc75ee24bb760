//! One connection and its streams: a host's links, addresses that change, and a relay that is started again.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::Stdio;

use futures_util::{FutureExt, SinkExt};
use quinn::{Connection, ConnectionError};
use reachback_proto::control::{PeerToRelay, RelayToPeer};
use reachback_proto::endpoint::Endpoint;
use reachback_relay::{Config, ConfigError, Quic, Relay, StartError, Tls};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio_tungstenite::tungstenite::Message;

use crate::common::{Client, TestHost, TestRelay, within};
use crate::transport::{client_config, client_from, connect, open_on};

/// The control connection of the host, on its connection.
async fn start_control(connection: &Connection, host: &TestHost) -> Client {
    let mut control = Client::over(open_on(connection, Endpoint::Host).await);
    let challenge = control.challenge().await;
    control.greet(&challenge, &host.hello(&challenge, None), host.identity.public()).await;
    control.expect_welcome().await;
    control
}

/// A data connection of the host, on its connection, that takes the device which waits: the host's end of the circuit.
async fn start_circuit(connection: &Connection, host: &TestHost, device: &mut Client) -> Client {
    device.expect_presence(true).await;
    let mut data = Client::over(open_on(connection, Endpoint::HostData).await);
    host.greet_as_data(&mut data).await;
    let RelayToPeer::CircuitStart { circuit, .. } = data.next().await else { panic!("not a CircuitStart") };
    device.expect(RelayToPeer::Attached { circuit }).await;
    data
}

#[tokio::test]
async fn a_host_has_all_its_links_on_one_connection() {
    let relay = TestRelay::start().await;
    let (host, control, device) = relay.host_and_device().await;
    drop(control);
    let connection = connect(&relay).await;
    let mut control = start_control(&connection, &host).await;
    control.list_devices(2, &[&device]).await;
    let mut circuits = Vec::new();
    for n in 0..20u8 {
        let mut ours = device.open(&relay).await;
        control.expect(RelayToPeer::CircuitWanted).await;
        let mut theirs = start_circuit(&connection, &host, &mut ours).await;
        theirs.send_bytes(vec![n; 100_000]).await;
        circuits.push((ours, theirs));
        if circuits.len() > 10 {
            // A stream that ends makes room for another.
            circuits.remove(0);
        }
    }
    for (ours, theirs) in &mut circuits {
        let all = ours.read(100_000).await;
        assert!(all.iter().all(|byte| *byte == all[0]));
        ours.send_bytes(vec![all[0]]).await;
        assert_eq!(theirs.read(1).await, [all[0]]);
    }
    control.send(&PeerToRelay::Ping { id: 3 }).await;
    control.expect(RelayToPeer::Pong { id: 3 }).await;
}

#[tokio::test]
async fn there_is_room_for_as_many_streams_as_a_host_may_have() {
    let relay = TestRelay::with(|config| {
        config.limits.circuits_per_host = 20;
        config.limits.spares_per_host = 4;
        // None of them says what it is for, and none ends.
        config.limits.hello_ms = 60_000;
    })
    .await;
    let (host, control, _) = relay.host_and_device().await;
    drop(control);
    let connection = connect(&relay).await;
    let mut control = start_control(&connection, &host).await;
    let mut silent = Vec::new();
    // Its control connection, its circuits, four that wait, and sixteen that it dials.
    while silent.len() < 20 + 4 + 16 {
        let (mut send, receive) = within("one more stream", connection.open_bi()).await.expect("a stream");
        // Until something is sent on it, nobody knows of it.
        send.write_all(&[Endpoint::HostData.byte()]).await.expect("the relay reads");
        silent.push((send, receive));
    }
    control.send(&PeerToRelay::Ping { id: 1 }).await;
    control.expect(RelayToPeer::Pong { id: 1 }).await;
    assert!(connection.open_bi().now_or_never().is_none(), "one more than a host may have");
    // quinn tells of room that came back once it is an eighth of all.
    silent.truncate(30);
    within("the room of those that ended", connection.open_bi()).await.expect("a stream");
}

#[tokio::test]
async fn circuits_that_nobody_reads_hold_up_no_other_of_the_host() {
    let relay = TestRelay::start().await;
    let (host, mut control, device) = relay.host_and_device().await;
    let connection = connect(&relay).await;
    let attach = async |control: &mut Client| {
        let mut ours = device.open(&relay).await;
        control.expect(RelayToPeer::CircuitWanted).await;
        let theirs = start_circuit(&connection, &host, &mut ours).await;
        (ours, theirs)
    };
    let mut stuck = Vec::new();
    for _ in 0..8 {
        let (reads_nothing, mut theirs) = attach(&mut control).await;
        // As much as there is room for between the two, and some.
        let flooding = tokio::spawn(async move {
            for _ in 0..200 {
                theirs.send_bytes(vec![0; 100_000]).await;
            }
        });
        stuck.push((reads_nothing, tokio_util::task::AbortOnDropHandle::new(flooding)));
    }
    let (mut ours, mut theirs) = attach(&mut control).await;
    for n in 0..100u8 {
        theirs.send_bytes(vec![n; 20_000]).await;
        assert_eq!(ours.read(20_000).await[0], n);
        ours.send_bytes(vec![n]).await;
        assert_eq!(theirs.read(1).await, [n]);
    }
    assert!(stuck.iter().all(|(_, flooding)| !flooding.is_finished()), "somebody swallowed 20 MB");
}

#[tokio::test]
async fn an_address_that_changes_is_followed() {
    let relay = TestRelay::start().await;
    let client = client_from(1);
    let connecting = client.connect_with(client_config(), relay.relay.local_addr(), "localhost").expect("an address");
    let connection = within("the connection", connecting).await.expect("the relay accepts");
    let (host, control, device) = relay.host_and_device().await;
    let mut watch = Client::over(open_on(&connection, Endpoint::Device).await);
    device.greet(&mut watch, true).await;
    watch.expect_welcome().await;
    watch.expect_presence(true).await;
    for (round, last) in [(1, 2), (2, 3)] {
        client.rebind(UdpSocket::bind(SocketAddr::from(([127, 0, 0, last], 0))).unwrap()).unwrap();
        watch.send(&PeerToRelay::Ping { id: round }).await;
        watch.expect(RelayToPeer::Pong { id: round }).await;
    }
    // What the relay says of its own accord goes to the new address as well.
    drop(control);
    watch.expect_presence(false).await;
    drop(host);
}

async fn program(listen: SocketAddr, data: &Path) -> (Child, SocketAddr) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reachback-relay"));
    command.args(["serve", "--json", "--tls", "generated", "--quic", "on", "--listen", &listen.to_string(), "--data"]);
    let child = command.arg(data).kill_on_drop(true).stdout(Stdio::piped()).spawn();
    let mut child = child.expect("the program starts");
    let output = child.stdout.take().expect("stdout is piped");
    let line = within("the first line", BufReader::new(output).lines().next_line()).await;
    let line = line.expect("readable output").expect("a line");
    let ready: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    let url: url::Url = ready["url"].as_str().expect("a URL").parse().expect("a URL");
    (child, SocketAddr::new(listen.ip(), url.port().expect("a port")))
}

#[tokio::test]
async fn a_relay_that_was_killed_tells_its_peers_once_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (mut relay, address) = program(([127, 0, 0, 1], 0).into(), &data).await;
    let client = client_from(1);
    let connecting = client.connect_with(client_config(), address, "localhost").expect("an address");
    let connection = within("the connection", connecting).await.expect("the relay accepts");
    let mut link = Client::over(open_on(&connection, Endpoint::Host).await);
    link.challenge().await;
    relay.kill().await.unwrap();
    assert_eq!(connection.close_reason(), None, "UDP says nothing about who is gone");
    let (_relay, _) = program(address, &data).await;
    // Whatever is sent next is answered with the word that nobody knows this connection.
    let _reset = link.socket.send(Message::Binary(vec![0].into())).await;
    let ended = within("the relay's word", connection.closed()).await;
    assert_eq!(ended, ConnectionError::Reset);
}

#[tokio::test]
async fn a_port_that_is_taken_stops_the_relay_only_where_quic_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    // A number that both have free, and none of those that systems give to who asks for any: another connection would have
    // it in the meantime.
    let first = 20_000 + (std::process::id() % 10_000) as u16;
    let free = |port| {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let _free = TcpListener::bind(address).ok()?;
        Some((UdpSocket::bind(address).ok()?, address))
    };
    let (taken, address) = (first..32_000).find_map(free).expect("a port below 32000 is free");
    let config = |quic| Config {
        data: dir.path().join("data"),
        listen: address,
        tls: Tls::Generated,
        quic,
        ..Config::default()
    };
    let error = Relay::start(config(Quic::On)).await.err().unwrap();
    assert!(matches!(error, StartError::Quic(_)), "{error:?}");
    let text = format!("{:#}", anyhow::Error::from(error));
    assert!(text.contains(&format!("UDP port {}", address.port())), "{text}");
    Relay::start(config(Quic::Auto)).await.unwrap().shutdown().await;

    let plain = Config { tls: Tls::Off, ..config(Quic::On) };
    assert!(matches!(Relay::start(plain).await.err(), Some(StartError::Config(ConfigError::PlainQuic { .. }))));
    drop(taken);
    for (tls, quic) in [(Tls::Generated, Quic::Off), (Tls::Off, Quic::Auto)] {
        let relay = Relay::start(Config { tls, ..config(quic) }).await.unwrap();
        UdpSocket::bind(address).expect("the relay has no UDP port");
        relay.shutdown().await;
    }
}
