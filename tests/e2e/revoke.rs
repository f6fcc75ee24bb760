//! Taking away: what a device may do ends or changes at once, at the host and at the relay.

use std::path::Path;
use std::time::{Duration, Instant};

use e2e::PATIENCE;
use e2e::rpc::{Client, End};
use e2e::stage::{Stage, TestDevice, client};
use reachback_host::audit::{self, Line, What};
use reachback_host::connect::remote::{RemoteHost, RemoteState};
use reachback_host::link::relay::{Caller, RelayConnection, RelayError};
use reachback_host::local_api::{Event, Request, Response};
use reachback_proto::close::CloseCode;
use reachback_proto::control::RelayToPeer;
use reachback_proto::frame::{ByeReason, ChannelCloseReason};
use reachback_proto::scope::Scope;
use serde_json::{Value, json};
use tokio::time::timeout;

/// What taking away may take.
const AT_ONCE: Duration = Duration::from_secs(1);

/// How a session ended.
pub(crate) async fn end(remote: &RemoteHost) -> Option<ByeReason> {
    let mut state = remote.state();
    let ended = timeout(PATIENCE, state.wait_for(|state| matches!(state, RemoteState::Ended { .. }))).await;
    let ended = ended.unwrap_or_else(|_| panic!("the session goes on: {:?}", remote.state().borrow())).unwrap();
    let RemoteState::Ended { reason } = &*ended else { unreachable!("it was waited for") };
    *reason
}

/// With which code the relay ends a connection.
pub(crate) async fn closed(mut connection: RelayConnection) -> CloseCode {
    let ending = async {
        loop {
            match connection.receive().await {
                Ok(RelayToPeer::Refused { code, .. }) => return CloseCode::from_number(code),
                Ok(_) => {}
                Err(RelayError::Refused { code, .. }) => return code,
                Err(error) => panic!("the connection ended in another way: {error}"),
            }
        }
    };
    timeout(PATIENCE, ending).await.expect("the relay keeps the connection")
}

/// Why the relay does not let a device in.
async fn refusal(device: &TestDevice) -> CloseCode {
    let config = device.config();
    let caller = Caller::Device { identity: &config.identity, host: config.host, watch_only: false };
    match config.relay.connect(&caller).await {
        Err(RelayError::Refused { code, .. }) => code,
        Err(error) => panic!("it was turned away in another way: {error}"),
        Ok(_) => panic!("it was let in"),
    }
}

#[tokio::test]
async fn a_revoked_device_is_out_within_a_second_and_stays_out() {
    let stage = Stage::start().await;
    let (lost, kept) = (stage.pair(Scope::Admin).await, stage.pair(Scope::Approve).await);
    let (remote, other) = (lost.connect().await, kept.connect().await);
    let (far, mut untouched) = (client(&remote).await, client(&other).await);
    let (circuit, watcher) = (lost.circuit().await, lost.dial(true).await);

    let begin = Instant::now();
    let revoked = stage.ask(Request::Revoke { device: lost.id().to_string() }).await;
    assert!(matches!(revoked, Response::Device(device) if device.device_id == lost.id()));
    let (reason, at_circuit, at_watcher) = tokio::join!(end(&remote), closed(circuit), closed(watcher));
    let took = begin.elapsed();
    assert_eq!(reason, Some(ByeReason::Revoked), "the host's own word did not reach the device");
    assert_eq!((at_circuit, at_watcher), (CloseCode::Revoked, CloseCode::Revoked), "at the relay");
    assert!(took < AT_ONCE, "revoking took {took:?}");
    assert_eq!(far.ended().await.1, End::Closed(ChannelCloseReason::Gap));

    assert_eq!(refusal(&lost).await, CloseCode::Unauthorized);
    untouched.echo().await;
    let Response::Devices { devices, .. } = stage.ask(Request::Devices).await else { panic!("wanted the devices") };
    assert_eq!(devices.iter().map(|device| device.device_id).collect::<Vec<_>>(), [kept.id()]);
    stage.stop().await;
}

#[tokio::test]
async fn a_paused_device_is_out_at_once_and_comes_back_when_it_may() {
    let stage = Stage::start().await;
    let device = stage.pair(Scope::Approve).await;
    for query in [Some(device.id().to_string()), None] {
        let remote = device.connect().await;
        client(&remote).await.echo().await;
        let begin = Instant::now();
        stage.ask(Request::Pause { device: query.clone(), on: true }).await;
        assert_eq!(end(&remote).await, Some(ByeReason::Paused), "it is told something else");
        assert!(begin.elapsed() < AT_ONCE, "pausing took {:?}", begin.elapsed());

        // One that comes anew hears it too, from the host itself: the relay still lists it.
        let kept_out = RemoteHost::start(device.config());
        assert_eq!(end(&kept_out).await, Some(ByeReason::Paused), "a paused device was not refused");

        stage.ask(Request::Pause { device: query, on: false }).await;
        let back = device.connect().await;
        client(&back).await.echo().await;
    }
    stage.stop().await;
}

#[tokio::test]
async fn a_scope_changes_under_a_live_channel() {
    let stage = Stage::start().await;
    let device = stage.pair(Scope::View).await;
    let remote = device.connect().await;
    let mut far = client(&remote).await;
    let mut near = Client::connect(&*stage.backend).await;
    let thread = near.thread(&stage.codex).await;
    near.prompt(&thread, "@text N=1").await;
    near.event("turn/completed").await;
    far.resume(&thread).await;

    let prompt = json!({ "threadId": thread, "input": [{ "type": "text", "text": "@esc true" }] });
    assert_scope(far.request("turn/start", prompt.clone()).await, "steer", "view");
    stage.ask(Request::SetScope { device: device.id().to_string(), scope: Scope::Approve }).await;
    far.request("turn/start", prompt.clone()).await.unwrap();
    let asked = far.event("item/commandExecution/requestApproval").await;
    far.decide(&asked, "accept").await;
    far.event("turn/completed").await;

    stage.ask(Request::SetScope { device: device.id().to_string(), scope: Scope::View }).await;
    assert_scope(far.request("turn/start", prompt).await, "steer", "view");
    stage.stop().await;
}

fn assert_scope(answer: Result<Value, Value>, needed: &str, has: &str) {
    let refused = answer.unwrap_err();
    assert_eq!((&refused["code"], &refused["data"]["reason"]), (&json!(-32010), &json!("scope")), "{refused}");
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains(needed) && message.contains(has), "{message}");
}

/// Copies the files of a folder.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

#[tokio::test]
async fn a_restored_backup_brings_no_revoked_device_back() {
    let stage = Stage::start().await;
    let (lost, kept) = (stage.pair(Scope::Admin).await, stage.pair(Scope::Approve).await);
    let host = stage.home().join("host");
    let backup = tempfile::tempdir().unwrap();
    copy(&host, backup.path());
    stage.ask(Request::Revoke { device: lost.id().to_string() }).await;
    let new = stage.pair(Scope::View).await;
    assert_eq!(refusal(&lost).await, CloseCode::Unauthorized);

    // The disk is restored, and the agent started on it some day: its list has a newer version than ever.
    let (stage, ()) = stage.restart_agent_after(async |_| copy(backup.path(), &host)).await;
    let mut events = stage.agent.events().subscribe();
    let paused = async || {
        let Response::Devices { devices, .. } = stage.ask(Request::Devices).await else { panic!("wanted the devices") };
        let paused: Vec<_> = devices.iter().filter(|device| device.paused && device.revoked_at_relay).collect();
        assert!(devices.iter().all(|device| device.device_id != new.id()), "it was paired after the backup");
        paused.iter().map(|device| device.device_id).collect::<Vec<_>>()
    };
    let known = async {
        while paused().await.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, known).await.expect("the host takes a revoked device back");
    assert_eq!(paused().await, [lost.id()]);
    // The relay keeps it out as before, and who was not revoked is let in.
    assert_eq!(refusal(&lost).await, CloseCode::Unauthorized);
    client(&kept.connect().await).await.echo().await;
    let log = audit::read(stage.home()).unwrap().0;
    let is_told = |line: &Line| {
        let what = What::Paused { reason: Some("revoked_at_relay".to_owned()) };
        matches!(line, Line::Device(entry) if entry.device_id == lost.id() && entry.what == what)
    };
    assert_eq!(log.iter().filter(|line| is_told(line)).count(), 1, "{log:?}");

    // The owner lets it in all the same: the relay does not, and says so again.
    while events.try_recv().is_ok() {}
    stage.ask(Request::Pause { device: Some(lost.id().to_string()), on: false }).await;
    let told = async {
        loop {
            if let Event::Notice(notice) = events.recv().await.unwrap() {
                return notice;
            }
        }
    };
    let notice = timeout(PATIENCE, told).await.expect("the owner is not told");
    assert_eq!(notice.code, "revoked_at_relay");
    assert!(notice.message.contains("“a device of the tests”"), "{}", notice.message);
    assert_eq!(refusal(&lost).await, CloseCode::Unauthorized);
    stage.ask(Request::Revoke { device: lost.id().to_string() }).await;
    stage.stop().await;
}
