//! The tunnel and a device's link over QUIC: that they carry, what they survive, and what happens where UDP is dropped.

use std::sync::Arc;
use std::time::Duration;

use e2e::dice::Dice;
use e2e::network::Network;
use e2e::rpc::Client;
use e2e::stage::{Stage, TestDevice, Tuning, client, every_piece, quic};
use e2e::{PATIENCE, eventually};
use reachback_host::connect::remote::{RemoteConfig, RemoteHost};
use reachback_host::link::transports::{TransportChoice, Transports};
use reachback_host::local_api::{Request, Response, TunnelState, TunnelStatus, TunnelTransport};
use reachback_proto::scope::Scope;

use crate::links::{first_difference, story};

/// How the agent's tunnel stands.
async fn tunnel(stage: &Stage) -> TunnelStatus {
    let Response::Status(status) = stage.ask(Request::Status).await else { panic!("no status") };
    status.tunnel
}

/// Waits until the tunnel runs over this.
async fn tunnel_is(stage: &Stage, transport: TunnelTransport) -> TunnelStatus {
    let there = async {
        loop {
            let status = tunnel(stage).await;
            if status.transport == Some(transport) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, there)
        .await
        .unwrap_or_else(|_| panic!("the tunnel does not come over {transport:?}"))
}

/// Connections over QUIC that the relay has let in so far.
fn opened(stage: &Stage) -> usize {
    let log = String::from_utf8_lossy(&stage.relay.log()).into_owned();
    log.lines().filter(|line| line.contains("a QUIC connection is open")).count()
}

/// A device's session over QUIC alone.
async fn over_quic(device: &TestDevice) -> RemoteHost {
    let mut config: RemoteConfig = device.config();
    config.relay.transports = Transports::new(TransportChoice::Quic);
    let remote = RemoteHost::start(config);
    tokio::time::timeout(PATIENCE, remote.up()).await.expect("no session over QUIC").unwrap();
    remote
}

#[tokio::test]
async fn a_turn_runs_over_quic_and_no_connection_over_tcp_is_made() {
    let stage = Stage::with(quic()).await;
    let status = tunnel(&stage).await;
    assert_eq!(
        (status.state, status.transport, status.reason),
        (TunnelState::Connected, Some(TunnelTransport::Quic), None)
    );
    let device = stage.pair(Scope::Approve).await;
    let pairing = stage.device_side.dials().len();
    let remote = over_quic(&device).await;
    let mut far = client(&remote).await;
    let thread = far.thread(&stage.codex).await;
    far.prompt(&thread, "@text N=50").await;
    far.event("turn/completed").await;
    assert_eq!((stage.host_side.dials().len(), stage.device_side.dials().len()), (0, pairing));
    remote.end().await;
    stage.stop().await;
}

#[tokio::test]
async fn twenty_cuts_a_side_and_a_killed_relay_lose_nothing_over_quic() {
    let seed = Dice::seed();
    let mut stage = Stage::with(quic()).await;
    let device = stage.pair(Scope::Approve).await;
    let remote = over_quic(&device).await;
    every_piece(&remote).await;
    let patience = Duration::from_secs(180);
    let mut far = client(&remote).await.patient(patience);
    let mut near = Client::connect(&*stage.backend).await.patient(patience);
    let thread = near.thread(&stage.codex).await;
    near.prompt(&thread, "@text N=1").await;
    near.event("turn/completed").await;
    far.resume(&thread).await;
    near.take_thread(&thread);
    far.take_thread(&thread);

    far.prompt(&thread, "@text N=2000 ms=11").await;
    let (mut dice, mut other_dice) = (Dice::new(seed), Dice::new(seed + 1));
    let kill = async {
        tokio::time::sleep(Duration::from_secs(9)).await;
        stage.relay.kill().await;
        stage.relay.restart().await;
    };
    let completed = async { tokio::join!(near.event("turn/completed"), far.event("turn/completed")) };
    let ((here, there), ..) = tokio::join!(
        completed,
        kill,
        stage.device_side.trouble(&mut dice, 20, 1),
        stage.host_side.trouble(&mut other_dice, 20, 1),
    );
    assert_eq!(here, there);
    let (near, far) = (story(&mut near, &thread), story(&mut far, &thread));
    assert!(near == far, "seed {seed}: {}", first_difference(&near, &far));
    let deltas = far.iter().filter(|message| message["method"] == "item/agentMessage/delta").count();
    assert_eq!(deltas, 2000, "seed {seed}");
    stage.stop().await;
}

#[tokio::test]
async fn an_address_that_changes_in_mid_turn_costs_no_connection() {
    let stage = Stage::with(quic()).await;
    let device = stage.pair(Scope::Approve).await;
    let remote = over_quic(&device).await;
    let mut far = client(&remote).await;
    let thread = far.thread(&stage.codex).await;
    let before = opened(&stage);
    assert!(before >= 2, "the relay's log does not tell of connections");
    far.prompt(&thread, "@text N=200 ms=11").await;
    for _ in 0..5 {
        far.event("item/agentMessage/delta").await;
        stage.host_side.reset();
        stage.device_side.reset();
    }
    far.event("turn/completed").await;
    assert_eq!(opened(&stage), before, "a connection was made anew");
    remote.end().await;
    stage.stop().await;
}

#[tokio::test]
async fn where_udp_is_dropped_a_websocket_carries_the_tunnel_until_quic_gets_through() {
    let transports = Transports::new(TransportChoice::Auto).avoiding_quic_for(Duration::from_millis(300));
    let stage = Stage::with(Tuning { transports, ..quic() }).await;
    // QUIC is what it takes where it can.
    tunnel_is(&stage, TunnelTransport::Quic).await;
    let device = stage.pair(Scope::Approve).await;
    let remote = device.connect().await;
    let mut far = client(&remote).await.patient(Duration::from_secs(120));
    let thread = far.thread(&stage.codex).await;
    far.prompt(&thread, "@text N=3000 ms=11").await;
    far.event("item/agentMessage/delta").await;
    stage.host_side.udp().hole();
    stage.host_side.udp().lose();
    let status = tunnel_is(&stage, TunnelTransport::Wss).await;
    // The first is what a new try finds, the second what became of a connection as young as this one.
    let reasons = ["nothing answers over UDP", "it began and then fell silent"];
    assert!(status.reason.as_deref().is_some_and(|reason| reasons.contains(&reason)), "{:?}", status.reason);
    // The session went on.
    far.take_thread(&thread);
    far.event("item/agentMessage/delta").await;

    // QUIC is tried again, and takes the WebSocket's place while the turn runs.
    stage.host_side.udp().heal();
    let status = tunnel_is(&stage, TunnelTransport::Quic).await;
    assert_eq!(status.reason, None);
    far.event("turn/completed").await;
    remote.end().await;
    stage.stop().await;
}

#[tokio::test]
async fn a_way_that_lets_quic_begin_and_then_drops_it_is_left_for_a_websocket() {
    let stage = Stage::with(quic()).await;
    let device = stage.pair(Scope::Approve).await;
    // Some pass the handshake and not the hello, some a session's beginning as well.
    for datagrams in [5, 30] {
        let (before, dials) = (opened(&stage), stage.device_side.dials().len());
        stage.device_side.udp().shorten(Some(datagrams));
        let mut config: RemoteConfig = device.config();
        config.relay.transports = Transports::new(TransportChoice::Auto);
        let remote = RemoteHost::start(config);
        let mut far = client(&remote).await;
        let thread = far.thread(&stage.codex).await;
        far.prompt(&thread, "@text N=200 ms=11").await;
        far.event("turn/completed").await;
        // Once is enough to see it. The relay may have seen no connection where so few datagrams pass.
        let (quic, tcp) = (opened(&stage) - before, stage.device_side.dials().len() - dials);
        assert!(
            quic <= 1 && tcp == 1,
            "{quic} connections over QUIC and {tcp} over TCP where {datagrams} datagrams pass"
        );
        remote.end().await;
    }
    stage.stop().await;
}

#[tokio::test]
async fn silence_between_the_relays_welcome_and_the_hosts_first_word_is_not_waited_out_over_quic_again() {
    let stage = Stage::with(quic()).await;
    let device = stage.pair(Scope::Approve).await;
    // The relay does not know yet that its host hears nothing.
    stage.host_side.hole();
    let (before, dials) = (opened(&stage), stage.device_side.dials().len());
    let mut config: RemoteConfig = device.config();
    config.relay.transports = Transports::new(TransportChoice::Auto);
    let remote = RemoteHost::start(config);
    eventually("the next try is over TCP", || stage.device_side.dials().len() > dials).await;
    assert_eq!(opened(&stage) - before, 1, "connections over QUIC before that");
    stage.host_side.reset();
    stage.host_side.heal();
    client(&remote).await.echo().await;
    remote.end().await;
    stage.stop().await;
}

#[tokio::test]
async fn a_host_and_a_laptop_that_change_their_network_go_on_with_the_connections_they_have() {
    let network = match Network::make().await {
        Ok(network) => Arc::new(network),
        // Only root may; `an_address_that_changes_in_mid_turn_costs_no_connection` needs nobody.
        Err(why) => return println!("not run, as there can be no network of its own: {why}"),
    };
    let stage = Stage::with(Tuning { network: Some(Arc::clone(&network)), ..quic() }).await;
    let device = stage.pair(Scope::Approve).await;
    let remote = over_quic(&device).await;
    let mut far = client(&remote).await;
    let thread = far.thread(&stage.codex).await;
    let before = opened(&stage);
    assert!(before >= 2, "the relay's log does not tell of connections");
    far.prompt(&thread, "@text N=300 ms=11").await;
    for (from, to) in [(1, 3), (3, 4), (4, 1)] {
        for _ in 0..3 {
            far.event("item/agentMessage/delta").await;
        }
        network.move_us(from, to).await;
    }
    far.event("turn/completed").await;
    assert_eq!(opened(&stage), before, "a connection was made anew");
    remote.end().await;
    stage.stop().await;
}
