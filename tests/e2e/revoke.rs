//! Taking away: what a device may do ends or changes at once, at the host and at the relay.

use std::time::{Duration, Instant};

use e2e::PATIENCE;
use e2e::rpc::{Client, End};
use e2e::stage::{Stage, TestDevice, client};
use reachback_host::connect::remote::{RemoteHost, RemoteState};
use reachback_host::link::circuit::RelaySocket;
use reachback_host::link::relay::{self, Caller, RelayError};
use reachback_host::local_api::{Request, Response};
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
pub(crate) async fn closed(mut socket: RelaySocket) -> CloseCode {
    let ending = async {
        loop {
            match relay::receive(&mut socket).await {
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
    let (circuit, watcher) = (lost.circuit().await, lost.dial(true).await.socket);

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
