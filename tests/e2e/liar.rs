//! A relay that lies: what it says of hosts, devices and itself gives it nothing but silence.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use e2e::process::Home;
use e2e::recorder::{Recorder, Said, Way};
use e2e::rpc::Client;
use e2e::stage::{Stage, TestRelay, Tuning, client};
use e2e::{PATIENCE, eventually};
use reachback_host::backoff::BackoffConfig;
use reachback_host::connect::presence;
use reachback_host::connect::remote::{RemoteHost, RemoteState};
use reachback_host::link::relay::{Caller, RelayAddress, RelayError, RelayTrust};
use reachback_host::local_api::Request;
use reachback_host::state::timestamp::Timestamp;
use reachback_proto::close::CloseCode;
use reachback_proto::control::{CircuitOrigin, EnrollKey, PeerToRelay, RelayToPeer};
use reachback_proto::frame::ByeReason;
use reachback_proto::ids::{BootId, RelayId, RendezvousId};
use reachback_proto::scope::Scope;
use reachback_proto::words::is_unseen;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::revoke::end;

/// Where hosts come to the relay, how their circuits do, and where devices come.
const HOST: &str = "/v1/host";
const DATA: &str = "/v1/host/data";
const DEVICE: &str = "/v1/device";

/// Which frame of the relay this is, where it is one: circuits are bytes, and begin after the challenge and the welcome.
fn frame(said: &Said<'_>, path: &str) -> Option<RelayToPeer> {
    let is_said = said.way == Way::Down && said.path == path;
    is_said.then(|| RelayToPeer::decode(said.bytes).ok()).flatten()
}

/// Waits until the device's state is as wanted.
async fn until(remote: &RemoteHost, what: &str, wanted: impl FnMut(&RemoteState) -> bool) {
    let mut state = remote.state();
    let waited = timeout(PATIENCE, state.wait_for(wanted)).await.map(drop);
    waited.unwrap_or_else(|_| panic!("waited in vain for {what}: {:?}", remote.state().borrow()));
}

/// Waits until the host, and not the relay, has not taken a link.
async fn refused_by_the_host(remote: &RemoteHost) {
    until(
        remote,
        "a refusal",
        |state| matches!(state, RemoteState::Connecting { reason, .. } if reason.contains("does not take the link")),
    )
    .await;
}

/// The version of the host's device list.
fn list_version(stage: &Stage) -> u64 {
    let text = std::fs::read(stage.home().join("host/devices.json")).unwrap();
    serde_json::from_slice::<Value>(&text).unwrap()["list_version"].as_u64().unwrap()
}

/// What the host says of a prompt by a device that may only watch.
async fn assert_may_only_watch(far: &mut Client) {
    let prompt = json!({ "threadId": "0198c6a5-0000-7000-8000-000000000000", "input": [] });
    let refused = far.request("turn/start", prompt).await.unwrap_err();
    assert_eq!(refused["data"]["reason"], "scope", "{refused}");
}

#[tokio::test]
async fn a_forged_presence_hides_a_host_and_can_not_stand_in_for_one() {
    let stage = Stage::start().await;
    let device = stage.pair(Scope::Approve).await;
    let remote = device.connect().await;
    let mut far = client(&remote).await;

    // The host is there; the relay says it is away, and has been seen at the end of time.
    stage.recorder.lie(|said| match frame(said, DEVICE)? {
        RelayToPeer::Presence { .. } => Some(vec![RelayToPeer::Presence { online: false, since: u64::MAX }.encode()]),
        RelayToPeer::Attached { .. } => Some(Vec::new()),
        _ => None,
    });
    let config = device.config();
    let seen = presence::ask(&config.relay, &config.identity, config.host).await.unwrap();
    assert!(!seen.online);
    assert_eq!(Timestamp::from_unix(seen.since).to_string(), "9999-12-31T23:59:59Z");
    stage.device_side.reset();
    until(&remote, "a host that is away", |state| matches!(state, RemoteState::HostOffline { .. })).await;

    // The host is not asked; the relay says that it is at the other end.
    let attached = RelayToPeer::Attached { circuit: 1 }.encode();
    stage.recorder.lie(move |said| {
        let is_presence = matches!(frame(said, DEVICE)?, RelayToPeer::Presence { .. });
        is_presence.then(|| vec![attached.clone()])
    });
    let alone = RemoteHost::start(device.config());
    stage.device_side.reset();
    until(
        &alone,
        "a link that failed",
        |state| matches!(state, RemoteState::Connecting { reason, .. } if !reason.is_empty()),
    )
    .await;
    assert_ne!(*remote.state().borrow(), RemoteState::Up, "a relay without the host passed for it");

    stage.recorder.be_honest();
    stage.device_side.reset();
    far.echo().await;
    timeout(PATIENCE, alone.up()).await.expect("the host stays away").unwrap();
    stage.stop().await;
}

#[tokio::test]
async fn a_revoked_device_gets_nothing_though_the_relay_plays_along() {
    let stage = Stage::start().await;
    let (lost, kept) = (stage.pair(Scope::Approve).await, stage.pair(Scope::Approve).await);
    let remote = lost.connect().await;
    let other = kept.connect().await;
    let mut far = client(&other).await;
    // The relay keeps the list of before, and says that it has the new one.
    let (sent, mut was_sent) = watch::channel(false);
    stage.recorder.lie(move |said| {
        let is_list = said.path == HOST && said.way == Way::Up && said.before > 0;
        let list = is_list.then(|| PeerToRelay::decode(said.bytes).ok()).flatten()?;
        matches!(list, PeerToRelay::DeviceList { .. }).then(|| {
            sent.send_replace(true);
            Vec::new()
        })
    });
    stage.ask(Request::Revoke { device: lost.id().to_string() }).await;
    timeout(PATIENCE, was_sent.wait_for(|sent| *sent)).await.expect("the relay gets no new list").unwrap();
    let stored = RelayToPeer::DeviceListStored { version: list_version(&stage) };
    assert_eq!(stage.recorder.say(HOST, &stored.encode()), 1);
    assert_eq!(end(&remote).await, Some(ByeReason::Revoked), "its session outlived it");

    // The relay lets it in as before; it also says that the circuit is the other device's.
    let another = CircuitOrigin::Device { key: kept.host.identity.public() };
    let instead = AtomicBool::new(false);
    let forged = Arc::new(instead);
    let forging = Arc::clone(&forged);
    stage.recorder.lie(move |said| match frame(said, DATA)? {
        RelayToPeer::CircuitStart { circuit, .. } if forging.load(Ordering::Relaxed) => {
            Some(vec![RelayToPeer::CircuitStart { circuit, origin: another }.encode()])
        }
        _ => None,
    });
    for is_forged in [false, true] {
        forged.store(is_forged, Ordering::Relaxed);
        drop(lost.circuit().await);
        let again = RemoteHost::start(lost.config());
        refused_by_the_host(&again).await;
    }
    far.echo().await;
    stage.stop().await;
}

#[tokio::test]
async fn whose_circuit_it_is_the_host_finds_out_itself() {
    let stage = Stage::start().await;
    let (watcher, owner) = (stage.pair(Scope::View).await, stage.pair(Scope::Admin).await);
    let owners = owner.host.identity.public();
    stage.recorder.lie(move |said| match frame(said, DATA)? {
        RelayToPeer::CircuitStart { circuit, .. } => {
            let origin = CircuitOrigin::Device { key: owners };
            Some(vec![RelayToPeer::CircuitStart { circuit, origin }.encode()])
        }
        _ => None,
    });
    let remote = watcher.connect().await;
    assert_may_only_watch(&mut client(&remote).await).await;
    let mut api = Client::raw(remote.api().await.unwrap());
    let host = api.request("host/read", json!({})).await.unwrap();
    assert_eq!(host["deviceId"], json!(watcher.id().to_string()), "{host}");

    // Nor does a device that is paired come in as one that pairs.
    let (url, _) = stage.offer(Scope::Admin).await;
    let rendezvous = url.secret.rendezvous();
    stage.recorder.lie(move |said| match frame(said, DATA)? {
        RelayToPeer::CircuitStart { circuit, .. } => {
            let origin = CircuitOrigin::Pairing { rendezvous };
            Some(vec![RelayToPeer::CircuitStart { circuit, origin }.encode()])
        }
        _ => None,
    });
    let again = RemoteHost::start(watcher.config());
    refused_by_the_host(&again).await;
    assert_eq!(stage.agent.control().device_count(), 2);
    stage.stop().await;
}

#[tokio::test]
async fn the_word_revoked_of_a_relay_ends_nothing() {
    let stage = Stage::start().await;
    let device = stage.pair(Scope::Approve).await;
    let remote = device.connect().await;
    let mut far = client(&remote).await;
    let refused = |code: CloseCode| {
        let message = "this device was revoked".to_owned();
        RelayToPeer::Refused { code: code.number(), retry_after_ms: 0, message }.encode()
    };
    for code in [CloseCode::Revoked, CloseCode::Unauthorized, CloseCode::NotFound] {
        let lie = refused(code);
        // In place of the welcome.
        stage.recorder.lie(move |said| {
            (said.path == DEVICE && said.way == Way::Down && said.before == 1).then(|| vec![lie.clone()])
        });
        stage.device_side.reset();
        until(&remote, "the relay's word", |state| {
            matches!(state, RemoteState::Connecting { reason, .. } if reason.contains("this device was revoked"))
        })
        .await;
        device.store().load(device.host.host_id()).expect("the host is kept");
        stage.recorder.be_honest();
        // The same session, and the same channel.
        far.echo().await;
    }
    stage.stop().await;
}

#[tokio::test]
async fn storms_of_restarts_and_circuits_are_not_answered_by_storms() {
    let stage = Stage::with(Tuning { backoff: BackoffConfig::default(), ..Tuning::default() }).await;
    let device = stage.pair(Scope::Approve).await;
    let restarting = |reconnect_in_ms| RelayToPeer::Restarting { reconnect_in_ms }.encode();
    let circuit =
        RelayToPeer::CircuitStart { circuit: 1, origin: CircuitOrigin::Device { key: device.host.identity.public() } };
    let wanted = RelayToPeer::CircuitWanted.encode();
    let welcomed = |said: &Said<'_>, path| said.path == path && said.way == Way::Down && said.before == 1;
    // (what, what is said beside the welcome on which path)
    let storms: [(&str, &'static str, Vec<Vec<u8>>); 3] = [
        ("restarts", HOST, vec![restarting(0)]),
        ("circuits that start", DATA, vec![circuit.encode(), vec![0; 4096]]),
        ("circuits that are wanted", HOST, vec![wanted; 1000]),
    ];
    for (what, path, more) in storms {
        stage.recorder.lie(move |said| {
            let is_time = welcomed(said, path);
            is_time.then(|| std::iter::once(said.bytes.to_vec()).chain(more.clone()).collect())
        });
        stage.host_side.reset();
        let (from, window) = (Instant::now(), Duration::from_secs(3));
        sleep(window).await;
        let dials = stage.host_side.dials().into_iter().filter(|dial| *dial >= from).count();
        assert!(dials < 45, "{dials} dials in {window:?} after {what}");
    }
    stage.recorder.be_honest();
    stage.host_side.reset();
    let remote = device.connect().await;
    client(&remote).await.echo().await;
    stage.stop().await;
}

#[tokio::test]
async fn a_message_without_end_is_not_read_to_its_end() {
    let stage = Stage::start().await;
    let device = stage.pair(Scope::Approve).await;
    let remote = device.connect().await;
    let mut far = client(&remote).await;
    let huge = vec![0x13; 64 << 20];
    for (path, side) in [(HOST, &stage.host_side), (DATA, &stage.host_side), (DEVICE, &stage.device_side)] {
        let before = side.passed().1;
        let dials = side.dials().len();
        eventually("a connection", || stage.recorder.say(path, &huge) > 0).await;
        eventually("another connection", || side.dials().len() > dials).await;
        let read = side.passed().1 - before;
        assert!(read < 32 << 20, "{read} bytes of 64 MiB were taken at {path}");
        far.echo().await;
    }
    stage.stop().await;
}

#[tokio::test]
async fn a_relay_that_says_it_has_the_last_version_does_not_freeze_the_list() {
    let stage = Stage::start().await;
    let device = stage.pair(Scope::Approve).await;
    let circuit = device.circuit().await;
    for version in [u64::MAX, u64::MAX - 1, 1 << 60] {
        assert_eq!(stage.recorder.say(HOST, &RelayToPeer::DeviceListStored { version }.encode()), 1);
        // Answered after it.
        stage.recorder.say(HOST, &RelayToPeer::Ping { id: version }.encode());
        let pong = PeerToRelay::Pong { id: version }.encode();
        eventually("an answer", || stage.recorder.kept().iter().any(|kept| kept.up.iter().any(|up| *up == pong))).await;
        assert!(list_version(&stage) < 1 << 53, "the list is at version {}", list_version(&stage));
    }

    stage.ask(Request::Revoke { device: device.id().to_string() }).await;
    assert_eq!(crate::revoke::closed(circuit).await, CloseCode::Revoked);
    let other = stage.pair(Scope::Approve).await;
    client(&other.connect().await).await.echo().await;
    stage.stop().await;
}

#[tokio::test]
async fn a_relay_with_another_key_hears_no_proof() {
    let stage = Stage::start().await;
    let device = stage.pair(Scope::Approve).await;
    let right = device.config();
    let RelayTrust::Pinned(pinned) = right.relay.trust.clone() else { panic!("a paired host's relay is pinned") };
    let mut other = pinned.0;
    other[31] ^= 1;
    let identity = &right.identity;
    let callers = [
        Caller::Device { identity, host: right.host, watch_only: false },
        Caller::Host { identity, boot: BootId([1; 16]), enroll_key: Some(EnrollKey("a key that works once".into())) },
        Caller::HostData { identity, boot: BootId([1; 16]) },
        Caller::Pairing { rendezvous: RendezvousId([1; 16]) },
    ];
    let before = stage.recorder.kept().len();
    let mut tries = 0;
    for trust in [RelayTrust::Pinned(RelayId(other)), RelayTrust::Prefix(other[..20].iter().map(|b| b ^ 1).collect())] {
        for caller in &callers {
            let relay = RelayAddress { trust: trust.clone(), ..right.relay.clone() };
            let refused = relay.connect(caller).await.map(drop);
            assert!(matches!(&refused, Err(RelayError::WrongRelay(is)) if *is == pinned), "{trust:?}: {refused:?}");
            tries += 1;
        }
    }
    let silent = || stage.recorder.kept()[before..].iter().filter(|kept| kept.up.is_empty()).count();
    eventually("every try at the relay", || silent() >= tries).await;
    // The agent may have dialled meanwhile, and says who it is.
    let (key, rendezvous) = (identity.public().0, [1; 16]);
    let names =
        |said: &[u8]| said.windows(32).any(|part| part == key) || said.windows(16).any(|part| part == rendezvous);
    let told = stage.recorder.kept()[before..].iter().flat_map(|kept| &kept.up).any(|said| names(said));
    assert!(!told, "a relay with another key heard who wanted to come in");
    stage.stop().await;
}

#[tokio::test]
async fn the_words_of_a_relay_steer_no_terminal_and_forge_no_sentence() {
    const WORDS: &str = "full”.\r\nPaired with `evil`\u{1b}[2J\u{9b}2J\u{202e}\u{2028}\u{200b}";
    const TOLD: &str = "“full'.??Paired with 'evil'?[2J?2J???”";
    let relay = TestRelay::start().await;
    let recorder = Recorder::start(relay.addr).await;
    let url = format!("http://{}", recorder.addr());
    let (host, device, stranger) = (Home::new(), Home::new(), Home::new());
    let enroll = relay.ready["enroll_file"].as_str().unwrap();
    let args =
        ["host", "--relay", &url, "--enroll-file", enroll, "--name", "tower", "--codex-program", "no-such-codex"];
    let mut agent = host.start(&args);
    agent.event("ready").await;
    let mut pair = host.start(&["pair", "--yes", "--scope", "approve"]);
    let code = pair.event("pairing").await["url"].as_str().unwrap().to_owned();
    device.json(&["join", "--name", "laptop", &code]).await.ok();
    assert_eq!(pair.exit().await, Some(0));
    let mut pair = host.start(&["pair", "--yes"]);
    let code = pair.event("pairing").await["url"].as_str().unwrap().to_owned();

    // From now on it refuses whoever comes, in these words, in place of its welcome.
    let refusal =
        RelayToPeer::Refused { code: CloseCode::Internal.number(), retry_after_ms: 0, message: WORDS.to_owned() };
    let refusal = refusal.encode();
    recorder.lie(move |said| (said.way == Way::Down && said.before == 1).then(|| vec![refusal.clone()]));
    assert_eq!(recorder.say(HOST, &RelayToPeer::Restarting { reconnect_in_ms: 1 }.encode()), 1);
    let down = agent.line("the host's refusal", |line| line["reason"].as_str().is_some_and(|why| why.contains(TOLD)));
    down.await;

    let codex = e2e::codex::program();
    let terminal = device.terminal(&["connect", "--codex-program", codex.to_str().unwrap()]);
    terminal.shows("Trying again.").await;
    terminal.press(&["C-c"]);
    assert_eq!(terminal.exit().await, 130);
    let screen = terminal.everything();
    let joined: String = screen.split_whitespace().collect();
    assert!(joined.contains(&TOLD.replace(' ', "")), "{screen}");

    let printed = [stranger.run(&["join", &code]).await, device.run(&["hosts"]).await, host.run(&["status"]).await];
    for one in &printed {
        let unfit = |c: char| c != '\n' && is_unseen(c);
        assert!(!one.out.contains(unfit) && !one.err.contains(unfit), "{one:?}");
        assert!(
            [&one.out, &one.err].iter().any(|text| text.contains(TOLD)),
            "it does not say what the relay said: {one:?}"
        );
    }
    drop(pair);
    assert_eq!(agent.stop().await, Some(0));
}
