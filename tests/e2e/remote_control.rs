//! The address that a real `codex remote-control` finds the agent at, and who else is let in there.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use e2e::codex::{TestCodex, ready};
use e2e::dice::Dice;
use e2e::rpc::{Client, End};
use e2e::stage::{self, Stage, TestDevice, client, origin};
use e2e::{PATIENCE, eventually};
use reachback_host::codex::CodexBackend;
use reachback_host::codex::remote_control::{RemoteControl, RemoteControlConfig};
use reachback_host::connect::join::Invitation;
use reachback_host::connect::remote::RemoteState;
use reachback_host::local_api::{Answer, Event, Exchange, Handler, Request, Response, Shown};
use reachback_proto::frame::ChannelCloseReason;
use reachback_proto::pairing::{PairingUrl, TypedCode};
use reachback_proto::scope::Scope;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::links::{first_difference, story};

/// The port, and an enrolment as Codex asks for it, with the secret path.
fn enrolment(home: &Path) -> (u16, String) {
    let kept = std::fs::read(home.join("host/remote_control.json")).unwrap();
    let kept: Value = serde_json::from_slice(&kept).unwrap();
    let port = kept["port"].as_u64().and_then(|port| u16::try_from(port).ok()).expect("a port");
    let path = format!("/{}/backend-api/wham/remote/control/server/enroll", kept["prefix"].as_str().expect("a secret"));
    let body = r#"{"installation_id":"7c3b2f6e-0000-4000-8000-000000000001"}"#;
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer x\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    (port, head + body)
}

/// Commands of Codex can read the secret in its state, and may have the network.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn whoever_knows_the_secret_is_not_let_in_beside_codex() {
    let codex = TestCodex::prepare().await;
    codex.home.sign_in().unwrap();
    let agent = tempfile::tempdir().unwrap();
    let home = agent.path().to_owned();
    let backend = RemoteControl::start(RemoteControlConfig { codex: codex.config(), home, redirect: None }).unwrap();
    ready(&backend).await;
    let (port, request) = enrolment(agent.path());

    // A program of this user, as what was left behind by an earlier Codex would be.
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    // Either may end with a reset, as what was sent is not read.
    let _sent = stream.write_all(request.as_bytes()).await;
    let mut answer = String::new();
    let ended = timeout(PATIENCE, stream.read_to_string(&mut answer)).await;
    assert!(ended.is_ok() && answer.is_empty(), "a program of this user was let in: {answer}");

    // A command of this Codex, which has the network.
    let mut client = Client::connect(&backend).await;
    let script = format!("trap '' PIPE; exec 3<>/dev/tcp/127.0.0.1/{port}; printf %s \"$0\" >&3; cat <&3; echo over");
    let command = json!({
        "command": ["bash", "-c", script, request],
        "cwd": codex.home.project(),
        "sandboxPolicy": {"type": "dangerFullAccess"},
    });
    let said = client.request("command/exec", command).await.unwrap();
    assert_eq!(said["stdout"], "over\n", "a command of codex was let in: {said}");

    // Codex itself is, again and again.
    let mut another = Client::connect(&backend).await;
    another.request("thread/loaded/list", json!({})).await.unwrap();
    backend.stop().await;
}

/// Where a Codex serves those on its own machine, found as its process has it open: it may come to the agent before that.
#[cfg(target_os = "linux")]
fn control_socket(codex_home: &Path) -> Option<PathBuf> {
    let pids = crate::conformance::processes_of(codex_home);
    let listed = std::fs::read_to_string("/proc/net/unix").unwrap();
    let held: Vec<String> = pids
        .iter()
        .filter_map(|pid| std::fs::read_dir(format!("/proc/{pid}/fd")).ok())
        .flat_map(|entries| entries.flatten())
        .filter_map(|entry| Some(std::fs::read_link(entry.path()).ok()?.to_str()?.strip_prefix("socket:[")?.to_owned()))
        .collect();
    let is_held = |inode: &str| held.iter().any(|held| held.trim_end_matches(']') == inode);
    listed.lines().find_map(|line| {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        let path = fields.get(7).filter(|path| path.starts_with('/'))?;
        is_held(fields.get(6)?).then(|| PathBuf::from(path))
    })
}

/// What its App or another program of its own machine asks a Codex.
#[cfg(target_os = "linux")]
async fn at_the_host(stage: &Stage) -> Client {
    let home = stage.codex.home.codex_home();
    eventually("codex serves its own machine", || control_socket(home).is_some()).await;
    let path = control_socket(home).unwrap();
    let stream = UnixStream::connect(&path).await.unwrap();
    let (socket, _) = tokio_tungstenite::client_async("ws://localhost/", stream).await.unwrap();
    Client::initialized(socket, json!({ "experimentalApi": true })).await
}

/// The next event of this kind.
#[cfg(target_os = "linux")]
async fn event<T>(events: &mut mpsc::Receiver<Event>, wanted: impl Fn(&Event) -> Option<T>) -> T {
    let coming = async {
        loop {
            let event = events.recv().await.expect("no more events");
            if let Some(found) = wanted(&event) {
                return found;
            }
        }
    };
    timeout(PATIENCE, coming).await.expect("waited in vain for an event")
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn codexs_own_pairing_is_one_of_this_host_and_needs_its_persons_word() {
    let stage = Stage::with(stage::remote_control()).await;
    let mut codex = at_the_host(&stage).await;
    let nobody = stage.try_ask(Request::PairWaiting).await.unwrap_err();
    assert_eq!(nobody.code, "no_pairing_waits");

    let shown = codex.request("remoteControl/pairing/start", json!({ "manualCode": true })).await.unwrap();
    let code = shown["manualPairingCode"].as_str().expect("a code to type");
    let is_claimed = json!({ "manualPairingCode": code });
    PairingUrl::parse(shown["pairingCode"].as_str().unwrap()).expect("what the phone scans");

    // A device takes it. Nobody has said that it may.
    let (digits_out, digits) = oneshot::channel();
    let invitation =
        Invitation::Code { relay: origin(stage.device_side.addr()), code: TypedCode::parse(code).unwrap() };
    let joining = tokio::spawn(async move {
        TestDevice::join_showing(&invitation, |digits| drop(digits_out.send(digits.to_string()))).await
    });
    let digits = timeout(PATIENCE, digits).await.expect("no digits").unwrap();
    assert_eq!(codex.request("remoteControl/pairing/status", is_claimed.clone()).await.unwrap()["claimed"], false);
    let environment = shown["environmentId"].clone();
    let listing = json!({ "environmentId": environment });
    assert_eq!(codex.request("remoteControl/client/list", listing.clone()).await.unwrap()["data"], json!([]));

    // The person at the host does.
    let (events_out, mut events) = mpsc::channel(64);
    let (answers_out, answers) = mpsc::channel(1);
    let control = Arc::clone(stage.agent.control());
    let pairing =
        tokio::spawn(
            async move { control.handle(Request::PairWaiting, Exchange { events: events_out, answers }).await },
        );
    event(&mut events, |event| matches!(event, Event::PairingDigitsWanted { .. }).then_some(())).await;
    answers_out.send(Answer::Digits { digits: Shown(digits), scope: None }).await.unwrap();
    let Response::Device(paired) = pairing.await.unwrap().unwrap() else { panic!("wanted a device") };
    assert_eq!(paired.scope, Scope::Steer, "who types a code may steer");
    let device = timeout(PATIENCE, joining).await.expect("it did not join").unwrap().unwrap();
    assert_eq!(codex.request("remoteControl/pairing/status", is_claimed).await.unwrap()["claimed"], true);

    // Codex lists it, and lets its person revoke it.
    let remote = device.connect().await;
    client(&remote).await.request("thread/loaded/list", json!({})).await.unwrap();
    let listed = codex.request("remoteControl/client/list", listing.clone()).await.unwrap();
    assert_eq!(listed["data"][0]["clientId"], device.id().to_string(), "{listed}");
    assert_eq!(listed["data"][0]["displayName"], stage::DEVICE_NAME, "{listed}");
    let meant = json!({ "environmentId": environment, "clientId": device.id().to_string() });
    codex.request("remoteControl/client/revoke", meant.clone()).await.unwrap();
    let mut state = remote.state();
    let ended = timeout(PATIENCE, state.wait_for(|state| matches!(state, RemoteState::Ended { .. }))).await;
    assert!(ended.is_ok(), "a revoked device stays: {:?}", remote.state().borrow());
    assert_eq!(codex.request("remoteControl/client/list", listing).await.unwrap()["data"], json!([]));
    codex.request("remoteControl/client/revoke", meant).await.unwrap_err();
    stage.stop().await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_device_that_nobody_lets_in_by_codexs_code_stays_out() {
    let stage = Stage::with(stage::remote_control()).await;
    let mut codex = at_the_host(&stage).await;
    let mut heard = stage.agent.events().subscribe();
    let shown = codex.request("remoteControl/pairing/start", json!({ "manualCode": true })).await.unwrap();
    let code = TypedCode::parse(shown["manualPairingCode"].as_str().unwrap()).unwrap();
    let invitation = Invitation::Code { relay: origin(stage.device_side.addr()), code };
    let joining = tokio::spawn(async move { TestDevice::try_join(&invitation).await });
    let waits = async {
        loop {
            if let Event::Notice(failure) = heard.recv().await.unwrap()
                && failure.code == "pairing_waits"
            {
                return failure;
            }
        }
    };
    let waits = timeout(PATIENCE, waits).await.expect("nobody is told that a device waits");
    assert!(waits.message.contains(stage::DEVICE_NAME) && waits.fix.unwrap().contains("--waiting"));
    // While a device waits no other code replaces the one that it took.
    let error = codex.request("remoteControl/pairing/start", json!({ "manualCode": true })).await.unwrap_err();
    assert!(error.to_string().contains("waits for its digits"), "{error}");

    let (events_out, mut events) = mpsc::channel(64);
    let (answers_out, answers) = mpsc::channel(1);
    let control = Arc::clone(stage.agent.control());
    let pairing =
        tokio::spawn(
            async move { control.handle(Request::PairWaiting, Exchange { events: events_out, answers }).await },
        );
    // An answer from before the question would be none to it.
    event(&mut events, |event| matches!(event, Event::PairingDigitsWanted { .. }).then_some(())).await;
    answers_out.send(Answer::Decline).await.unwrap();
    let refused = timeout(PATIENCE, joining).await.expect("it still waits").unwrap();
    assert!(refused.is_err(), "a device was let in that its person refused");
    assert_eq!(stage.agent.control().device_count(), 0);
    pairing.abort();
    stage.stop().await;
}

#[tokio::test]
async fn a_devices_link_that_is_cut_in_mid_turn_costs_no_word_of_it_and_a_gap_is_said() {
    let seed = Dice::seed();
    let stage = Stage::with(stage::remote_control()).await;
    let device = stage.pair(Scope::Approve).await;
    let remote = device.connect().await;
    stage::every_piece(&remote).await;
    let mut near = Client::connect(&*stage.backend).await;
    let mut far = client(&remote).await;
    let thread = near.thread(&stage.codex).await;
    near.prompt(&thread, "@text N=1").await;
    near.event("turn/completed").await;
    far.resume(&thread).await;
    near.take_thread(&thread);
    far.take_thread(&thread);

    // At a pace that this way to Codex takes.
    far.prompt(&thread, "@text N=600 ms=10").await;
    let completed = async { tokio::join!(near.event("turn/completed"), far.event("turn/completed")) };
    let mut dice = Dice::new(seed);
    let cuts = async {
        for _ in 0..10 {
            tokio::time::sleep(dice.between(100, 500)).await;
            stage.device_side.reset();
        }
    };
    let ((here, there), ()) = tokio::join!(completed, cuts);
    assert_eq!(here, there, "seed {seed}");
    let (here, there) = (story(&mut near, &thread), story(&mut far, &thread));
    assert!(here == there, "seed {seed}: {}", first_difference(&here, &there));

    // At one that it may not take: up to the end, or up to a gap that is said.
    let input = json!([{ "type": "text", "text": "@text N=5000 size=6" }]);
    let prompt = json!({ "id": 900, "method": "turn/start", "params": { "threadId": thread, "input": input } });
    far.send(&prompt).await;
    far.until("the turn's start", |message| message["method"] == "turn/started").await;
    stage.device_side.reset();
    let is_over = |message: &Value| message["method"] == "turn/completed";
    let (heard, end) = far.until_or_end("the turn's end or a gap", is_over).await;
    assert!(matches!(end, None | Some(End::Closed(ChannelCloseReason::Gap))), "seed {seed}: {end:?}");
    let deltas = heard.iter().filter(|message| message["method"] == "item/agentMessage/delta");
    for (n, delta) in deltas.enumerate() {
        assert_eq!(delta["params"]["delta"], format!("{:x>6}", format!("{n} ")), "seed {seed}");
    }
    let read = client(&remote).await.read_completed(&thread).await;
    let text: String = (0..5000).map(|n| format!("{:x>6}", format!("{n} "))).collect();
    assert!(read.to_string().contains(text.trim_end()), "the thread has not all of the text");
    stage.stop().await;
}
