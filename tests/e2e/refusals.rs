//! What must not work: wrong codes, wrong keys, replays, broken records, floods and people who don't read.

use std::time::{Duration, Instant};

use bytes::Bytes;
use e2e::cutter::NOTICED;
use e2e::recorder::{Break, Way};
use e2e::rpc::{Client, End};
use e2e::stage::{Stage, TestDevice, client, every_piece, little_waits};
use e2e::{PATIENCE, eventually};
use futures_util::{SinkExt, StreamExt};
use reachback_host::agent::owner::PairOptions;
use reachback_host::audit::{self, Entry, Line, What};
use reachback_host::connect::join::{Invitation, JoinError};
use reachback_host::connect::remote::RemoteState;
use reachback_host::link::circuit::Circuit;
use reachback_host::link::handshake::{self, BlockStream};
use reachback_host::link::relay::{Caller, RelayError};
use reachback_host::local_api::{Confirm, Event};
use reachback_proto::close::CloseCode;
use reachback_proto::control::{MAX_CIRCUIT_CHUNK, RelayToPeer};
use reachback_proto::crypto::handshake::{Ephemeral, LinkInitiator};
use reachback_proto::crypto::keys::{Identity, Secret, StaticKey};
use reachback_proto::frame::{ChannelCloseReason, LOCAL_ENVIRONMENT};
use reachback_proto::ids::{HostId, PublicKey};
use reachback_proto::pairing::{
    DeviceSide, Fresh, Name, PairingError, PairingInitiator, PairingSecret, PairingUrl, Platform, Refusal, TypedCode,
};
use reachback_proto::scope::Scope;
use reachback_proto::version;
use ring::rand::SystemRandom;
use serde_json::json;
use tokio::sync::broadcast;
use tokio::time::timeout;

/// That the relay knows no such code, in the error of a device that used one.
fn assert_no_such_code(joined: Result<TestDevice, JoinError>) {
    match joined.map(|_| ()) {
        Err(JoinError::Relay(RelayError::Refused { code: CloseCode::NotFound, .. })) => {}
        other => panic!("wanted a code that is not known, got {other:?}"),
    }
}

/// What the agent has told of devices since it was last asked.
fn told_of_devices(events: &mut broadcast::Receiver<Event>) -> Vec<Event> {
    let told = std::iter::from_fn(|| events.try_recv().ok());
    told.filter(|event| matches!(event, Event::Device { .. })).collect()
}

/// Waits until the other end closes a circuit.
async fn closed(mut circuit: Box<dyn Circuit>) {
    let ending = async { while let Some(Ok(_)) = circuit.next().await {} };
    timeout(PATIENCE, ending).await.expect("the circuit is kept open");
}

#[tokio::test]
async fn a_code_that_is_wrong_used_or_old_pairs_nobody() {
    let stage = Stage::start().await;
    let (url, code) = stage.offer(Scope::Approve).await;
    let Invitation::Code { relay, .. } = &code else { panic!("wanted the typed code") };
    let wrong = TypedCode::generate(&SystemRandom::new()).unwrap();
    assert_no_such_code(TestDevice::try_join(&Invitation::Code { relay: relay.clone(), code: wrong }).await);

    TestDevice::join(&code).await;
    eventually("one device", || stage.agent.control().device_count() == 1).await;
    for used in [code, Invitation::Url(url)] {
        assert!(TestDevice::try_join(&used).await.is_err(), "a code worked twice");
    }

    let old = stage.offer_for(Scope::Approve, Duration::from_secs(1)).await;
    let expired = timeout(PATIENCE, old.pairing).await.expect("the offer stands").unwrap().unwrap_err();
    assert_eq!(expired.code, "pairing_expired");
    for invitation in [Invitation::Url(old.url), old.code] {
        assert_no_such_code(TestDevice::try_join(&invitation).await);
    }
    assert_eq!(stage.agent.control().device_count(), 1);
    stage.stop().await;
}

#[tokio::test]
async fn a_device_hears_that_the_code_ran_out_while_it_waited_for_the_person() {
    let stage = Stage::start().await;
    let patience = Duration::from_secs(2);
    let offer = stage.offer_with(PairOptions { scope: None, confirm: Confirm::Digits, patience }).await;
    let told = TestDevice::try_join(&offer.code).await.map(drop);
    assert!(matches!(told, Err(JoinError::Pairing(PairingError::Refused(Refusal::Expired)))), "{told:?}");
    let expired = timeout(PATIENCE, offer.pairing).await.expect("the offer stands").unwrap().unwrap_err();
    assert_eq!(expired.code, "pairing_expired");
    assert_eq!(stage.agent.control().device_count(), 0);
    stage.stop().await;
}

/// Tries to pair at the rendezvous of `url` with a secret that is not its own, as a relay could.
async fn guess(device: &TestDevice, url: &PairingUrl) {
    let rng = SystemRandom::new();
    let connection = device.config().relay.connect(&Caller::Pairing { rendezvous: url.secret.rendezvous() }).await;
    let mut connection = connection.unwrap();
    while !matches!(connection.receive().await.unwrap(), RelayToPeer::Attached { .. }) {}
    let own = DeviceSide {
        identity: Identity::generate(&rng).unwrap().public(),
        static_key: StaticKey::generate(&rng).unwrap(),
        name: Name::new("guesser").unwrap(),
        platform: Platform::new("test").unwrap(),
    };
    let (secret, fresh) = (PairingSecret::generate(&rng).unwrap(), Fresh::generate(&rng).unwrap());
    let (_, hello) = PairingInitiator::start(secret, own, connection.relay_key(), version::SUPPORTED, fresh).unwrap();
    let mut circuit = connection.into_circuit();
    circuit.send(hello.into()).await.unwrap();
    closed(circuit).await;
}

#[tokio::test]
async fn five_guesses_end_an_offer() {
    let stage = Stage::start().await;
    let device = stage.pair(Scope::View).await;
    let offer = stage.offer_for(Scope::Approve, PATIENCE).await;
    for _ in 0..4 {
        guess(&device, &offer.url).await;
    }
    assert!(!offer.pairing.is_finished(), "the offer ended before the fifth guess");
    guess(&device, &offer.url).await;
    let over = timeout(PATIENCE, offer.pairing).await.expect("the offer stands after five guesses").unwrap();
    assert_eq!(over.unwrap_err().code, "pairing_closed");
    for invitation in [Invitation::Url(offer.url), offer.code] {
        assert!(TestDevice::try_join(&invitation).await.is_err(), "an offer that is over paired a device");
    }
    assert_eq!(stage.agent.control().device_count(), 1);
    stage.stop().await;
}

#[tokio::test]
async fn keys_that_do_not_belong_get_no_session() {
    let stage = Stage::start().await;
    let device = stage.pair(Scope::Approve).await;
    let remote = device.connect().await;
    let mut far = client(&remote).await;
    let mut events = stage.agent.events().subscribe();

    let rng = SystemRandom::new();
    let right = device.config();
    let other_key = StaticKey::generate(&rng).unwrap();
    let other_psk = Secret::random(&rng).unwrap();
    let other_host = HostId([7; 16]);
    let tries: [(&str, HostId, PublicKey, &StaticKey, &Secret); 4] = [
        ("static key", right.host, right.host_static, &other_key, &right.psk),
        ("psk", right.host, right.host_static, &right.static_key, &other_psk),
        ("host id", other_host, right.host_static, &right.static_key, &right.psk),
        ("host key", right.host, other_key.public(), &right.static_key, &right.psk),
    ];
    for (what, host, host_static, static_key, psk) in tries {
        let circuit = device.circuit().await.into_circuit();
        let linked = handshake::initiate(circuit, host, &host_static, static_key, psk).await;
        assert!(linked.is_err(), "a device with another {what} was let in");
    }
    far.echo().await;
    assert_eq!(told_of_devices(&mut events), [], "a handshake that failed was told of");
    assert_eq!(*remote.state().borrow(), RemoteState::Up);
    stage.stop().await;
}

#[tokio::test]
async fn a_replayed_circuit_changes_nothing() {
    let stage = Stage::start().await;
    let device = stage.pair(Scope::Approve).await;
    let remote = device.connect().await;
    let mut far = client(&remote).await;
    let kept = stage.recorder.kept().into_iter().rfind(|kept| kept.path == "/v1/device" && kept.circuit().len() > 2);
    let kept = kept.expect("the session's circuit was recorded");
    let mut events = stage.agent.events().subscribe();
    let mut state = remote.state();
    state.mark_unchanged();

    // Handshake alone, and with the records that followed it.
    for count in [1, kept.circuit().len()] {
        let mut circuit = device.circuit().await.into_circuit();
        for bytes in &kept.circuit()[..count] {
            // The host may close before it has heard everything.
            let _ = circuit.send(bytes.clone()).await;
        }
        closed(circuit).await;
    }
    far.echo().await;
    assert_eq!(told_of_devices(&mut events), [], "a replay was told of");
    assert!(!state.has_changed().unwrap(), "a replay disturbed the session: {:?}", *state.borrow());
    stage.stop().await;
}

#[tokio::test]
async fn a_broken_record_costs_the_link_and_no_message() {
    let stage = Stage::start().await;
    let device = stage.pair(Scope::Approve).await;
    let remote = device.connect().await;
    let mut far = client(&remote).await;
    let links = || stage.recorder.kept().iter().filter(|kept| kept.path == "/v1/device").count();
    for way in [Way::Up, Way::Down] {
        for how in [Break::Repeat, Break::Alter, Break::Overtake, Break::Swallow] {
            let before = links();
            stage.recorder.break_next(way, how);
            far.echo().await;
            assert!(stage.recorder.has_broken(), "{way:?} {how:?}: nothing went that way");
            eventually(&format!("a new link after {way:?} {how:?}"), || links() > before).await;
            far.echo().await;
        }
    }
    stage.stop().await;
}

#[tokio::test]
async fn garbage_ends_its_own_circuit_and_nothing_else() {
    let stage = Stage::start().await;
    let (noisy, quiet) = (stage.pair(Scope::Approve).await, stage.pair(Scope::Approve).await);
    let remote = quiet.connect().await;
    let mut far = client(&remote).await;
    let mut state = remote.state();
    state.mark_unchanged();
    let noise = |length: usize| (0..length).map(|n| (n * 31 % 251) as u8).collect::<Vec<_>>();
    let preamble = |purpose| [b'R', purpose, 1, 1];
    let block = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
    for (what, bytes) in [
        ("noise", noise(1000)),
        ("another purpose", [&preamble(2)[..], &block(&noise(48))].concat()),
        ("a handshake of noise", [&preamble(1)[..], &block(&noise(96))].concat()),
        ("an empty block", [&preamble(1)[..], &[0, 0]].concat()),
        ("a block that is too long", [&preamble(1)[..], &[0xff, 0xff], &noise(70_000)].concat()),
        ("a message over the limit", noise(MAX_CIRCUIT_CHUNK + 1)),
    ] {
        let mut circuit = noisy.circuit().await.into_circuit();
        let _ = circuit.send(bytes.into()).await;
        let begin = Instant::now();
        closed(circuit).await;
        assert!(begin.elapsed() < Duration::from_secs(5), "{what} was listened to for {:?}", begin.elapsed());
        far.echo().await;
    }

    // After a good handshake: a record of noise.
    let config = noisy.config();
    let mut stream = BlockStream::new(noisy.circuit().await.into_circuit());
    let ephemeral = Ephemeral::generate(&SystemRandom::new()).unwrap();
    let (initiator, hello) = LinkInitiator::start(
        config.host,
        &config.host_static,
        &config.static_key,
        &config.psk,
        version::SUPPORTED,
        ephemeral,
    )
    .unwrap();
    stream.write(&hello).await.unwrap();
    initiator.finish(&stream.block().await.unwrap()).unwrap();
    stream.write(&block(&noise(144))).await.unwrap();
    assert!(timeout(PATIENCE, stream.block()).await.expect("the circuit is kept open").is_err());

    far.echo().await;
    assert!(!state.has_changed().unwrap(), "another device's noise disturbed the session: {:?}", *state.borrow());
    stage.stop().await;
}

#[tokio::test]
async fn garbage_on_a_channel_ends_that_channel_and_no_other() {
    let stage = Stage::start().await;
    let remote = stage.pair(Scope::Approve).await.connect().await;
    let mut far = client(&remote).await;
    for garbage in [&b"noise"[..], b"\xff\xfe", b"{}", br#"{"id":1,"method":"thread/read""#] {
        let channel = remote.open_channel(LOCAL_ENVIRONMENT).await.unwrap();
        channel.sender.send(Bytes::from_static(garbage)).await.unwrap();
        let (heard, end) = Client::raw(channel).ended().await;
        assert_eq!((heard, end), (vec![], End::Closed(ChannelCloseReason::Refused)));
        far.echo().await;
    }
    // What is a message, and not well formed, is refused, and the channel goes on.
    let refused = far.request("thread/read", json!([])).await.unwrap_err();
    assert_eq!(refused["data"]["reason"], "malformed", "{refused}");
    far.echo().await;
    stage.stop().await;
}

#[tokio::test]
async fn what_a_device_is_refused_again_and_again_is_counted_and_leaves_all_other_lines() {
    const TIMES: usize = 500;
    let stage = Stage::start().await;
    let (noisy, quiet) = (stage.pair(Scope::View).await, stage.pair(Scope::Approve).await);
    let remotes = [quiet.connect().await, noisy.connect().await];
    let mut far = client(&remotes[0]).await;
    let thread = far.thread(&stage.codex).await;
    let before = audit::read(stage.home()).unwrap().0;
    let mut flood = client(&remotes[1]).await;
    for _ in 0..TIMES {
        let params = json!({ "threadId": thread, "input": [] });
        assert_eq!(flood.request("turn/start", params).await.unwrap_err()["data"]["reason"], "scope");
    }
    let stage = stage.restart_agent().await;
    let after = audit::read(stage.home()).unwrap().0;
    assert!(before.iter().all(|line| after.contains(line)), "lines were lost: {before:?}, {after:?}");
    let mut times = 0;
    let mut folder = None;
    for line in &after {
        let Line::Device(Entry { device_id, what: What::Action { method, count, folder: named, .. }, .. }) = line
        else {
            continue;
        };
        if *device_id == noisy.id() {
            times += count.unwrap_or(1);
        } else if method.as_deref() == Some("thread/start") {
            folder.clone_from(named);
        }
    }
    assert_eq!(times, TIMES as u64, "{after:?}");
    assert!(after.len() < before.len() + 20, "{} lines were written", after.len());
    assert_eq!(folder.as_deref(), stage.codex.home.project().to_str(), "{after:?}");
    stage.stop().await;
}

#[tokio::test]
async fn a_device_that_does_not_read_costs_a_bounded_queue_and_delays_nobody() {
    let queue = 128 * 1024;
    let stage = Stage::with(little_waits(queue / 2)).await;
    let (frozen, quick) = (stage.pair(Scope::Approve).await, stage.pair(Scope::Approve).await);
    let remote = quick.connect().await;
    every_piece(&remote).await;
    let mut far = client(&remote).await;
    let thread = far.thread(&stage.codex).await;
    far.prompt(&thread, "@text N=1").await;
    far.event("turn/completed").await;
    far.take_thread(&thread);

    // In a thread of its own that can be stopped: its sockets stay open, and nobody reads them.
    let (thaw, frozen_until) = std::sync::mpsc::channel::<()>();
    let (is_frozen, freezing) = tokio::sync::oneshot::channel();
    let joined = thread.clone();
    let log = stage.log.clone();
    let frozen = std::thread::spawn(move || {
        let _logging = log.start();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let remote = frozen.connect().await;
            every_piece(&remote).await;
            let mut far = client(&remote).await;
            far.resume(&joined).await;
            is_frozen.send(()).unwrap();
            frozen_until.recv().unwrap();
            let (kept, end) = far.ended().await;
            client(&remote).await.echo().await;
            (kept.iter().map(|message| message.to_string().len()).sum::<usize>(), end)
        })
    });
    timeout(PATIENCE, freezing).await.expect("the other device never joined").unwrap();

    far.prompt(&thread, "@text N=5000 ms=1").await;
    let begin = Instant::now();
    let mut slowest = Duration::ZERO;
    while begin.elapsed() < NOTICED {
        let asked = Instant::now();
        far.echo().await;
        slowest = slowest.max(asked.elapsed());
    }
    far.event("turn/completed").await;
    assert_eq!(far.take("item/agentMessage/delta").len(), 5000, "the device that reads missed deltas");
    assert!(slowest < Duration::from_secs(3), "a device that does not read delayed another by {slowest:?}");
    thaw.send(()).unwrap();
    let (kept, end) = tokio::task::spawn_blocking(|| frozen.join().unwrap()).await.unwrap();
    assert_eq!(end, End::Closed(ChannelCloseReason::Gap));
    // The queue, and a window of 256 KiB in flight.
    assert!(kept < 2 * queue + 256 * 1024, "{kept} bytes were kept for a device that does not read");
    stage.stop().await;
}

#[tokio::test]
async fn prompts_go_to_no_provider_that_the_owner_did_not_configure() {
    let stage = Stage::start().await;
    let phone = stage.pair(Scope::Admin).await;
    let remote = phone.connect().await;
    let mut far = client(&remote).await;
    // Built in: the first sends prompts to a port of the host, the second past the owner's own provider.
    for provider in ["ollama", "lmstudio", "openai", "scripted"] {
        let params = json!({ "cwd": stage.codex.home.project(), "modelProvider": provider });
        let started = far.request("thread/start", params).await.unwrap();
        assert_eq!(started["modelProvider"], "scripted", "{provider}: {started}");
    }
    // Codex itself takes any that it knows: that is why.
    let mut owner = Client::connect(&*stage.backend).await;
    let params = json!({ "cwd": stage.codex.home.project(), "modelProvider": "ollama" });
    let started = owner.request("thread/start", params).await.unwrap();
    assert_eq!(started["modelProvider"], "ollama", "{started}");
    stage.stop().await;
}

#[tokio::test]
async fn prompts_go_to_no_model_that_the_host_does_not_list_or_use() {
    let stage = Stage::start().await;
    let phone = stage.pair(Scope::Admin).await;
    let remote = phone.connect().await;
    let (mut far, mut owner) = (client(&remote).await, Client::connect(&*stage.backend).await);
    let start = |model: &str| json!({ "cwd": stage.codex.home.project(), "model": model });
    let started = far.request("thread/start", start("dearer")).await.unwrap();
    let used = started["model"].as_str().unwrap().to_owned();
    assert_ne!(used, "dearer");
    let thread = started["thread"]["id"].clone();
    // As the stock terminal UI says it, with the model of the thread and with another one.
    for (wish, id) in [(&*used, "m1"), ("dearer", "m2")] {
        let settings = json!({ "model": wish, "reasoning_effort": null, "developer_instructions": null });
        let params = json!({
            "threadId": thread, "clientUserMessageId": id, "model": wish,
            "input": [{ "type": "text", "text": "@text N=1", "text_elements": [] }],
            "collaborationMode": { "mode": "default", "settings": settings },
        });
        far.request("turn/start", params).await.unwrap();
        far.event("turn/completed").await;
    }
    let resumed = owner.request("thread/resume", json!({ "threadId": thread })).await.unwrap();
    assert_eq!(resumed["model"], used.as_str(), "{resumed}");
    // Codex itself takes any name: that is why. One that the owner chose is the thread's own, and goes on.
    let chosen = owner.request("thread/start", start("dearer")).await.unwrap();
    assert_eq!(chosen["model"], "dearer", "{chosen}");
    stage.stop().await;
}
